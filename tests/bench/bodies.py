"""What callers ask."""

from __future__ import annotations

import base64
import random
from typing import Any

import orjson


def small(model: str, stream: bool = False) -> bytes:
    """Two short messages."""
    return _body(model, stream, [_SYSTEM, {"role": "user", "content": "Tell me about winged sandals, please. " * 4}])


def long(model: str, stream: bool = False) -> bytes:
    """A hundred messages of a thousand characters."""
    text = "The sandals of the messenger had small wings at the heel. "
    told = [{"role": ("user", "assistant")[number % 2], "content": (text * 18)[:1000]} for number in range(98)]
    return _body(model, stream, [_SYSTEM, *told, {"role": "user", "content": (text * 18)[:1000]}])


def image(model: str, stream: bool = False) -> bytes:
    """A question with an image of 2 MB as a data URL."""
    data = base64.b64encode(random.Random(7).randbytes(1_500_000)).decode()
    parts = [
        {"type": "text", "text": "What is on their feet?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    return _body(model, stream, [_SYSTEM, {"role": "user", "content": parts}])


_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def _body(model: str, stream: bool, messages: list[Any]) -> bytes:
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0.7}
    if stream:
        body["stream"] = True
    return orjson.dumps(body)


BODIES = {"small": small, "long": long, "image": image}
