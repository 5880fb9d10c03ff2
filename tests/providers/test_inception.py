from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import catalog, errors, load
from providers.http_httpx import HttpxTransport
from providers.inception import Provider, decode, decode_error, encode, mend_usage
from providers.lenient import dumps
from providers.types import Call, Hints, Model, Timeouts

pytestmark = pytest.mark.anyio

MODEL = Model("mercury", "inception", "mercury-2", catalog.lookup("inception", "mercury-2"))


def a_call(**fields: Any) -> Call:
    body = {"model": "mercury", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return Call("1", "chat", b"", body, "mercury", True, False, {}, Hints(), 0.0, 60.0, "")


def answer(**message: Any) -> bytes:
    said = {"role": "assistant", "content": None, **message}
    choices = [{"index": 0, "message": said, "finish_reason": "stop"}]
    return dumps({"id": "5f0c", "object": "chat.completion", "model": "mercury-2", "created": 1, "choices": choices})


def streaming(*chunks: dict[str, Any]) -> Provider:
    body = b"".join(b"data: " + dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, content=body))
    return Provider(
        "inception", "https://api.inceptionlabs.ai/v1", ["k"], HttpxTransport(transport, "inception")
    ).endpoints["chat"]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "mercury-2",
        "choices": choices,
        **more,
    }


def test_the_word_in_the_configuration_finds_it() -> None:
    assert load("inception") is Provider


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, (0, 0, 0, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "reasoning_tokens": 3}, (5, 7, 0, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 12, "reasoning_tokens": 3}, (5, 7, 0, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 4, "reasoning_tokens": 3}, (5, 4, 0, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 99, "cached_input_tokens": 2}, (5, 4, 2, 0)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 0},
                "cached_input_tokens": 2,
            },
            (5, 4, 0, 0),
        ),
        ({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None}, (5, 0, 0, 0)),
    ],
)
def test_usage_of_either_shape(usage: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    mended = mend_usage(usage)
    prompt, completion, cached, reasoning = expected
    assert mended == {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def test_tool_calls_without_ids_are_given_some() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("tide", "moon")]
    reply = decode("inception", MODEL, {}, answer(tool_calls=calls))
    told = json.loads(reply.body)["choices"][0]["message"]["tool_calls"]
    assert [(call["type"], call["function"]["name"]) for call in told] == [("function", "tide"), ("function", "moon")]
    assert all(call["id"].startswith("call_") for call in told)
    assert told[0]["id"] != told[1]["id"]


def test_answer_is_what_the_official_client_expects() -> None:
    reply = decode("inception", MODEL, {}, answer(content="Hi", tool_calls=[], tool_call_id=None))
    message = ChatCompletion.model_validate_json(reply.body).choices[0].message
    assert (message.content, message.tool_calls, message.refusal) == ("Hi", None, None)


async def test_streamed_tool_calls_accumulate_in_the_official_client() -> None:
    provider = streaming(
        chunk({"role": "assistant", "content": "Let me see. ", "tool_calls": [], "tool_call_id": None}),
        chunk({"tool_calls": [{"function": {"name": "tide", "arguments": '{"port":'}}]}),
        chunk({"tool_calls": [{"id": None, "type": None, "function": {"name": None, "arguments": '"Hull"}'}}]}),
        chunk({"tool_calls": [{"id": "call_b", "function": {"name": "moon", "arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
    )
    stream = await provider.stream(a_call(), MODEL, Timeouts())
    state = ChatCompletionStreamState()
    async for batch in stream:
        for data in batch:
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
    final = state.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("tide", '{"port":"Hull"}'),
        ("moon", "{}"),
    ]
    assert calls[0].id.startswith("call_")
    assert (calls[1].id, final.model) == ("call_b", "mercury")


async def test_a_stream_of_nothing_is_a_bad_reply() -> None:
    stream = await streaming(chunk({"role": "assistant"}), chunk({"content": ""})).stream(a_call(), MODEL, Timeouts())
    with pytest.raises(errors.BadReply, match="inception closed the stream early"):
        await stream.begin()


async def test_plain_chunks_keep_their_bytes() -> None:
    said = chunk({"content": "The tide"}, unknown={"kept": 1.50})
    stream = await streaming(said, chunk({}, "stop")).stream(a_call(), MODEL, Timeouts())
    batches = [batch async for batch in stream]
    assert batches[0][0] == dumps({**said, "model": "mercury"})


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"type": "invalid_request_error", "code": "context_length_exceeded"}, errors.ContextTooLong),
        (401, {"type": "authentication_error", "code": "invalid_api_key"}, errors.CredentialsRejected),
        (402, {"type": "account_error", "code": "account_error"}, errors.QuotaExhausted),
        (404, {"type": "invalid_request_error", "code": "model_not_found"}, errors.ModelGone),
        (429, {"type": "rate_limit_error", "code": "rate_limit_reached"}, errors.RateLimited),
        (500, {"type": "server_error", "code": "server_error"}, errors.Unavailable),
        (503, {}, errors.Overwhelmed),
    ],
)
def test_errors_are_told_apart(status: int, error: dict[str, Any], expected: type[Exception]) -> None:
    assert type(decode_error("inception", status, {}, dumps({"error": {"message": "m", **error}}))) is expected


def test_a_list_of_faults_is_told_as_text() -> None:
    faults = [{"loc": ["body", "messages", 0, "role"], "msg": "not a role", "type": "enum"}]
    error = decode_error("inception", 422, {}, dumps({"error": {"message": faults, "type": "invalid_request_error"}}))
    assert isinstance(error, errors.InvalidRequest)
    assert error.status == 422
    assert error.message == "inception: body.messages.0.role: not a role"


def test_error_where_anything_would_be_bent() -> None:
    strict = Model("mercury", "inception", "mercury-2", MODEL.card, "error")
    with pytest.raises(errors.Unsupported) as raised:
        encode(a_call(temperature=0.1), strict)
    assert raised.value.param == "temperature"
