"""Speaks to Anthropic's API with whatever `anthropic` is installed, and prints what it got: URL, and a key that it takes."""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic

MODEL = "claude-haiku-4-5-20251001"
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": text}], **more}


def main(url: str, good: str = "key") -> dict[str, Any]:
    client = anthropic.Anthropic(base_url=url, api_key=good, max_retries=0)
    told: dict[str, Any] = {"sdk": anthropic.__version__}

    answer = client.messages.create(**ask("say exactly: good day"))
    told["plain"] = [answer.content[0].text, answer.stop_reason, answer.role, answer.type]

    with client.messages.stream(**ask("What do winged sandals do?")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    told["streamed"] = bool(text) and text == final.content[0].text
    told["usage"] = [final.usage.input_tokens > 0, final.usage.output_tokens > 0, final.stop_reason]

    asked = ask("What is the weather in Oslo?", tools=[WEATHER])
    with client.messages.stream(**asked) as stream:
        called = stream.get_final_message()
    call = called.content[-1]
    told["called"] = [call.type, call.name, sorted(call.input), called.stop_reason]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "11 degrees"}
    asked["messages"] += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    told["answered"] = "11 degrees" in client.messages.create(**asked).content[0].text

    thinking = {"type": "enabled", "budget_tokens": 1024}
    thought = client.messages.create(**ask("Think of wings", thinking=thinking) | {"max_tokens": 3000})
    told["thought"] = [thought.content[0].type, bool(thought.content[0].signature), thought.content[-1].type]

    told["counted"] = client.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "x"}]
    ).input_tokens
    told["models"] = any(model.id == MODEL for model in client.models.list())

    told["errors"] = []
    for wrong, key in (({"max_tokens": 0}, good), ({"model": "claude-nought"}, good), ({}, "bad")):
        try:
            client.with_options(api_key=key).messages.create(**ask("x") | wrong)
        except anthropic.APIStatusError as error:
            told["errors"].append([type(error).__name__, error.status_code, error.body["error"]["type"]])
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
