"""The configuration that `talaria serve --demo` runs with: every vendor is the simulator."""

from __future__ import annotations

DEMO = """\
version: 1
server: {{listen: "127.0.0.1:8080", auth: none}}
providers:
  inception: {{kind: inception, base_url: "{simulator}/inception/v1", keys: [{{id: demo, value: demo}}]}}
  openai:    {{kind: openai, base_url: "{simulator}/openai/v1", keys: [{{id: demo, value: demo}}]}}
  anthropic: {{kind: anthropic, base_url: "{simulator}/anthropic", keys: [{{id: demo, value: demo}}]}}
models:
  mercury:       {{provider: inception, upstream: mercury-2, fallback: small}}
  gpt-4.1-nano:  {{provider: openai, upstream: gpt-4.1-nano, fallback: small}}
  claude-haiku:  {{provider: anthropic, upstream: claude-haiku-4-5-20251001, fallback: small}}
  claude-sonnet: {{provider: anthropic, upstream: claude-sonnet-4-5-20250929}}
  text-embedding-3-small: {{provider: openai}}
  mercury-edit-2: {{provider: inception}}
use_cases: [demo, chat, autocomplete]
fallbacks:
  small: [mercury, gpt-4.1-nano, claude-haiku]
routes:
  - {{name: auto, candidates: [mercury, gpt-4.1-nano, claude-haiku], fallback: small}}
  - {{name: auto-fast, candidates: [mercury, gpt-4.1-nano], fallback: small}}
  - {{name: auto-best, candidates: [claude-sonnet], fallback: small}}
"""

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
