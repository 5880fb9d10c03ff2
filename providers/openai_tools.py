"""Tool calls as OpenAI has them, where a vendor of the same dialect leaves parts out."""

from __future__ import annotations

import secrets

from providers.errors import InvalidRequest
from providers.lenient import loads
from providers.types import Json

MOST_CALLS = 1024
"""A larger index of a tool call is none."""


def calls(message: Json) -> list[Json]:
    """The tool calls of a message or a delta."""
    found = message.get("tool_calls")
    return [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []


def arguments(call: Json) -> Json:
    """What a tool is called with, for vendors that want an object. Raises InvalidRequest where it is none."""
    text = call["function"].get("arguments") or "{}"
    try:
        parsed = loads(text.encode())
    except (AttributeError, ValueError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequest("a tool call's arguments must be a JSON object", param="messages")
    return parsed


def mend_call(call: Json) -> bool:
    """A call of a whole answer: no index, but an id and a type; True when something was mended."""
    before = dict(call)
    call.pop("index", None)
    call["id"] = call.get("id") or new_id()
    call["type"] = call.get("type") or "function"
    return call != before


def mend_fragment(call: Json, ids: list[str]) -> bool:
    """A part of a tool call: an index always, an id and a type on its first part and on no other.

    `ids` are those of the calls begun so far. True when something was mended.
    """
    before = dict(call)
    id = call.get("id")
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if type(call.get("index")) is not int or not 0 <= call["index"] <= MOST_CALLS:
        if id in ids:
            call["index"] = ids.index(id)
        else:
            call["index"] = len(ids) if id or name or not ids else len(ids) - 1
    if call["index"] < len(ids):
        call.pop("id", None)
        call.pop("type", None)
        if isinstance(function, dict) and "name" in function:
            call["function"] = {key: value for key, value in function.items() if key != "name"}
    else:
        call["id"] = id or new_id()
        call["type"] = call.get("type") or "function"
        ids += [call["id"]] * (call["index"] + 1 - len(ids))
    return call != before


def new_id() -> str:
    """An id that no other call has."""
    return f"call_{secrets.token_hex(12)}"
