"""Positive numbers as they come: their quantiles of late, and their latest peak, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log

TAU_SECONDS = 10.0
"""Within which a peak is forgotten: Finagle's decay time."""
WINDOW_SECONDS = 60.0
WINDOW_SAMPLES = 100.0
"""After as long, or after as many more, a sample counts for 1/e."""
LEAST_WEIGHT = 0.05
"""Of the latest sample in a mean, however thick they come."""
PRIOR_SAMPLES = 0.1
"""What is known beforehand counts for as many: it is a guess, where samples are the thing itself."""
PRIOR_SPREAD_SAMPLES = 10.0
"""The same for the tail, of which a few samples say little."""

MOST_SPREAD = 2.0
"""Over the median, of what is nothing unusual: a tail that grows is to be noticed before it becomes the median."""

_PER_E, _BINS = 8.0, 96
"""Bins to a factor of e, each 13 % wide; the last begins at 144,000 times the least."""
_HEAVY = 1e9


def newest(since: float) -> float:
    """The weight of a sample in a mean that forgets, so many seconds after the one before."""
    return max(1 - exp(-since / TAU_SECONDS), LEAST_WEIGHT)


class Track:
    """A histogram of equal ratios, in which each sample weighs more than the one before: the past fades untouched."""

    __slots__ = (
        *("_bins", "_total", "_weight", "_marks", "_below", "_median", "_spread"),
        *("_before", "_last", "_least", "_news", "_peak"),
    )

    def __init__(self, least: float) -> None:
        self._least = least
        self._bins = [0.0] * _BINS
        self._total = 0.0
        self._weight = 1.0
        """Of the latest sample."""
        self._marks = [0, 0]
        """The bins in which the median and the 95th percentile were when they were last asked for."""
        self._below = [0.0, 0.0]
        """The weight below each of them."""
        self._median = self._spread = 0.0
        """As they were last worked out; 0 where they are to be again."""
        self._last = -inf
        self._before = 0.0
        """The latest sample."""
        self._peak = 0.0
        self._news: dict[int, int] = {}
        """Samples in each bin since the last export."""

    def learn(self, value: float, took: float, now: float) -> None:
        """`took` is for how many seconds it came about."""
        index = 0
        if value > self._least:
            index = int(log(value / self._least) * _PER_E)
            if index >= _BINS:
                index = _BINS - 1
        news = self._news
        news[index] = news.get(index, 0) + 1
        since = self._add(index, 1, now)
        before, self._before = self._before, value
        # A large one while which a small one came is the tail; two in a row, or one alone, are a change.
        self._climb(before if before < value and since < took else value, since)

    def read(
        self, prior: float, prior_spread: float, now: float, held: bool = False
    ) -> tuple[float, float, float, float]:
        """What to expect, given what was expected before the first sample; back to that as the samples age.

        The median, the 95th percentile over the median, how far the peak exceeds what is nothing unusual, and the
        samples it rests on. Where it is `held`, the peak is what it was at the latest sample.
        """
        if not self._total:
            return prior, prior_spread, 0.0, 0.0
        median = self._median
        if not median:
            median = self._median = self._quantile(0, 0.5)
            self._spread = self._quantile(1, 0.95) / median
        age = now - self._last
        samples = self._total / self._weight
        if age > 0:
            samples *= exp(-age / WINDOW_SECONDS)
        usual = prior + (median - prior) * (samples / (samples + PRIOR_SAMPLES))
        spread = prior_spread + (self._spread - prior_spread) * (samples / (samples + PRIOR_SPREAD_SAMPLES))
        excess = self._peak - usual * min(spread, MOST_SPREAD)
        if excess <= 0:
            return usual, spread, 0.0, samples
        return usual, spread, excess if held or age <= 0 else excess * exp(-age / TAU_SECONDS), samples

    def export(self, now: float) -> list[float] | None:
        """What was learned since the last export: the peak, its age, and each bin with its samples."""
        if not self._news:
            return None
        told = [round(self._peak, 6), round(now - self._last, 3)]
        for pair in self._news.items():
            told += pair
        self._news = {}
        return told

    def merge(self, told: Sequence[float], now: float) -> None:
        """Takes in another's export. It is not exported again."""
        peak, age, *pairs = told
        since = max(0.0, now - age - self._last)
        for index, samples in zip(pairs[::2], pairs[1::2], strict=True):
            self._add(int(index), int(samples), now - age)
        self._climb(peak, since)

    def _add(self, index: int, samples: int, now: float) -> float:
        """Seconds since the sample before."""
        since = now - self._last
        if since < 0:
            since = 0.0
        else:
            self._last = now
        # More than 20 is the same, and no overflow.
        self._weight *= exp(min(since / WINDOW_SECONDS + samples / WINDOW_SAMPLES, 20.0))
        if self._weight > _HEAVY:
            self._lighten()
        weight = self._weight * samples
        self._bins[index] += weight
        self._total += weight
        self._median = 0.0
        marks, below = self._marks, self._below
        if index < marks[0]:
            below[0] += weight
        if index < marks[1]:
            below[1] += weight
        return since

    def _lighten(self) -> None:
        self._bins = [each / self._weight for each in self._bins]
        self._total = sum(self._bins)
        self._below = [sum(self._bins[:mark]) for mark in self._marks]
        self._weight = 1.0

    def _climb(self, value: float, since: float) -> None:
        if value >= self._peak:
            self._peak = value
        else:
            self._peak += (value - self._peak) * newest(since)

    def _quantile(self, which: int, share: float) -> float:
        bins, mark, below = self._bins, self._marks[which], self._below[which]
        wanted = self._total * share
        while below > wanted and mark:
            mark -= 1
            below -= bins[mark]
        while below + bins[mark] < wanted and mark < _BINS - 1:
            below += bins[mark]
            mark += 1
        self._marks[which], self._below[which] = mark, below
        within = (wanted - below) / bins[mark] if bins[mark] else 0.5
        return self._least * exp((mark + min(max(within, 0.0), 1.0)) / _PER_E)
