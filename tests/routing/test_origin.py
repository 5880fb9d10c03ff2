"""What makes two calls belong together."""

from __future__ import annotations

from typing import Any

import pytest

from providers.types import Call, Hints
from routing import origin


def call(key: str | None = None, tags: dict[str, str] | None = None, id: str = "r1", **body: Any) -> Call:
    return Call(
        id=id,
        operation="chat",
        raw=b"",
        body=body,
        model="m",
        stream=False,
        include_usage=False,
        needs={},
        hints=Hints(tags=tags or {}),
        started=0.0,
        deadline=1.0,
        snapshot="",
        key_id=key,
    )


def said(*texts: Any, system: str = "You help.") -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": "system", "content": system}] + [
        {"role": roles[place % 2], "content": text} for place, text in enumerate(texts)
    ]


def test_the_turns_of_a_conversation_belong_together() -> None:
    turns = [said("Hi"), said("Hi", "Hello!", "Who are you?"), said("Hi", "Hello!", "Who are you?", "Me.", "Aha.")]
    assert len({origin.conversation(call(messages=turn)) for turn in turns}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"messages": said("Ho")},
        {"messages": said("Hi", system="You do not help.")},
        {"messages": said("Hi"), "key": "another"},
        {"messages": said("Hi"), "tags": {"session": "7"}},
        {"messages": said([{"type": "text", "text": "Hi there"}])},
    ],
)
def test_other_beginnings_are_other_conversations(other: dict[str, Any]) -> None:
    assert origin.conversation(call(**other)) != origin.conversation(call(messages=said("Hi")))


def test_long_texts_are_told_apart_by_their_ends_and_length() -> None:
    text = "x" * 50_000
    texts = [text, text + "x", "y" + text[1:], text[:-1] + "y"]
    assert len({origin.conversation(call(messages=said(each))) for each in texts}) == 4


def test_parts_of_text_are_as_good_as_one() -> None:
    parts = said([{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:"}}])
    assert origin.conversation(call(messages=parts)) == origin.conversation(call(messages=said("Hi")))


def test_anthropics_system_prompt_counts() -> None:
    asked = [{"role": "user", "content": "Hi"}]
    assert origin.conversation(call(messages=asked, system="a")) != origin.conversation(
        call(messages=asked, system=[{"type": "text", "text": "b"}])
    )


def test_a_session_tag_says_it_all() -> None:
    one = call(tags={"session": "7"}, messages=said("Hi"))
    other = call(tags={"session": "7"}, prompt="Ho")
    assert origin.conversation(one) == origin.conversation(other) != None  # noqa: E711
    assert origin.conversation(call(tags={"conversation": "8", "session": "7"})) != origin.conversation(one)


@pytest.mark.parametrize("body", [{}, {"prompt": "x"}, {"messages": []}, {"messages": "x"}])
def test_where_nothing_was_said_there_is_no_conversation(body: dict[str, Any]) -> None:
    assert origin.conversation(call(**body)) is None


@pytest.mark.parametrize(
    "messages", [[None], ["x"], [{}], [{"role": "user", "content": [None, 7, {"text": 7}]}], [{"content": "\ud800"}]]
)
def test_odd_messages_do_no_harm(messages: list[Any]) -> None:
    assert isinstance(origin.conversation(call(messages=messages)), bytes)


def test_what_calls_are_held_together_by() -> None:
    asked = call(key="k1", tags={"team": "a"}, user="u1", messages=said("Hi"))
    assert origin.value(asked, "key") == b"k1"
    assert origin.value(asked, "user") == b"u1"
    assert origin.value(asked, "request") == b"r1"
    assert origin.value(asked, "team") == b"a"
    assert origin.value(asked, "feature") is None
    assert origin.value(asked, "conversation") == origin.conversation(asked)


@pytest.mark.parametrize("body", [{"user": "u1"}, {"safety_identifier": "u1"}, {"metadata": {"user_id": "u1"}}])
def test_users_are_named_in_several_places(body: dict[str, Any]) -> None:
    assert origin.value(call(**body), "user") == b"u1"


@pytest.mark.parametrize("body", [{}, {"user": 7}, {"metadata": "u1"}, {"metadata": {"user_id": ["u1"]}}])
def test_a_user_who_is_not_named_is_nobody(body: dict[str, Any]) -> None:
    assert origin.value(call(**body), "user") is None
    assert origin.value(call(**body), "key") is None
