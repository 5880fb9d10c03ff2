"""The one with the fewest calls in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from providers.types import Call
from routing.outlook import Option
from routing.policies import _equals


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidate first that has fewer calls in flight, of two that are drawn; then the others by their load.

    Two are enough (power of two choices), and replicas that do not know of each other's calls do not all choose the
    same. For servers of one's own that work off a queue; what a vendor serves does not get slower by our calls.
    """

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        if len(options) < 2:
            return options
        first = min(draw.sample(options, 2), key=_load)
        return _equals.ahead(first, sorted(options, key=_load))

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        return [{"in_flight": float(option.in_flight)} for option in options]


def _load(option: Option) -> int:
    return option.in_flight
