"""The one that is there first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from providers.types import Call
from routing.outlook import Option
from routing.policies import _equals
from routing.policies._equals import NEAR, UNTIL, Until


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidate first that is expected to take the least time.

    `latency` is what is waited for: `first_token`, `answer`, or `auto`, the first token where the answer is streamed.
    Of those within 10 % of the fastest two are drawn, and the one with less to do is tried first; a conversation stays
    with the one that has it in its cache. `explore` is the share of calls that first go to a candidate of which little
    is known, one at a time and none of a conversation that is in a cache.
    """

    latency: Until = "auto"
    explore: float = 0.02

    def __post_init__(self) -> None:
        _equals.number("explore", self.explore, most=1.0)
        _equals.word("latency", self.latency, UNTIL)

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        if not options:
            return options
        seconds = _equals.soon(call, options, self.latency)
        order = sorted(range(len(options)), key=seconds.__getitem__)
        near = seconds[order[0]] * (1 + NEAR)
        first = _equals.one_of([options[place] for place in order if seconds[place] <= near], draw)
        first = _equals.explore(self.explore, first, options, draw)
        return _equals.ahead(first, [options[place] for place in order])

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        return [{"seconds": seconds} for seconds in _equals.soon(call, options, self.latency)]
