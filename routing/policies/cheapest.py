"""The lowest cost first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

from providers.types import Call
from routing.outlook import Option
from routing.policies import _equals


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidate first that is expected to cost the least for this call; unpriced ones come last.

    The cost is that of the whole call: the length of the prompt, the length that answers of that model to such a task
    have, reasoning included, and what of a conversation the vendor still has in its cache. Candidates whose quality is
    below `floor: {quality: ...}` come behind all others, the best of them first.
    """

    floor: Mapping[str, float] | None = None
    _least: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_least", _equals.floor(self.floor))

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        good, poor = _equals.parted(options, self._least)
        return [*sorted(good, key=_cost), *poor]

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        """Dollars; nothing for the unpriced."""
        return [{} if option.cost is None else {"dollars": option.cost} for option in options]


def _cost(option: Option) -> float:
    return inf if option.cost is None else option.cost
