"""Completions, embeddings and fill-in-the-middle: what is read of a request, and how one is served from another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import completions, embeddings, fim
from providers.errors import InvalidRequest, Unsupported
from providers.types import Call, Card, Hints, Model

NANO = Model("nano", "openai", "gpt-4.1-nano", Card(id="gpt-4.1-nano", kind="openai"))
CODER = Model("coder", "openai", "coder", Card(id="coder", kind="openai", abilities=frozenset({"suffix"})))


def raw(**body: Any) -> bytes:
    return json.dumps({"model": "m", **body}).encode()


def a_call(operation: str, **body: Any) -> Call:
    return Call("1", operation, b"", {"model": "m", **body}, "m", False, False, {}, Hints(), 0.0, 60.0, "")


def test_a_completion_needs_what_it_asks_for() -> None:
    asked = completions.decode(raw(prompt="x", suffix="y", n=2, logprobs=0, stream=True, metadata={"task": "code"}))
    assert asked.needs == {"suffix": "suffix", "n": "n", "logprobs": "logprobs"}
    assert (asked.stream, asked.hints.task) == (True, "code")
    assert completions.decode(raw(prompt=["x"], suffix="", n=1)).needs == {}


@pytest.mark.parametrize("prompt", ["x", "", ["x"], ["x", ""], [1, 2], [[1], [2, 3]]])
def test_prompts_come_in_four_forms(prompt: Any) -> None:
    assert completions.decode(raw(prompt=prompt)).body["prompt"] == prompt


@pytest.mark.parametrize(
    "prompt", [None, 7, {}, [], [None], [1, "x"], ["x", 1], [[]], [[1], ["x"]], [-1], [True], [[1.5]]]
)
def test_no_other_prompt_is_taken(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        completions.decode(raw(prompt=prompt))
    assert (refused.value.param or "").startswith("prompt")
    if prompt is not None:
        with pytest.raises(InvalidRequest):
            embeddings.decode(raw(input=prompt))


@pytest.mark.parametrize(("wire", "field"), [(completions, "prompt"), (embeddings, "input"), (fim, "prompt")])
def test_what_every_request_has_is_asked_of_each(wire: Any, field: str) -> None:
    for body, param in (
        ({field: "x", "model": ""}, "model"),
        ({"model": "m"}, field),
        ({field: "x", "base_url": "y"}, "base_url"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            wire.decode(json.dumps({"model": "m", **body}).encode())
        assert refused.value.param == param


def test_a_completion_is_one_message_in_chat() -> None:
    asked = a_call("completions", prompt="x", stop="y", max_tokens=5, n=2, user="u", future=1)
    chat, dropped = completions.as_chat(asked, NANO)
    assert chat.operation == "chat"
    assert chat.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 5,
        "stop": "y",
        "n": 2,
        "user": "u",
    }
    assert (chat.needs, dropped) == ({"n": "n"}, ["future"])


def test_on_unsupported_decides_what_becomes_of_the_rest() -> None:
    drops = Model("nano", "openai", "x", NANO.card, on_unsupported="drop")
    strict = Model("nano", "openai", "x", NANO.card, on_unsupported="error")
    asked = a_call("completions", prompt="x", logprobs=2, best_of=3)
    assert completions.as_chat(asked, drops)[1] == ["logprobs", "best_of"]
    with pytest.raises(Unsupported):
        completions.as_chat(asked, NANO)
    with pytest.raises(Unsupported) as refused:
        completions.as_chat(a_call("completions", prompt="x", future=1), strict)
    assert refused.value.param == "future"


@pytest.mark.parametrize(
    ("finish", "message", "text", "told"),
    [
        ("stop", {"content": "a"}, "a", "stop"),
        ("length", {"content": "a", "reasoning_content": "hm"}, "a", "length"),
        ("content_filter", {"content": None}, "", "content_filter"),
        ("stop", {"content": None, "refusal": "no"}, "no", "content_filter"),
        ("tool_calls", {"content": None, "tool_calls": []}, "", "stop"),
    ],
)
def test_a_message_becomes_a_text(finish: str, message: Any, text: str, told: str) -> None:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    found = completions.as_text({"id": "1", "created": 2, "model": "m", "choices": [choice], "usage": {"x": 1}})
    assert found == {
        "id": "1",
        "object": "text_completion",
        "created": 2,
        "model": "m",
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": told}],
        "usage": {"x": 1},
    }


def test_an_endpoint_is_served_through_one_that_is_there() -> None:
    some: Any = object()
    plain = Model("plain", "openai", "x", NANO.card)
    template = Model("t", "openai", "x", NANO.card, fim_template="{prefix}{suffix}")
    assert isinstance(completions.through({"chat": some}, plain), completions.ThroughChat)
    assert completions.through({"embeddings": some}, plain) is None
    assert embeddings.through({"chat": some, "completions": some}, plain) is None
    assert fim.through({"chat": some}, CODER) is None
    assert fim.through({"completions": some}, plain) is None
    assert isinstance(fim.through({"completions": some}, CODER), fim.ThroughCompletions)
    assert isinstance(fim.through({"completions": some}, template), fim.ThroughCompletions)


def test_a_gap_is_a_completion_with_a_suffix() -> None:
    asked = a_call("fim", prompt="a", suffix="b", top_k=-1, repetition_penalty=1, presence_penalty=0.5, stop="x")
    completion, dropped = fim.as_completion(asked, CODER)
    assert completion.body == {
        "model": "m",
        "prompt": "a",
        "suffix": "b",
        "presence_penalty": 0.5,
        "stop": "x",
        "max_tokens": 512,
    }
    assert (completion.operation, dropped) == ("completions", [])
    strict = Model("coder", "openai", "coder", CODER.card, on_unsupported="error")
    with pytest.raises(Unsupported) as refused:
        fim.as_completion(a_call("fim", prompt="a", top_k=4), strict)
    assert refused.value.param == "top_k"


@given(st.text(), st.text())
def test_a_template_has_both_texts_as_they_are(prefix: str, suffix: str) -> None:
    assert fim.fill("<p>{prefix}<s>{suffix}<m>", prefix, suffix) == f"<p>{prefix}<s>{suffix}<m>"
    assert fim.fill("<s>{suffix}<p>{prefix}<m>", prefix, suffix) == f"<s>{suffix}<p>{prefix}<m>"
