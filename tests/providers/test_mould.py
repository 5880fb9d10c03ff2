"""Events that pass unread come out as those that are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import anthropic_answer, anthropic_native, catalog, mould, openai_chat, openai_completions
from providers.mould import Mould
from providers.types import Model, Tally

MODEL = Model("nano", "openai", "gpt-4.1-nano", catalog.lookup("openai", "gpt-4.1-nano", None))

WORDS = st.sampled_from(
    [" word", "", "a", "index", "content", '"', "\\", "\n", "é", "日本", "\u2028", "\x00", "}", '"}}', "null"]
)
TEXTS = st.one_of(WORDS, st.text(max_size=8))
SPELLINGS: list[Callable[[Any], bytes]] = [
    orjson.dumps,
    lambda value: json.dumps(value).encode(),
    lambda value: json.dumps(value, separators=(",", ":")).encode(),
]

Chunk = dict[str, Any]


@st.composite
def chunks(draw: st.DrawFn) -> list[bytes]:
    """Chunks of one stream: most of one shape, and now and then another."""
    spelled = draw(st.sampled_from(SPELLINGS))
    padded = draw(st.booleans())
    with_usage = draw(st.booleans())
    base: Chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1-nano-2025-04-14"}
    found = []
    for text in draw(st.lists(TEXTS, max_size=12)):
        odd = draw(st.integers(0, 9))
        delta: Chunk = {"content": text}
        choice: Chunk = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        if odd == 0:
            delta["reasoning_content"] = draw(TEXTS)
        elif odd == 1:
            choice["index"] = 1
        elif odd == 2:
            choice["finish_reason"] = "stop"
        elif odd == 3:
            delta["tool_calls"] = [{"index": 0, "function": {"name": text, "arguments": text}}]
        elif odd == 4:
            delta["role"] = "assistant"
        chunk = {**base, "choices": [choice]}
        if with_usage:
            chunk["usage"] = None if odd != 5 else {"prompt_tokens": 1, "completion_tokens": 2}
        if padded:
            chunk["obfuscation"] = draw(st.text("abXY01", max_size=4)) if odd != 6 else draw(TEXTS)
        found.append(b"data: " + _spelled(spelled, chunk))
    if draw(st.booleans()):
        found.append(b"data: [DONE]")
    return found


def _spelled(spelled: Callable[[Any], bytes], value: Any) -> bytes:
    try:
        return spelled(value)
    except TypeError:
        return json.dumps(value).encode()


def _in_texts(chunk: bytes) -> bytes:
    """The same as a chunk of text."""
    try:
        data = orjson.loads(chunk.removeprefix(b"data: "))
    except ValueError:
        return chunk
    for choice in data["choices"]:
        choice["text"] = choice.pop("delta")["content"]
    return b"data: " + orjson.dumps(data)


Read = Callable[[list[bytes]], tuple[list[bytes], Tally]]


def openai(reader: type[openai_chat.Reader], include_usage: bool) -> Read:
    def read(events: list[bytes]) -> tuple[list[bytes], Tally]:
        tally = Tally()
        reading = reader("openai", MODEL, include_usage, tally)
        return [data for event in events for data in reading.read([event])], tally

    return read


def both(read: Read, events: list[bytes]) -> tuple[tuple[list[bytes], Tally], tuple[list[bytes], Tally], int]:
    """What comes out as it is, and where no shape is ever learned; and how many events passed unread."""
    cast, unread = Mould.cast, 0

    def counted(self: Mould, event: bytes) -> bytes | None:
        nonlocal unread
        found = cast(self, event)
        unread += found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mould, "cast", counted)
        fast = read(events)
        patch.setattr(Mould, "cast", lambda self, event: None)
        slow = read(events)
    return fast, slow, unread


@given(events=chunks(), include_usage=st.booleans())
def test_chunks_come_out_as_if_each_was_read(events: list[bytes], include_usage: bool) -> None:
    fast, slow, _ = both(openai(openai_chat.Reader, include_usage), events)
    assert fast == slow


@given(events=chunks())
def test_texts_come_out_as_if_each_was_read(events: list[bytes]) -> None:
    fast, slow, _ = both(openai(openai_completions.Reader, False), [_in_texts(event) for event in events])
    assert fast == slow


@st.composite
def blocks(draw: st.DrawFn) -> list[bytes]:
    """Events of one of Anthropic's messages, filled up with spaces as it does."""
    found = [
        _event(
            "message_start", message={"id": "msg_1", "type": "message", "model": "claude", "content": [], "usage": {}}
        ),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    for text in draw(st.lists(TEXTS, max_size=12)):
        odd = draw(st.integers(0, 9))
        delta = {"type": "thinking_delta", "thinking": text} if odd == 0 else {"type": "text_delta", "text": text}
        event = _event("content_block_delta", index=1 if odd == 1 else 0, delta=delta)
        found.append(event[:-1] + b" " * draw(st.integers(0, 5)) + b"}")
        if odd == 2:
            found.append(b'event: ping\ndata: {"type": "ping"}')
    return found


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b" % (kind.encode(), _spelled(orjson.dumps, {"type": kind, **fields}))


def anthropic(events: list[bytes]) -> tuple[list[bytes], Tally]:
    tally = Tally()
    decoder = anthropic_answer.Decoder(MODEL, anthropic_answer.PLAIN, tally, include_usage=False)
    decoder._created = 0
    return [data for event in events for data in decoder.read(event + b"\n\n")], tally


def native(events: list[bytes]) -> tuple[list[bytes], Tally]:
    tally = Tally()
    reader = anthropic_native.Reader(MODEL, tally, provider="anthropic")
    return [data for event in events for data in reader.read(event + b"\n\n")], tally


@pytest.mark.parametrize("read", [anthropic, native])
@given(events=blocks())
def test_anthropics_events_come_out_as_if_each_was_read(read: Read, events: list[bytes]) -> None:
    (fast, fast_tally), (slow, slow_tally), _ = both(read, events)
    assert fast_tally == slow_tally
    # Spaces between the braces say nothing.
    assert list(map(_said, fast)) == list(map(_said, slow))


def _said(event: bytes) -> tuple[bytes, Any]:
    head, _, data = event.rpartition(b"\ndata: ")
    return head, orjson.loads(data or event)


PLAIN = [b"data: " + orjson.dumps({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": f"w{i}"}, "finish_reason": None}]}) for i in range(20)]  # fmt: skip


def test_nearly_all_of_a_plain_stream_passes_unread() -> None:
    _, _, unread = both(openai(openai_chat.Reader, False), PLAIN)
    assert unread == len(PLAIN) - 1


def test_a_stream_of_ever_other_shapes_is_given_up() -> None:
    events = [event.replace(b'"c1"', b'"c%d"' % i) for i, event in enumerate(PLAIN)]
    fast, slow, unread = both(openai(openai_chat.Reader, False), events)
    assert (fast, unread) == (slow, 0)
    form = Mould()
    for event in events[: mould.MOST]:
        form.learn(event, "w0", event)
    form.learn(PLAIN[0], "w0", PLAIN[0])
    assert form.cast(PLAIN[1]) is None
