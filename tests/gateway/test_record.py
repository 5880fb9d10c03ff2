"""What a call comes to: whose tokens, how many, at which cost, and who hears of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.config import parse
from gateway.gateway import Gateway
from gateway.metrics import Metrics
from gateway.record import Record, estimate, settle
from gateway.state import LocalBlobs, LocalLeases
from providers.errors import InvalidRequest, Unavailable
from providers.types import Call, Card, Hints, Model, Prices, Tally, Timeouts, Usage
from routing.latency_class import LatencyClass
from routing.planner import Plan
from routing.router import Journey
from routing.target import Attempt, Target

PRICES = Prices(input=Decimal("0.25"), output=Decimal("0.75"), cache_read=Decimal("0.025"))
MODEL = Model("mercury", "inception", "mercury-2", Card(id="mercury-2", kind="inception", prices=PRICES))
TARGET = Target(MODEL, {})


def call(text: str = "x" * 40, stream: bool = True) -> Call:
    return Call(
        id="req_1",
        operation="chat",
        raw=b"",
        body={"messages": [{"role": "user", "content": text}]},
        model="mercury",
        stream=stream,
        include_usage=False,
        needs={},
        hints=Hints(),
        started=time.monotonic(),
        deadline=time.monotonic() + 10,
        snapshot="",
    )


def record(served: bool = True, **fields: Any) -> Record:
    found = Record("req_1", time.monotonic(), call=call(), latency_class="interactive")
    found.journey = Journey(Plan((TARGET,)), [Attempt(MODEL, 0.0)], TARGET if served else None)
    found.answered = time.monotonic()
    for name, value in fields.items():
        setattr(found, name, value)
    settle(found)
    return found


def test_what_the_vendor_billed_is_what_counts() -> None:
    usage = Usage(input=1000, cache_read=2000, output=500, reasoning=100)
    found = record(tally=Tally(usage=usage, finish="stop", chars=9999))
    assert found.usage == usage
    assert not found.estimated
    assert found.cost == Decimal("0.000675")
    assert found.outcome == "ok"


def test_a_caller_who_leaves_is_charged_what_was_billed_until_then() -> None:
    found = record(tally=Tally(begun=True, chars=41), cancelled=True)
    assert found.outcome == "cancelled"
    assert found.estimated
    assert found.usage.output == 11
    assert found.usage.input >= 10
    assert found.cost


def test_prompt_tokens_that_the_vendor_told_at_the_start_are_kept() -> None:
    told = Usage(input=25, cache_read=75, output=1)
    found = record(tally=Tally(begun=True, chars=400, usage=told), cancelled=True)
    assert (found.usage.input, found.usage.cache_read, found.usage.output) == (25, 75, 100)
    assert found.estimated


def test_an_answer_that_breaks_off_is_estimated() -> None:
    found = record(tally=Tally(begun=True, chars=400), error=Unavailable("lost"))
    assert found.outcome == "upstream_error"
    assert found.estimated
    assert found.usage.output == 100


def test_a_caller_who_leaves_before_the_answer_is_charged_the_prompt() -> None:
    journey = Journey(Plan((TARGET,)), [Attempt(MODEL, 0.0, cancelled=True)])
    found = record(journey=journey, cancelled=True, answered=None)
    assert found.estimated
    assert found.usage.input >= 10
    assert found.usage.output == 0


def test_a_caller_who_leaves_before_a_whole_answer_is_charged_what_was_likely_written() -> None:
    card = Card(id="m", kind="openai", max_output=400, ttft_ms=500, tokens_per_second=100)
    target = Target(Model("m", "p", "m", card), None)  # type: ignore[arg-type]
    for seconds, written in ((0.4, 0), (2.5, 200), (60.0, 400)):
        journey = Journey(Plan((target,)), [Attempt(target.model, 0.0, seconds=seconds, cancelled=True)])
        found = record(call=call(stream=False), journey=journey, cancelled=True, answered=None)
        assert found.estimated
        assert found.usage.output == written


def test_a_text_without_a_limit_is_not_charged_beyond_the_usual_one() -> None:
    card = Card(id="m", kind="openai", tokens_per_second=100)
    target = Target(Model("m", "p", "m", card), {})
    for operation, written in (("completions", 16), ("fim", 512), ("embeddings", 6000)):
        asked = call(stream=False)
        asked.operation = operation
        journey = Journey(Plan((target,)), [Attempt(target.model, 0.0, seconds=60.0, cancelled=True)])
        assert record(call=asked, journey=journey, cancelled=True, answered=None).usage.output == written


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x" * 40, "suffix": "y" * 20}, 15),
        ({"prompt": ["x" * 40, "y" * 40]}, 20),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2], [3]]}, 3),
        ({"input": ["x" * 8]}, 2),
    ],
)
def test_prompts_of_every_form_are_estimated(body: Any, tokens: int) -> None:
    asked = call()
    asked.body = body
    assert estimate(asked, None).input == tokens


def test_a_failure_costs_nothing() -> None:
    journey = Journey(Plan((TARGET,)), [Attempt(MODEL, 0.0, error=Unavailable("down"))])
    found = record(journey=journey, error=Unavailable("down"), answered=None)
    assert found.usage == Usage()
    assert found.cost is None
    assert not found.estimated


def test_images_are_not_counted_as_text() -> None:
    asked = call()
    asked.body["messages"].append({"role": "user", "content": [{"image_url": {"url": "data:" + "x" * 10_000}}]})
    assert estimate(asked, None).input < 50


def test_the_phases_of_a_request_add_up() -> None:
    """R5.6."""
    started = time.monotonic()
    journey = Journey(Plan((TARGET,)), [Attempt(MODEL, started + 0.1, waited=0.5)], TARGET)
    found = record(started=started, journey=journey, answered=started + 0.8)
    assert found.phases == pytest.approx((0.1, 0.5, 0.2))
    assert found.overhead_seconds == pytest.approx(0.3)
    assert record(journey=None, answered=None).phases[1:] == (0.0, 0.0)


def test_metrics_tell_what_the_record_tells() -> None:
    metrics = Metrics()
    found = record(
        tally=Tally(usage=Usage(input=10, output=20, reasoning=5), finish="stop", malformed=2, unknown_finish="odd")
    )
    metrics.settled(found)
    text = metrics.expose().decode()
    labels = 'model="mercury",provider="inception"'
    assert f'talaria_tokens_total{{{labels},type="output",use_case="other"}} 20.0' in text
    assert f'talaria_tokens_total{{{labels},type="reasoning",use_case="other"}} 5.0' in text
    assert 'talaria_malformed_events_total{provider="inception"} 2.0' in text
    assert 'talaria_unknown_finish_reason_total{provider="inception",reason="odd"} 1.0' in text
    assert "talaria_cost_dollars_total" in text


def test_reasons_that_vendors_make_up_have_a_bound() -> None:
    metrics = Metrics()
    for i in range(100):
        metrics.settled(record(tally=Tally(usage=Usage(), finish="stop", unknown_finish=f"odd {i}")))
    assert metrics.expose().decode().count("talaria_unknown_finish_reason_total{") <= 17


def test_a_request_is_priced_by_the_day_on_which_it_came() -> None:
    dear = Prices(input=Decimal(10), output=Decimal(10))
    card = replace(MODEL.card, dated=(("0000-00-00", PRICES), ("2026-12-01", dear)))
    journey = Journey(Plan((TARGET,)), [Attempt(MODEL, 0.0)], Target(replace(MODEL, card=card), {}))
    tally = Tally(usage=Usage(input=1_000_000), finish="stop")
    before = datetime(2026, 11, 30, 23, 59, tzinfo=UTC).timestamp()
    assert record(journey=journey, tally=tally, started_unix=before).cost == PRICES.input
    assert record(journey=journey, tally=tally, started_unix=before + 60).cost == 10


def test_the_target_of_a_class_is_kept_or_not() -> None:
    started = time.monotonic() - 10
    first = LatencyClass(Timeouts(), 0, target=1.0)
    whole = LatencyClass(Timeouts(), 0, target=1.0, target_of="answer")
    asked = call()
    fields = {"started": started, "call": asked, "tally": Tally(usage=Usage(), finish="stop")}
    assert record(aim=first, answered=started + 0.5, **fields).kept is True
    assert record(aim=first, answered=started + 1.5, **fields).kept is False
    assert record(aim=whole, answered=started + 0.5, **fields).kept is False  # it ended only now
    assert record(aim=first, answered=started + 0.5, **{**fields, "call": call(stream=False)}).kept is None
    assert record(aim=LatencyClass(Timeouts(), 0), **fields).kept is None
    assert record(aim=first, error=Unavailable("down"), **fields).kept is False
    assert record(aim=first, error=InvalidRequest("no"), **fields).kept is None
    assert record(aim=first, cancelled=True, **fields).kept is None


def test_unpriced_answers_are_counted_as_such() -> None:
    metrics = Metrics()
    unpriced = Target(Model("new", "p", "new", Card(id="new", kind="openai")), {})
    journey = Journey(Plan((unpriced,)), [Attempt(unpriced.model, 0.0)], unpriced)
    metrics.settled(record(journey=journey, tally=Tally(usage=Usage(input=1), finish="stop")))
    assert 'talaria_unpriced_requests_total{model="new"} 1.0' in metrics.expose().decode()


def test_a_listener_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(parse("version: 1\nserver: {auth: none}\n", "x"))
    heard: list[Record] = []

    def broken(_: Record) -> None:
        raise RuntimeError("secret")

    gateway.listeners = (broken, heard.append)
    settled = Record("req_1", time.monotonic())
    gateway.settle(settled)
    assert heard == [settled]
    assert "secret" not in caplog.text


def test_leases_never_exceed_their_limit() -> None:
    async def story() -> None:
        leases = LocalLeases()
        assert await leases.take("team", 3, limit=5)
        assert not await leases.take("team", 3, limit=5)
        assert await leases.take("team", 2, limit=5)
        assert await leases.take("other", 5, limit=5)
        await leases.give("team", 3)
        assert await leases.take("team", 3, limit=5)

    asyncio.run(story())


def test_blobs_expire_and_make_room() -> None:
    now = [0.0]

    async def story() -> None:
        blobs = LocalBlobs(capacity_bytes=10, clock=lambda: now[0])
        await blobs.put("a", b"12345", 10)
        await blobs.put("b", b"12345", 20)
        assert await blobs.get("a") == b"12345"
        await blobs.put("c", b"12345", 20)
        assert await blobs.get("b") is None
        assert await blobs.get("a") == b"12345"
        now[0] = 10.0
        assert await blobs.get("a") is None
        await blobs.put("d", b"x" * 11, 20)
        assert await blobs.get("d") is None
        assert await blobs.get("c") == b"12345"

    asyncio.run(story())


def test_an_estimate_counts_what_a_prompt_added() -> None:
    asked = call("x" * 40)
    plain = estimate(asked, None).input
    asked.written.body = {"messages": [{"role": "system", "content": "y" * 4000}, *asked.body["messages"]]}
    assert estimate(asked, None).input > plain + 900


def test_an_answer_that_was_whole_before_its_caller_left_is_billed_as_stated() -> None:
    usage = Usage(input=10, output=20)
    found = record(tally=Tally(usage=usage, finish="stop", chars=9), cancelled=True)
    assert found.usage == usage
    assert not found.estimated
