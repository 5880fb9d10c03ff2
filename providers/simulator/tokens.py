"""How the simulator counts: answers by pieces of at most six letters, prompts by four bytes a token."""

from __future__ import annotations

import re
from typing import Any

import orjson

_PIECE = re.compile(r" ?[^\W\d_]{1,6}|\d{1,3}| ?[^\w\s]|\s+|[\w]")


def split(text: str) -> list[str]:
    """Cuts a text into its tokens; joined together they are the text again."""
    return _PIECE.findall(text)


def estimate(text: str) -> int:
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def estimate_json(value: Any) -> int:
    return (len(orjson.dumps(value)) + 3) // 4 if value else 0
