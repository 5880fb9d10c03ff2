"""Everything that can be made to go wrong, seen by a bare HTTP client."""

from __future__ import annotations

import json
import time

import httpx
import pytest

VENDORS = ("inception", "openai", "anthropic")
END = {"inception": "data: [DONE]", "openai": "data: [DONE]", "anthropic": "event: message_stop"}
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


def events(text: str) -> list[str]:
    return [event for event in text.split("\n\n") if event]


@every_vendor
def test_a_status_comes_with_the_vendors_own_error(simulator, vendor):
    simulator.break_("status", vendor, status=429, retry_after=3)
    response = simulator.post(vendor)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert response.json()["error"]["type"] == "rate_limit_error"
    simulator.break_("status", vendor, status=500)
    assert simulator.post(vendor).json()["error"]["type"] in ("server_error", "api_error")
    assert simulator.bill() == []


def test_codes_are_the_vendors_own_unless_given(simulator):
    simulator.break_("status", "inception", status=402)
    assert simulator.post("inception").json()["error"]["code"] == "account_error"
    simulator.break_("status", "openai", status=429, code="insufficient_quota")
    assert simulator.post("openai").json()["error"]["type"] == "insufficient_quota"
    simulator.break_("status", "openai", status=503)
    assert simulator.post("openai").json()["error"]["code"] == "server_is_overloaded"
    simulator.break_("status", "anthropic", status=529)
    assert simulator.post("anthropic").json()["error"]["type"] == "overloaded_error"
    simulator.break_("status", "anthropic", status=429, code="enforced_spend_limit_reached")
    assert simulator.post("anthropic").json()["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}


def test_rate_limits_say_what_is_left_and_billing_limits_do_not(simulator):
    simulator.break_("status", status=429)
    assert simulator.post("openai").headers["x-ratelimit-remaining-requests"] == "0"
    assert simulator.post("anthropic").headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert not any("ratelimit" in name for name in simulator.post("inception").headers)
    simulator.break_("status", "openai", status=429, code="insufficient_quota")
    assert not any("ratelimit" in name for name in simulator.post("openai").headers)


@every_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_the_answer_leaves_nothing(simulator, vendor, stream):
    simulator.break_("reset_before", vendor, count=1)
    with pytest.raises(httpx.ReadError, match="reset"):
        simulator.post(vendor, stream=stream)
    assert simulator.bill() == []
    assert simulator.post(vendor, stream=stream).status_code == 200


@every_vendor
def test_a_reset_after_some_events_leaves_those(simulator, vendor):
    simulator.break_("reset_after", vendor, after_events=3)
    body = simulator.body(vendor, stream=True)
    with simulator.http.stream("POST", f"/{vendor}/v1/{path(vendor)}", json=body) as answer:
        received = until_reset(answer)
    assert len(events(received)) == 3
    assert not simulator.bill()[0]["completed"]
    with pytest.raises(httpx.ReadError):
        simulator.post(vendor)


def until_reset(answer: httpx.Response) -> str:
    received: list[str] = []
    with pytest.raises(httpx.ReadError):
        received.extend(answer.iter_text())
    return "".join(received)


def path(vendor: str) -> str:
    return "messages" if vendor == "anthropic" else "chat/completions"


@every_vendor
def test_a_cut_ends_the_stream_cleanly_without_a_finish(simulator, vendor):
    simulator.break_("cut", vendor, after_events=4)
    response = simulator.post(vendor, "Write 50 words", stream=True)
    assert len(events(response.text)) == 4
    row = simulator.bill()[0]
    assert not row["completed"]
    assert 0 < row["output_tokens"] < 60


@every_vendor
def test_no_done_leaves_out_only_the_end(simulator, vendor):
    whole = events(simulator.post(vendor, stream=True).text)
    simulator.break_("no_done", vendor)
    without = events(simulator.post(vendor, stream=True).text)
    assert whole[-1].startswith(END[vendor])
    assert len(without) == len(whole) - 1
    assert not without[-1].startswith(END[vendor])


@every_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_no_usage_withholds_every_count(simulator, vendor, stream):
    options = {"stream_options": {"include_usage": True}} if stream and vendor != "anthropic" else {}
    assert "usage" in simulator.post(vendor, stream=stream, **options).text
    simulator.break_("no_usage", vendor)
    assert "usage" not in simulator.post(vendor, stream=stream, **options).text


@every_vendor
def test_a_malformed_event_is_one_too_many(simulator, vendor):
    whole = events(simulator.post(vendor, stream=True).text)
    simulator.break_("malformed_sse", vendor, after_events=2)
    broken = events(simulator.post(vendor, stream=True).text)
    assert len(broken) == len(whole) + 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken[2].split("data: ")[1])


@every_vendor
@pytest.mark.parametrize("after", [0, 3])
def test_an_error_event_ends_the_stream(simulator, vendor, after):
    simulator.break_("error_event", vendor, after_events=after)
    response = simulator.post(vendor, stream=True)
    assert response.status_code == 200
    received = events(response.text)
    assert len(received) == after + 1
    assert "error" in json.loads(received[-1].split("data: ")[1])
    assert not simulator.bill()[0]["completed"]


@every_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_body_hides_in_a_200(simulator, vendor, stream):
    simulator.break_("error_body", vendor)
    response = simulator.post(vendor, stream=stream)
    assert response.status_code == 200
    assert response.json()["error"]["message"]
    assert simulator.bill() == []


@every_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_json_can_be_truncated(simulator, vendor, stream):
    simulator.break_("truncated_json", vendor, after_events=2)
    text = simulator.post(vendor, stream=stream).text
    last = events(text)[-1].split("data: ")[-1] if stream else text
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


@every_vendor
def test_a_page_can_come_instead_of_an_answer(simulator, vendor):
    simulator.break_("wrong_content_type", vendor)
    response = simulator.post(vendor)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    simulator.break_("wrong_content_type", vendor, status=502)
    assert simulator.post(vendor).status_code == 502


@every_vendor
def test_latency_comes_before_the_answer(simulator, vendor):
    simulator.break_("latency", vendor, seconds=0.1)
    began = time.monotonic()
    assert simulator.post(vendor).status_code == 200
    assert 0.1 <= time.monotonic() - began < 1


@pytest.mark.parametrize(("kind", "least"), [("stall", 0.1), ("slow", 0.3)])
def test_a_stream_can_stall_once_or_drag_on(simulator, kind, least):
    simulator.break_(kind, "openai", seconds=0.1 if kind == "stall" else 0.03, after_events=2)
    began = time.monotonic()
    response = simulator.post("openai", "Write 8 words", stream=True)
    assert least <= time.monotonic() - began < 2
    assert response.text.endswith("data: [DONE]\n\n")
    assert simulator.bill()[0]["completed"]


def test_silence_lasts_until_the_caller_gives_up(simulator):
    simulator.break_("silent", "openai")
    with pytest.raises(httpx.ReadTimeout):
        simulator.http.post("/openai/v1/chat/completions", json=simulator.body("openai"), timeout=0.1)
    simulator.break_("silent", "openai", seconds=0.1)
    with pytest.raises(httpx.ReadError):
        simulator.post("openai")
    assert simulator.bill() == []


def test_faults_apply_in_order_to_the_vendor_and_model_they_name(simulator):
    simulator.http.put(
        "/control/faults",
        json=[
            {"vendor": "openai", "model": "gpt-4.1-nano-2025-04-14", "kind": "status", "status": 503, "count": 2},
            {"vendor": "*", "model": "gpt-4.1-mini", "kind": "status", "status": 500},
        ],
    )
    # A model's own name covers its aliases.
    assert [simulator.post("openai").status_code for _ in range(3)] == [503, 503, 200]
    assert simulator.post("openai", model="gpt-4.1-mini").status_code == 500
    assert simulator.post("inception").status_code == 200
    assert [fault["applied"] for fault in simulator.http.get("/control/faults").json()] == [2, 1]
    simulator.http.delete("/control/faults")
    assert simulator.post("openai", model="gpt-4.1-mini").status_code == 200


def test_a_rate_is_drawn_the_same_way_every_time(simulator):
    def outcomes() -> list[int]:
        simulator.break_("status", "openai", status=500, rate=0.5)
        return [simulator.post("openai", max_tokens=1).status_code for _ in range(40)]

    first = outcomes()
    assert first == outcomes()
    assert 8 < first.count(500) < 32


def test_stream_faults_wait_for_a_stream(simulator):
    simulator.break_("error_event", "openai", count=1)
    assert simulator.post("openai").status_code == 200
    assert "error" in simulator.post("openai", stream=True).text


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ({}, "list"),
        ([{"vendor": "openai", "model": "*"}], "kind is required"),
        ([{"vendor": "openai", "model": "*", "kind": "meteor"}], "'meteor'"),
        ([{"vendor": "acme", "model": "*", "kind": "cut"}], "'acme'"),
        ([{"vendor": "*", "model": "*", "kind": "cut", "rate": 2}], "rate must be between"),
        ([{"vendor": "*", "model": "*", "kind": "cut", "seconds": "2"}], "seconds must be a number"),
        ([{"vendor": "*", "model": "*", "kind": "cut", "wings": 2}], "unknown key 'wings'"),
    ],
)
def test_faults_that_make_no_sense_are_refused(simulator, faults, complaint):
    response = simulator.http.put("/control/faults", json=faults)
    assert response.status_code == 400
    assert complaint in response.json()["error"]["message"]
