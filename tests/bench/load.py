"""Callers that cost next to nothing: plain requests on so many connections, and so many streams at a time.

Times go out in milliseconds, CPU in microseconds. Nothing is parsed but the length of an answer and, of a stream, the
marks that `upstream` puts into its chunks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.upstream import MARK, Pace, length

STALL_MS = 20.0
"""A longer silence between two chunks is a stall."""

_SAMPLED = 8
"""Of so many reads of a stream, one is looked at for when its last chunk was sent."""

Meter = Callable[[], float]
"""CPU seconds that a contender has used."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what they look like."""

    port: int
    path: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, body: bytes) -> bytes:
        head = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "authorization": "Bearer bench",
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Refused(Exception):
    """Every answer was an error; the text is the first one's."""


@dataclass(slots=True)
class Plain:
    """Plain requests within one window."""

    requests: int
    seconds: float
    cpu_us: float
    """Of the contender, for each request."""
    p50_ms: float
    p99_ms: float
    bytes: float
    """Of an answer, headers and all."""
    errors: int

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


@dataclass(slots=True)
class Streamed:
    """Streams within one window."""

    streams: int
    """How many came to their end."""
    seconds: float
    chunks: int
    cpu_us: float
    """Of the contender, for each chunk, the requests' share included."""
    busy: float
    """Of the contender: CPU seconds a second."""
    ttft_p50_ms: float
    ttft_p99_ms: float
    whole_p50_ms: float
    """From the request to the last byte."""
    whole_p99_ms: float
    delay_p50_ms: float
    """From a chunk's leaving the vendor to its arrival."""
    delay_p99_ms: float
    gap_ms: float
    """The largest between two reads of one stream."""
    stalled: int
    """Streams with a gap over STALL_MS."""
    bytes: float
    """Of a chunk."""
    errors: int


def at(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie; 0 without any."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


# --- plain requests ---


class _Caller(asyncio.Protocol):
    """One connection: the next request leaves when the last answer is there."""

    def __init__(self, again: Callable[[], bytes | None], over: asyncio.Future[None]) -> None:
        self._again = again
        self._over = over
        self._parts: list[bytes] = []
        self._sent = 0.0
        self.took: list[float] = []
        self.size = 0
        self.errors: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(exc or ConnectionResetError("the connection was closed between two requests"))

    def send(self) -> None:
        request = self._again()
        if request is None:
            self._over.set_result(None)
            self.transport.close()
            return
        self._sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
        if not _is_whole(data):
            self._parts = [data]
            return
        self.took.append(time.perf_counter() - self._sent)
        self._parts.clear()
        self.size += len(data)
        if not data.startswith(b"HTTP/1.1 200"):
            self.errors.append(data)
        self.send()


def _is_whole(data: bytes) -> bool:
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return False
    size = length(data, end)
    return len(data) >= end + size if size else data.endswith(b"0\r\n\r\n")


async def plain(
    target: Target, body: bytes, connections: int, seconds: float, meter: Meter, most: int | None = None
) -> Plain:
    """Requests on `connections` for `seconds`, or `most` of them. Raises Refused, and OSError for a broken connection."""
    loop = asyncio.get_running_loop()
    request = target.request(body)
    sent = 0
    end = 0.0

    def again() -> bytes | None:
        nonlocal sent
        if time.perf_counter() >= end or sent == most:
            return None
        sent += 1
        return request

    overs = [loop.create_future() for _ in range(connections)]
    callers = [
        (await loop.create_connection(lambda over=over: _Caller(again, over), "127.0.0.1", target.port))[1]
        for over in overs
    ]
    cpu, started = meter(), time.perf_counter()
    end = started + seconds
    for caller in callers:
        caller.send()
    await asyncio.gather(*overs)
    took, cpu = time.perf_counter() - started, meter() - cpu
    times = sorted(each * 1e3 for caller in callers for each in caller.took)
    errors = [error for caller in callers for error in caller.errors]
    if len(errors) == len(times):
        raise Refused(errors[0][:1000].decode(errors="replace") if errors else "no request was answered")
    return Plain(
        requests=len(times),
        seconds=took,
        cpu_us=cpu / len(times) * 1e6,
        p50_ms=at(times, 0.5),
        p99_ms=at(times, 0.99),
        bytes=sum(caller.size for caller in callers) / len(times),
        errors=len(errors),
    )


async def once(target: Target, body: bytes, seconds: float = 10) -> bool:
    """Whether one plain request is answered with a 200 by now. Raises Refused for an error, TimeoutError for silence."""
    try:
        async with asyncio.timeout(seconds):
            await plain(target, body, 1, seconds, lambda: 0.0, most=1)
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True


async def probe(port: int, path: str, every: float) -> list[float]:
    """How many milliseconds a GET takes, each on a connection of its own, until cancelled."""
    took: list[float] = []
    try:
        while True:
            started = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
            await reader.read()
            writer.close()
            took.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(every)
    except asyncio.CancelledError:
        return took


# --- streams ---


class _Listener(asyncio.Protocol):
    """One connection that carries one stream after the other.

    Chunks are told by their mark, a single byte, so that it does not matter where a read cuts them.
    """

    def __init__(self, again: Callable[[], bytes | None], chunks: int, over: asyncio.Future[None]) -> None:
        self._again = again
        self._chunks = chunks
        self._over = over
        self._count = 0
        self._reads = 0
        self._sent = self._last = self._gap = 0.0
        self._end = b""
        self.first: list[float] = []
        self.whole: list[float] = []
        self.gaps: list[float] = []
        self.delays: list[float] = []
        self.chunks = 0
        self.size = 0
        self.errors: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(exc or ConnectionResetError("the connection was closed within a stream"))

    def send(self) -> None:
        request = self._again()
        if request is None:
            self._over.set_result(None)
            self.transport.close()
            return
        self._count = 0
        self._gap = self._last = 0.0
        self._end = b""
        self._sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.size += len(data)
        found = data.count(MARK)
        if found:
            if self._last:
                gap = now - self._last
                if gap > self._gap:
                    self._gap = gap
            else:
                self.first.append(now - self._sent)
            self._last = now
            self._count += found
            self._reads += 1
            if not self._reads % _SAMPLED:
                self._sample(data)
        elif not self._last and data.startswith(b"HTTP/1.1 ") and data[9:12] != b"200":
            self.errors.append(data)
            self._over.set_result(None)
            self.transport.close()
            return
        if self._count >= self._chunks:
            self._end = self._end[-8:] + data[-8:]
            if self._end.endswith(b"0\r\n\r\n"):
                self.whole.append(now - self._sent)
                self.gaps.append(self._gap)
                self.chunks += self._count
                self.send()

    def _sample(self, data: bytes) -> None:
        at = data.rfind(MARK) + 1
        stamp = data[at : at + 12]
        if len(stamp) == 12:
            self.delays.append(max(0.0, time.monotonic_ns() / 1e9 - int(stamp, 16) / 1e6))


async def streams(
    target: Target, body: bytes, count: int, seconds: float, pace: Pace, meter: Meter, most: int | None = None
) -> Streamed:
    """`count` streams at a time, each followed by another for `seconds`, or `most` in all.

    Their starts are spread over the length of one, as those of strangers are. `pace` is what the vendor writes at.
    Raises Refused, and OSError for a connection that broke.
    """
    loop = asyncio.get_running_loop()
    request = target.request(body)
    sent = 0
    end = 0.0

    def again() -> bytes | None:
        nonlocal sent
        if time.perf_counter() >= end or sent == most:
            return None
        sent += 1
        return request

    overs = [loop.create_future() for _ in range(count)]
    listeners = [
        (await loop.create_connection(lambda over=over: _Listener(again, pace.chunks, over), "127.0.0.1", target.port))[
            1
        ]
        for over in overs
    ]
    cpu, started = meter(), time.perf_counter()
    end = started + seconds
    for number, listener in enumerate(listeners):
        loop.call_later(pace.seconds * number / count, listener.send)
    await asyncio.gather(*overs)
    took, cpu = time.perf_counter() - started, meter() - cpu

    def sorted_ms(name: str) -> list[float]:
        return sorted(value * 1e3 for listener in listeners for value in getattr(listener, name))

    first, whole, delays, gaps = map(sorted_ms, ("first", "whole", "delays", "gaps"))
    chunks = sum(listener.chunks for listener in listeners)
    errors = [error for listener in listeners for error in listener.errors]
    if not chunks:
        raise Refused(errors[0][:1000].decode(errors="replace") if errors else "no stream came to its end")
    return Streamed(
        streams=len(whole),
        seconds=took,
        chunks=chunks,
        cpu_us=cpu / chunks * 1e6,
        busy=cpu / took,
        ttft_p50_ms=at(first, 0.5),
        ttft_p99_ms=at(first, 0.99),
        whole_p50_ms=at(whole, 0.5),
        whole_p99_ms=at(whole, 0.99),
        delay_p50_ms=at(delays, 0.5),
        delay_p99_ms=at(delays, 0.99),
        gap_ms=gaps[-1] if gaps else 0.0,
        stalled=sum(gap > STALL_MS for gap in gaps),
        bytes=sum(listener.size for listener in listeners) / chunks,
        errors=len(errors),
    )


async def leave(target: Target, body: bytes, count: int, at_a_time: int) -> None:
    """Begins `count` streams, and leaves each one in its midst."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(target.request(body))
        seen = 0
        while seen < 3 and (data := await reader.read(65536)):
            seen += data.count(MARK)
        writer.transport.abort()

    for done in range(0, count, at_a_time):
        await asyncio.gather(*(one() for _ in range(min(at_a_time, count - done))))
