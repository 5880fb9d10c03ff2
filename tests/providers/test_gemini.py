"""Gemini's API: ours and theirs case by case in `golden/gemini/`, and what holds for any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import catalog, errors, load
from providers.gemini import Provider, Reader, decode, decode_error, encode
from providers.http_httpx import HttpxTransport
from providers.lenient import dumps
from providers.sse import Splitter
from providers.types import Call, Hints, Model, Tally, Timeouts, Usage

FOLDER = Path(__file__).parents[1] / "golden" / "gemini"


def cases(file: str) -> list[Any]:
    found = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in found]


def a_model(upstream: str = "gemini-3.8-flash", on_unsupported: Any = None) -> Model:
    return Model("flash", "google", upstream, catalog.lookup("gemini", upstream), on_unsupported)


def a_call(needs: dict[str, str] | None = None, stream: bool = False, **fields: Any) -> Call:
    body = {"model": "flash", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return Call("1", "chat", b"", body, "flash", stream, True, needs or {}, Hints(), 0.0, 60.0, "")


def usage_of(counts: list[int]) -> dict[str, Any]:
    prompt, completion, cached, reasoning = counts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def events(found: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + dumps(event) + b"\r\n\r\n" for event in found)


def read(pieces: list[bytes]) -> tuple[list[bytes], Reader, Tally]:
    tally = Tally()
    reader = Reader("google", a_model(), True, tally)
    splitter = Splitter()
    chunks: list[bytes] = []
    for piece in pieces:
        if not reader.failure:
            chunks += reader.read(splitter.feed(piece))
    if not reader.failure:
        chunks += reader.read(splitter.flush())
        if not reader.failure:
            reader.end(chunks, whole=reader.finished)
    return chunks, reader, tally


def accumulated(chunks: list[bytes]) -> dict[str, Any]:
    """What OpenAI's own client makes of the chunks."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(chunk))
    return state.current_completion_snapshot.model_dump(exclude_none=True)


def test_the_word_in_the_configuration_finds_it() -> None:
    assert load("gemini") is Provider


def test_a_vendor_of_its_own_format_is_one_file_below_250_lines() -> None:
    text = Path(encode.__code__.co_filename).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 250


@pytest.mark.parametrize("case", cases("requests"))
def test_request_is_encoded(case: dict[str, Any]) -> None:
    model = a_model(case.get("model", "gemini-3.8-flash"), case.get("on_unsupported"))
    call = a_call(case.get("needs"), **case["request"])
    before = json.dumps(call.body)
    if "error" in case:
        with pytest.raises(errors.TalariaError) as caught:
            encode(call, model)
        assert {"class": type(caught.value).__name__, "param": caught.value.param} == case["error"]
    else:
        body, dropped = encode(call, model)
        assert json.loads(body) == case["upstream"]
        assert sorted(dropped) == sorted(case.get("dropped", []))
    assert json.dumps(call.body) == before


@pytest.mark.parametrize("case", cases("answers"))
def test_reply_is_decoded(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(getattr(errors, case["error"])):
            decode("google", a_model(), {}, dumps(case["reply"]))
        return
    reply = decode("google", a_model(), {}, dumps(case["reply"]))
    answer = json.loads(reply.body)
    assert answer.pop("created") > 1_700_000_000
    message = {"role": "assistant", "refusal": None, **case["message"]}
    expected: dict[str, Any] = {
        "id": "r1",
        "object": "chat.completion",
        "model": "flash",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": case["finish"]}],
    }
    if "usage" in case:
        expected["usage"] = usage_of(case["usage"])
    assert answer == expected
    assert (reply.tally.finish, reply.tally.unknown_finish) == (case["finish"], case.get("unknown_finish"))
    ChatCompletion.model_validate_json(reply.body)


@pytest.mark.parametrize("case", cases("streams"))
def test_stream_is_what_the_official_client_adds_up(case: dict[str, Any]) -> None:
    chunks, reader, tally = read([events(case["events"])])
    assert type(reader.failure).__name__ == case.get("error", "NoneType")
    assert tally.malformed == case.get("malformed", 0)
    if "error" in case:
        return
    told = accumulated(chunks)
    [choice] = told["choices"]
    assert (choice["finish_reason"], tally.finish) == (case["finish"], case["finish"])
    if "calls" in case:
        called = choice["message"]["tool_calls"]
        assert [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in called] == case[
            "calls"
        ]
    else:
        assert choice["message"] == case["message"]
    if "usage" in case:
        assert told["usage"] == usage_of(case["usage"])
        assert [json.loads(chunk).get("usage") for chunk in chunks].count(told["usage"]) == 1
    assert len({(json.loads(chunk)["id"], json.loads(chunk)["created"]) for chunk in chunks}) == 1


STREAMS = [case for case in json.loads((FOLDER / "streams.json").read_text(encoding="utf-8")) if "error" not in case]


@given(st.sampled_from(STREAMS), st.data())
def test_streams_may_be_cut_anywhere(case: dict[str, Any], data: st.DataObject) -> None:
    whole = events(case["events"])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    told, expected = accumulated(read(pieces)[0]), accumulated(read([whole])[0])
    told.pop("created"), expected.pop("created")
    assert told == expected


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "candidates",
                        "content",
                        "parts",
                        "text",
                        "functionCall",
                        "name",
                        "finishReason",
                        "index",
                        "usageMetadata",
                        "promptTokenCount",
                        "promptFeedback",
                        "error",
                        "details",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_junk_only_raises_what_the_router_knows(junk: Any) -> None:
    for body in (dumps(junk), b"\xff" + dumps(junk)):
        assert isinstance(decode_error("google", 500, {}, body), errors.TalariaError)
        with suppress(errors.TalariaError):
            decode("google", a_model(), {}, body)
        read([b"data: " + body + b"\n\n"])


@pytest.mark.parametrize(
    "junk",
    [
        b'{"candidates":[{"index":{}}]}',
        b'{"candidates":[{"finishReason":[]}]}',
        b'{"error":{"status":[1],"details":[{"reason":{}}]}}',
        b'[{"error":null}]',
        b"[]",
        b'{"error":[]}',
    ],
)
def test_odd_types_are_junk_too(junk: bytes) -> None:
    with pytest.raises(errors.TalariaError):
        decode("google", a_model(), {}, junk)
    assert isinstance(decode_error("google", 400, {}, junk), errors.TalariaError)
    read([b"data: " + junk + b"\n\n"])


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": 400, "message": "Bad", "status": "INVALID_ARGUMENT"}, "InvalidRequest"),
        (
            400,
            {
                "code": 400,
                "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                "status": "INVALID_ARGUMENT",
            },
            "ContextTooLong",
        ),
        (
            400,
            {
                "code": 400,
                "message": "API key not valid.",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            },
            "CredentialsRejected",
        ),
        (400, {"code": 400, "message": "Enable billing", "status": "FAILED_PRECONDITION"}, "QuotaExhausted"),
        (401, {"code": 401, "message": "Who?", "status": "UNAUTHENTICATED"}, "CredentialsRejected"),
        (403, {"code": 403, "message": "No", "status": "PERMISSION_DENIED"}, "CredentialsRejected"),
        (404, {"code": 404, "message": "No such model", "status": "NOT_FOUND"}, "ModelGone"),
        (429, {"code": 429, "message": "Slow", "status": "RESOURCE_EXHAUSTED"}, "RateLimited"),
        (500, {"code": 500, "message": "Oh", "status": "INTERNAL"}, "Unavailable"),
        (503, {"code": 503, "message": "Busy", "status": "UNAVAILABLE"}, "Overwhelmed"),
        (504, {"code": 504, "message": "Late", "status": "DEADLINE_EXCEEDED"}, "TimedOut"),
    ],
)
def test_errors_are_known_by_status_and_details(status: int, error: dict[str, Any], kind: str) -> None:
    for body in ({"error": error}, [{"error": error}]):
        found = decode_error("google", status, {}, dumps(body))
        assert type(found).__name__ == kind
        assert error["message"] in found.message or kind == "CredentialsRejected"


def test_a_rest_is_told_in_the_details() -> None:
    error = {
        "code": 429,
        "message": "Slow",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
    }
    found = decode_error("google", 429, {}, dumps({"error": error}))
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after == 34.5


COUNTS = {"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 3, "thoughtsTokenCount": 50}


def counted(counts: dict[str, Any]) -> tuple[Usage | None, Any]:
    """The tally's usage, and the caller's."""
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    reply = decode("google", a_model(), {}, dumps({"candidates": [candidate], "usageMetadata": counts}))
    return reply.tally.usage, json.loads(reply.body)["usage"]


def test_usage_is_disjoint() -> None:
    assert counted(COUNTS)[0] == Usage(input=60, cache_read=40, output=53, reasoning=50)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["40", "many", None, [], -1, 1e300])
def test_a_count_that_is_no_number_is_none(name: str, value: Any) -> None:
    assert counted({**COUNTS, name: value}) == counted({**COUNTS, name: 0})


def a_provider(respond: Callable[[httpx.Request], httpx.Response]) -> Provider:
    base_url = "https://generativelanguage.googleapis.com/v1beta/"
    return Provider("google", base_url, ["k1"], HttpxTransport(httpx.MockTransport(respond), "google"))


@pytest.mark.anyio
async def test_the_model_is_in_the_path_and_the_key_in_its_header() -> None:
    seen: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if "stream" in request.url.path:
            return httpx.Response(
                200, headers={"content-type": "text/event-stream"}, content=events(STREAMS[0]["events"])
            )
        return httpx.Response(200, json=STREAMS[0]["events"][-1])

    chat = a_provider(respond).endpoints["chat"]
    reply = await chat.complete(a_call(), a_model(), Timeouts())
    stream = await chat.stream(a_call(stream=True), a_model(), Timeouts())
    chunks = [chunk async for batch in stream for chunk in batch]
    root = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash"
    assert [str(request.url) for request in seen] == [
        f"{root}:generateContent",
        f"{root}:streamGenerateContent?alt=sse",
    ]
    assert {request.headers["x-goog-api-key"] for request in seen} == {"k1"}
    assert "authorization" not in seen[0].headers
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "lo."
    assert accumulated(chunks)["choices"][0]["message"]["content"] == "Oslo."


@pytest.mark.anyio
async def test_an_error_is_raised_as_what_it_is() -> None:
    error = {"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}}
    chat = a_provider(lambda request: httpx.Response(404, json=error)).endpoints["chat"]
    with pytest.raises(errors.ModelGone, match="not found"):
        await chat.complete(a_call(), a_model(), Timeouts())
