"""The settled record: what came of a call, told once at its end to all who listen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from gateway.errors import Face, face
from gateway.length import CHARS_PER_TOKEN, text_chars
from providers.catalog import cost, prices_on
from providers.types import Call, Card, Tally, Usage
from routing.latency_class import LatencyClass
from routing.router import Journey
from routing.target import Attempt

USUAL_OUTPUT = {"completions": 16, "fim": 512}
"""The most tokens of an answer for whose length the caller set no limit, where the operation has one."""


@dataclass(slots=True)
class Record:
    """Filled while the call is served; `settle` works out the rest. Times are monotonic seconds."""

    id: str
    started: float
    started_unix: float = field(default_factory=time.time)
    call: Call | None = None
    """None where the request was refused before it could be read."""
    latency_class: str = "none"
    use_case: str = "other"
    aim: LatencyClass | None = None
    """What the latency class asks for."""
    deciding_seconds: float = 0.0
    """Spent on finding its task, its route and its plan."""
    journey: Journey | None = None
    tally: Tally | None = None
    """Of the answer that the caller got, whole or in part."""
    error: BaseException | None = None
    cancelled: bool = False
    answered: float | None = None
    """When the answer, or its first content-bearing event, was there."""
    stall_seconds: float = 0.0
    """The largest gap between two parts of the stream."""
    ended: float = 0.0

    usage: Usage = field(default_factory=Usage)
    estimated: bool = False
    cost: Decimal | None = None
    """Dollars; None where a price is missing."""

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def first_token_seconds(self) -> float | None:
        return None if self.answered is None else self.answered - self.started

    @property
    def overhead_seconds(self) -> float:
        """The gateway's own part of the time until the answer or its first event, or until the failure."""
        before, _, after = self.phases
        return before + after

    @property
    def phases(self) -> tuple[float, float, float]:
        """Until the answer, its first event or the failure: before the first try, waiting for vendors, and the rest."""
        spent = (self.answered or self.ended) - self.started
        journey = self.journey
        if journey is None or not journey.attempts:
            return spent, 0.0, 0.0
        before, waited = journey.attempts[0].started - self.started, journey.upstream_seconds
        return before, waited, max(0.0, spent - before - waited)

    def price(self, usage: Usage, card: Card) -> Decimal | None:
        """The dollars that `usage` costs, by the prices of the day on which the call came."""
        if usage is not self.usage or self.cost is None:
            day = datetime.fromtimestamp(self.started_unix, UTC).date() if card.dated else None
            self.usage, self.cost = usage, cost(usage, card.prices if day is None else prices_on(card, day))
        return self.cost

    @property
    def prompt(self) -> str | None:
        """Name and version of the prompt that the answer was asked for with."""
        return None if self.tally is None else self.tally.prompt

    @property
    def kept(self) -> bool | None:
        """Whether the target of the latency class was kept.

        None where there is none or it cannot be told: the caller left or was refused, or the target is on the first
        token and the answer came whole.
        """
        aim, found = self.aim, self.face
        if aim is None or aim.target is None or self.cancelled or self.call is None:
            return None
        if found is not None:
            return None if found.outcome in ("caller_error", "policy") else False
        if aim.target_of == "answer":
            return self.seconds <= aim.target
        return None if self.answered is None or not self.call.stream else self.answered - self.started <= aim.target

    @property
    def face(self) -> Face | None:
        return None if self.error is None else face(self.error)

    @property
    def status(self) -> int:
        """What came of it as an HTTP status; 499 where the caller left."""
        found = self.face
        return 499 if self.cancelled else 200 if found is None else found.status

    @property
    def outcome(self) -> str:
        """ok, cancelled, caller_error, policy, upstream_error or internal."""
        if self.cancelled:
            return "cancelled"
        found = self.face
        return "ok" if found is None else found.outcome


Listener = Callable[[Record], None]


def settle(record: Record) -> None:
    """Works out usage and cost: what the vendor billed where it said so, an estimate marked as such where not."""
    record.ended = time.monotonic()
    journey = record.journey
    served = journey.served if journey else None
    if served is None or record.call is None:
        _settle_unserved(record)
        return
    tally = record.tally
    broken = record.error is not None or record.cancelled
    if tally is not None and tally.usage is not None and (tally.finish is not None or not broken):
        usage = tally.usage
    else:
        usage, record.estimated = estimate(record.call, tally), True
    record.price(usage, served.model.card)


def _settle_unserved(record: Record) -> None:
    """A caller who left while a vendor was at work has that vendor's bill all the same."""
    journey = record.journey
    if record.call is None or journey is None or not journey.attempts or not journey.attempts[-1].cancelled:
        return
    last = journey.attempts[-1]
    usage, record.estimated = estimate(record.call, last.tally), True
    if not record.call.stream:
        usage.output = _written_meanwhile(record.call, last)
    record.price(usage, last.model.card)


def _written_meanwhile(call: Call, attempt: Attempt) -> int:
    """Tokens of an answer that nobody has seen any of: by the time it had, and the speed the model is known for."""
    card = attempt.model.card
    seconds = attempt.seconds - (card.ttft_ms or 0.0) / 1000
    if seconds <= 0 or not card.tokens_per_second:
        return 0
    asked = call.body.get("max_completion_tokens") or call.body.get("max_tokens") or USUAL_OUTPUT.get(call.operation)
    limits = (asked, card.max_output)
    most = min((limit for limit in limits if limit), default=None)
    written = round(seconds * card.tokens_per_second)
    return written if most is None else min(written, most)


def estimate(call: Call, tally: Tally | None) -> Usage:
    """Tokens of an answer that broke off, or whose vendor did not count: by the characters that went each way."""
    stated = tally.usage if tally else None
    output = -(-tally.chars // CHARS_PER_TOKEN) if tally else 0
    if stated is not None and stated.prompt:
        return Usage(
            input=stated.input,
            cache_read=stated.cache_read,
            cache_write=stated.cache_write,
            cache_write_1h=stated.cache_write_1h,
            output=max(stated.output, output),
            reasoning=stated.reasoning,
        )
    body = call.written.body or call.body
    return Usage(input=-(-text_chars(body) // CHARS_PER_TOKEN), output=output)
