"""OpenAI's embeddings: vectors of length one, the same for the same input, near each other where words are shared."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from providers.simulator.bill import Usage
from providers.simulator.dialects import Call, Refusal, Reply, is_integer
from providers.simulator.dialects.openai_rules import invalid, mistyped
from providers.simulator.models import Model
from providers.simulator.tokens import estimate

Json = dict[str, Any]
Input = str | list[int]
PARAMETERS = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
MOST_INPUTS, MOST_TOKENS = 2048, 300_000


def embeddings(call: Call) -> Reply:
    inputs = check(call.body, call.model)
    counts = [count(each) for each in inputs]
    dimensions = call.body.get("dimensions") or DIMENSIONS[call.model.id]
    as_text = call.body.get("encoding_format") == "base64"
    vectors = [vector(tuple(words(each)), dimensions) for each in inputs]
    body: Json = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": packed(each) if as_text else list(each)}
            for index, each in enumerate(vectors)
        ],
        "model": call.model.id,
        "usage": {"prompt_tokens": sum(counts), "total_tokens": sum(counts)},
    }
    if call.withhold_usage:
        del body["usage"]
    return Reply(call.identifier("emb-", 24), Usage(sum(counts), 0), body=body)


@lru_cache(maxsize=4096)
def direction(word: str, dimensions: int) -> tuple[float, ...]:
    source = random.Random(int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big"))
    return tuple(source.gauss(0, 1) for _ in range(dimensions))


@lru_cache(maxsize=256)
def vector(found: tuple[str, ...], dimensions: int) -> tuple[float, ...]:
    total = [0.0] * dimensions
    for word in found:
        total = [have + more for have, more in zip(total, direction(word, dimensions), strict=True)]
    length = math.sqrt(sum(each * each for each in total))
    return tuple(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(each / length for each in total))))


def packed(numbers: tuple[float, ...]) -> str:
    """Little-endian floats of four bytes in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def words(given: Input) -> list[str]:
    if isinstance(given, list):
        return [f"t{token}" for token in given[:64]]
    return re.findall(r"\w+", given.lower())[:64] or [given[:64]]


def count(given: Input) -> int:
    return estimate(given) if isinstance(given, str) else len(given)


# What is refused


def check(body: Mapping[str, Any], model: Model) -> list[Input]:
    """The inputs of a request that OpenAI would take."""
    if not model.can("embeddings"):
        raise Refusal(403, "You are not allowed to generate embeddings from this model", "invalid_request_error")
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name not in PARAMETERS:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}", "invalid_request_error")
    most = DIMENSIONS[model.id]
    if "dimensions" in given:
        dimensions = given["dimensions"]
        if not is_integer(dimensions):
            raise mistyped("dimensions", "an integer", dimensions)
        if not 1 <= dimensions <= most:
            raise invalid(
                f"Invalid value for 'dimensions' = {dimensions}. Must be between 1 and {most}.", "dimensions", None
            )
    if given.get("encoding_format", "float") not in ("float", "base64"):
        raise invalid("Invalid value for 'encoding_format': must be 'float' or 'base64'.", "encoding_format", None)
    inputs = inputs_of(given.get("input"))
    longest = max(count(each) for each in inputs)
    if longest > model.context:
        raise invalid(
            f"This model's maximum context length is {model.context} tokens, however you requested {longest} tokens "
            f"({longest} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            None,
            "context_length_exceeded",
        )
    if sum(map(count, inputs)) > MOST_TOKENS:
        raise invalid(f"Requested tokens exceed the limit of {MOST_TOKENS} per request.", "input", None)
    return inputs


def inputs_of(given: Any) -> list[Input]:
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise invalid("'$.input' is invalid. Please check the API reference.", None, None)
    if is_tokens(given):
        return [given]
    if len(given) > MOST_INPUTS:
        raise invalid(
            f"Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS}, but got an array "
            f"with length {len(given)} instead.",
            "input",
            "array_above_max_length",
        )
    if all(isinstance(each, str) and each for each in given) or all(is_tokens(each) for each in given):
        return given
    raise invalid("'$.input' is invalid. Please check the API reference.", None, None)


def is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_integer(each) and each >= 0 for each in value)
