"""As the route lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from providers.types import Call
from routing.outlook import Option


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidates in the order in which the route lists them."""

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        return options

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        return [{"place": float(place)} for place, _ in enumerate(options, start=1)]
