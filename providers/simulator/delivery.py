"""Sends an answer at the model's pace, and lets the faults of a running answer strike."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from providers.simulator.bill import Usage
from providers.simulator.connection import Connection, PeerLeft
from providers.simulator.dialects import Call, Dialect, Event, Headers, Reply
from providers.simulator.faults import Fault

WRITE_BYTES = 16_384
"""Most bytes of events in one write, so that a stream without delays still comes in pieces."""
COMPRESS_BYTES = 256
STREAM_HEADERS = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
Charge = Callable[[int, bool], None]


@dataclass(frozen=True)
class Pace:
    """Seconds until the first token, and seconds for each further one."""

    first: float
    each: float

    @classmethod
    def of(cls, call: Call, usage: Usage | None, speed: float) -> Pace:
        if speed <= 0 or usage is None:
            return cls(0.0, 0.0)
        jitter = 0.85 + 0.3 * (call.digest % 1000) / 1000
        model = call.model
        waited = model.first_token + model.prefill * (usage.input_tokens - usage.cache_read_tokens) / 1000
        return cls(waited * jitter / speed, 1 / (model.per_second * speed))

    def at(self, tokens: int) -> float:
        return self.first + tokens * self.each


async def send_json(connection: Connection, status: int, value: Any, headers: Headers | None = None) -> None:
    body = orjson.dumps(value)
    sent, body = _compressed(connection, [("content-type", "application/json"), *(headers or [])], body)
    await connection.start(status, [*sent, ("content-length", str(len(body)))])
    await connection.write(body, last=True)


def _compressed(connection: Connection, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    if len(body) < COMPRESS_BYTES or "gzip" not in connection.headers.get("accept-encoding", ""):
        return headers, body
    return [*headers, ("content-encoding", "gzip"), ("vary", "accept-encoding")], gzip.compress(body, 1, mtime=0)


class Delivery:
    def __init__(
        self, connection: Connection, dialect: Dialect, reply: Reply, fault: Fault | None, pace: Pace, charge: Charge
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.reply = reply
        self.fault = fault
        self.pace = pace
        self.started = asyncio.get_running_loop().time()
        self.total = reply.usage.output_tokens if reply.usage else 0
        self._charge: Charge | None = charge

    async def run(self, headers: Headers) -> None:
        try:
            if self.reply.events is None:
                await self.send_body(headers)
            else:
                await self.send_stream(headers, self.spoiled(list(self.reply.events)))
        except PeerLeft:
            self.charge(self.generated(), completed=False)
            raise

    def charge(self, tokens: int, *, completed: bool) -> None:
        """Books the answer, once: always before its last byte, so that who has read it all finds it on the bill."""
        if self._charge:
            self._charge(tokens, completed)
            self._charge = None

    def generated(self) -> int:
        """Output tokens that the schedule had produced by now."""
        elapsed = asyncio.get_running_loop().time() - self.started - self.pace.first
        if elapsed < 0:
            return 0
        return min(self.total, int(elapsed / self.pace.each)) if self.pace.each else self.total

    def struck_by(self, *kinds: str) -> bool:
        return self.fault is not None and self.fault.kind in kinds

    @property
    def delay(self) -> float:
        return 1.0 if self.fault is None or self.fault.seconds is None else self.fault.seconds

    async def send_body(self, headers: Headers) -> None:
        await self.connection.until(self.started + self.pace.at(self.total))
        body = orjson.dumps(self.reply.body)
        headers = [("content-type", "application/json"), *headers]
        half, rest = body[: len(body) // 2], body[len(body) // 2 :]
        if self.struck_by("truncated_json", "cut"):
            await self.connection.start(200, headers)
            self.charge(self.total, completed=False)
            await self.connection.write(half, last=True)
        elif self.struck_by("reset_after"):
            await self.connection.start(200, headers)
            await self.connection.write(half)
            self.charge(self.total, completed=False)
            await self.reset()
        elif self.struck_by("stall", "slow"):
            await self.connection.start(200, headers)
            await self.connection.write(half)
            await self.connection.until(asyncio.get_running_loop().time() + self.delay)
            self.charge(self.total, completed=True)
            await self.connection.write(rest, last=True)
        else:
            headers, body = _compressed(self.connection, headers, body)
            self.connection.check()
            self.charge(self.total, completed=True)
            await self.connection.start(200, [*headers, ("content-length", str(len(body)))])
            await self.connection.write(body, last=True)

    async def send_stream(self, headers: Headers, events: Sequence[Event]) -> None:
        await self.connection.until(self.started + self.pace.first)
        await self.connection.start(200, [*STREAM_HEADERS, *headers])
        clock = asyncio.get_running_loop().time
        slow, stall_at = self.struck_by("slow"), self.stall_at()
        late, tokens, pending = 0.0, 0, bytearray()
        try:
            for position, event in enumerate(events):
                if slow or position == stall_at:
                    late += self.delay
                due = self.started + self.pace.at(event.tokens) + late
                early = due > clock()
                # What is due together leaves together, which is what lets a thousand tokens a second through.
                if pending and (early or len(pending) >= WRITE_BYTES):
                    await self.connection.write(bytes(pending))
                    pending.clear()
                    await asyncio.sleep(0)
                if early:
                    await self.connection.until(due)
                pending += event.data.replace(b"\n", b"\r\n") if self.connection.split else event.data
                tokens = event.tokens
        except PeerLeft:
            self.charge(tokens, completed=False)
            raise
        whole = not self.struck_by("cut", "error_event", "truncated_json", "reset_after")
        self.charge(self.total if whole else tokens, completed=whole)
        if self.struck_by("reset_after"):
            await self.connection.write(bytes(pending))
            await self.reset()
        else:
            await self.connection.write(bytes(pending), last=True)

    def stall_at(self) -> int | None:
        return self.fault.after_events if self.fault and self.fault.kind == "stall" else None

    async def reset(self) -> None:
        # A reset overtakes what the socket still holds, so the bytes before it get a moment to leave.
        await asyncio.sleep(0.01)
        await self.connection.reset()

    def spoiled(self, events: list[Event]) -> list[Event]:
        """The events as the fault leaves them."""
        if self.fault is None:
            return events
        after = min(self.fault.after_events, len(events))
        before = events[after - 1].tokens if after else 0
        match self.fault.kind:
            case "malformed_sse":
                return [*events[:after], Event(self.dialect.broken_event, before), *events[after:]]
            case "error_event":
                return [*events[:after], Event(self.dialect.stream_error(self.fault.code), before)]
            case "truncated_json":
                next_one = events[after].data if after < len(events) else b"data: {}\n\n"
                return [*events[:after], Event(next_one[: max(8, len(next_one) // 2)] + b"\n\n", before)]
            case "no_done":
                return [event for event in events if not event.terminal]
            case "cut" | "reset_after":
                return events[:after]
        return events
