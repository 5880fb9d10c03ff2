"""Anthropic's own dialect passes through untouched: what was recorded goes in, and comes out again."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.wire import anthropic
from providers import catalog, errors
from providers.anthropic import Provider
from providers.http_httpx import HttpxTransport
from providers.types import Call, Hints, Model, Tally, Timeouts

NAME = "configured"


def a_model(upstream: str = "claude-haiku-4-5-20251001", **changes: Any) -> Model:
    return Model(NAME, "anthropic", upstream, catalog.lookup("anthropic", upstream), **changes)


def a_call(body: dict[str, Any], headers: dict[str, str] | None = None) -> Call:
    asked = anthropic.decode_count(json.dumps(body).encode())
    call = Call("1", "messages", b"", asked.body, "m", asked.stream, True, asked.needs, Hints(), 0.0, 60.0, "")
    call.headers = headers or {}
    return call


class Pieces(httpx.AsyncByteStream):
    """A body in pieces of any size."""

    def __init__(self, raw: bytes, seed: int = 0) -> None:
        self._raw = raw
        self._random = random.Random(seed)

    async def __aiter__(self) -> Any:
        rest = self._raw
        while rest:
            size = self._random.randint(1, 200)
            yield rest[:size]
            rest = rest[size:]


def ask(
    body: dict[str, Any],
    answer: bytes | str,
    *,
    model: Model | None = None,
    operation: str = "messages",
    seed: int = 0,
    **call: Any,
) -> tuple[httpx.Request, bytes, Tally, Any]:
    """What the vendor got, what the caller gets, and what is known of it."""
    arrived: list[httpx.Request] = []
    raw = answer.encode() if isinstance(answer, str) else answer
    streamed = raw.startswith((b"event:", b"data:", b": "))
    kind = "text/event-stream; charset=utf-8" if streamed else "application/json"

    def vendor(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200, headers={"content-type": kind, "request-id": "req_v"}, stream=Pieces(raw, seed))

    async def run() -> tuple[bytes, Any]:
        transport = HttpxTransport(httpx.MockTransport(vendor))
        endpoint = Provider("anthropic", "https://vendor.example", ["key"], transport).endpoints[operation]
        try:
            asked = a_call(body, **call)
            if not asked.stream:
                reply = await endpoint.complete(asked, model or a_model(), Timeouts())
                return reply.body, reply
            stream = await endpoint.stream(asked, model or a_model(), Timeouts())
            await stream.begin()
            return b"".join([anthropic.frame(batch) async for batch in stream]), stream
        finally:
            await transport.aclose()

    told, answered = asyncio.run(run())
    (request,) = arrived
    return request, told, answered.tally, answered


@pytest.fixture(scope="module")
def interactions(recorded: Path) -> list[dict[str, Any]]:
    lines = (recorded / "anthropic_messages.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [
        each
        for each in found
        if each["response"]["status"] == 200
        and each["request"]["url"].split("?")[0].endswith("/v1/messages")
        and isinstance(each["request"]["body"], dict)
    ]


def test_every_recorded_request_and_answer_passes(interactions: list[dict[str, Any]]) -> None:
    wholes = [each for each in interactions if each["response"]["kind"] == "json"]
    assert wholes
    for each in wholes:
        body = {key: value for key, value in each["request"]["body"].items() if key != "stream"}
        raw = json.dumps(each["response"]["body"], ensure_ascii=False)
        request, told, tally, reply = ask(body, raw, model=a_model(body["model"]))
        assert_sent(request, body, reply)
        message = each["response"]["body"]
        assert told.decode() == raw.replace(f'"model": "{message["model"]}"', f'"model": "{NAME}"', 1)
        assert_told(tally, message)


@pytest.mark.parametrize("seed", range(3))
def test_every_recorded_stream_passes_byte_for_byte(interactions: list[dict[str, Any]], seed: int) -> None:
    streams = [each for each in interactions if each["response"]["kind"] == "sse"]
    assert streams
    for each in streams:
        body = each["request"]["body"] | {"stream": True}
        text = each["response"]["sse_text"]
        request, told, tally, stream = ask(body, text, model=a_model(body["model"]), seed=seed)
        assert_sent(request, body, stream)
        start = next(
            json.loads(line[5:]) for line in text.splitlines() if "message_start" in line and line[:5] == "data:"
        )
        name = start["message"]["model"]
        expected = text.replace(f'"model":"{name}"', f'"model":"{NAME}"', 1)
        assert told.decode() == expected.rstrip("\n") + "\n\n"
        assert tally.usage is not None
        assert (tally.id, tally.malformed, tally.begun) == (start["message"]["id"], 0, True)


def assert_sent(request: httpx.Request, body: dict[str, Any], answered: Any) -> None:
    assert request.url == "https://vendor.example/v1/messages"
    sent = json.loads(request.content)
    if "max_tokens" in answered.dropped:
        assert sent["max_tokens"] < body["max_tokens"]
        sent["max_tokens"] = body["max_tokens"]
    assert sent == body
    assert set(answered.dropped) <= {"max_tokens"}


def assert_told(tally: Tally, message: dict[str, Any]) -> None:
    usage = message["usage"]
    assert tally.id == message["id"]
    assert tally.usage is not None
    assert tally.usage.output == usage["output_tokens"]
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    assert tally.usage.prompt == usage["input_tokens"] + read + written
    assert tally.begun == bool(message["content"])


# --- the same, without recordings ---

BODY: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
WHOLE = (
    '{"model":"claude-x","id":"msg_1","type":"message","role":"assistant","content":[{"type":"hologram","x": 1e2},'
    '{"type":"tool_use","id":"t","name":"n","input":{"q":"x"}}],"stop_reason":"tool_use","stop_sequence":null,'
    '"usage":{"input_tokens":5,"output_tokens":2,"cache_read_input_tokens":7,"later":{}}}'
)


def events(*items: Any) -> str:
    return "".join(f"event: {item['type']}\ndata: {json.dumps(item)}   \n\n" for item in items)


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-x", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}},
}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi\u2028é"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}
STREAMED = BODY | {"stream": True}


def test_an_answer_passes_but_for_its_models_name() -> None:
    _, told, tally, reply = ask(BODY, WHOLE)
    assert told.decode() == WHOLE.replace("claude-x", NAME)
    assert (tally.finish, tally.begun, reply.headers["request-id"]) == ("tool_calls", True, "req_v")
    assert tally.usage is not None
    assert (tally.usage.prompt, tally.usage.cache_read, tally.usage.output) == (12, 7, 2)


def test_a_models_name_elsewhere_in_an_answer_is_left_alone() -> None:
    whole = WHOLE.replace('{"q":"x"}', '{"model":"claude-x"}')
    _, told, _, _ = ask(BODY, whole)
    assert json.loads(told) == {**json.loads(whole), "model": NAME}


def test_unknown_events_blocks_and_padding_pass() -> None:
    odd = {"type": "aurora", "x": [1]}
    hologram = {"type": "content_block_start", "index": 1, "content_block": {"type": "hologram", "x": 1}}
    text = events(START, {"type": "ping"}, TEXT, DELTA, odd, hologram, END, STOP)
    _, told, tally, _ = ask(STREAMED, text)
    assert told.decode() == text.replace("claude-x", NAME)
    assert (tally.finish, tally.chars, tally.malformed) == ("stop", 4, 0)


def test_a_start_that_names_its_model_twice_is_written_anew() -> None:
    start = {**START, "message": {**START["message"], "container": {"model": "claude-x"}}}
    _, told, _, _ = ask(STREAMED, events(start, TEXT, DELTA, END, STOP))
    message = json.loads(told.split(b"data: ")[1].split(b"\n")[0])["message"]
    assert (message["model"], message["container"]) == (NAME, {"model": "claude-x"})


def test_an_event_without_a_name_gets_its_own_and_lines_stay_lines() -> None:
    text = (
        events(START, TEXT)
        + 'data: {"type":"content_block_delta","index":0,\ndata: "delta":{"type":"text_delta","text":"x"}}\n\n'
    )
    _, told, tally, _ = ask(STREAMED, text + events(END, STOP))
    assert b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,\ndata: "delta"' in told
    assert tally.chars == 1


def test_a_stream_that_was_told_to_end_is_closed() -> None:
    _, told, tally, _ = ask(STREAMED, events(START, TEXT, DELTA, END))
    assert told.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert tally.finish == "stop"


@pytest.mark.parametrize(
    ("rest", "raised"),
    [
        ((), errors.BadReply),
        (({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},), errors.Overwhelmed),
        (({"type": "error", "error": {"type": "api_error", "message": "Oh"}},), errors.Unavailable),
    ],
)
def test_a_stream_that_breaks_raises(rest: Any, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        ask(STREAMED, events(START, TEXT, DELTA, *rest))


def test_events_that_cannot_be_read_are_passed_over() -> None:
    text = events(START, TEXT, DELTA) + "event: content_block_delta\ndata: {half\n\n" + events(END, STOP)
    _, told, tally, _ = ask(STREAMED, text)
    assert b"{half" not in told
    assert tally.malformed == 1


@pytest.mark.parametrize(
    ("raw", "raised"),
    [
        ("{", errors.BadReply),
        ("[]", errors.BadReply),
        ('{"content": 7}', errors.BadReply),
        ('{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}', errors.Overwhelmed),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_none_raises(raw: str, raised: type[Exception], stream: bool) -> None:
    with pytest.raises(raised):
        ask(STREAMED if stream else BODY, raw)


def test_the_callers_version_and_betas_go_along_and_their_key_does_not() -> None:
    request, _, _, _ = ask(BODY, WHOLE, headers={"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"})
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["anthropic-beta"] == "a,b"
    assert request.headers["x-api-key"] == "key"
    plain, _, _, _ = ask(BODY, WHOLE)
    assert plain.headers["anthropic-version"] == "2023-06-01"


def test_hints_stay_here_and_the_limit_is_the_models() -> None:
    body = BODY | {"max_tokens": 10**6, "metadata": {"use_case": "x", "user_id": "u"}}
    request, _, _, reply = ask(body, WHOLE)
    assert json.loads(request.content) == {
        **BODY,
        "model": "claude-haiku-4-5-20251001",
        "max_tokens": 64_000,
        "metadata": {"user_id": "u"},
    }
    assert reply.dropped == ("max_tokens",)
    only_hints, _, _, _ = ask(BODY | {"metadata": {"task": "x"}}, WHOLE)
    assert "metadata" not in json.loads(only_hints.content)
    with pytest.raises(errors.Unsupported):
        ask(body, WHOLE, model=a_model(on_unsupported="error"))


def test_thoughts_of_other_vendors_are_taken_out() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "ours", "signature": ""},
        {"type": "thinking", "thinking": "", "signature": "theirs"},
        {"type": "text", "text": "Ho"},
    ]
    turns = [*BODY["messages"], {"role": "assistant", "content": thoughts}, *BODY["messages"]]
    request, _, _, reply = ask(BODY | {"messages": turns}, WHOLE)
    assert json.loads(request.content)["messages"][1]["content"] == thoughts[1:]
    assert reply.dropped == ("messages.content.thinking",)


@pytest.mark.parametrize("operation", ["messages", "count_tokens"])
def test_a_turn_of_nothing_but_other_vendors_thoughts_is_left_out(operation: str) -> None:
    thought = {"type": "thinking", "thinking": "cut sho", "signature": ""}
    again = {"role": "user", "content": "Again"}
    turns = [*BODY["messages"], {"role": "assistant", "content": [thought]}, again]
    request, _, _, reply = ask(BODY | {"messages": turns}, WHOLE, operation=operation)
    assert json.loads(request.content)["messages"] == [*BODY["messages"], again]
    if operation == "messages":
        assert reply.dropped == ("messages.content.thinking",)


@pytest.mark.parametrize(
    ("most", "budget", "sent", "dropped"),
    [
        (64_000, 2048, 2048, ("max_tokens",)),
        (64_000, 64_000, 63_999, ("max_tokens", "thinking.budget_tokens")),
        (1025, 2048, 1024, ("max_tokens", "thinking.budget_tokens")),
        (1024, 2048, None, ("max_tokens", "thinking")),
        (64_000, 100_000, 100_000, ("max_tokens",)),
    ],
)
def test_a_budget_for_thinking_stays_below_the_models_limit(
    most: int, budget: int, sent: int | None, dropped: tuple[str, ...]
) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    model = a_model()
    model = replace(model, card=replace(model.card, max_output=most))
    request, _, _, reply = ask(BODY | {"max_tokens": 100_000, "thinking": thinking}, WHOLE, model=model)
    asked = json.loads(request.content)
    assert asked["max_tokens"] == most
    assert asked.get("thinking") == (None if sent is None else thinking | {"budget_tokens": sent})
    assert reply.dropped == dropped


def test_tokens_are_counted_by_the_vendor() -> None:
    request, told, tally, _ = ask(BODY, '{"input_tokens": 7}', operation="count_tokens")
    assert request.url == "https://vendor.example/v1/messages/count_tokens"
    assert told == b'{"input_tokens": 7}'
    assert tally.usage is None
