"""Requests with one or two things wrong in them: each is answered or refused, and nothing breaks."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

WRONG = (
    None, 1, -1, 0.5, "", "x", [], {}, [1], ["a"], [None], [[]], {"type": "x"}, {"a": None}, True, {"type": 5},
    {"type": "function"}, {"type": "object", "properties": []}, 10**18, {"type": "text"},
)  # fmt: skip
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}, "c": {"type": ["integer", "null"]}},
    "$defs": {"b": {"enum": [1, 2]}},
}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
PICTURE = "data:image/png;base64,aaaa"
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": PICTURE}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", **FUNCTION}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "tools": [FUNCTION],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": PARAMETERS}},
    "max_tokens": 20,
    "stop": ["x"],
    "stream": True,
    "stream_options": {"include_usage": True},
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "openai": {**CHAT, "model": "gpt-4.1-nano", "n": 2, "logprobs": True, "top_logprobs": 2, "metadata": {"a": "b"}},
    "inception": {**CHAT, "model": "mercury-2", "reasoning_effort": "low", "reasoning_summary": True},
    "anthropic": {
        "model": "claude-sonnet-4-5",
        "max_tokens": 3000,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
                ],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}]},
        ],
        "tools": [{"name": "f", "input_schema": PARAMETERS}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["z"],
        "stream": True,
    },
}  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


def spoil(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 2))):
        *way, last = chance.choice(list(places(body)))
        node: Any = body
        for key in way:
            node = node[key]
        if chance.random() < 0.3:
            del node[last]
        else:
            node[last] = copy.deepcopy(chance.choice(WRONG))
    return body


@pytest.mark.parametrize("vendor", list(BODIES))
def test_a_malformed_request_is_answered_or_refused_but_never_breaks(simulator, vendor):
    assert simulator.send(vendor, BODIES[vendor]).status_code == 200
    chance = random.Random(11)
    for _ in range(300):
        body = spoil(BODIES[vendor], chance)
        assert simulator.send(vendor, body).status_code in (200, 400, 404, 422), body
