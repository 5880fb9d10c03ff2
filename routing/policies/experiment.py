"""Arms that are compared: each unit of the traffic always gets the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from random import Random
from typing import Any

from providers.types import Call
from routing import origin
from routing.outlook import Option
from routing.policies import _equals
from routing.policies._hash import fraction


@dataclass(frozen=True, slots=True)
class Policy:
    """Divides the traffic among `arms` and tries the candidates of a call's arm first, in the order in which it lists
    them; the others come behind, so that an experiment never costs an answer.

        arms: {control: {candidates: [claude-haiku], weight: 90}, treatment: {candidates: [mercury], weight: 10}}

    Weights are ratios; an arm without one has 1, and one of 0 gets nobody. What is assigned is a `unit`:
    `conversation`, `user`, `key`, `request`, or the name of a tag. It is hashed together with `salt`, so that it gets
    the same arm every time and everywhere; another salt makes a new assignment. When a weight changes, only as many
    move as must. Calls without the unit are in no arm: they go as the route lists the candidates, and do not count.
    """

    arms: Mapping[str, Mapping[str, Any]]
    unit: str = origin.CONVERSATION
    salt: str = ""
    _weights: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.arms, Mapping) or not self.arms:
            raise ValueError(f"arms: a mapping of names to arms is expected, not {self.arms!r}")
        for name, arm in self.arms.items():
            if (
                not isinstance(name, str)
                or not isinstance(arm, Mapping)
                or not {"candidates"} <= set(arm) <= {"candidates", "weight"}
            ):
                raise ValueError(f"arms.{name}: {{candidates: [...], weight: ...}} is expected, not {arm!r}")
            names = arm["candidates"]
            if not isinstance(names, (list, tuple)) or not names or not all(isinstance(each, str) for each in names):
                raise ValueError(f"arms.{name}.candidates: a list of models is expected, not {names!r}")
        if not isinstance(self.unit, str) or not self.unit:
            raise ValueError(
                f"unit: one of {', '.join(origin.WORDS)} or the name of a tag is expected, not {self.unit!r}"
            )
        if not isinstance(self.salt, str):
            raise ValueError(f"salt: a text is expected, not {self.salt!r}")
        weights = {name: _equals.number(f"arms.{name}.weight", arm.get("weight", 1)) for name, arm in self.arms.items()}
        if not any(weights.values()):
            raise ValueError("arms: one weight at least must be above 0")
        object.__setattr__(self, "_weights", weights)

    def arm(self, call: Call) -> str | None:
        """The arm that a call is in; None where it has no unit."""
        value = origin.value(call, self.unit)
        if value is None:
            return None
        # Rendezvous hashing with weights: the first of exponential clocks that run at these rates.
        salted = self.salt.encode() + b"\0" + value
        clocks = {name: -log(fraction(salted, name)) / weight for name, weight in self._weights.items() if weight}
        return min(clocks, key=clocks.__getitem__)

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        arm = self.arm(call)
        if arm is None:
            return options
        places = {name: place for place, name in enumerate(self.arms[arm]["candidates"])}
        return sorted(options, key=lambda option: places.get(option.name, len(places)))

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        """1 for those of the call's arm."""
        arm = self.arm(call)
        own = () if arm is None else self.arms[arm]["candidates"]
        return [{"arm": float(option.name in own)} for option in options]
