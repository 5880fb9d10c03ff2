"""What each candidate is expected to do for a call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from providers.catalog import cost
from providers.types import Call, Card, Hints, Model, Prices, Usage
from routing.lengths import OUTPUT
from routing.outlook import Option, Outlook, Quality, fits
from routing.target import Target


def target(name: str, **card: Any) -> Target:
    card = {"ttft_ms": 500.0, "tokens_per_second": 100.0, "prices": Prices(Decimal(1), Decimal(4)), **card}
    return Target(Model(name, "p", name, Card(id=name, kind="openai", **card)), {"chat": None})  # type: ignore[dict-item]


def call(stream: bool = True, operation: str = "chat", **body: Any) -> Call:
    return Call(
        id="1",
        operation=operation,
        raw=b"",
        body=body,
        model="auto",
        stream=stream,
        include_usage=False,
        needs={},
        hints=Hints(),
        started=0.0,
        deadline=1.0,
        snapshot="",
    )


def option(outlook: Outlook, target: Target, asked: Call | None = None, now: float = 0.0, **more: Any) -> Option:
    more = {"task": "chat", "qualities": {}, "size_chars": 4000, **more}
    (found,) = outlook.options(asked or call(), targets=[target], now=now, **more)
    return found


def test_without_any_experience_the_catalog_speaks() -> None:
    found = option(Outlook(), target("a"))
    assert (found.ttft, found.prompt_tokens, found.output_tokens) == (0.5, 1000, OUTPUT["chat"])
    assert found.seconds == pytest.approx(0.5 + OUTPUT["chat"] / 100)
    assert found.cost == pytest.approx((1000 + 4 * OUTPUT["chat"]) / 1e6)
    assert (found.samples, found.in_flight, found.quality) == (0, 0, 0.5)


def test_a_model_of_which_nothing_is_known_gets_what_is_usual() -> None:
    found = option(Outlook(), target("a", ttft_ms=None, tokens_per_second=None, prices=Prices()))
    assert found.ttft == 0.6
    assert found.seconds > found.ttft
    assert found.cost is None


def test_options_come_in_the_order_of_their_targets() -> None:
    targets = [target(name) for name in "cab"]
    assert [each.name for each in Outlook().options(call(), "chat", targets, {}, 0.0, 100)] == ["c", "a", "b"]


def test_nobody_writes_more_than_is_allowed() -> None:
    assert option(Outlook(), target("a"), call(max_tokens=20)).output_tokens == 20
    assert option(Outlook(), target("a", max_output=30)).output_tokens == 30
    assert option(Outlook(), target("a"), call(max_tokens=10**6)).output_tokens == OUTPUT["chat"]


def test_embeddings_write_nothing_and_cost_their_prompt() -> None:
    small = target("a", serves=frozenset({"embeddings"}), prices=Prices(input=Decimal("0.02")))
    found = option(Outlook(), small, call(operation="embeddings", stream=False))
    assert found.output_tokens == 0
    assert found.seconds == found.ttft
    assert found.cost == pytest.approx(1000 * 0.02 / 1e6)


def test_the_quality_at_the_task_stands_before_the_overall_one() -> None:
    qualities = {"a": Quality(0.7, {"code": 0.9})}
    assert option(Outlook(), target("a"), task="code", qualities=qualities).quality == 0.9
    assert option(Outlook(), target("a"), task="chat", qualities=qualities).quality == 0.7
    assert option(Outlook(), target("b"), task="chat", qualities=qualities).quality == 0.5


def test_the_expected_cost_is_that_of_the_catalog() -> None:
    outlook, dear = Outlook(), target("a", prices=Prices(Decimal("0.10"), Decimal("0.40"), cache_read=Decimal("0.01")))
    outlook.settled("a", "chat", 20_000, Usage(input=5000, output=100), 0.0, "talk")
    found = option(outlook, dear, size_chars=24_000, conversation="talk", now=1.0)
    assert found.cached_tokens > 0
    usage = Usage(
        input=round(found.prompt_tokens - found.cached_tokens),
        cache_read=round(found.cached_tokens),
        output=round(found.output_tokens),
    )
    assert found.cost == pytest.approx(float(cost(usage, dear.model.card.prices) or 0), rel=0.01)


def test_a_conversation_is_cheaper_where_it_is_cached() -> None:
    outlook, prices = Outlook(), Prices(Decimal(1), Decimal(4), cache_read=Decimal("0.1"))
    here, there = target("here", prices=prices), target("there", prices=prices)
    outlook.settled("here", "chat", 40_000, Usage(input=10_000, output=200), 0.0, b"talk")
    for each in (here, there):
        option(outlook, each)
    known = option(outlook, here, size_chars=44_000, conversation=b"talk", now=10.0)
    new = option(outlook, there, size_chars=44_000, conversation=b"talk", now=10.0)
    assert known.cached_tokens == 5000
    assert new.cached_tokens == 0
    assert known.cost is not None
    assert new.cost is not None
    assert known.cost < new.cost - 0.004
    assert option(outlook, here, size_chars=44_000, now=10.0).cached_tokens == 0


def test_no_more_is_cached_than_there_is() -> None:
    outlook = Outlook()
    outlook.settled("a", "chat", 400_000, Usage(input=100_000, output=200), 0.0, "talk")
    found = option(outlook, target("a"), size_chars=400, conversation="talk", now=1.0)
    assert found.cached_tokens == found.prompt_tokens


def test_what_flights_meet_is_expected_of_the_next() -> None:
    outlook, model, now = Outlook(), target("a"), 0.0
    for _ in range(30):
        flight = outlook.sent(call(), option(outlook, model, now=now), now)
        assert option(outlook, model, now=now).in_flight == 1
        flight.first(now + 0.2)
        now += 1.2
        flight.done(500, now)
    found = option(outlook, model, now=now)
    assert found.in_flight == 0
    assert found.ttft == pytest.approx(0.2, rel=0.1)
    assert found.seconds == pytest.approx(0.2 + OUTPUT["chat"] / 500, rel=0.15)


def test_whole_answers_are_expected_when_streams_were_seen_and_the_other_way_round() -> None:
    outlook, model, now, asked = Outlook(), target("a"), 0.0, call(stream=False, max_tokens=30)
    for _ in range(40):
        flight = outlook.sent(asked, option(outlook, model, asked, now), now)
        now += 0.18
        flight.done(30, now)
    assert option(outlook, model, asked, now).seconds == pytest.approx(0.18, rel=0.25)
    assert option(outlook, model, now=now).ttft < 0.2


def test_a_long_whole_answer_is_not_overdue_before_its_time() -> None:
    outlook, model, asked = Outlook(), target("a"), call(stream=False)
    outlook.sent(asked, option(outlook, model, asked), 0.0)
    soon = option(outlook, model, asked, now=3.0)
    assert soon.ttft == 0.5
    assert option(outlook, model, asked, now=30.0).ttft > 20


def test_a_short_whole_answer_is_overdue_early() -> None:
    outlook, model, asked = Outlook(), target("a"), call(stream=False, max_tokens=10)
    outlook.sent(asked, option(outlook, model, asked), 0.0)
    assert option(outlook, model, asked, now=3.0).ttft > 2


def test_what_is_learned_outlives_a_configuration() -> None:
    outlook = Outlook()
    for step in range(20):
        outlook.latency.of("a").learn_first(1, True, 0.1, step / 10)
    option(outlook, target("a"), now=2.0)
    changed = option(outlook, target("a", ttft_ms=900.0, prices=Prices(Decimal(7), Decimal(7))), now=2.0)
    assert changed.ttft == pytest.approx(0.1, rel=0.1)
    assert changed.cost == pytest.approx(7 * (1000 + OUTPUT["chat"]) / 1e6)


def test_targets_of_a_class_are_on_the_first_token_or_on_the_answer() -> None:
    found = option(Outlook(), target("a"))
    assert fits(found, 0.5, "first_token")
    assert not fits(found, 0.49, "first_token")
    assert not fits(found, 1.0, "answer")
    assert fits(found, 3.0, "answer")
