"""As the route lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from providers.types import Call
from routing.target import Target


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidates in the order in which the route lists them."""

    def rank(self, call: Call, targets: Sequence[Target]) -> Sequence[Target]:
        return targets
