"""How fast each model answers just now, on a clock of the tests' own."""

from __future__ import annotations

import json
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.latency import EXTRA, Flight, Latency, Live, Prior, bucket, split

PRIOR = Prior(ttft=0.6, pace=0.01)


def expect(live: Live, now: float, size: int = 0, stream: bool = True) -> float:
    return live.expect(size, stream, PRIOR, now).ttft


def steady(seconds: float, samples: int = 50, gap: float = 0.2) -> tuple[Live, float]:
    """A model that has streamed as many answers, each as quick."""
    live, now = Live(), 0.0
    for _ in range(samples):
        now += gap
        live.learn_first(0, True, seconds, now)
    return live, now


def fly(live: Live, now: float, due: float = inf, stream: bool = True) -> Flight:
    return live.started(0, stream, PRIOR, due, now)


def end(flight: Flight, by: str, now: float) -> None:
    if by == "first":
        flight.first(now)
    elif by == "done":
        flight.done(50, now)
    elif by == "failed":
        flight.failed(now)
    else:
        flight.ended()


def test_prompts_are_told_apart_by_size() -> None:
    assert [bucket(tokens) for tokens in (0, 511, 512, 5000, 10_000, 1e6)] == [0, 0, 1, 2, 3, 4]


def test_without_samples_the_prior_is_expected_and_never_nothing() -> None:
    found = Live().expect(0, True, PRIOR, 5.0)
    assert (found.ttft, found.ttft_p95, found.pace, found.samples) == (0.6, 1.2, 0.01, 0.0)
    assert Live().expect(4, True, PRIOR, 5.0).ttft == 0.6 + EXTRA[4]


def test_samples_take_the_place_of_the_prior() -> None:
    live, now = steady(0.2)
    assert expect(live, now) == pytest.approx(0.2, rel=0.1)
    assert live.expect(0, True, PRIOR, now).samples > 30


def test_what_is_known_of_other_prompts_is_better_than_the_prior() -> None:
    live, now = steady(0.2)
    assert expect(live, now, stream=False) == pytest.approx(0.2, rel=0.1)
    assert expect(live, now, size=3) == pytest.approx(0.2 + EXTRA[3], rel=0.1)
    for _ in range(6):
        live.learn_first(3, True, 2.5, now)
    assert expect(live, now, size=3) == pytest.approx(2.5, rel=0.15)
    assert expect(live, now) == pytest.approx(0.2, rel=0.1)


def test_a_model_that_was_slow_once_is_tried_again() -> None:
    live, now = steady(0.3)
    for _ in range(3):
        now += 0.1
        live.learn_first(0, True, 5.0, now)
    assert expect(live, now) > 4
    assert expect(live, now + 10) == pytest.approx(0.3 + 4.4 / 2.718, rel=0.1)
    assert expect(live, now + 60) < 0.35


def test_a_model_that_was_slow_for_long_is_tried_again_later() -> None:
    live, now = steady(5.0, samples=500)
    assert expect(live, now + 60) > 3
    assert expect(live, now + 900) == pytest.approx(0.6, rel=0.05)


def test_while_one_call_finds_out_the_others_wait_and_see() -> None:
    live, now = steady(0.3)
    for _ in range(3):
        live.learn_first(0, True, 5.0, now)
    now += 60
    assert expect(live, now) < 0.35
    probe = fly(live, now)
    assert expect(live, now) > 4
    probe.first(now + 0.3)
    assert expect(live, now + 0.3) < 5


def test_an_overdue_answer_counts_before_it_is_there() -> None:
    live, now = steady(0.3)
    fly(live, now, due=0.6)
    assert expect(live, now + 0.5) == pytest.approx(0.3, rel=0.1)
    assert expect(live, now + 2.6) == pytest.approx(0.3 + 2.0, rel=0.05)
    assert live.expect(0, False, PRIOR, now + 2.6).ttft > 2, "in whatever form it is asked"


def test_what_is_overdue_while_later_calls_are_answered_is_the_tail() -> None:
    live, now = steady(0.3)
    fly(live, now, due=0.6)
    later = fly(live, now + 1, due=0.6)
    later.first(now + 1.3)
    assert expect(live, now + 5) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("end_by", ["first", "done", "failed", "ended"])
def test_nothing_is_overdue_of_a_call_that_is_over(end_by: str) -> None:
    live, now = steady(0.3)
    flight = fly(live, now, due=0.6, stream=end_by != "done")
    end(flight, end_by, now + 1)
    # What it taught has passed by then; an answer still awaited would be a hundred seconds late.
    assert expect(live, now + 100) < 0.6


def test_calls_in_flight_are_counted_once_however_often_their_end_is_told() -> None:
    live = Live()
    flights = [fly(live, 0.0) for _ in range(3)]
    assert live.in_flight == 3
    flights[0].failed(1.0)
    flights[0].ended()
    flights[1].first(1.0)
    assert live.in_flight == 2
    flights[1].done(100, 2.0)
    flights[1].done(100, 3.0)
    flights[1].ended()
    assert live.in_flight == 1


def test_calls_that_are_never_asked_about_take_no_memory() -> None:
    live = Live()
    keep = fly(live, 0.0, due=1000.0)
    for step in range(5000):
        fly(live, float(step), due=2000.0).ended()
    assert live.in_flight == 1
    assert len(live._watch) < 200
    keep.ended()


def test_a_rate_limited_model_does_not_look_fast() -> None:
    healthy, now = steady(0.3)
    limited, _ = steady(0.3)
    for step in range(40):
        if step % 2:
            limited.learn_first(0, True, 0.3, now)
        else:
            limited.learn_failure(0.01, now)
    assert expect(limited, now) > 5 * expect(healthy, now)


def test_a_failure_among_many_answers_costs_its_share() -> None:
    live, now = steady(0.3)
    live.learn_failure(0.01, now)
    assert expect(live, now) == pytest.approx(0.3 + 5 / 20, rel=0.1)
    live.learn_failure(30.0, now)
    assert expect(live, now) > 1.5, "one that ran out of time counts for what it took"


def test_failures_teach_nothing_of_a_model_but_that_it_fails() -> None:
    live = Live()
    for step in range(20):
        live.learn_failure(0.01, step / 10)
    found = live.expect(0, True, PRIOR, 2.0)
    assert found.ttft == pytest.approx(0.6 + 5.0, rel=0.1)
    assert found.samples == 0
    assert expect(live, 100.0) == pytest.approx(0.6, rel=0.01)


def test_more_calls_in_flight_than_usual_make_it_slower() -> None:
    live, now = steady(0.2)
    flights = [fly(live, now) for _ in range(30)]
    assert expect(live, now) == pytest.approx(0.2 * 10, rel=0.1)
    for flight in flights:
        flight.ended()
    assert expect(live, now) == pytest.approx(0.2, rel=0.1)


def test_a_model_that_is_quick_with_many_calls_in_flight_has_room_for_them() -> None:
    live, now = steady(0.2)
    for _ in range(40):
        expect(live, now)
        flights = [fly(live, now) for _ in range(30)]
        now += 0.2
        for flight in flights:
            flight.first(now)
            flight.ended()
    flights = [fly(live, now) for _ in range(30)]
    assert expect(live, now) == pytest.approx(0.2, rel=0.2)


def test_pace_is_learned_from_streams() -> None:
    live = Live()
    flight = fly(live, 0.0)
    flight.first(0.5)
    flight.done(100, 1.0)
    assert live.expect(0, True, PRIOR, 1.0).pace == pytest.approx(0.005, rel=0.15)
    short = fly(live, 1.0)
    short.first(1.5)
    short.done(2, 9.0)
    assert live.expect(0, True, PRIOR, 9.0).pace == pytest.approx(0.005, rel=0.15), "two tokens say nothing"


@given(st.floats(1e-3, 1e3), st.integers(0, 10_000), st.floats(1e-3, 10), st.floats(1e-4, 1))
def test_the_parts_of_a_whole_answer_add_up(seconds: float, tokens: int, ttft: float, pace: float) -> None:
    first, each = split(seconds, tokens, ttft, pace)
    assert first > 0
    if each is not None:
        assert first + tokens * each == pytest.approx(seconds)
    elif seconds * 0.9 > tokens * pace:
        assert first + tokens * pace == pytest.approx(seconds)


def test_whole_answers_of_different_lengths_teach_both_parts() -> None:
    live, now, chance = Live(), 0.0, Random(3)
    for _ in range(600):
        now += 0.5
        tokens = chance.choice((5, 20, 200, 600))
        live.learn_whole(0, (0.2 + 0.002 * tokens) * chance.uniform(0.9, 1.1), tokens, PRIOR, now)
    found = live.expect(0, False, PRIOR, now)
    for tokens in (5, 200, 600):
        assert found.ttft + tokens * found.pace == pytest.approx(0.2 + 0.002 * tokens, rel=0.35)


def test_replicas_share_what_they_learn_once() -> None:
    mine, theirs = Latency(), Latency()
    for step in range(30):
        mine.of("m").learn_first(1, True, 0.2, step / 10)
        mine.of("m").learn_pace(1.0, 200, step / 10)
    mine.of("m").learn_failure(0.1, 3.0)
    told = json.loads(json.dumps(mine.export(3.0)))
    assert len(json.dumps(told)) < 300
    theirs.merge(told, 100.0)
    found = theirs.of("m").expect(1, True, PRIOR, 100.0)
    assert found.ttft == pytest.approx(mine.of("m").expect(1, True, PRIOR, 3.0).ttft, rel=0.2)
    assert found.pace == pytest.approx(0.005, rel=0.15)
    assert theirs.export(100.0)["models"] == {}
    assert mine.export(4.0)["models"] == {}


def test_what_another_version_tells_is_left_alone() -> None:
    latency = Latency()
    latency.merge({"version": 99, "models": {"m": "who knows"}}, 0.0)
    assert latency.export(0.0)["models"] == {}


def test_a_stall_that_one_replica_saw_is_known_to_the_others() -> None:
    mine, theirs = Latency(), Latency()
    for latency in (mine, theirs):
        for step in range(30):
            latency.of("m").learn_first(0, True, 0.2, step / 10)
    mine.export(3.0)
    for _ in range(3):
        mine.of("m").learn_first(0, True, 4.0, 3.0)
    theirs.merge(mine.export(3.0), 3.0)
    assert expect(theirs.of("m"), 3.0) > 3


Step = st.tuples(st.sampled_from(["first", "failed", "done", "ended", "start", "merge"]), st.floats(0, 100))


@given(st.lists(Step, max_size=60), st.integers(0, 4), st.booleans())
def test_whatever_happens_expectations_are_sane(steps: list[tuple[str, float]], size: int, stream: bool) -> None:
    latency, other, now = Latency(), Latency(), 0.0
    live = latency.of("m")
    flights: list[Flight] = []
    for what, gap in steps:
        now += gap
        if what == "merge":
            other.merge(latency.export(now), now)
            latency.merge(other.export(now), now)
        elif what == "start" or not flights:
            flights.append(live.started(size, stream, PRIOR, 1.0, now))
        else:
            flight = flights.pop(0)
            end(flight, what, now)
            flight.ended()
        for each in (live, other.of("m")):
            found = each.expect(size, stream, PRIOR, now)
            assert 0 < found.ttft <= found.ttft_p95 < inf
            assert 0 < found.pace < inf
            assert 0 <= found.samples <= 200
    for flight in flights:
        flight.ended()
    assert live.in_flight == 0
