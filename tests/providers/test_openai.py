from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from time import time
from typing import Any

import httpx
import pytest

from providers import catalog, errors
from providers.http_httpx import HttpxTransport
from providers.lenient import dumps
from providers.openai import Provider
from providers.openai_chat import encode
from providers.openai_errors import decode_error, retry_after
from providers.types import Call, Hints, Model, Timeouts, Usage

pytestmark = pytest.mark.anyio

MODEL = Model("nano", "openai", "gpt-4.1-nano", catalog.lookup("openai", "gpt-4.1-nano"))
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4.1-nano-2025-04-14",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Oslo."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
SSE = {"content-type": "text/event-stream"}


def a_call(stream: bool = False, include_usage: bool = False, **fields: Any) -> Call:
    body = {"model": "nano", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return Call("1", "chat", b"", body, "nano", stream, include_usage, {}, Hints(), 0.0, 60.0, "")


def a_provider(respond: Callable[[httpx.Request], httpx.Response], *keys: str) -> Provider:
    return Provider(
        "acme", "https://acme.example/v1/", keys, HttpxTransport(httpx.MockTransport(respond), "acme")
    ).endpoints["chat"]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + dumps({"id": "c", "model": "gpt-4.1-nano", "choices": choices, **more}) + b"\n\n"


class Body(httpx.AsyncByteStream):
    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part


def streaming(*parts: bytes | Exception, headers: dict[str, str] = SSE) -> Provider:
    return a_provider(lambda request: httpx.Response(200, headers=headers, stream=Body(*parts)), "k")


async def test_keys_are_taken_in_turn() -> None:
    seen: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        assert str(request.url) == "https://acme.example/v1/chat/completions"
        return httpx.Response(200, json=ANSWER)

    provider = a_provider(respond, "a", "b")
    for _ in range(3):
        await provider.complete(a_call(), MODEL, Timeouts())
    assert seen == ["Bearer a", "Bearer b", "Bearer a"]


async def test_no_key_sends_no_authorization() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json=ANSWER)

    await a_provider(respond).complete(a_call(), MODEL, Timeouts())


async def test_complete_tells_what_was_dropped_and_billed() -> None:
    provider = a_provider(lambda request: httpx.Response(200, json=ANSWER, headers={"X-Request-Id": "r1"}))
    reply = await provider.complete(a_call(max_tokens=99999), MODEL, Timeouts())
    assert reply.dropped == ("max_tokens",)
    assert reply.headers["x-request-id"] == "r1"
    assert (reply.tally.id, reply.tally.begun, reply.tally.chars) == ("chatcmpl-1", True, 5)
    assert reply.tally.usage == Usage(input=9, output=2)


@pytest.mark.parametrize("body", [b'{"id": "x", "choi', b"<html></html>", b"[]", b"", b"null"])
async def test_answer_that_is_none_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(errors.BadReply):
        await a_provider(lambda request: httpx.Response(200, content=body)).complete(a_call(), MODEL, Timeouts())


async def test_transport_errors_are_given_the_providers_name() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("k-secret")

    with pytest.raises(errors.Unavailable) as raised:
        await a_provider(respond).complete(a_call(), MODEL, Timeouts())
    assert (raised.value.provider, raised.value.message) == ("acme", "acme: could not connect")


async def test_one_read_is_one_batch_and_empty_ones_are_none() -> None:
    hi, end = chunk({"content": "Hi"}), chunk({}, "stop")
    provider = streaming(chunk({"role": "assistant"}) + hi, b": ping\n\n", end[:9], end[9:], b"data: [DONE]\n\n")
    stream = await provider.stream(a_call(stream=True), MODEL, Timeouts())
    assert [len(batch) async for batch in stream] == [2, 1]


async def test_stream_begins_with_the_first_content() -> None:
    parts = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop")]
    stream = await streaming(*parts).stream(a_call(stream=True), MODEL, Timeouts())
    await stream.begin()
    assert (stream.tally.begun, stream.tally.finish, stream.tally.chars) == (True, None, 2)
    assert [len(batch) async for batch in stream] == [1, 1, 1]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"refusal": "x"},
        {"reasoning": "x"},
        {"reasoning_content": "x"},
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "a"}},
    ],
)
async def test_content_of_any_sort_begins_an_answer(delta: dict[str, Any]) -> None:
    stream = await streaming(chunk(delta), chunk({}, "stop")).stream(a_call(stream=True), MODEL, Timeouts())
    await stream.begin()
    assert stream.tally.begun


@pytest.mark.parametrize(
    "delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}, {"refusal": None}]
)
async def test_empty_deltas_begin_nothing(delta: dict[str, Any]) -> None:
    stream = await streaming(chunk(delta)).stream(a_call(stream=True), MODEL, Timeouts())
    with pytest.raises(errors.BadReply):
        await stream.begin()
    assert not stream.tally.begun


async def test_chunks_before_an_error_are_handed_on_first() -> None:
    broken = b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'
    stream = await streaming(chunk({"content": "Hi"}) + broken).stream(a_call(stream=True), MODEL, Timeouts())
    batches = aiter(stream)
    assert len(await anext(batches)) == 1
    with pytest.raises(errors.Unavailable, match="acme: boom"):
        await anext(batches)


async def test_connection_lost_after_the_finish_breaks_nothing() -> None:
    lost = httpx.ReadError("lost")
    stream = await streaming(chunk({"content": "Hi"}), chunk({}, "stop"), lost).stream(
        a_call(stream=True), MODEL, Timeouts()
    )
    assert [len(batch) async for batch in stream] == [1, 1]


async def test_connection_lost_before_the_finish_is_raised() -> None:
    stream = await streaming(chunk({"content": "Hi"}), httpx.ReadError("lost")).stream(
        a_call(stream=True), MODEL, Timeouts()
    )
    with pytest.raises(errors.Unavailable):
        _ = [batch async for batch in stream]


async def test_last_event_needs_no_blank_line() -> None:
    stream = await streaming(chunk({"content": "Hi"}), chunk({}, "stop").rstrip()).stream(
        a_call(stream=True), MODEL, Timeouts()
    )
    assert [len(batch) async for batch in stream] == [1, 1]


async def test_every_event_is_made_of_whole_characters() -> None:
    text = chunk({"content": "日本 🙂 é"}) + chunk({}, "stop")
    for cut in range(1, len(text)):
        stream = await streaming(text[:cut], text[cut:]).stream(a_call(stream=True), MODEL, Timeouts())
        chunks = [json.loads(chunk) async for batch in stream for chunk in batch]
        assert chunks[0]["choices"][0]["delta"]["content"] == "日本 🙂 é"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "m", "code": "rate_limit_exceeded"}}', errors.RateLimited),
        (b'{"choices": []}', errors.BadReply),
        (b"<html>", errors.BadReply),
    ],
)
async def test_something_else_than_a_stream_is_an_error(body: bytes, expected: type[Exception]) -> None:
    with pytest.raises(expected) as raised:
        await streaming(body, headers={"content-type": "application/json"}).stream(
            a_call(stream=True), MODEL, Timeouts()
        )
    assert type(raised.value) is expected


async def test_stream_refused_by_status_raises_before_it_is_a_stream() -> None:
    provider = a_provider(lambda request: httpx.Response(429, headers={"retry-after": "7"}))
    with pytest.raises(errors.RateLimited) as raised:
        await provider.stream(a_call(stream=True), MODEL, Timeouts())
    assert (raised.value.retry_after, raised.value.status) == (7.0, 429)


def test_call_may_be_streamed_although_the_caller_wants_it_whole() -> None:
    body, _ = encode(a_call(stream=False), MODEL, True)
    assert json.loads(body)["stream"] is True
    body, _ = encode(
        a_call(stream=True, include_usage=True, **{"stream_options": {"include_usage": True}}), MODEL, False
    )
    assert "stream_options" not in json.loads(body)


def test_whole_numbers_of_any_size_go_on() -> None:
    body, _ = encode(a_call(seed=2**70), MODEL)
    assert json.loads(body)["seed"] == 2**70


ERRORS = [
    (400, "invalid_request_error", "context_length_exceeded", errors.ContextTooLong),
    (400, "invalid_request_error", "content_filter", errors.ContentRefused),
    (400, "invalid_request_error", "content_policy_violation", errors.ContentRefused),
    (400, "invalid_request_error", "unsupported_parameter", errors.InvalidRequest),
    (400, "invalid_request_error", None, errors.InvalidRequest),
    (400, "invalid_request_error", "model_not_found", errors.ModelGone),
    (401, "invalid_request_error", "invalid_api_key", errors.CredentialsRejected),
    (403, None, "unsupported_country_region_territory", errors.CredentialsRejected),
    (402, "account_error", "account_error", errors.QuotaExhausted),
    (404, "invalid_request_error", "model_not_found", errors.ModelGone),
    (408, None, None, errors.TimedOut),
    (409, None, None, errors.InvalidRequest),
    (413, None, None, errors.RequestTooLarge),
    (422, "invalid_request_error", None, errors.InvalidRequest),
    (429, "requests", "rate_limit_exceeded", errors.RateLimited),
    (429, "rate_limit_error", "rate_limit_reached", errors.RateLimited),
    (429, None, None, errors.RateLimited),
    (429, "rate_limit_error", "slow_down", errors.Overwhelmed),
    (429, "insufficient_quota", "insufficient_quota", errors.QuotaExhausted),
    (429, "insufficient_quota", "project_spend_limit_exceeded", errors.QuotaExhausted),
    (429, "rate_limit_error", "credit_balance_exhausted", errors.QuotaExhausted),
    (500, "server_error", "server_error", errors.Unavailable),
    (502, None, None, errors.Unavailable),
    (503, "server_error", "server_is_overloaded", errors.Overwhelmed),
    (503, None, None, errors.Overwhelmed),
    (504, None, None, errors.TimedOut),
    (307, None, None, errors.Unavailable),
]


@pytest.mark.parametrize(("status", "kind", "code", "expected"), ERRORS)
def test_errors_are_known_by_code_type_and_status(
    status: int, kind: str | None, code: str | None, expected: type[errors.TalariaError]
) -> None:
    body = dumps({"error": {"message": "It says so", "type": kind, "code": code, "param": "messages"}})
    error = decode_error("acme", status, {}, body)
    assert type(error) is expected
    assert error.param == "messages"
    if isinstance(error, errors.InvalidRequest):
        assert (error.status, error.code) == (status, code)
    if expected is not errors.CredentialsRejected:
        assert error.message == "acme: It says so"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, errors.BadReply), (302, errors.BadReply), (400, errors.InvalidRequest), (502, errors.Unavailable)],
)
def test_pages_are_known_by_status(status: int, expected: type[Exception]) -> None:
    assert type(decode_error("acme", status, {}, b"<html>Bad gateway</html>")) is expected


def test_no_error_quotes_a_key_or_an_organisation() -> None:
    rejected = decode_error("acme", 401, {}, b'{"error": {"message": "Incorrect API key provided: abc-123"}}')
    assert rejected.message == "acme does not accept the gateway's key"
    limited = decode_error("acme", 429, {}, b'{"error": {"message": "Limit for org-AbC123 with sk-proj-x1Y2 reached"}}')
    assert limited.message == "acme: Limit for *** with *** reached"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert retry_after({"retry-after": formatdate(time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": formatdate(time() - 30, usegmt=True)}) == 0.0


# --- The same usage, whole and streamed ---

NESTED = {
    "prompt_tokens": 1200,
    "completion_tokens": 40,
    "total_tokens": 1240,
    "prompt_tokens_details": {"cached_tokens": 1024},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
ZERO = {**NESTED, "prompt_tokens_details": {"cached_tokens": 0}}
BARE = {"prompt_tokens": 1200, "completion_tokens": 40, "total_tokens": 1240}
WRITES = {**NESTED, "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 1000}}
FLAT = {**BARE, "cached_input_tokens": 1024, "reasoning_tokens": 30}
BESIDE = {**FLAT, "completion_tokens": 10}
HELD = Usage(input=176, cache_read=1024, output=40, reasoning=30)


def alone(usage: dict[str, Any]) -> list[bytes]:
    return [chunk({"content": "Hi"}), chunk({}, "stop"), b'data: {"choices": [], "usage": ' + dumps(usage) + b"}\n\n"]


def beside(usage: dict[str, Any]) -> list[bytes]:
    return [chunk({"content": "Hi"}), chunk({}, "stop", usage=usage)]


def running(usage: dict[str, Any]) -> list[bytes]:
    first = {"prompt_tokens": usage["prompt_tokens"], "completion_tokens": 1, "total_tokens": 0}
    return [chunk({"content": "Hi"}, usage=first), chunk({}, "stop", usage=usage)]


@pytest.mark.parametrize("events", [alone, beside, running])
@pytest.mark.parametrize(
    ("kind", "usage", "expected"),
    [
        ("openai", NESTED, HELD),
        ("openai", ZERO, Usage(input=1200, output=40, reasoning=30)),
        ("openai", BARE, Usage(input=1200, output=40)),
        ("openai", WRITES, Usage(input=100, cache_read=100, cache_write=1000, output=40, reasoning=30)),
        ("inception", NESTED, HELD),
        ("inception", FLAT, HELD),
        ("inception", BESIDE, HELD),
    ],
)
async def test_stream_and_answer_bill_the_same(
    events: Callable[[dict[str, Any]], list[bytes]], kind: str, usage: dict[str, Any], expected: Usage
) -> None:
    from providers import load

    def respond(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content).get("stream"):
            return httpx.Response(200, headers=SSE, stream=Body(*events(usage), b"data: [DONE]\n\n"))
        return httpx.Response(200, json={**ANSWER, "usage": usage})

    upstream = {"openai": "gpt-6-luna", "inception": "mercury-2"}[kind]
    model = Model("m", "acme", upstream, catalog.lookup(kind, upstream))
    provider: Any = load(kind)(
        "acme", "https://acme.example/v1", ["k"], HttpxTransport(httpx.MockTransport(respond), "acme")
    ).endpoints["chat"]
    reply = await provider.complete(a_call(), model, Timeouts())
    stream = await provider.stream(a_call(stream=True, include_usage=True), model, Timeouts())
    chunks = [json.loads(chunk) async for batch in stream for chunk in batch]
    told = [chunk for chunk in chunks if chunk.get("usage")]
    assert reply.tally.usage == stream.tally.usage == expected
    assert told == chunks[-1:]
    assert told[0]["choices"] == []
    assert told[0]["usage"] == json.loads(reply.body)["usage"]
    assert catalog.cost(expected, model.card.prices) == catalog.cost(stream.tally.usage, model.card.prices)
