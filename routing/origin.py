"""What makes two calls belong together: one conversation, one user, one key, or a tag of the caller's own."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from providers.types import Call

CONVERSATION, USER, KEY, REQUEST = "conversation", "user", "key", "request"
WORDS = (CONVERSATION, USER, KEY, REQUEST)
"""What calls can be held together by; any other word is the name of a tag."""

_ENDS = 500
"""Characters at either end of a text that tell it from others, together with its length."""


def value(call: Call, by: str) -> bytes | None:
    """What it shares with the calls that belong to it by one of WORDS or a tag; None where it says nothing of that."""
    if by == CONVERSATION:
        return conversation(call)
    found = {USER: _user, KEY: _key, REQUEST: _request}[by](call) if by in WORDS else call.hints.tags.get(by)
    return found.encode(errors="surrogatepass") if found else None


def conversation(call: Call) -> bytes | None:
    """The tag `conversation` or `session`; else all up to the user's first message, which every turn repeats.

    No two keys share one. None where there are no messages.
    """
    tags = call.hints.tags
    if tag := tags.get("conversation") or tags.get("session"):
        found = [tag]
    else:
        messages = call.body.get("messages")
        if not isinstance(messages, list) or not messages:
            return None
        found = [
            text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]}{text[-_ENDS:]}{len(text)}"
            for text in _beginning(call.body.get("system"), messages)
        ]
        found.append("")
    told = "\0".join([call.key_id or "", *found])
    return sha256(told.encode(errors="surrogatepass")).digest()[:8]


def _beginning(system: Any, messages: list[Any]) -> list[str]:
    texts = _texts(system)
    for message in messages:
        if isinstance(message, dict):
            texts += _texts(message.get("content"))
            if message.get("role") == "user":
                break
    return texts


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [text for part in content if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return []


def _user(call: Call) -> str | None:
    """OpenAI's `user` and `safety_identifier`, Anthropic's `metadata.user_id`."""
    metadata = call.body.get("metadata")
    found = (
        call.body.get("user")
        or call.body.get("safety_identifier")
        or (metadata.get("user_id") if isinstance(metadata, dict) else None)
    )
    return found if isinstance(found, str) else None


def _key(call: Call) -> str | None:
    return call.key_id


def _request(call: Call) -> str:
    return call.id
