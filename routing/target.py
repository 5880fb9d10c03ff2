"""A place a call can go to, and what came of going there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from providers.abilities import missing
from providers.base import Endpoint
from providers.errors import TalariaError
from providers.types import Call, Model, Tally


@dataclass(frozen=True, slots=True)
class Target:
    """A configured model together with the vendor that serves it."""

    model: Model
    endpoints: Mapping[str, Endpoint]
    """By operation."""

    @property
    def name(self) -> str:
        return self.model.name

    def lacks(self, call: Call) -> Mapping[str, str]:
        """The abilities that the call needs and the model has not, each with the parameter that asks for it.

        An operation that it does not serve is the first of them.
        """
        if call.operation not in self.endpoints:
            return {call.operation: "model"}
        return missing(call, self.model)


@dataclass(slots=True)
class Attempt:
    """One try at one target; told to listeners when its outcome is known."""

    model: Model
    started: float
    """Monotonic seconds."""
    seconds: float = 0.0
    """Until the whole answer, or the first content-bearing event of a stream, or the failure."""
    waited: float = 0.0
    """The part of it that was spent waiting for the vendor."""
    error: TalariaError | None = None
    cancelled: bool = False
    tally: Tally | None = None
    """What an attempt that failed on the way had already received, if anything."""
