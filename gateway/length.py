"""How long a prompt is, before any vendor has counted it."""

from __future__ import annotations

from typing import Any

from providers.types import Call, Json

PROMPT = ("system", "messages", "tools", "prompt", "suffix", "input")
"""Where the text of a request is, whatever its operation."""

CHARS_PER_TOKEN = 4
"""The rule for tokens that no vendor counted; what comes of it is marked as estimated."""

_NOT_TEXT = frozenset({"image", "file", "audio"})


def chars(call: Call) -> int:
    """About the characters of its prompt, for routing: the body as it came, unless there is more than text in it."""
    return len(call.raw) if _NOT_TEXT.isdisjoint(call.needs) else text_chars(call.body)


def text_chars(body: Json) -> int:
    """Characters of all text in a request's prompt."""
    return sum(_chars(body.get(field)) for field in PROMPT)


def _chars(node: Any) -> int:
    """Characters of all text below a node; images and other data count for nothing.

    A number in a list is a token: prompts may come as those.
    """
    if isinstance(node, str):
        return 0 if node.startswith("data:") else len(node)
    if isinstance(node, dict):
        return 0 if node.get("type") == "base64" else sum(map(_chars, node.values()))
    if isinstance(node, list):
        return sum(CHARS_PER_TOKEN if type(each) is int else _chars(each) for each in node)
    return 0
