"""A vendor that fails before the commit point is answered by the next; after it, the caller is told."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.fleet import Serving, Simulator

MESSAGES: list[Any] = [{"role": "user", "content": "say exactly: the tide turns twice a day"}]
ANSWER = "the tide turns twice a day"


@pytest.fixture
def client(gateway: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)


BEFORE_ANYTHING = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429, "retry_after": 60},
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 404},
    {"kind": "reset_before"},
    {"kind": "silent", "seconds": 30},
    {"kind": "error_body"},
    {"kind": "wrong_content_type"},
]


@pytest.mark.ability("fallback", vendor="inception")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", BEFORE_ANYTHING, ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}")
def test_a_vendor_that_fails_is_answered_by_the_next(
    client: openai.OpenAI, simulator: Simulator, fault: dict[str, Any], stream: bool
) -> None:
    simulator.faults({"vendor": "inception", "model": "*", **fault})
    # Silence is found out after the first-token limit of a stream, or half of the time of a whole answer.
    hints = {"x-talaria-latency-class": "realtime"}
    if stream:
        with client.chat.completions.with_streaming_response.create(
            model="auto", messages=MESSAGES, stream=True, extra_headers=hints
        ) as response:
            headers = response.headers
            text = "".join(chunk.choices[0].delta.content or "" for chunk in response.parse() if chunk.choices)
    else:
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES, extra_headers=hints)
        headers = raw.headers
        text = raw.parse().choices[0].message.content or ""
    assert text == ANSWER
    assert headers["x-talaria-model"] == "gpt-4.1-nano"
    assert int(headers["x-talaria-attempts"]) == 2
    assert headers["x-talaria-fallback-reason"].startswith("provider_")
    served = [row for row in simulator.bill() if row["completed"]]
    assert [row["vendor"] for row in served] == ["openai"]


@pytest.mark.ability("fallback")
@pytest.mark.parametrize("kind", ["error_event", "cut", "reset_after"])
@pytest.mark.parametrize("vendor", ["inception", "openai", "anthropic"])
def test_an_error_in_the_first_event_is_one_before_anything(
    client: openai.OpenAI, simulator: Simulator, vendor: str, kind: str
) -> None:
    simulator.faults({"vendor": vendor, "model": "*", "kind": kind, "after_events": 0})
    model = {"inception": "auto", "openai": "auto-cheap", "anthropic": "claude-sonnet"}[vendor]
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[0].model != model


LONG: list[Any] = [{"role": "user", "content": "in 80 words"}]


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku", "auto"])
@pytest.mark.parametrize("kind", ["error_event", "cut", "reset_after"])
def test_after_the_commit_point_the_caller_gets_one_typed_error(
    gateway: Serving, simulator: Simulator, model: str, kind: str
) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": kind, "after_events": 4})
    body = {"model": model, "messages": LONG, "stream": True}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 200
    events = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    assert "[DONE]" not in events
    parsed = [json.loads(event) for event in events]
    assert set(parsed[-1]) == {"error"}
    assert set(parsed[-1]["error"]) == {"message", "type", "param", "code"}
    assert all(choice["finish_reason"] is None for chunk in parsed[:-1] for choice in chunk["choices"])
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=model, messages=LONG, stream=True))


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku"])
def test_a_broken_event_is_skipped_and_counted(gateway: Serving, simulator: Simulator, model: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    simulator.faults({"vendor": "*", "model": "*", "kind": "malformed_sse", "after_events": 2})
    provider = {"mercury": "inception", "gpt-4.1-nano": "openai", "claude-haiku": "anthropic"}[model]
    before = gateway.metric("talaria_malformed_events_total", provider=provider)
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert gateway.metric("talaria_malformed_events_total", provider=provider) == before + 1


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku"])
def test_a_stream_without_its_end_mark_is_whole(client: openai.OpenAI, simulator: Simulator, model: str) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "no_done"})
    chunks = list(
        client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_usage_that_the_vendor_does_not_state_is_estimated_and_marked(
    gateway: Serving, simulator: Simulator, model: str, stream: bool
) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "no_usage"})
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    before = gateway.metric("talaria_estimated_tokens_total", model=model)
    answer = client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    if stream:
        list(answer)
    assert gateway.metric("talaria_estimated_tokens_total", model=model) > before


STATUSES: list[tuple[int, type[openai.APIStatusError]]] = [
    (401, openai.InternalServerError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku"])
def test_without_a_next_target_the_vendors_class_of_error_goes_out(
    client: openai.OpenAI, simulator: Simulator, model: str, status: int, error: type[openai.APIStatusError]
) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "status", "status": status, "retry_after": 7})
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.request_id


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano"])
def test_a_prompt_that_is_too_long_is_the_callers_to_mend(
    client: openai.OpenAI, simulator: Simulator, model: str
) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "status", "status": 400, "code": "context_length_exceeded"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES)
    assert caught.value.code == "context_length_exceeded"


def test_rejected_keys_of_ours_are_no_fault_of_the_callers(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.faults({"vendor": "openai", "model": "*", "kind": "status", "status": 401})
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="gpt-4.1-nano", messages=MESSAGES)
    assert caught.value.code == "upstream_authentication"
    assert caught.value.status_code == 502


def test_failures_and_steps_are_counted(gateway: Serving, simulator: Simulator, client: openai.OpenAI) -> None:
    def counts() -> tuple[float, float, float]:
        return (
            gateway.metric("talaria_upstream_attempts_total", provider="inception", outcome="upstream_error"),
            gateway.metric("talaria_retries_total", model="mercury", reason="provider_server_error"),
            gateway.metric("talaria_fallbacks_total", from_model="mercury", to_model="gpt-4.1-nano", route="auto"),
        )

    before = counts()
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 500})
    client.chat.completions.create(model="auto", messages=MESSAGES)
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [3, 2, 1]
