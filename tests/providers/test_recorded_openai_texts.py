"""What OpenAI really sent on its completions and embeddings passes unchanged but for the model's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers import catalog, errors
from providers.http_httpx import HttpxTransport
from providers.openai import Provider
from providers.types import Call, Hints, Model, Timeouts

pytestmark = pytest.mark.anyio

Row = dict[str, Any]


def rows(recorded: Path, operation: str) -> list[Row]:
    text = (recorded / f"openai_{operation}.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines() if line]
    assert found
    return found


async def answered(operation: str, row: Row, response: httpx.Response) -> tuple[Any, list[bytes], Row]:
    """The gateway's side of an exchange: the answer, its chunks if it has any, and what the vendor was sent."""
    sent: list[Row] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return response

    provider = Provider("openai", "https://api.openai.com/v1", ["k"], HttpxTransport(httpx.MockTransport(respond)))
    body = row["request"]["body"]
    model = Model("configured", "openai", body["model"], catalog.lookup("openai", body["model"]))
    stream = bool(body.get("stream"))
    call = Call("1", operation, b"", body, body["model"], stream, True, {}, Hints(), 0.0, 60.0, "")
    endpoint = provider.endpoints[operation]
    if stream:
        answer: Any = await endpoint.stream(call, model, Timeouts())
        return answer, [chunk async for batch in answer for chunk in batch], sent[0]
    return await endpoint.complete(call, model, Timeouts()), [], sent[0]


def renamed(text: str) -> str:
    name = json.dumps(json.loads(text)["model"])
    for colon in (":", ": "):
        text = text.replace(f'"model"{colon}{name}', f'"model"{colon}"configured"', 1)
    return text


@pytest.mark.parametrize("operation", ["completions", "embeddings"])
@pytest.mark.parametrize("indent", [None, 2])
async def test_answers_pass_byte_for_byte_but_for_the_model(recorded: Path, operation: str, indent: int | None) -> None:
    for row in rows(recorded, operation):
        if row["response"]["status"] == 200 and row["response"]["kind"] == "json":
            text = json.dumps(row["response"]["body"], indent=indent)
            reply, _, sent = await answered(operation, row, httpx.Response(200, text=text))
            assert reply.body.decode() == renamed(text)
            assert sent == row["request"]["body"]
            usage = row["response"]["body"]["usage"]
            assert reply.tally.usage.prompt == usage["prompt_tokens"]
            assert reply.tally.usage.output == usage.get("completion_tokens", 0)
            assert reply.dropped == ()


async def test_streams_pass_byte_for_byte_but_for_the_model(recorded: Path) -> None:
    streams = [row for row in rows(recorded, "completions") if row["response"]["sse_text"]]
    assert streams
    for row in streams:
        text = row["response"]["sse_text"].lstrip()
        response = httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})
        stream, chunks, sent = await answered("completions", row, response)
        payloads = [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: {")]
        assert [chunk.decode() for chunk in chunks] == [renamed(payload) for payload in payloads]
        assert sent == {**row["request"]["body"], "stream_options": {"include_usage": True}}
        assert stream.tally.finish == "length"
        assert stream.tally.chars == sum(len(json.loads(each)["choices"][0]["text"]) for each in payloads)


@pytest.mark.parametrize("operation", ["completions", "embeddings"])
async def test_errors_are_told_apart_by_their_bodies(recorded: Path, operation: str) -> None:
    for row in rows(recorded, operation):
        status = row["response"]["status"]
        if status >= 400:
            with pytest.raises(errors.ModelGone):
                await answered(operation, row, httpx.Response(status, json=row["response"]["body"]))
