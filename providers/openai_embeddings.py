"""OpenAI's embeddings: https://platform.openai.com/docs/api-reference/embeddings

Vectors pass as bytes, as floats or in base64, whichever was asked for. There are no streams, and nothing but the prompt
is counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from providers.abilities import fit, refuse_dropped
from providers.lenient import dumps
from providers.openai_chat import decode_usage, read_answer, rename
from providers.types import Call, Model, Reply, Tally


def encode(call: Call, model: Model, stream: bool = False) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out."""
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    # OpenAI refuses the word, even where it asks for nothing.
    body.pop("stream", None)
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def decode(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer, byte for byte but for the model's name."""
    answer = read_answer(provider, headers, body, "data")
    tally = Tally(finish="stop", begun=True)
    usage = answer.get("usage")
    if isinstance(usage, dict):
        tally.usage = decode_usage(usage)
        tally.usage.output = 0
    return Reply(rename(body, answer, model.name), tally, headers)
