"""The story of one call, from its bytes to the last byte of its answer, in whatever dialect it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gateway import errors
from gateway.middleware import Exchange, Message, Receive, Scope, Send, refuse
from gateway.record import Record
from gateway.wire import Wire, openai
from providers.base import Stream
from providers.catalog import cost
from providers.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestTooLarge, TalariaError
from providers.types import Hints, Reply
from routing.router import Journey

if TYPE_CHECKING:
    from gateway.app import Gateway
    from gateway.snapshot import Snapshot

T = TypeVar("T")

# What a web page can send to another site without asking first.
_SIMPLE_TYPES = (b"text/plain", b"multipart/form-data", b"application/x-www-form-urlencoded")


class Calls:
    """One dialect's endpoint, as an ASGI app."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self._gateway = gateway
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        record = Record(exchange.id, exchange.started)
        caller = Caller(receive)
        try:
            await self._serve(scope, caller, send, exchange, record)
        except TalariaError as error:
            record.error = error
            if exchange.responding:
                await self._break_off(error, exchange, send)
            else:
                record.status = errors.face(error).status
                await refuse(error, exchange, send, self._wire.refusal)
        except asyncio.CancelledError:
            record.cancelled = True
            record.status = 499
            if not caller.gone:
                # The gateway itself is going: the caller is still there to be told.
                await self._apologise(exchange, send)
                raise
            caller.excuse()
        except BaseException as error:
            record.error = error
            record.status = 500
            raise
        finally:
            caller.forget()
            self._gateway.settle(record)

    async def _serve(self, scope: Scope, caller: Caller, send: Send, exchange: Exchange, record: Record) -> None:
        with self._gateway.tenancy() as snapshot:
            await self._serve_under(snapshot, scope, caller, send, exchange, record)

    async def _serve_under(
        self, snapshot: Snapshot, scope: Scope, caller: Caller, send: Send, exchange: Exchange, record: Record
    ) -> None:
        gateway = self._gateway
        headers = dict(scope["headers"])
        key_id = gateway.auth.identify(headers)
        raw = await caller.body(headers, snapshot.config.server.max_body_bytes)
        asked = self._wire.decode(raw)
        hints = _hints(asked.hints, headers)
        call = snapshot.call(exchange.id, exchange.started, self._wire.OPERATION, raw, asked, hints, key_id)
        call.headers = _passed_on(scope["headers"], self._wire.HEADERS)
        record.call = call
        record.use_case = snapshot.use_case(call.hints)
        route = snapshot.table.route(call)
        record.latency_class, budget = snapshot.budget(call, route)
        journey = Journey(snapshot.table.plan(call, route, gateway.health, exchange.started))
        record.journey = journey
        caller.watch()
        keepalive = snapshot.config.server.sse_keepalive_seconds
        with gateway.in_flight(record.latency_class):
            if call.stream and keepalive:
                answer = await self._with_pings(
                    gateway.router.serve(call, journey, budget), keepalive, exchange, record, send
                )
            else:
                answer = await gateway.router.serve(call, journey, budget)
            record.answered = time.monotonic()
            record.tally = answer.tally
            if isinstance(answer, Reply):
                await self._whole(answer, exchange, record, send)
            else:
                await self._parts(answer, exchange, record, send, keepalive)

    async def _whole(self, answer: Reply, exchange: Exchange, record: Record, send: Send) -> None:
        exchange.responding = True
        headers = _headers(record, answer, [(b"content-type", b"application/json"), *exchange.label])
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _parts(self, stream: Stream, exchange: Exchange, record: Record, send: Send, keepalive: float) -> None:
        call = record.call
        assert call is not None
        try:
            if not exchange.responding:
                exchange.responding = True
                headers = _headers(record, stream, [*_SSE, *exchange.label])
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            last = record.answered or 0.0
            async with asyncio.timeout_at(call.deadline):
                batches = stream.__aiter__()
                while True:
                    if keepalive:
                        batch = await self._with_pings(anext(batches, None), keepalive, exchange, record, send)
                    else:
                        batch = await anext(batches, None)
                    if batch is None:
                        break
                    now = time.monotonic()
                    record.stall_seconds = max(record.stall_seconds, now - last)
                    last = now
                    await send({"type": "http.response.body", "body": self._wire.frame(batch), "more_body": True})
            await send({"type": "http.response.body", "body": self._wire.DONE})
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed before the answer was complete.", code="timeout") from None
        finally:
            stream.close()

    async def _with_pings(
        self, work: Awaitable[T], seconds: float, exchange: Exchange, record: Record, send: Send
    ) -> T:
        """Awaits, and sends a comment line after every so many seconds of silence. The first one commits the 200."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=seconds)
                if done:
                    return task.result()
                if not exchange.responding:
                    exchange.responding = True
                    head = [*_SSE, *exchange.label]
                    await send({"type": "http.response.start", "status": 200, "headers": head})
                await send({"type": "http.response.body", "body": self._wire.PING, "more_body": True})
        finally:
            if not task.done():
                task.cancel()

    async def _break_off(self, error: TalariaError, exchange: Exchange, send: Send) -> None:
        await send({"type": "http.response.body", "body": self._wire.failure(error, exchange.id)})

    async def _apologise(self, exchange: Exchange, send: Send) -> None:
        error = Overloaded("The gateway is shutting down.")
        if exchange.responding:
            await self._break_off(error, exchange, send)
        else:
            await refuse(error, exchange, send, self._wire.refusal)


class Caller:
    """The one who asked: what they sent, and whether they are still there."""

    __slots__ = ("_receive", "_watching", "_work", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._work = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self.gone = False

    async def body(self, headers: Mapping[bytes, bytes], limit: int) -> bytes:
        """The request's body. Raises RequestTooLarge above `limit` bytes, InvalidRequest for forms."""
        if headers.get(b"content-type", b"").lower().startswith(_SIMPLE_TYPES):
            refused = InvalidRequest("The content type of your request must be application/json.")
            refused.status = 415
            raise refused
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise RequestTooLarge(f"The body of your request is larger than {limit} bytes.")
        parts: list[bytes] = []
        size = 0
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise asyncio.CancelledError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise RequestTooLarge(f"The body of your request is larger than {limit} bytes.")
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch(self) -> None:
        """From now on, cancels the work when the caller leaves."""
        self._watching = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._work is not None:
            self._work.cancel()

    def excuse(self) -> None:
        """The work ended because the caller left, and has nothing left to cancel."""
        if self._work is not None:
            self._work.uncancel()

    def forget(self) -> None:
        if self._watching is not None:
            self._watching.cancel()


_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def _passed_on(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> dict[str, str]:
    """The headers of these names; one that comes several times is a list."""
    found: dict[str, str] = {}
    if names:
        for name, value in headers:
            if name in names:
                key, text = name.decode(), value.decode("latin-1")
                found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _hints(hints: Hints, headers: Mapping[bytes, bytes]) -> Hints:
    """The hints of the body with those of the headers over them. Raises InvalidRequest."""
    found: dict[str, object] = {}
    for name, (field, read) in _HINTS.items():
        value = headers.get(name)
        if value:
            found[field] = read(value.decode("latin-1").strip(), name.decode())
    return replace(hints, **found) if found else hints  # type: ignore[arg-type]


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
}


def _headers(record: Record, answer: Reply | Stream, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What an answer says of its way: who served it, after how many attempts, at which cost."""
    journey, call = record.journey, record.call
    assert journey is not None
    assert call is not None
    assert journey.served is not None
    model = journey.served.model
    found = [
        *headers,
        (b"x-talaria-model", model.name.encode()),
        (b"x-talaria-provider", model.provider.encode()),
        (b"x-talaria-upstream-model", model.upstream.encode()),
        (b"x-talaria-route", (journey.plan.route or "direct").encode()),
        (b"x-talaria-task", (call.hints.task or "none").encode()),
        (b"x-talaria-attempts", b"%d" % len(journey.attempts)),
        (b"x-talaria-cache", b"off"),
        (b"x-talaria-overhead-ms", b"%.2f" % (record.overhead_seconds * 1000)),
    ]
    if answer.dropped:
        found.append((b"x-talaria-dropped", ",".join(answer.dropped).encode("ascii", "replace")))
    if len(journey.attempts) > 1:
        first = journey.attempts[0].error
        if first is not None and journey.attempts[0].model.name != model.name:
            found.append((b"x-talaria-fallback-reason", errors.face(first).label.encode()))
    upstream_id = answer.headers.get("x-request-id") or answer.headers.get("request-id")
    if upstream_id:
        found.append((b"x-talaria-upstream-request-id", upstream_id.encode("latin-1", "replace")))
    if isinstance(answer, Reply):
        if answer.warnings:
            found.append((b"x-talaria-warnings", "; ".join(answer.warnings).encode("ascii", "replace")))
        if answer.tally.usage is not None:
            dollars = cost(answer.tally.usage, model.card.prices)
            if dollars is not None:
                found.append((b"x-talaria-cost-usd", f"{dollars:f}".encode()))
    return found
