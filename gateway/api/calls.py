"""The story of one call, from its bytes to the last byte of its answer, in whatever dialect it came."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway import errors
from gateway.caller import Caller, CallerLeft, Receive, Send
from gateway.gateway import Gateway
from gateway.middleware import Exchange, Scope, report
from gateway.record import Record
from gateway.snapshot import Snapshot
from gateway.wire import Wire, openai
from providers.base import Batch, Stream
from providers.errors import DeadlineExceeded, InvalidRequest, Overloaded, TalariaError
from providers.types import Hints, Reply
from routing.router import Journey

T = TypeVar("T")


class Calls:
    """One dialect's endpoint, as an ASGI app."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self._gateway = gateway
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        record = Record(exchange.id, exchange.started)
        caller = Caller(receive, send)
        with self._gateway.tenancy() as snapshot:
            try:
                await self._serve(snapshot, scope["headers"], caller, exchange, record)
            except TalariaError as error:
                record.error = error
            except CallerLeft:
                record.cancelled = True
            except asyncio.CancelledError:
                if caller.gone:
                    record.cancelled = True
                else:
                    record.error = Overloaded("The gateway is shutting down.")
            except Exception as error:
                record.error = error
                report(error, exchange)
            caller.forget()
            try:
                if record.error is not None:
                    await self._refuse(record.error, snapshot, exchange, caller, record)
            except CallerLeft:
                record.cancelled = True
            finally:
                self._gateway.settle(record)

    async def _serve(
        self,
        snapshot: Snapshot,
        sent: Iterable[tuple[bytes, bytes]],
        caller: Caller,
        exchange: Exchange,
        record: Record,
    ) -> None:
        gateway = self._gateway
        headers = dict(sent)
        key_id = gateway.auth.identify(headers)
        raw = await caller.body(headers, snapshot.config.server.max_body_bytes)
        asked = self._wire.decode(raw)
        hints = hinted(asked.hints, headers)
        began = time.monotonic()
        call = snapshot.call(exchange.id, exchange.started, self._wire.OPERATION, raw, asked, hints, key_id)
        call.headers = passed_on(sent, self._wire.HEADERS)
        record.call = call
        record.use_case = snapshot.use_case(call.hints)
        route = snapshot.table.route(call)
        aim = record.aim = snapshot.latency_class(call, route)
        record.latency_class = aim.name
        journey = record.journey = Journey(gateway.planner.plan(snapshot.table, call, route, aim, began))
        record.deciding_seconds = time.monotonic() - began
        caller.watch()
        silence = snapshot.config.server.sse_keepalive_seconds if call.stream else 0.0

        async def ping() -> None:
            # The first one commits the 200: what goes wrong after it can only be told within the stream.
            if not caller.told:
                await caller.start(200, [*_SSE, *exchange.label])
            await caller.write(self._wire.PING, more=True)

        with gateway.in_flight(record.latency_class):
            serving = gateway.router.serve(call, journey, aim)
            answer = await (serving if not silence else _patiently(serving, silence, ping))
            record.answered = time.monotonic()
            record.tally = answer.tally
            if isinstance(answer, Reply):
                head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body))]
                await caller.start(200, _headers(record, answer, [*head, *exchange.label]))
                await caller.write(answer.body)
                return
            try:
                if not caller.told:
                    await caller.start(200, _headers(record, answer, [*_SSE, *exchange.label]))
                await self._pass_on(answer, caller, record, silence, ping)
            finally:
                answer.close()

    async def _pass_on(
        self, stream: Stream, caller: Caller, record: Record, silence: float, ping: Callable[[], Awaitable[None]]
    ) -> None:
        assert record.call is not None
        assert record.aim is not None
        # Where the deadline is for the first token only, it has been kept by now.
        deadline = record.call.deadline if record.aim.deadline_of == "answer" else None
        frame = self._wire.frame
        last = record.answered or 0.0
        try:
            async with asyncio.timeout_at(deadline):
                async for batch in stream if not silence else _pinged(stream, silence, ping):
                    now = time.monotonic()
                    if now - last > record.stall_seconds:
                        record.stall_seconds = now - last
                    last = now
                    await caller.write(frame(batch), more=True)
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed before the answer was complete.", code="timeout") from None
        await caller.write(self._wire.DONE)

    async def _refuse(
        self, error: BaseException, snapshot: Snapshot, exchange: Exchange, caller: Caller, record: Record
    ) -> None:
        """Tells what went wrong: as the answer, or after the commit point as the last event of the stream."""
        if caller.told:
            await caller.write(snapshot.conceal(self._wire.failure(error, exchange.id)))
            return
        body = snapshot.conceal(self._wire.refusal(error, exchange.id))
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await caller.start(errors.face(error).status, [*head, *exchange.label, *errors.headers(error), *_way(record)])
        await caller.write(body)


async def _pinged(stream: Stream, silence: float, ping: Callable[[], Awaitable[None]]) -> AsyncIterator[Batch]:
    while (batch := await _patiently(anext(stream, None), silence, ping)) is not None:
        yield batch


async def _patiently(work: Awaitable[T], silence: float, ping: Callable[[], Awaitable[None]]) -> T:
    """Awaits, and pings after every `silence` seconds; 0 never does."""
    if not silence:
        return await work
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=silence))[0]:
            await ping()
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            # What it has to say of its end is said before anybody asks.
            await asyncio.wait({task})


_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def passed_on(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> dict[str, str]:
    """The headers of these names; one that comes several times is a list."""
    found: dict[str, str] = {}
    if names:
        for name, value in headers:
            if name in names:
                key, text = name.decode(), value.decode("latin-1")
                found[key] = f"{found[key]},{text}" if key in found else text
    return found


def hinted(hints: Hints, headers: Mapping[bytes, bytes]) -> Hints:
    """The hints of the body with those of the headers over them. Raises InvalidRequest."""
    found: dict[str, Any] = {}
    for name, (field, read) in _HINTS.items():
        value = headers.get(name)
        if value:
            found[field] = read(value.decode("latin-1").strip(), name.decode())
    return replace(hints, **found) if found else hints


def _word(text: str, place: str) -> str:
    if len(text) > 256:
        raise InvalidRequest(f"The header '{place}' is longer than 256 characters.", param=place)
    return text


_HINTS: dict[bytes, tuple[str, Callable[[str, str], object]]] = {
    b"x-talaria-use-case": ("use_case", _word),
    b"x-talaria-latency-class": ("latency_class", _word),
    b"x-talaria-task": ("task", _word),
    b"x-talaria-deadline-ms": ("deadline_ms", openai.milliseconds),
    b"x-talaria-tags": ("tags", openai.pairs),
    b"x-talaria-diffusing": ("diffusing", openai.snapshots),
}


def _way(record: Record) -> list[tuple[bytes, bytes]]:
    """Which way a call went, as far as it came."""
    journey = record.journey
    if journey is None:
        return []
    return [
        (b"x-talaria-route", (journey.plan.route or "direct").encode()),
        (b"x-talaria-attempts", b"%d" % len(journey.attempts)),
    ]


def _printable(text: str, most: int = 512) -> bytes:
    """Text from outside, fit for a header."""
    return _UNPRINTABLE.sub("?", text[:most]).encode()


_UNPRINTABLE = re.compile(r"[^ -~]")


def _headers(record: Record, answer: Reply | Stream, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What an answer says of its way: who served it, after how many attempts, at which cost."""
    journey, call = record.journey, record.call
    assert journey is not None
    assert call is not None
    assert journey.served is not None
    model = journey.served.model
    found = [
        *headers,
        *_way(record),
        (b"x-talaria-model", model.name.encode()),
        (b"x-talaria-provider", model.provider.encode()),
        (b"x-talaria-upstream-model", model.upstream.encode()),
        (b"x-talaria-task", call.task.encode()),
        (b"x-talaria-cache", b"off"),
        (b"x-talaria-overhead-ms", b"%.2f" % (record.overhead_seconds * 1000)),
    ]
    if answer.dropped:
        found.append((b"x-talaria-dropped", _printable(",".join(name[:64] for name in answer.dropped))))
    if len(journey.attempts) > 1:
        first = journey.attempts[0].error
        if first is not None and journey.attempts[0].model.name != model.name:
            found.append((b"x-talaria-fallback-reason", errors.face(first).label.encode()))
    upstream_id = answer.headers.get("x-request-id") or answer.headers.get("request-id")
    if upstream_id:
        found.append((b"x-talaria-upstream-request-id", _printable(upstream_id)))
    if answer.tally.prompt is not None:
        found.append((b"x-talaria-prompt", answer.tally.prompt.encode()))
    if isinstance(answer, Stream) and answer.replaces:
        found.append((b"x-talaria-stream-mode", b"replace"))
    if isinstance(answer, Reply):
        if answer.warnings:
            found.append((b"x-talaria-warnings", _printable("; ".join(answer.warnings))))
        if answer.tally.usage is not None:
            dollars = record.price(answer.tally.usage, model.card)
            if dollars is not None:
                found.append((b"x-talaria-cost-usd", f"{dollars:f}".encode()))
    return found
