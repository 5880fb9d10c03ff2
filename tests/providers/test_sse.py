from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sse import Event, Splitter, parse


def events(*pieces: bytes) -> list[Event]:
    splitter = Splitter()
    found = [block for piece in pieces for block in splitter.feed(piece)] + splitter.flush()
    return [event for block in found if (event := parse(block)) is not None]


def cut(text: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


STREAM = (
    ": hello\n\n"
    'data: {"a": "日本 🙂"}\n\n'
    "event: ping\ndata: {}\n\n"
    ": ping\n\n"
    "id: 7\nretry: 10\ndata: first\ndata:second\ndata\n\n"
    "event: lonely\n\n"
    "\n\n"
    "data:  two spaces\n\n"
    "data: [DONE]\n\n"
).encode()

EXPECTED = [
    Event(None, '{"a": "日本 🙂"}'.encode()),
    Event(b"ping", b"{}"),
    Event(None, b"first\nsecond\n"),
    Event(None, b" two spaces"),
    Event(None, b"[DONE]"),
]

ENDS = [b"\n", b"\r\n", b"\r"]


@pytest.mark.parametrize("end", ENDS)
def test_cut_at_any_byte_gives_the_same_events(end: bytes) -> None:
    text = STREAM.replace(b"\n", end)
    for place in range(len(text) + 1):
        assert events(text[:place], text[place:]) == EXPECTED


@pytest.mark.parametrize("end", ENDS)
def test_single_bytes_give_the_same_events(end: bytes) -> None:
    text = STREAM.replace(b"\n", end)
    assert events(*(text[i : i + 1] for i in range(len(text)))) == EXPECTED


@given(places=st.lists(st.integers(0, 10_000)), end=st.sampled_from(ENDS), bom=st.booleans())
def test_cut_in_any_pieces_gives_the_same_events(places: list[int], end: bytes, bom: bool) -> None:
    text = (b"\xef\xbb\xbf" if bom else b"") + STREAM.replace(b"\n", end)
    assert events(*cut(text, places)) == EXPECTED


LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


@given(
    datas=st.lists(st.lists(LINES, min_size=1, max_size=3)),
    comments=st.lists(LINES, min_size=1),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1),
    places=st.lists(st.integers(0, 10_000)),
)
def test_any_events_come_out_as_they_went_in(
    datas: list[list[str]], comments: list[str], ends: list[bytes], places: list[int]
) -> None:
    # Line ends may change from event to event, not within one: CR before LF would be one end, not two.
    text = b""
    for i, data in enumerate(datas):
        end = ends[i % len(ends)]
        lines = [f":{comments[i % len(comments)]}", *(f"data: {line}" for line in data), ""]
        text += b"".join(line.encode() + end for line in lines)
        if end == b"\r":
            text += b":\r\r"
    expected = [Event(None, "\n".join(data).encode()) for data in datas]
    assert events(*cut(text, places)) == expected


@pytest.mark.parametrize("rest", [b"data: last", b"data: last\n", b"data: last\r\n", b"data: last\r"])
def test_last_event_needs_no_end(rest: bytes) -> None:
    assert events(b"data: one\n\n" + rest) == [Event(None, b"one"), Event(None, b"last")]


def test_an_event_is_handed_out_by_the_piece_that_completes_it() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: one\n") == []
    assert splitter.feed(b"\ndata: two\n\ndata: th") == [b"data: one", b"data: two"]
    assert splitter.feed(b"ree\n\n") == [b"data: three"]


def test_a_carriage_return_completes_an_event_without_its_line_feed() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: one\r\n\r") == [b"data: one"]
    assert splitter.feed(b"\ndata: two\r\n\r\n") == [b"data: two"]


@pytest.mark.parametrize("end", ENDS)
def test_large_events_come_out_whole(end: bytes) -> None:
    data = b"x" * 1_000_000
    text = b"data: " + data + end + end
    assert events(*(text[i : i + 1024] for i in range(0, len(text), 1024))) == [Event(None, data)]


def seconds(megabytes: int) -> float:
    splitter = Splitter()
    piece = b"x" * 1024
    splitter.feed(b"data: ")
    start = time.process_time()
    for _ in range(megabytes * 1024):
        splitter.feed(piece)
    return time.process_time() - start


def test_a_large_event_is_not_looked_at_again_with_each_piece() -> None:
    # 16 MB in pieces of 1 KB would take minutes, were each piece to scan what came before it.
    assert seconds(16) < 2
