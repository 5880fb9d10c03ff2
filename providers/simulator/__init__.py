"""Pretend vendors: an ASGI app that speaks as Inception, OpenAI and Anthropic do, and fails as they do when asked to.

It shares no code with the adapters, so that the same mistake cannot be on both sides. Each vendor's official SDK takes
`http://host:port/inception/v1`, `http://host:port/openai/v1` or `http://host:port/anthropic` as its base URL; any key
but `bad` and `invalid` is accepted. `create_app(seed, speed)` makes the app, `server.serve` runs it in a loop and
`server.running` on a thread. The same request under the same seed gets the same words.

What the last text from the user may ask for:

- `say exactly: ...` answers just that text; `in N words` or `write N words` answers that many words.
- `refuse` answers with the vendor's refusal.
- With tools on offer and a free choice, a message from the user is answered with a call unless it says `no tools`.
  The tools named in it are called; `parallel` or `two tools` makes at least two calls;
  `with arguments {...}` sets the arguments. After results the answer quotes them.
- A JSON format is answered with JSON that fits its schema (`say exactly:` wins if its text is JSON). So is
  a system text that asks Claude for a "JSON object".
- Anthropic: `[[redacted]]` hides half of the thoughts, `[[silence]]` ends the turn without content, `[[pause]]`,
  `[[window]]` and `[[unknown-stop]]` change the stop reason. Inception: `[[empty]]` gives no content and no finish.

The request header `x-simulator-split: 1` breaks writes inside UTF-8 characters and ends stream lines with CRLF,
broken between CR and LF.

Under `/control`: `GET` and `DELETE` `bill` and `requests`, `GET`, `PUT` and `DELETE` `faults`, `GET` `health`.
The kinds of fault are in `faults.KINDS`: `latency`, `silent`, `reset_before`, `status`, `error_body` and
`wrong_content_type` strike before the answer or in its place; `stall`, `slow`, `reset_after`, `cut` and
`truncated_json` strike within it, at `after_events` of a stream or half-way through a body; `malformed_sse`,
`error_event` and `no_done` meet streams only; `no_usage` withholds the token counts.
"""

from providers.simulator.app import create_app

__all__ = ["create_app"]
