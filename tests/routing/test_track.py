"""Quantiles and peaks of numbers as they come."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.track import Track, newest

TIMES = st.floats(min_value=1e-6, max_value=1e6)


def learned(values: list[float], gap: float = 0.1, start: float = 0.0) -> tuple[Track, float]:
    track, now = Track(1e-3), start
    for value in values:
        now += gap
        track.learn(value, value, now)
    return track, now


def test_without_samples_there_is_what_was_known_before() -> None:
    assert Track(1e-3).read(0.6, 2.0, 100.0) == (0.6, 2.0, 0.0, 0.0)


def test_quantiles_are_those_of_the_samples_within_a_bin() -> None:
    chance = Random(1)
    values = [chance.lognormvariate(-1, 0.6) for _ in range(5000)]
    track, now = learned(values, gap=0.01)
    usual, spread, _, samples = track.read(9.0, 9.0, now)
    assert usual == pytest.approx(math.exp(-1), rel=0.15)
    assert usual * spread == pytest.approx(math.exp(-1 + 1.645 * 0.6), rel=0.35)
    assert samples == pytest.approx(100, rel=0.1)


def test_the_latest_hundred_samples_count_most() -> None:
    track, now = learned([0.1] * 1000 + [1.0] * 150)
    assert track.read(0.5, 2.0, now)[0] == pytest.approx(1.0, rel=0.15)


def test_samples_age_until_only_the_prior_is_left() -> None:
    track, now = learned([3.0] * 200)
    read = [track.read(0.3, 2.0, now + seconds)[0] for seconds in (0, 60, 300, 450, 900, 3600)]
    assert read == sorted(read, reverse=True)
    assert read[0] == pytest.approx(3.0, rel=0.1)
    assert read[1] == pytest.approx(3.0, rel=0.1)
    assert read[-1] == pytest.approx(0.3, rel=0.01)


def test_what_is_slow_while_others_are_quick_is_no_news_but_two_in_a_row_are() -> None:
    track, now = learned([0.2] * 50)
    track.learn(2.0, 2.0, now + 0.1)
    assert track.read(0.2, 2.0, now + 0.1)[2] == 0.0
    track.learn(2.0, 2.0, now + 0.2)
    assert track.read(0.2, 2.0, now + 0.2)[2] == pytest.approx(1.6, rel=0.1)


def test_what_is_slow_while_nothing_else_came_is_news() -> None:
    track, now = learned([0.2] * 50)
    track.learn(2.0, 2.0, now + 2.5)
    assert track.read(0.2, 2.0, now + 2.5)[2] == pytest.approx(1.6, rel=0.1)


def test_a_peak_passes_with_time_unless_it_is_held() -> None:
    track, now = learned([0.2] * 50 + [2.0] * 2)
    at_once = track.read(0.2, 2.0, now)[2]
    assert track.read(0.2, 2.0, now + 10)[2] == pytest.approx(at_once / math.e, rel=0.01)
    assert track.read(0.2, 2.0, now + 10, held=True)[2] == pytest.approx(at_once, rel=0.01)


def test_a_peak_passes_with_quick_answers() -> None:
    track, now = learned([0.2] * 50 + [2.0] * 2 + [0.2] * 80, gap=0.001)
    assert track.read(0.2, 2.0, now)[2] == 0.0


def test_a_tail_that_grows_is_noticed_before_it_is_the_median() -> None:
    track, now = learned([0.2] * 100 + [2.0] * 20)
    usual, _, excess, _ = track.read(0.2, 2.0, now)
    assert usual == pytest.approx(0.2, rel=0.15)
    assert usual + excess > 1.5


def test_values_beyond_the_bins_do_no_harm() -> None:
    track, now = learned([1e-9, 0.0, 1e9])
    usual, spread, excess, samples = track.read(0.5, 2.0, now)
    assert 0 < usual < 1e3
    assert spread >= 1
    assert math.isfinite(excess)
    assert samples > 2


def test_what_one_learned_another_knows_after_a_merge_and_does_not_tell_again() -> None:
    mine, now = learned([0.2] * 50 + [1.0] * 60)
    theirs = Track(1e-3)
    theirs.merge(mine.export(now) or [], now)
    assert theirs.read(0.5, 2.0, now)[0] == pytest.approx(mine.read(0.5, 2.0, now)[0], rel=0.3)
    assert theirs.export(now) is None
    assert mine.export(now) is None


def test_a_merged_peak_is_a_peak() -> None:
    mine, now = learned([0.2] * 50)
    theirs, _ = learned([0.2] * 50)
    mine.export(now)
    for _ in range(3):
        mine.learn(3.0, 3.0, now)
    theirs.merge(mine.export(now) or [], now)
    assert theirs.read(0.2, 2.0, now)[2] > 2


@given(st.lists(st.tuples(TIMES, st.floats(0, 1e5)), max_size=60), TIMES, st.floats(0, 1e6))
def test_estimates_are_between_what_was_known_and_what_was_seen(
    samples: list[tuple[float, float]], prior: float, later: float
) -> None:
    track, now = Track(1e-3), 0.0
    for value, gap in samples:
        now += gap
        track.learn(value, value, now)
    usual, spread, excess, count = track.read(prior, 2.0, now + later)
    seen = [min(max(value, 1e-3), 1.7e2) for value, _ in samples]
    assert min([prior, *seen]) * 0.8 <= usual <= max([prior, *seen]) * 1.2
    assert spread >= 1
    assert 0 <= excess <= max([0.0, *(value for value, _ in samples)])
    assert 0 <= count <= 101


@given(st.lists(TIMES, min_size=1, max_size=40), st.floats(1, 100))
def test_slower_samples_never_look_quicker(values: list[float], factor: float) -> None:
    quick, now = learned(values)
    slow, _ = learned([value * factor for value in values])
    assert slow.read(1.0, 2.0, now)[0] >= quick.read(1.0, 2.0, now)[0] * 0.999


@given(st.floats(0, 1e9))
def test_the_newest_sample_always_has_weight(since: float) -> None:
    assert 0.05 <= newest(since) <= 1
