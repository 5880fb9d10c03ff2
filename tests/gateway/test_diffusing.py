"""Mercury's snapshots through a whole gateway: the text is right for everybody, raw only for those who say so."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.fleet import Serving, Simulator, http, serving

TEXT = "the tide turns twice a day and nobody on the shore is asked whether it may"
MESSAGES: list[Any] = [{"role": "user", "content": f"say exactly: {TEXT}"}]
RAW = [{"headers": {"x-talaria-diffusing": "raw"}}, {"metadata": {"diffusing": "raw"}}]


def asked(gateway: Serving, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"model": "mercury", "messages": MESSAGES, "diffusing": True, "stream": True, **fields}
    return http.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers or {})


def chunks_of(answer: Any) -> list[dict[str, Any]]:
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def contents(chunks: list[dict[str, Any]]) -> list[str]:
    return [text for each in chunks for choice in each["choices"] if (text := choice["delta"].get("content"))]


@pytest.fixture
def client(gateway: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)


def test_the_official_sdk_gets_the_finished_text(client: openai.OpenAI, gateway: Serving, simulator: Simulator) -> None:
    state = ChatCompletionStreamState()
    before = gateway.metric("talaria_estimated_tokens_total")
    stream = client.chat.completions.create(
        model="mercury",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"diffusing": True},
    )
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        state.handle_chunk(chunk)
    answer = state.get_final_completion()
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == 1
    assert simulator.requests()[-1]["body"]["diffusing"] is True
    assert answer.usage is not None
    assert answer.usage.completion_tokens == simulator.bill()[-1]["output_tokens"]
    assert gateway.metric("talaria_estimated_tokens_total") == before


def test_nobody_is_given_snapshots_unasked(gateway: Serving, simulator: Simulator) -> None:
    for fields in ({"diffusing": False}, {"diffusing": None}, {"diffusing": False, "metadata": {"diffusing": "raw"}}):
        answer = asked(gateway, **fields)
        assert "".join(contents(chunks_of(answer))) == TEXT
        assert "x-talaria-stream-mode" not in answer.headers
    assert all("diffusing" not in request["body"] for request in simulator.requests())


@pytest.mark.parametrize("opting", RAW, ids=["header", "metadata"])
def test_raw_snapshots_are_the_vendors(gateway: Serving, simulator: Simulator, opting: dict[str, Any]) -> None:
    answer = asked(gateway, **opting)
    sent = simulator.requests()[-1]["body"]
    theirs = http.post(
        f"{simulator.url}/inception/v1/chat/completions", json=sent, headers={"authorization": "Bearer test"}
    )
    chunks = chunks_of(answer)
    assert answer.headers["x-talaria-stream-mode"] == "replace"
    assert (chunks[0]["choices"], chunks[0]["talaria"]) == ([], {"stream_mode": "replace"})
    assert contents(chunks) == contents(chunks_of(theirs))
    assert contents(chunks)[-1] == TEXT
    assert len(contents(chunks)) > 2


def test_a_text_that_was_cut_for_length_is_delivered_as_it_is(gateway: Serving, simulator: Simulator) -> None:
    limits = {"max_completion_tokens": 8, "reasoning_effort": "instant"}
    final = chunks_of(asked(gateway, **limits))
    raw = chunks_of(asked(gateway, headers={"x-talaria-diffusing": "raw"}, **limits))
    assert len(contents(final)) == 1
    assert len(contents(raw)) > 1
    for chunks in (final, raw):
        assert [choice["finish_reason"] for each in chunks for choice in each["choices"]][-1] == "length"


@pytest.mark.parametrize(
    "fault", [{"kind": "reset_after"}, {"kind": "error_event"}, {"kind": "cut"}], ids=lambda each: each["kind"]
)
def test_the_text_is_asked_for_again_when_snapshots_break_off(
    gateway: Serving, simulator: Simulator, fault: dict[str, Any]
) -> None:
    simulator.faults({"vendor": "inception", "model": "mercury-2", "after_events": 3, "count": 1, **fault})
    answer = asked(gateway, headers={"x-talaria-latency-class": "interactive"})
    assert contents(chunks_of(answer)) == [TEXT]
    assert answer.headers["x-talaria-attempts"] == "2"


def test_another_model_answers_when_one_never_settles(simulator: Simulator) -> None:
    text = f"""\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  inception: {{kind: inception, base_url: "{simulator.url}/inception/v1", keys: [{{id: main, value: test}}]}}
models:
  mercury: {{provider: inception, upstream: mercury-2, fallback: newer}}
  mercury-3: {{provider: inception}}
fallbacks: {{newer: [mercury-3]}}
"""
    simulator.faults({"vendor": "inception", "model": "mercury-2", "kind": "cut", "after_events": 3})
    with serving(text) as gateway:
        answer = asked(gateway)
    assert contents(chunks_of(answer)) == [TEXT]
    assert answer.headers["x-talaria-model"] == "mercury-3"


def test_raw_snapshots_that_break_off_are_an_error(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "inception", "model": "mercury-2", "kind": "reset_after", "after_events": 3})
    answer = asked(gateway, headers={"x-talaria-diffusing": "raw"})
    assert '"error"' in answer.text
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(
    "fields",
    [{"stream": False}, {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}], "tool_choice": "none"}],
    ids=["whole", "tools"],
)  # fmt: skip
def test_where_snapshots_have_no_place_they_are_left_out_and_named(
    gateway: Serving, simulator: Simulator, fields: dict[str, Any]
) -> None:
    answer = asked(gateway, headers={"x-talaria-diffusing": "raw"}, **fields)
    assert answer.status_code == 200
    assert answer.headers["x-talaria-dropped"] == "diffusing"
    assert "x-talaria-stream-mode" not in answer.headers
    assert "diffusing" not in simulator.requests()[-1]["body"]
    if fields.get("stream") is not False:
        assert "".join(contents(chunks_of(answer))) == TEXT


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 2}, "n"), ({"model": "gpt-4.1-nano"}, "diffusing"), ({"model": "auto-cheap"}, "diffusing")],
)
def test_what_cannot_be_is_refused(gateway: Serving, fields: dict[str, Any], param: str) -> None:
    answer = asked(gateway, headers={"x-talaria-diffusing": "raw"}, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("model", ["gpt-4.1-nano", "claude-haiku", "auto-cheap"])
def test_other_models_write_the_finished_text_another_way(gateway: Serving, model: str) -> None:
    answer = asked(gateway, model=model)
    assert answer.headers["x-talaria-dropped"] == "diffusing"
    assert "".join(contents(chunks_of(answer))) == TEXT


def test_another_vendor_writes_what_was_never_settled(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "cut", "after_events": 3})
    answer = asked(gateway, model="auto")
    assert answer.headers["x-talaria-model"] == "gpt-4.1-nano"
    assert "".join(contents(chunks_of(answer))) == TEXT


def test_an_unknown_mode_is_refused(gateway: Serving) -> None:
    answer = asked(gateway, headers={"x-talaria-diffusing": "rough"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-talaria-diffusing")
    assert "'final', 'raw'" in answer.json()["error"]["message"]


def test_a_route_passes_over_models_without_snapshots(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 500})
    assert asked(gateway, model="auto", headers={"x-talaria-diffusing": "raw"}).status_code == 502
    assert {request["vendor"] for request in simulator.requests()} == {"inception"}
