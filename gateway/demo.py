"""What `talaria serve --demo` runs with: the example file, but every vendor in it is the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway import config, document
from gateway.config import Config

_NAME = "talaria.example.yaml"
_PLACES = (Path(__file__).parent / _NAME, Path(__file__).parents[1] / "deploy" / _NAME)
"""In an installed package, and in a clone."""

_URLS = {
    "inception": "{simulator}/inception/v1",
    "openai": "{simulator}/openai/v1",
    "anthropic": "{simulator}/anthropic",
    "compatible": "{simulator}/openai/v1",
}

_FURTHER = {"gpt-4.1-nano": {"provider": "openai", "fallback": "small"}}
"""Models that are no example, because they do not live any more; the simulator has them all the same."""


def demo(simulator: str) -> Config:
    """The configuration in front of the simulator at this URL."""
    raw = next(place for place in _PLACES if place.exists()).read_bytes()
    example = document.read(raw, _NAME, {})
    example.data["server"] = {"listen": "127.0.0.1:8080", "auth": "none"}
    for provider in example.data["providers"].values():
        _pretend(provider, simulator)
    example.data["models"] |= _FURTHER
    return config.settle(example)


def _pretend(provider: dict[str, Any], simulator: str) -> None:
    provider["base_url"] = _URLS[provider["kind"]].format(simulator=simulator)
    if provider["keys"]:
        provider["keys"] = [{"id": "demo", "value": "demo"}]


GREETING = """
Talaria is listening on {url} in front of simulated vendors. Try it:

  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What do winged sandals do?"}}]}}'

Or with OpenAI's SDK (pip install openai):

  from openai import OpenAI

  client = OpenAI(base_url="{url}/v1", api_key="none")
  stream = client.chat.completions.create(
      model="mercury", messages=[{{"role": "user", "content": "What do winged sandals do?"}}], stream=True
  )
  for chunk in stream:
      print(chunk.choices[0].delta.content or "", end="", flush=True)

Models: {models}. Ctrl-C ends it.
"""
