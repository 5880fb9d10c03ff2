"""What vendors of OpenAI's dialect say in place of an answer, or leave out of one."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from providers import catalog, compatible, errors, openai
from providers.http_httpx import HttpxTransport
from providers.lenient import dumps
from providers.types import Call, Hints, Model, Timeouts

pytestmark = pytest.mark.anyio

MODEL = Model("ours", "acme", "theirs", catalog.lookup("openai", "theirs"))
VENDORS = [openai.Provider, compatible.Provider]
SAYS = {
    "chat": {"delta": {"content": "Oslo"}, "message": {"role": "assistant", "content": "Oslo"}},
    "completions": {"text": "Oslo"},
}


def an_endpoint(vendor: Any, operation: str, response: httpx.Response) -> Any:
    transport = HttpxTransport(httpx.MockTransport(lambda request: response), "acme")
    return vendor("acme", "https://acme.example/v1", ["k"], transport).endpoints[operation]


def a_call(operation: str, stream: bool = False, **body: Any) -> Call:
    asked = {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], **body}
    return Call("1", operation, b"", asked, "ours", stream, True, {}, Hints(), 0.0, 60.0, "")


def a_chunk(operation: str, finish: str | None = None, **top: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **SAYS[operation], "finish_reason": finish}], **top}


async def streamed(vendor: Any, operation: str, *events: dict[str, Any]) -> tuple[list[bytes], Exception | None]:
    """The chunks that came through, and what ended them."""
    body = b"".join(b"data: " + dumps(each) + b"\n\n" for each in events) + b"data: [DONE]\n\n"
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    endpoint = an_endpoint(vendor, operation, response)
    stream = await endpoint.stream(a_call(operation, stream=True), MODEL, Timeouts())
    chunks: list[bytes] = []
    try:
        async for batch in stream:
            chunks += batch
    except errors.TalariaError as error:
        return chunks, error
    return chunks, None


FAILURES: list[tuple[dict[str, Any], type[errors.TalariaError], str]] = [
    ({"object": "error", "message": "boom", "code": 429}, errors.RateLimited, "boom"),
    ({"message": "boom", "code": 500}, errors.Unavailable, "boom"),
    ({"message": "boom", "code": "429"}, errors.RateLimited, "boom"),
    ({"message": "boom", "status": 503}, errors.Overwhelmed, "boom"),
    ({"detail": "boom"}, errors.Unavailable, "boom"),
    ({"detail": [{"loc": ["body", "n"], "msg": "boom"}], "status_code": 422}, errors.InvalidRequest, "body.n: boom"),
    ({"errors": [{"message": "boom", "code": 402}]}, errors.QuotaExhausted, "boom"),
    ({"errors": ["boom"]}, errors.Unavailable, "boom"),
    ({"error": None, "message": "boom"}, errors.Unavailable, "boom"),
    ({"error": "boom", "choices": []}, errors.Unavailable, "boom"),
    ({"choices": None, "usage": None, "message": "boom", "code": 429}, errors.RateLimited, "boom"),
    (
        {"choices": [{"index": 0, "finish_reason": "error", "error": {"code": 429, "message": "boom"}}]},
        errors.RateLimited,
        "boom",
    ),
    ({"choices": [{"index": 0, "finish_reason": "error"}]}, errors.Unavailable, "the answer broke off"),
]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("operation", SAYS)
@pytest.mark.parametrize(("event", "kind", "text"), FAILURES)
async def test_an_error_of_any_shape_ends_a_stream_and_an_answer(
    vendor: Any, operation: str, event: dict[str, Any], kind: type[Exception], text: str
) -> None:
    first = a_chunk(operation, id="c1", model="theirs")
    chunks, error = await streamed(vendor, operation, first, event)
    assert [json.loads(chunk) for chunk in chunks] == [{**first, "model": "ours"}]
    assert (type(error), str(error)) == (kind, f"acme: {text}")
    with pytest.raises(kind, match=text):
        await an_endpoint(vendor, operation, httpx.Response(200, json=event)).complete(
            a_call(operation), MODEL, Timeouts()
        )


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("operation", SAYS)
@pytest.mark.parametrize(
    "more",
    [
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [], "moderation": {"flagged": False}, "message": "checked"},
        {"choices": [], "x_groq": {"id": "r1"}},
        {"x_groq": {"id": "r1"}, "error": None},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "message": "done"},
    ],
)
async def test_what_only_informs_is_no_error(vendor: Any, operation: str, more: dict[str, Any]) -> None:
    named = {"id": "c1", "model": "theirs"}
    events = [a_chunk(operation, **named), {**named, **more}, a_chunk(operation, "stop", **named)]
    chunks, error = await streamed(vendor, operation, *events)
    assert error is None
    assert {**named, **more, "model": "ours"} in [json.loads(chunk) for chunk in chunks]


# --- What is left out ---


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("operation", SAYS)
@pytest.mark.parametrize("top", [{}, {"id": None, "model": None}, {"id": "c1"}, {"model": "theirs"}])
async def test_every_answer_has_an_id_and_the_models_name(vendor: Any, operation: str, top: dict[str, Any]) -> None:
    answer = a_chunk(operation, "stop", **top)
    reply = await an_endpoint(vendor, operation, httpx.Response(200, json=answer)).complete(
        a_call(operation), MODEL, Timeouts()
    )
    told = json.loads(reply.body)
    assert (told["model"], told["id"]) == ("ours", reply.tally.id)
    chunks, error = await streamed(vendor, operation, a_chunk(operation, **top), answer)
    assert error is None
    assert {json.loads(chunk)["model"] for chunk in chunks} == {"ours"}
    (id,) = {json.loads(chunk)["id"] for chunk in chunks}
    assert id == "c1" if top.get("id") else id.startswith("talaria-")


async def test_embeddings_are_asked_for_without_a_word_of_streams() -> None:
    body, dropped = openai.Provider.forms["embeddings"].encode(
        a_call("embeddings", input="Hi", stream=False), MODEL, False
    )
    assert "stream" not in json.loads(body)
    assert dropped == []
