"""What OpenAI and look-alikes really sent passes through unchanged but for the model's name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from providers import catalog, errors
from providers.http_httpx import HttpxTransport
from providers.openai import Provider
from providers.openai_chat import encode
from providers.types import Call, Hints, Model, Timeouts

pytestmark = pytest.mark.anyio

Row = dict[str, Any]


@pytest.fixture
def rows(recorded: Path) -> list[Row]:
    text = (recorded / "openai_chat.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


def a_model(row: Row) -> Model:
    upstream = row["request"]["body"]["model"]
    return Model("configured", "openai", upstream, catalog.lookup("openai", upstream))


def a_call(row: Row, include_usage: bool = True) -> Call:
    body = row["request"]["body"]
    stream = bool(body.get("stream"))
    return Call("1", "chat", b"", body, body["model"], stream, include_usage, {}, Hints(), 0.0, 60.0, "")


class Pieces(httpx.AsyncByteStream):
    def __init__(self, body: bytes, size: int) -> None:
        self.body, self.size = body, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), self.size):
            yield self.body[start : start + self.size]


def a_provider(respond: Callable[[httpx.Request], httpx.Response]) -> Provider:
    return Provider(
        "openai", "https://api.openai.com/v1", ["k"], HttpxTransport(httpx.MockTransport(respond))
    ).endpoints["chat"]


async def streamed(row: Row, include_usage: bool, size: int) -> tuple[list[bytes], Any]:
    body = row["response"]["sse_text"].lstrip().encode()
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    provider = a_provider(lambda request: httpx.Response(200, headers=headers, stream=Pieces(body, size)))
    stream = await provider.stream(a_call(row, include_usage), a_model(row), Timeouts())
    return [chunk async for batch in stream for chunk in batch], stream.tally


def payloads(row: Row) -> list[str]:
    events = row["response"]["sse_text"].lstrip().split("\n\n")
    return [event.removeprefix("data: ") for event in events if event.startswith("data: {")]


def renamed(payload: str) -> str:
    name = json.dumps(json.loads(payload)["model"])
    return payload.replace(f'"model":{name}', '"model":"configured"', 1)


def puts_usage_beside_choices(row: Row) -> bool:
    return any(json.loads(text).get("usage") and json.loads(text)["choices"] for text in payloads(row))


def accumulate(chunks: list[Any]) -> Row:
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    final = state.get_final_completion().to_dict()
    final.pop("model")
    return final


@pytest.mark.parametrize("size", [7, 1024, 1_000_000])
async def test_streams_pass_byte_for_byte_but_for_the_model(rows: list[Row], size: int) -> None:
    streams = [row for row in rows if row["response"]["sse_text"] and not puts_usage_beside_choices(row)]
    assert len(streams) > 10
    for row in streams:
        chunks, tally = await streamed(row, True, size)
        assert [chunk.decode() for chunk in chunks] == [renamed(payload) for payload in payloads(row)]
        assert tally.malformed == 0


async def test_streams_accumulate_to_what_was_recorded(rows: list[Row]) -> None:
    for row in rows:
        if row["response"]["sse_text"]:
            chunks, tally = await streamed(row, True, 100)
            ours = accumulate([json.loads(chunk) for chunk in chunks])
            assert ours == accumulate([json.loads(payload) for payload in payloads(row)])
            assert tally.finish == ours["choices"][0]["finish_reason"]


async def test_usage_beside_choices_is_sent_once_and_last(rows: list[Row]) -> None:
    streams = [row for row in rows if row["response"]["sse_text"] and puts_usage_beside_choices(row)]
    assert streams
    for row in streams:
        chunks, tally = await streamed(row, True, 100)
        with_usage = [chunk for chunk in map(json.loads, chunks) if chunk.get("usage")]
        assert with_usage == [json.loads(chunks[-1])]
        assert with_usage[0]["choices"] == []
        assert tally.usage.prompt == with_usage[0]["usage"]["prompt_tokens"]


async def test_streams_are_free_of_usage_that_was_not_asked_for(rows: list[Row]) -> None:
    for row in rows:
        if row["response"]["sse_text"]:
            chunks, _ = await streamed(row, False, 100)
            asked = [json.loads(payload) for payload in payloads(row)]
            expected = [
                {key: value for key, value in {**chunk, "model": "configured"}.items() if key != "usage"}
                for chunk in asked
                if chunk["choices"] or not chunk.get("usage")
            ]
            assert [json.loads(chunk) for chunk in chunks] == expected


@pytest.mark.parametrize("indent", [None, 2])
async def test_answers_pass_byte_for_byte_but_for_the_model(rows: list[Row], indent: int | None) -> None:
    answers = [row for row in rows if row["response"]["status"] == 200 and row["response"]["kind"] == "json"]
    assert answers
    for row in answers:
        body = row["response"]["body"]
        text = json.dumps(body, ensure_ascii=False, indent=indent)
        provider = a_provider(lambda request, text=text: httpx.Response(200, text=text))
        reply = await provider.complete(a_call(row), a_model(row), Timeouts())
        name = json.dumps(body["model"])
        assert reply.body.decode() == text.replace(f'"model": {name}', '"model": "configured"', 1)
        assert reply.tally.finish == body["choices"][-1]["finish_reason"]
        assert reply.tally.usage.prompt == body["usage"]["prompt_tokens"]
        assert reply.tally.usage.output == body["usage"]["completion_tokens"]


async def test_requests_go_on_unchanged_but_for_what_is_asked_of_streams(rows: list[Row]) -> None:
    for row in rows:
        call, model = a_call(row), a_model(row)
        body, dropped = encode(call, model)
        expected = dict(row["request"]["body"])
        if call.stream:
            expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
        assert (json.loads(body), dropped) == (expected, [])


async def test_errors_are_told_apart_by_their_bodies(rows: list[Row]) -> None:
    refused = [row for row in rows if row["response"]["status"] >= 400]
    assert refused
    for row in refused:
        status, body = row["response"]["status"], row["response"]["body"]
        provider = a_provider(lambda request, status=status, body=body: httpx.Response(status, json=body))
        with pytest.raises(errors.TalariaError) as raised:
            await provider.complete(a_call(row), a_model(row), Timeouts())
        expected = errors.ModelGone if status == 404 else errors.InvalidRequest
        assert type(raised.value) is expected
        assert (raised.value.code, raised.value.param) == (body["error"]["code"], body["error"]["param"])
        assert raised.value.message == f"openai: {body['error']['message']}"
