from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import LengthFinishReasonError
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import catalog, errors
from providers.http_httpx import HttpxTransport
from providers.inception import Final, Provider, Raw
from providers.lenient import dumps
from providers.types import Call, Hints, Json, Model, Tally, Timeouts

MODEL = Model("mercury", "inception", "mercury-2", catalog.lookup("inception", "mercury-2"))
TEXTS = st.lists(st.text(max_size=40), max_size=12)


def chunk(content: Any = None, finish: str | None = None, **delta: Any) -> Json:
    said = delta if content is None else {**delta, "content": content}
    choices = [{"index": 0, "delta": said, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mercury-2", "choices": choices}


def read(reader_class: type[Final | Raw], *chunks: Json, done: bool = True) -> tuple[list[Json], Final | Raw, Tally]:
    tally = Tally()
    reader = reader_class("inception", MODEL, True, tally)
    batch = reader.read([b"data: " + dumps(each) for each in chunks])
    if done:
        batch += reader.read([b"data: [DONE]"])
    return [json.loads(each) for each in batch], reader, tally


def accumulated(chunks: list[Json]) -> ChatCompletion:
    state = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    try:
        return state.get_final_completion()
    except LengthFinishReasonError as cut:
        return cut.completion


def texts_of(chunks: list[Json]) -> list[str]:
    return [text for each in chunks for choice in each["choices"] if (text := choice["delta"].get("content"))]


@settings(max_examples=500)
@given(texts=TEXTS, finish=st.sampled_from(["stop", "length"]), beside=st.booleans(), billed=st.booleans())
def test_the_official_accumulator_gets_the_last_snapshot(
    texts: list[str], finish: str, beside: bool, billed: bool
) -> None:
    said = [chunk(text, **({} if at else {"role": "assistant"})) for at, text in enumerate(texts)]
    if beside and said:
        said[-1]["choices"][0]["finish_reason"] = finish
    else:
        said.append(chunk(finish=finish))
    if billed:
        said[-1]["usage"] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    chunks, reader, tally = read(Final, *said)

    last = next((text for text in reversed(texts) if text), "")
    answer = accumulated(chunks)
    assert (answer.choices[0].message.content or "") == last
    assert answer.choices[0].finish_reason == tally.finish == finish
    assert len(texts_of(chunks)) == bool(last)
    assert (reader.failure, tally.chars, tally.begun) == (None, len(last), bool(last))
    if billed:
        assert tally.usage is not None
        assert (tally.usage.output, answer.usage and answer.usage.completion_tokens) == (5, 5)


@given(texts=TEXTS)
def test_raw_contents_are_the_vendors_and_said_to_replace_each_other(texts: list[str]) -> None:
    said = [*(chunk(text) for text in texts), chunk(finish="stop")]
    chunks, _, tally = read(Raw, *said)

    assert chunks[0]["choices"] == []
    assert chunks[0]["talaria"] == {"stream_mode": "replace"}
    assert [each["choices"] for each in chunks[1:]] == [each["choices"] for each in said]
    assert tally.chars == len(next((text for text in reversed(texts) if text), ""))


def test_a_client_that_knows_no_snapshots_can_read_what_says_that_they_replace_each_other() -> None:
    chunks, _, _ = read(Raw, chunk("The the"), chunk("The tide"), chunk(finish="stop"))
    assert ChatCompletionChunk.model_validate(chunks[0]).choices == []


def test_nothing_has_begun_before_the_text_is_settled() -> None:
    chunks, _, tally = read(Final, chunk("The the", role="assistant"), chunk("The tide"), done=False)
    assert (chunks, tally.begun, tally.chars) == ([], False, len("The tide"))


def test_a_stream_without_a_finish_is_no_answer_however_many_snapshots_it_had() -> None:
    chunks, reader, _ = read(Final, chunk("The the"), chunk("The tide"))
    assert chunks == []
    assert isinstance(reader.failure, errors.BadReply)


def test_what_comes_beside_snapshots_waits_for_the_text() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    chunks, _, tally = read(Final, chunk("So the"), chunk(tool_calls=[call]), chunk("So be it"), chunk(finish="stop"))
    message = accumulated(chunks).choices[0].message
    assert message.content == "So be it"
    assert [each.id for each in message.tool_calls or ()] == ["call_1"]
    _, _, unsettled = read(Final, chunk("So the"), chunk(tool_calls=[call]), done=False)
    assert not unsettled.begun
    assert tally.begun


def test_snapshots_of_several_choices_are_kept_apart() -> None:
    def both(first: Json, second: Json, finish: str | None = None) -> Json:
        choices = [
            {"index": index, "delta": delta, "finish_reason": finish} for index, delta in enumerate((first, second))
        ]
        return {**chunk(), "choices": choices}

    said = [
        both({"content": "on"}, {"content": "t"}),
        both({"content": "one"}, {"content": "two"}),
        both({}, {}, "stop"),
    ]
    chunks, _, tally = read(Final, *said)
    assert [choice.message.content for choice in accumulated(chunks).choices] == ["one", "two"]
    assert tally.chars == 6


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "mode", "asked", "replaces", "texts"),
    [
        ({"diffusing": True}, None, True, False, ["The tide"]),
        ({"diffusing": True}, "final", True, False, ["The tide"]),
        ({"diffusing": True}, "raw", True, True, ["The the", "The tide"]),
        ({}, "raw", None, False, ["The the", "The tide"]),
        ({"diffusing": False}, "raw", None, False, ["The the", "The tide"]),
        (
            {"diffusing": True, "tools": [{"type": "function", "function": {"name": "look"}}]},
            "raw",
            None,
            False,
            ["The the", "The tide"],
        ),
    ],
    ids=["default", "final", "raw", "not-asked-for", "declined", "with-tools"],
)
async def test_snapshots_are_asked_for_only_where_the_caller_asks(
    fields: Json, mode: str | None, asked: bool | None, replaces: bool, texts: list[str]
) -> None:
    sent: list[Json] = []
    said = (chunk("The the"), chunk("The tide"), chunk(finish="stop"))
    body = b"".join(b"data: " + dumps(each) + b"\n\n" for each in said) + b"data: [DONE]\n\n"

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = HttpxTransport(httpx.MockTransport(answer), "inception")
    chat = Provider("inception", "https://api.inceptionlabs.ai/v1", ["k"], transport).endpoints["chat"]
    asking = {"model": "mercury", "messages": [{"role": "user", "content": "Hi"}], "stream": True, **fields}
    call = Call("1", "chat", b"", asking, "mercury", True, False, {}, Hints(diffusing=mode), 0.0, 60.0, "")
    stream = await chat.stream(call, MODEL, Timeouts())
    chunks = [json.loads(each) async for batch in stream for each in batch]

    assert sent[0].get("diffusing") == asked
    assert stream.replaces == replaces
    assert texts_of(chunks) == texts
