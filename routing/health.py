"""What is known of each model's health, read locally and at once; never awaited on the way of a call.

The protocol is what routing reads and tells. The form here lives in one process; another may tell its peers, too.
"""

from __future__ import annotations

from typing import Protocol

from providers.errors import CredentialsRejected, ProviderError, QuotaExhausted
from routing.retry import PATIENCE_SECONDS
from routing.target import Attempt

REJECTED_SECONDS = 60.0
"""The rest of a model whose vendor rejects our key or account: an operator must mend it."""

LONGEST_SECONDS = 3600.0


class Health(Protocol):
    def rests(self, model: str, now: float) -> float:
        """Seconds for which the model wants to be left alone; 0 when it is ready. `now` is monotonic."""

    def learn(self, attempt: Attempt, now: float) -> None:
        """Takes in the outcome of an attempt."""


class LocalHealth:
    """A model gets the rest it asked for where a call would not wait that long, and where its vendor rejects us."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def rests(self, model: str, now: float) -> float:
        until = self._until.get(model)
        return max(0.0, until - now) if until is not None else 0.0

    def learn(self, attempt: Attempt, now: float) -> None:
        name, error = attempt.model.name, attempt.error
        if attempt.cancelled:
            return
        if error is None:
            if self._until:
                self._until.pop(name, None)
        elif isinstance(error, ProviderError):
            rest = error.retry_after or 0.0
            if isinstance(error, (CredentialsRejected, QuotaExhausted)):
                rest = max(rest, REJECTED_SECONDS)
            if rest > PATIENCE_SECONDS:
                self._until[name] = max(now + min(rest, LONGEST_SECONDS), self._until.get(name, 0.0))
