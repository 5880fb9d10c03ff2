"""The best compromise between quality, latency and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from providers.types import Call
from routing.outlook import Option
from routing.policies import _equals
from routing.policies._equals import NEAR, UNTIL, Until

PARTS = ("quality", "latency", "cost")
LEAST_RATIO, MOST_RATIO = 2.0, 10.0
LEAST_QUALITY = 0.2
_NOTHING = 1e-12

Scale = tuple[float, float]
"""The value that is worth nothing, and the weighted worth of each unit that another is better."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidate with the highest score first.

    Each candidate gets a part for its quality at the task, its expected latency and its expected cost: 1 if it is the
    best of all candidates in that, 0 if it is the worst, and in between in proportion. The score is the mean of the
    parts by `weights`; only their ratios matter, and a part that is left out counts for nothing. An unpriced candidate
    gets no part for its cost.

    Parts are relative, so a score says nothing across routes, and another candidate can change those of all. Two rules
    keep that within bounds. Differences are not blown up: the worst gets 0 only if it takes or costs twice the best, or
    is 0.2 below it in quality; closer ones get in proportion more. And outliers do not press the others together: ten
    times the best is worth 0, as is all beyond.

    Candidates whose quality is below `floor: {quality: ...}` come behind all others, the best of them first, and do not
    influence the scores.

    Of those within 10 % of the highest score two are drawn, and the one with less to do is tried first; a conversation
    stays with the one that has it in its cache. `latency` is what is waited for: the first token, the whole answer, or
    `auto`: the first token where the answer is streamed. `explore` is the share of calls that first go to a candidate
    of which little is known, one at a time and none of a conversation that is in a cache.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"quality": 0.5, "latency": 0.25, "cost": 0.25})
    floor: Mapping[str, float] | None = None
    explore: float = 0.02
    latency: Until = "auto"
    _least: float = field(init=False, repr=False, compare=False)
    _shares: tuple[float, float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        weights = _equals.ratios("weights", self.weights)
        if not weights or not set(weights) <= set(PARTS):
            raise ValueError(
                f"weights: some of {', '.join(PARTS)} are expected, not {', '.join(map(str, weights)) or 'none'}"
            )
        _equals.number("explore", self.explore, most=1.0)
        _equals.word("latency", self.latency, UNTIL)
        total = sum(weights.values())
        quality, latency, cost = (weights.get(part, 0.0) / total for part in PARTS)
        object.__setattr__(self, "_least", _equals.floor(self.floor))
        object.__setattr__(self, "_shares", (quality, latency, cost))

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        good, poor = _equals.parted(options, self._least)
        if not good:
            return poor
        seconds = _equals.soon(call, good, self.latency)
        (low, each), (slow, saved), (dear, cheaper) = self._scales(good, seconds)
        scores = [
            (option.quality - low) * each
            + ((slow - soon) * saved if soon < slow else 0.0)
            + ((dear - cost) * cheaper if (cost := option.cost) is not None and cost < dear else 0.0)
            for option, soon in zip(good, seconds, strict=True)
        ]
        order = sorted(range(len(good)), key=scores.__getitem__, reverse=True)
        near = scores[order[0]] * (1 - NEAR)
        first = _equals.one_of([good[place] for place in order if scores[place] >= near], draw)
        first = _equals.explore(self.explore, first, good, draw)
        return [*_equals.ahead(first, [good[place] for place in order]), *poor]

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        """The weighted parts and the score that they add up to; nothing for those below the floor."""
        good, _ = _equals.parted(options, self._least)
        seconds = _equals.soon(call, options, self.latency)
        (low, each), (slow, saved), (dear, cheaper) = self._scales(good, _equals.soon(call, good, self.latency))
        found = []
        for option, soon in zip(options, seconds, strict=True):
            parts = (0.0, 0.0, 0.0)
            if option.quality >= self._least:
                cost = dear if option.cost is None else option.cost
                parts = (option.quality - low) * each, max(0.0, slow - soon) * saved, max(0.0, dear - cost) * cheaper
            found.append({**dict(zip(PARTS, parts, strict=True)), "score": sum(parts)})
        return found

    def _scales(self, options: Sequence[Option], seconds: Sequence[float]) -> tuple[Scale, Scale, Scale]:
        quality, latency, cost = self._shares
        qualities = sorted([option.quality for option in options]) or [0.0]
        low = min(qualities[0], qualities[-1] - LEAST_QUALITY)
        costs = [option.cost for option in options if option.cost is not None]
        return (low, quality / (qualities[-1] - low)), _scale(seconds, latency), _scale(costs, cost)


def _scale(values: Sequence[float], weight: float) -> Scale:
    """For values of which less is better."""
    if not values:
        return 0.0, 0.0
    in_order = sorted(values)
    best, worst = in_order[0], in_order[-1]
    if best > _NOTHING:
        worst = min(max(worst, LEAST_RATIO * best), MOST_RATIO * best)
    elif worst <= _NOTHING:
        worst = 1.0
    return worst, weight / (worst - best)
