"""Vendors of OpenAI's dialect: what every word of a row does, and what every row says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway import config
from providers import catalog, compatible, errors, load
from providers.compatible import Provider, Row, decode_error, parse, rows
from providers.http_httpx import HttpxTransport
from providers.lenient import dumps
from providers.types import Call, Hints, Model, Timeouts, Usage

pytestmark = pytest.mark.anyio

SSE = {"content-type": "text/event-stream"}
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "theirs",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Oslo."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


def a_row(text: str = "") -> Row:
    """A vendor that is in no file."""
    return parse(f'[acme]\nbase_url = "https://acme.example/v1"\n{text}')["acme"]


def a_model(row: Row, on_unsupported: Any = None) -> Model:
    return Model("ours", "acme", "theirs", catalog.lookup("compatible", "theirs", row.card), on_unsupported)


def a_call(stream: bool = False, operation: str = "chat", **fields: Any) -> Call:
    body = {"model": "ours", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return Call("1", operation, b"", body, "ours", stream, True, {}, Hints(), 0.0, 60.0, "")


class Vendor:
    """A server that answers with `respond`, and remembers what it was asked."""

    def __init__(self, row: Row, respond: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.row = row
        self.seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            return respond(request) if respond else httpx.Response(200, json=ANSWER)

        transport = HttpxTransport(httpx.MockTransport(answer), "acme")
        self.provider = Provider("acme", row.base_url or "https://resource.example/openai/v1", ["k1"], transport, row)

    @property
    def asked(self) -> Any:
        return json.loads(self.seen[-1].content)

    async def complete(self, call: Call, on_unsupported: Any = None) -> Any:
        model = a_model(self.row, on_unsupported)
        return await self.provider.endpoints[call.operation].complete(call, model, Timeouts())


async def encoded(row: Row, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    """The request as it arrives, and what was named as left out."""
    vendor = Vendor(row)
    reply = await vendor.complete(a_call(**fields))
    return vendor.asked, reply.dropped


async def decoded(row: Row, message: dict[str, Any], finish: str = "stop", **top: Any) -> tuple[Any, Any]:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]
    vendor = Vendor(row, lambda request: httpx.Response(200, json={**ANSWER, "choices": choices, **top}))
    reply = await vendor.complete(a_call())
    ChatCompletion.model_validate_json(reply.body)
    return json.loads(reply.body), reply.tally


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "theirs", "choices": choices, **more}


async def streamed(row: Row, *chunks: dict[str, Any], done: bool = True) -> tuple[Any, Any]:
    """What OpenAI's own client makes of the chunks, and the tally."""
    body = b"".join(b"data: " + dumps(each) + b"\n\n" for each in chunks) + (b"data: [DONE]\n\n" if done else b"")
    vendor = Vendor(row, lambda request: httpx.Response(200, headers=SSE, content=body))
    stream = await vendor.provider.endpoints["chat"].stream(a_call(stream=True), a_model(row), Timeouts())
    state = ChatCompletionStreamState()
    async for batch in stream:
        for data in batch:
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
    return state.current_completion_snapshot.model_dump(exclude_none=True), stream.tally


# --- A new vendor is a row ---


async def test_a_new_vendor_is_a_row_and_no_code() -> None:
    row = a_row('auth_header = "x-key"\nauth_scheme = ""\n[acme.card]\nserves = ["chat"]\nlacks = ["tools"]\n')
    vendor = Vendor(row)
    reply = await vendor.complete(a_call())
    assert json.loads(reply.body)["choices"] == ANSWER["choices"]
    assert json.loads(reply.body)["model"] == "ours"
    assert str(vendor.seen[0].url) == "https://acme.example/v1/chat/completions"
    assert vendor.seen[0].headers["x-key"] == "k1"
    assert vendor.asked == {"model": "theirs", "messages": [{"role": "user", "content": "Hi"}]}
    assert (row.card.serves, "tools" in row.card.abilities) == ({"chat"}, False)


def test_the_word_in_the_configuration_finds_it() -> None:
    assert load("compatible") is Provider


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("colour = 1", "acme: unknown 'colour'"),
        ('name = "b"', "acme: unknown 'name'"),
        ("flat = 1", "acme.flat: a bool"),
        ('query = ["a"]', "acme.query: a str"),
        ('without = "a"', "acme.without: a list"),
        ('card = {abilities = ["flight"]}', "acme.card.abilities: unknown 'flight'"),
    ],
)
def test_a_mistake_in_a_row_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        a_row(text)
    assert place in str(raised.value)


async def test_an_answer_like_openais_passes_as_bytes() -> None:
    spaced = json.dumps(ANSWER, indent=1).encode()
    vendor = Vendor(a_row(), lambda request: httpx.Response(200, content=spaced))
    reply = await vendor.complete(a_call())
    assert reply.body == spaced.replace(b'"theirs"', b'"ours"')
    assert reply.tally.usage == Usage(input=9, output=2)


# --- Where it is, and how it takes a key ---


async def test_a_key_has_its_own_header_and_scheme() -> None:
    vendor = Vendor(a_row('auth_scheme = "Token"'))
    await vendor.complete(a_call())
    assert vendor.seen[0].headers["authorization"] == "Token k1"


async def test_paths_and_query_are_the_vendors() -> None:
    vendor = Vendor(a_row('query = "v=2"\n[acme.paths]\nchat = "/run/{upstream}/chat"'))
    await vendor.complete(a_call())
    assert str(vendor.seen[0].url) == "https://acme.example/v1/run/theirs/chat?v=2"


async def test_a_models_id_is_quoted_in_a_path() -> None:
    row = a_row('[acme.paths]\nchat = "/run/{upstream}"')
    vendor = Vendor(row)
    model = Model("ours", "acme", "a/../b?c", row.card)
    await vendor.provider.endpoints["chat"].complete(a_call(), model, Timeouts())
    assert vendor.seen[0].url.raw_path == b"/v1/run/a%2F..%2Fb%3Fc"


# --- What it does not take, or calls differently ---


async def test_what_it_refuses_is_left_out_and_named() -> None:
    row = a_row('without = ["logit_bias", "messages.name", "tools.function.strict", "store"]')
    tool = {"type": "function", "function": {"name": "now", "strict": True}}
    messages = [{"role": "user", "name": "Ann", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    asked, dropped = await encoded(row, messages=messages, logit_bias={"1": 2}, tools=[tool], store=False)
    assert asked["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert asked["tools"] == [{"type": "function", "function": {"name": "now"}}]
    assert not {"logit_bias", "store"} & asked.keys()
    assert dropped == ("logit_bias", "messages.name", "tools.function.strict")


async def test_an_error_rather_than_anything_left_out() -> None:
    vendor = Vendor(a_row('without = ["messages.name"]'))
    call = a_call(messages=[{"role": "user", "name": "Ann", "content": "Hi"}])
    with pytest.raises(errors.Unsupported, match="name"):
        await vendor.complete(call, on_unsupported="error")
    assert call.body["messages"][0]["name"] == "Ann"
    assert not vendor.seen


async def test_parameters_have_its_names() -> None:
    asked, dropped = await encoded(a_row('renames = {seed = "random_seed"}'), seed=7)
    assert (asked["random_seed"], "seed" in asked, dropped) == (7, False, ())


async def test_the_output_limit_has_its_name() -> None:
    asked, _ = await encoded(a_row('card = {max_tokens_name = "max_tokens"}'), max_completion_tokens=5)
    assert (asked["max_tokens"], "max_completion_tokens" in asked) == (5, False)


async def test_developers_speak_as_the_system() -> None:
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    asked, dropped = await encoded(a_row('developer_role = "system"'), messages=messages)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert dropped == ()


NOW, TIDE = ({"type": "function", "function": {"name": name}} for name in ("now", "tide"))


@pytest.mark.parametrize(("choice", "told"), [("required", "any"), ("auto", "auto"), (NOW, NOW)])
async def test_a_choice_has_its_words(choice: Any, told: Any) -> None:
    asked, _ = await encoded(a_row('tool_choice = {required = "any"}'), tools=[NOW], tool_choice=choice)
    assert asked["tool_choice"] == told


async def test_a_tool_that_cannot_be_named_is_the_only_one() -> None:
    asked, dropped = await encoded(a_row("names_tool = false"), tools=[TIDE, NOW], tool_choice=NOW)
    assert (asked["tools"], asked["tool_choice"], dropped) == ([NOW], "required", ())
    asked, _ = await encoded(a_row("names_tool = false"), tools=[TIDE, NOW], tool_choice="auto")
    assert (asked["tools"], asked["tool_choice"]) == ([TIDE, NOW], "auto")


async def test_text_in_parts_becomes_a_string_and_images_stay() -> None:
    text = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    image = [{"type": "text", "text": "A"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    messages = [{"role": "user", "content": content} for content in (text, image, "C")]
    asked, _ = await encoded(a_row("flat = true"), messages=messages)
    assert [message["content"] for message in asked["messages"]] == ["A\nB", image, "C"]


@pytest.mark.parametrize(("text", "sent"), [("", True), ("stream_usage = false", False)])
async def test_usage_is_asked_for_where_it_may_be(text: str, sent: bool) -> None:
    row = a_row(text)
    body = b"data: " + dumps(chunk({"role": "assistant", "content": "Hi"}, "stop")) + b"\n\ndata: [DONE]\n\n"
    vendor = Vendor(row, lambda request: httpx.Response(200, headers=SSE, content=body))
    stream = await vendor.provider.endpoints["chat"].stream(a_call(stream=True), a_model(row), Timeouts())
    chunks = [json.loads(data) async for batch in stream for data in batch]
    assert ("stream_options" in vendor.asked) is sent
    assert vendor.asked["stream"] is True
    assert [each["choices"][0]["finish_reason"] for each in chunks] == ["stop"]
    assert stream.tally.usage is None, "what nobody told is estimated by the gateway"


# --- Its answers ---


async def test_usage_may_be_elsewhere() -> None:
    row = a_row('usage_at = "x_acme.usage"')
    counts = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    told, tally = await streamed(
        row, chunk({"role": "assistant", "content": "A"}), chunk({}, "stop", x_acme={"usage": counts})
    )
    assert (told["usage"], tally.usage) == (counts, Usage(input=5, output=1))
    whole, tally = await decoded(row, {"content": "A"}, usage=None, x_acme={"usage": counts})
    assert (whole["usage"], tally.usage) == (counts, Usage(input=5, output=1))


async def test_usage_told_twice_is_told_once() -> None:
    counts = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    finish = chunk({}, "stop", x_acme={"usage": counts})
    last = {**chunk({}), "choices": [], "usage": counts}
    told, _ = await streamed(a_row('usage_at = "x_acme.usage"'), chunk({"content": "A"}), finish, last)
    assert told["usage"] == counts


async def test_usage_beside_the_last_choice_is_told_after_it() -> None:
    counts = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    told, tally = await streamed(a_row(), chunk({"content": "A"}), chunk({}, "stop", usage=counts))
    assert (told["usage"], tally.usage) == (counts, Usage(input=5, output=1))


async def test_cached_tokens_may_have_another_name() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "prompt_cache_hit_tokens": 8}
    told, tally = await decoded(a_row('cached_at = "prompt_cache_hit_tokens"'), {"content": "A"}, usage=usage)
    assert told["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
    assert tally.usage == Usage(input=2, cache_read=8, output=1)


@pytest.mark.parametrize(("total", "output"), [(60, 50), (20, 10)])
async def test_reasoning_beside_the_completion_is_a_part_of_the_output(total: int, output: int) -> None:
    details = {"reasoning_tokens": 40}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": total, "completion_tokens_details": details}
    told, tally = await decoded(a_row("reasoning_apart = true"), {"content": "A"}, usage=usage)
    assert told["usage"]["completion_tokens"] == output
    assert tally.usage is not None
    assert (tally.usage.output, tally.usage.reasoning) == (output, 40)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_where_callers_look_for_it(field: str) -> None:
    row = a_row('reasoning_field = "reasoning"')
    whole, _ = await decoded(row, {"content": "So.", field: "Hm."})
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}
    told, tally = await streamed(row, chunk({field: "Hm"}), chunk({field: "."}), chunk({"content": "So."}, "stop"))
    assert told["choices"][0]["message"]["reasoning_content"] == "Hm."
    assert tally.chars == 6


async def test_reasoning_told_under_both_names_counts_once() -> None:
    row = a_row('reasoning_field = "reasoning"')
    told, tally = await streamed(
        row, chunk({"reasoning": "Hm", "reasoning_content": "Hm"}), chunk({"content": "So"}, "stop")
    )
    assert (told["choices"][0]["message"]["reasoning_content"], tally.chars) == ("Hm", 4)


async def test_content_in_parts_becomes_text_and_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "So."}]
    whole, _ = await decoded(a_row(), {"content": parts})
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}
    told, _ = await streamed(a_row(), chunk({"content": parts[:1]}), chunk({"content": "So."}, "stop"))
    assert told["choices"][0]["message"]["reasoning_content"] == "Hm."


async def test_calls_without_ids_are_given_some() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("now", "tide")]
    whole, _ = await decoded(a_row(), {"content": None, "tool_calls": calls}, "tool_calls")
    told, _ = await streamed(
        a_row(), chunk({"tool_calls": calls[:1]}), chunk({"tool_calls": calls[1:]}), chunk({}, "tool_calls")
    )
    for choices in (whole["choices"], told["choices"]):
        found = choices[0]["message"]["tool_calls"]
        assert [call["function"]["name"] for call in found] == ["now", "tide"]
        assert len({call["id"] for call in found if call["id"].startswith("call_") and call["type"] == "function"}) == 2


async def test_an_empty_list_of_calls_is_none() -> None:
    whole, _ = await decoded(a_row(), {"content": "A", "tool_calls": []})
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "A"}


async def test_its_own_finish_reasons_are_openais() -> None:
    row = a_row('finishes = {eos = "stop", model_length = "length"}')
    whole, tally = await decoded(row, {"content": "A"}, "model_length")
    assert (whole["choices"][0]["finish_reason"], tally.finish, tally.unknown_finish) == ("length", "length", None)
    told, tally = await streamed(row, chunk({"content": "A"}), chunk({}, "eos"))
    assert (told["choices"][0]["finish_reason"], tally.finish) == ("stop", "stop")


async def test_a_stream_without_its_end_mark_is_whole() -> None:
    told, tally = await streamed(a_row(), chunk({"content": "A"}), chunk({}, "stop"), done=False)
    assert (told["choices"][0]["finish_reason"], tally.finish) == ("stop", "stop")


async def test_a_stream_without_a_finish_gets_one() -> None:
    told, tally = await streamed(a_row(), chunk({"role": "assistant", "content": "A"}))
    assert (told["choices"][0]["finish_reason"], tally.finish) == ("stop", "stop")
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    told, tally = await streamed(a_row(), chunk({"role": "assistant", "tool_calls": [call]}))
    assert (told["choices"][0]["finish_reason"], tally.finish) == ("tool_calls", "tool_calls")


async def test_a_stream_with_neither_is_cut_off() -> None:
    with pytest.raises(errors.BadReply, match="closed the stream early"):
        await streamed(a_row(), chunk({"content": "A"}), done=False)


# --- Its errors ---


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (
            400,
            {"error": {"message": "Bad", "type": "invalid_request_error", "code": None}},
            "InvalidRequest",
            "acme: Bad",
        ),
        (400, {"error": "Invalid tool_choice"}, "InvalidRequest", "acme: Invalid tool_choice"),
        (400, {"code": "invalid-argument", "error": "Bad"}, "InvalidRequest", "acme: Bad"),
        (
            422,
            {"detail": [{"loc": ["body", "n"], "msg": "Extra"}, {"msg": "x"}]},
            "InvalidRequest",
            'acme: body.n: Extra; {"msg":"x"}',
        ),
        (
            422,
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "n"], "msg": "Extra"}]},
                "type": "invalid_request_error",
                "code": 3001,
            },
            "InvalidRequest",
            "acme: body.n: Extra",
        ),
        (
            400,
            {"object": "error", "message": "Bad", "type": "BadRequestError", "param": None, "code": 400},
            "InvalidRequest",
            "acme: Bad",
        ),
        (
            404,
            {"status": 404, "title": "Not Found", "detail": "Function not found"},
            "ModelGone",
            "acme: Function not found",
        ),
        (
            429,
            {"message": "Slow", "type": "too_many_requests_error", "code": "request_quota_exceeded"},
            "RateLimited",
            "acme: Slow",
        ),
        (
            402,
            {"error": {"code": 402, "message": "Insufficient credits"}},
            "QuotaExhausted",
            "acme: Insufficient credits",
        ),
        (400, {"error": {"code": "content_filter", "message": "No", "innererror": {}}}, "ContentRefused", "acme: No"),
        (401, {"detail": "Unauthorized"}, "CredentialsRejected", "acme does not accept the gateway's key"),
        (502, b"<html>", "Unavailable", "acme answered with status 502"),
        (503, {}, "Overwhelmed", "acme answered with status 503"),
        (400, [], "InvalidRequest", "acme answered with status 400"),
    ],
)
def test_errors_of_every_shape_are_read(status: int, body: Any, kind: str, text: str) -> None:
    found = decode_error(a_row(), "acme", status, {}, body if isinstance(body, bytes) else dumps(body))
    assert (type(found).__name__, found.message) == (kind, text)


@pytest.mark.parametrize("error", [{"code": "too_big"}, {"type": "too_big"}, {"message": "Prompt is 9 tokens"}])
def test_a_prompt_that_is_too_long_is_known_by_its_signs(error: dict[str, Any]) -> None:
    row = a_row('too_long = ["too_big", "Prompt is"]')
    assert isinstance(decode_error(row, "acme", 400, {}, dumps({"error": error})), errors.ContextTooLong)
    assert not isinstance(decode_error(a_row(), "acme", 400, {}, dumps({"error": error})), errors.ContextTooLong)


def test_statuses_of_its_own_may_mean_too_much_traffic() -> None:
    assert isinstance(decode_error(a_row("overloaded = [498]"), "acme", 498, {}, b"{}"), errors.Overwhelmed)


def test_a_rest_may_be_in_headers_of_its_own() -> None:
    row = a_row('[acme.resets]\nleft-a = "reset-a"\nleft-b = "reset-b"')
    headers = {"left-a": "0", "reset-a": "2.5", "left-b": "0", "reset-b": "31"}
    found = decode_error(row, "acme", 429, headers, b"{}")
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after == 31
    assert decode_error(row, "acme", 429, {**headers, "retry-after": "7"}, b"{}").retry_after == 7
    assert decode_error(row, "acme", 429, {**headers, "left-b": "9"}, b"{}").retry_after == 2.5
    assert decode_error(row, "acme", 429, {"left-a": "0", "reset-a": "soon"}, b"{}").retry_after is None


def test_what_it_quotes_of_our_account_is_concealed() -> None:
    row = a_row("conceal = \"account '[^']*'\"")
    body = dumps({"detail": "Not found for account 'Ab1E-zD'"})
    assert decode_error(row, "acme", 404, {}, body).message == "acme: Not found for ***"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"object": "error", "message": "Bad", "type": "BadRequestError", "code": 400}, errors.InvalidRequest),
        (
            {
                "error": {"message": "Down", "code": 502},
                "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
            },
            errors.Unavailable,
        ),
        ({"error": "Out of memory"}, errors.Unavailable),
    ],
)
async def test_errors_among_the_events_are_raised(event: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await streamed(a_row(), chunk({"content": "A"}), event)


async def test_an_error_among_the_events_is_known_by_the_rows_signs() -> None:
    row = a_row('too_long = ["too_big"]')
    with pytest.raises(errors.ContextTooLong):
        await streamed(row, chunk({"content": "A"}), {"message": "No", "code": "too_big"})
    vendor = Vendor(row, lambda request: httpx.Response(200, json={"message": "No", "code": "too_big"}))
    with pytest.raises(errors.ContextTooLong):
        await vendor.complete(a_call())


# --- Completions ---


def text_chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
    return {"id": "c1", "object": "text_completion", "created": 1, "model": "theirs", "choices": choices, **more}


COMPLETES = """
finishes = {eos = "stop", full = "length"}
usage_at = "x.usage"
too_long = ["too_big"]
"""


async def test_what_a_row_says_of_answers_holds_for_completions() -> None:
    answer = text_chunk("Oslo.", "full", x={"usage": ANSWER["usage"]})
    vendor = Vendor(a_row(COMPLETES), lambda request: httpx.Response(200, json=answer))
    reply = await vendor.complete(a_call(operation="completions", prompt="Norway:"))
    told = json.loads(reply.body)
    assert (told["choices"][0]["finish_reason"], told["usage"], told["model"]) == ("length", ANSWER["usage"], "ours")
    assert (reply.tally.finish, reply.tally.chars, reply.tally.usage) == ("length", 5, Usage(input=9, output=2))
    vendor = Vendor(a_row(COMPLETES), lambda request: httpx.Response(200, json={"message": "No", "code": "too_big"}))
    with pytest.raises(errors.ContextTooLong):
        await vendor.complete(a_call(operation="completions", prompt="Norway:"))


@pytest.mark.parametrize("ends", [[text_chunk("", "eos")], []])
async def test_what_a_row_says_of_answers_holds_for_streams_of_text(ends: list[dict[str, Any]]) -> None:
    parts = [text_chunk("Os"), text_chunk("lo.", x={"usage": ANSWER["usage"]}), *ends]
    body = b"".join(b"data: " + dumps(each) + b"\n\n" for each in parts) + b"data: [DONE]\n\n"
    vendor = Vendor(a_row(COMPLETES), lambda request: httpx.Response(200, headers=SSE, content=body))
    call = a_call(stream=True, operation="completions", prompt="Norway:")
    stream = await vendor.provider.endpoints["completions"].stream(call, a_model(vendor.row), Timeouts())
    told = [json.loads(data) async for batch in stream for data in batch]
    assert {each["model"] for each in told} == {"ours"}
    choices = [choice for each in told for choice in each["choices"]]
    assert [choice["text"] for choice in choices] == ["Os", "lo.", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert (told[-1]["usage"], stream.tally.finish) == (ANSWER["usage"], "stop")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "usage",
                    "reasoning",
                    "finish_reason",
                    "index",
                    "error",
                    "errors",
                    "detail",
                    "object",
                    "prompt_tokens_details",
                    "thinking",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(junk)
async def test_junk_only_raises_what_the_router_knows(found: Any) -> None:
    row = a_row(
        'reasoning_field = "reasoning"\nusage_at = "x.usage"\ncached_at = "c"\nreasoning_apart = true\ntoo_long = ["a"]'
    )
    for body in (found, {"choices": [found], "usage": found}, {"choices": [{"message": found, "delta": found}]}):
        assert isinstance(decode_error(row, "acme", 500, {}, dumps(body)), errors.TalariaError)
        with suppress(errors.TalariaError):
            compatible.decode(row, "message", "acme", a_model(row), {}, dumps(body))
        with suppress(errors.TalariaError):
            compatible.decode(row, "text", "acme", a_model(row), {}, dumps(body))
        vendor = Vendor(
            row, lambda request, body=body: httpx.Response(200, headers=SSE, content=b"data: " + dumps(body) + b"\n\n")
        )
        with suppress(errors.TalariaError):
            stream = await vendor.provider.endpoints["chat"].stream(a_call(stream=True), a_model(row), Timeouts())
            _ = [batch async for batch in stream]


# --- The rows there are ---


@pytest.mark.parametrize("name", rows())
async def test_every_row_serves_a_plain_call(name: str) -> None:
    row = rows()[name]
    vendor = Vendor(row)
    reply = await vendor.complete(a_call())
    assert json.loads(reply.body)["choices"] == ANSWER["choices"]
    url, root = str(vendor.seen[0].url), row.base_url or "https://resource.example/openai/v1"
    assert url.startswith(root)
    assert "/chat/completions" in url
    assert "k1" in vendor.seen[0].headers[row.auth_header]
    assert row.card.serves <= vendor.provider.endpoints.keys()


def test_rows_for_servers_of_ones_own_ask_for_no_key() -> None:
    assert {name for name, row in rows().items() if row.keyless} == {"vllm", "ollama", "llamacpp", "lmstudio", "sglang"}
    assert all(row.base_url.startswith("http://localhost:") for row in rows().values() if row.keyless)


async def test_azure_has_its_header_and_both_of_its_paths() -> None:
    newer, older = Vendor(rows()["azure"]), Vendor(rows()["azure-deployments"])
    await newer.complete(a_call())
    await older.complete(a_call())
    assert str(newer.seen[0].url) == "https://resource.example/openai/v1/chat/completions"
    assert older.seen[0].url.path.endswith("/openai/deployments/theirs/chat/completions")
    assert older.seen[0].url.params["api-version"] == "2024-10-21"
    for vendor in (newer, older):
        assert vendor.seen[0].headers["api-key"] == "k1"
        assert "authorization" not in vendor.seen[0].headers


async def test_mistral_gets_only_what_it_knows() -> None:
    messages = [
        {"role": "user", "name": "Ann", "content": "Hi"},
        {"role": "assistant", "content": "A", "reasoning_content": "Hm"},
    ]
    fields = {"messages": messages, "seed": 7, "max_completion_tokens": 5, "store": True, "reasoning_effort": "low"}
    asked, dropped = await encoded(rows()["mistral"], **fields, tools=[NOW], tool_choice="required")
    assert asked == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}],
        "random_seed": 7,
        "max_tokens": 5,
        "tools": [NOW],
        "tool_choice": "any",
    }
    assert set(dropped) == {"store", "reasoning_effort", "messages.name", "messages.reasoning_content"}


async def test_groq_tells_usage_in_a_place_of_its_own_and_reasons_under_its_own_name() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    told, tally = await streamed(
        rows()["groq"],
        chunk({"role": "assistant", "reasoning": "Hm"}),
        chunk({"content": "A"}),
        chunk({}, "stop", x_groq={"usage": usage}),
    )
    assert told["choices"][0]["message"]["reasoning_content"] == "Hm"
    assert tally.usage == Usage(input=5, output=1)
    assert not {"n", "logprobs"} & rows()["groq"].card.abilities


async def test_deepseek_takes_strings_and_tells_what_was_cached() -> None:
    row = rows()["deepseek"]
    asked, _ = await encoded(row, messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    assert asked["messages"] == [{"role": "user", "content": "Hi"}]
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "prompt_cache_hit_tokens": 8}
    _, tally = await decoded(row, {"content": "A"}, usage=usage)
    assert tally.usage == Usage(input=2, cache_read=8, output=1)


async def test_cerebras_rests_by_its_own_headers() -> None:
    headers = {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "12.3"}
    found = decode_error(
        rows()["cerebras"], "acme", 429, headers, dumps({"message": "Slow", "type": "too_many_requests_error"})
    )
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after == 12.3


def test_a_model_of_a_vendor_has_what_its_row_says() -> None:
    card = catalog.lookup("compatible", "sonar", rows()["perplexity"].card)
    assert (card.id, card.kind, card.serves) == ("sonar", "compatible", {"chat"})
    assert "tools" not in card.abilities
    generic = catalog.lookup("compatible", "anything")
    assert {"tools", "image", "json_schema"} <= generic.abilities
    assert "audio_output" not in generic.abilities


# --- The configuration ---


def configured(provider: str) -> config.Config:
    return config.parse(
        f"version: 1\nproviders:\n  local: {{{provider}}}\nmodels:\n  a: {{provider: local}}\n", "t.yaml", {}
    )


def test_a_row_fills_in_its_address_and_its_keys() -> None:
    tree = configured("kind: compatible, vendor: vllm")
    local = tree.providers["local"]
    assert (local.base_url, local.keys, local.active) == ("http://localhost:8000/v1", (), True)
    other = configured('kind: compatible, vendor: groq, base_url: "https://proxy.example/v1", keys: []').providers[
        "local"
    ]
    assert other.base_url == "https://proxy.example/v1"


def test_without_a_row_it_is_generic_and_needs_an_address() -> None:
    tree = configured('kind: compatible, base_url: "http://localhost:9/v1", keys: []')
    assert tree.providers["local"].settings == {"vendor": "generic"}
    assert config.model_card(tree, "a").kind == "compatible"
    with pytest.raises(config.ConfigError, match="base_url"):
        configured("kind: compatible, keys: []")


def test_the_card_of_a_configured_model_is_its_rows() -> None:
    card = config.model_card(configured("kind: compatible, vendor: perplexity, keys: []"), "a")
    assert "tools" not in card.abilities
    assert card.serves == {"chat"}


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (
            "kind: compatible, vendor: gorq, keys: []",
            r"providers\.local\.vendor: unknown vendor 'gorq'; did you mean 'groq'\?",
        ),
        ("kind: openai, vendor: groq, keys: []", r"providers\.local\.vendor: is for kind compatible"),
        ("kind: compatible, vendor: groq", r"providers\.local\.keys: is missing"),
        ("kind: compatible, vendor: azure, keys: []", r"providers\.local\.base_url: must be an http"),
        ("kind: compatible, vendor: [vllm], keys: []", r"providers\.local\.vendor: "),
    ],
)
def test_a_vendor_that_is_wrong_is_told_with_its_place(provider: str, message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        configured(provider)


def test_gemini_has_an_address() -> None:
    assert configured("kind: gemini, keys: []").providers["local"].base_url.endswith("googleapis.com/v1beta")
