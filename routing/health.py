"""What is known of each model's health, read locally and at once; never awaited on the way of a call.

The protocol is what routing reads and tells. The form here lives in one process; another may tell its peers, too.
"""

from __future__ import annotations

from typing import Protocol

from providers.errors import RateLimited
from routing.retry import PATIENCE_SECONDS
from routing.target import Attempt


class Health(Protocol):
    def rests(self, model: str, now: float) -> float:
        """Seconds for which the model wants to be left alone; 0 when it is ready. `now` is monotonic."""

    def learn(self, attempt: Attempt, now: float) -> None:
        """Takes in the outcome of an attempt."""


class LocalHealth:
    """A model that asked for a longer rest than a call would wait gets it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def rests(self, model: str, now: float) -> float:
        until = self._until.get(model)
        return max(0.0, until - now) if until is not None else 0.0

    def learn(self, attempt: Attempt, now: float) -> None:
        error = attempt.error
        if error is None:
            if self._until:
                self._until.pop(attempt.model.name, None)
        elif isinstance(error, RateLimited) and (error.retry_after or 0.0) > PATIENCE_SECONDS:
            until = now + (error.retry_after or 0.0)
            self._until[attempt.model.name] = max(until, self._until.get(attempt.model.name, 0.0))
