"""The lowest price first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from providers.types import Call
from routing.target import Target

UNPRICED = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the candidate with the lowest price for one input and one output token first; unpriced ones last."""

    def rank(self, call: Call, targets: Sequence[Target]) -> Sequence[Target]:
        return sorted(targets, key=_price)


def _price(target: Target) -> Decimal:
    prices = target.model.card.prices
    if prices.input is None or prices.output is None:
        return UNPRICED
    return prices.input + prices.output
