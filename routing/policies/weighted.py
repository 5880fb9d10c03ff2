"""Shares of the traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log
from random import Random

from providers.types import Call
from routing.outlook import Option
from routing.policies import _equals


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries each candidate first as often as its share of `weights` says: `{mercury: 90, claude-haiku: 10}`.

    Weights are ratios and need not add up to anything. Each call is drawn by itself, so that the shares hold behind any
    number of replicas; those behind the first are drawn by their weights, too. A candidate of weight 0, or without one,
    is drained: it gets a call only when all others have failed. Without any weights all candidates have equal shares.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _equals.ratios("weights", self.weights)

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        # The first of exponential clocks that run at these rates: Efraimidis and Spirakis, 2006.
        clocks = [-log(1 - draw.random()) / weight if weight else inf for weight in self._weights(options)]
        return [options[place] for place in sorted(range(len(options)), key=clocks.__getitem__)]

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        weights = self._weights(options)
        total = sum(weights) or 1.0
        return [{"share": weight / total} for weight in weights]

    def _weights(self, options: Sequence[Option]) -> list[float]:
        if not self.weights:
            return [1.0] * len(options)
        return [self.weights.get(option.name, 0.0) for option in options]
