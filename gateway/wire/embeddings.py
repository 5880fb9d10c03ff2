"""OpenAI's embeddings, as callers speak it: https://platform.openai.com/docs/api-reference/embeddings

Served by vendors that have them, and by no other: vectors of one model say nothing beside those of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.wire import Request, openai
from gateway.wire.checks import Check, described, integer, is_a, mistyped, one_of, schema
from gateway.wire.completions import BATCH, check_batch
from providers.base import Endpoint
from providers.errors import InvalidRequest
from providers.types import Model

OPERATION = "embeddings"
HEADERS, DONE, PING = openai.HEADERS, openai.DONE, openai.PING
frame, refusal, failure = openai.frame, openai.refusal, openai.failure

MAX_INPUTS = 2048


def decode(raw: bytes) -> Request:
    """A request body. Raises InvalidRequest, naming the parameter."""
    return openai.request(openai.checked(raw, CHECKS, "input"), {})


def through(endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
    """Nothing else gives vectors."""
    return None


@described(BATCH)
def _input(name: str, value: Any) -> None:
    if type(value) is str:
        value = [value]
    if type(value) is not list:
        raise mistyped(name, "a string, an array of strings or tokens, or an array of arrays of tokens", value)
    check_batch(name, value, MAX_INPUTS)
    if "" in value:
        raise InvalidRequest(f"Invalid '{name}': an empty string has no vector.", param=name, code="invalid_value")


@described({"const": False})
def _no_stream(name: str, value: Any) -> None:
    is_a(bool, "a boolean")(name, value)
    if value:
        raise InvalidRequest("Embeddings come whole: 'stream' is not supported.", param=name, code="unsupported_value")


CHECKS: Mapping[str, Check] = {
    "model": openai.CHECKS["model"],
    "input": _input,
    "dimensions": integer(1, 2**31),
    "encoding_format": one_of("float", "base64"),
    "user": is_a(str, "a string"),
    "metadata": openai.CHECKS["metadata"],
    "stream": _no_stream,
}
SCHEMA = schema(CHECKS, "model", "input")
