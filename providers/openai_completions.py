"""OpenAI's completions of a text, as they were before chat: https://platform.openai.com/docs/api-reference/completions

A request goes on as it came but for the model's name, the gateway's own hints and the output limit; an answer passes as
bytes but for the model's name and, on streams, the usage nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from providers import openai_chat
from providers.abilities import fit, refuse_dropped
from providers.lenient import dumps
from providers.openai_chat import identify, observe, read_answer, set_stream
from providers.types import Call, Model, Reply, Tally


def encode(call: Call, model: Model, stream: bool) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out or bent."""
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    set_stream(body, stream)
    wanted = body.get("max_tokens")
    if model.card.max_output is not None and type(wanted) is int and wanted > model.card.max_output:
        body["max_tokens"] = model.card.max_output
        dropped.append("max_tokens")
    if body.get("suffix") == "":
        # OpenAI refuses an empty one, which says the same as none.
        del body["suffix"]
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def decode(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer, byte for byte but for the model's name."""
    answer = read_answer(provider, headers, body)
    tally = Tally()
    body = identify(tally, body, answer, model.name)
    observe(tally, answer, "text")
    return Reply(body, tally, headers)


class Reader(openai_chat.Reader):
    """Chunks of text instead of deltas."""

    part = "text"
