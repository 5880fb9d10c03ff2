"""The only module that opens connections: a small seam, and pooled sockets behind it.

What the network does becomes an error of `providers.errors` here and in `providers.http_connection`, and nowhere else
(`providers.http_httpx` is the same over httpx, for tests and where speed is of no matter). Redirects are not followed:
a request goes to the host that the configuration names, or nowhere.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohappyeyeballs

from providers.base import Response
from providers.errors import Overloaded, ProviderError, Unavailable
from providers.http_connection import Connection, Fail
from providers.types import Timeouts

KEPT_SECONDS = 55.0
"""How long a socket waits for its next request: vendors close theirs after 60 and more."""

RESOLVED_SECONDS = 60.0
"""How long an address is remembered."""

QUEUE_SECONDS = 1.0
"""How long a call waits for one of a bounded number of sockets."""

UNSENT_BYTES = 256 * 1024
"""How much of a body the system takes before it is sent."""

MAX_HEADS = 256

_UNSENT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Origin(NamedTuple):
    tls: bool
    host: str
    port: int


class PooledTransport:
    """Warm connections to one vendor.

    `provider` is whose name its errors bear; `connections` bounds the sockets to each host (0: no bound). A call that
    finds them all taken waits for `QUEUE_SECONDS` and is then refused with Overloaded, which is not the vendor's fault.
    """

    def __init__(self, provider: str = "", connections: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.provider = provider
        self.connections = connections
        self._fail = partial(named, provider=provider)
        self._tls = tls
        self._pools: dict[Origin, Pool] = {}
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Pool, bytes]] = {}

    @property
    def in_use(self) -> int:
        """Sockets with a call under way."""
        return sum(pool.in_use for pool in self._pools.values())

    @property
    def waiters(self) -> int:
        """Calls that wait for a socket."""
        return sum(len(pool.waiters) for pool in self._pools.values())

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        started = time.monotonic()
        key = (url, tuple(headers.items()))
        pool, head = self._heads.get(key) or self._head(key)
        connection = pool.take() or await pool.open(timeouts.connect)
        answer = connection.send(b"%b%d\r\n\r\n" % (head, len(body)), body, timeouts.idle, self._fail)
        await answer.begun()
        answer.waited = time.monotonic() - started
        return answer

    def _head(self, key: tuple[str, tuple[tuple[str, str], ...]]) -> tuple[Pool, bytes]:
        """All of a request that is the same the next time: everything up to the length of its body."""
        url, headers = key
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        origin = Origin(tls, parts.hostname or "", parts.port or (443 if tls else 80))
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self.connections, self._tls, self._fail)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", "user-agent: talaria"]
        lines += [f"{name}: {value}" for name, value in headers]
        if any(map(_BREAK.search, lines)):
            raise ValueError("a header has a line break in it")
        try:
            head = "\r\n".join([*lines, "content-length: "]).encode("latin-1")
        except UnicodeEncodeError:
            # Not that error: it holds the whole text, and so the key.
            raise ValueError("a header has a letter that HTTP does not have") from None
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        found = self._heads[key] = pool, head
        return found

    async def aclose(self) -> None:
        """Ends the sockets that nobody uses now, and each of the others when its answer has ended."""
        for pool in self._pools.values():
            pool.close()


_BREAK = re.compile(r"[\r\n\0]")


class Pool:
    """The sockets to one origin: the one used last is used next, so that those not needed grow old and are closed."""

    def __init__(self, origin: Origin, limit: int, tls: ssl.SSLContext | None, fail: Fail) -> None:
        self._origin = origin
        self._limit = limit
        self._tls = tls
        self._fail = fail
        self._idle: deque[Connection] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False
        self._resolved: tuple[float, list[aiohappyeyeballs.AddrInfoType]] | None = None
        self.in_use = 0
        self.waiters: deque[asyncio.Future[None]] = deque()

    def take(self) -> Connection | None:
        """A socket that is there and free."""
        if self._limit and self.in_use >= self._limit:
            return None
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.open:
                self.in_use += 1
                return connection
        return None

    async def open(self, seconds: float) -> Connection:
        """A socket, new or just given back. Raises Unavailable after `seconds`, Overloaded where none is to be had."""
        if self._limit and self.in_use >= self._limit:
            await self._queue()
            # The place of the one who left is ours now.
            self.in_use -= 1
            if (connection := self.take()) is not None:
                return connection
        self.in_use += 1
        try:
            return await self._connect(seconds)
        except BaseException:
            self._leave()
            raise

    async def _queue(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(place)
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._leave()
            else:
                with suppress(ValueError):
                    self.waiters.remove(place)
            if isinstance(error, TimeoutError):
                raise Overloaded("All connections to the provider are in use.", retry_after=QUEUE_SECONDS) from None
            raise

    def _leave(self) -> None:
        """Hands a place on to whoever has waited longest."""
        while self.waiters:
            place = self.waiters.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.in_use -= 1

    def _end(self, connection: Connection) -> None:
        if connection.open:
            if self._closed:
                connection.close()
            else:
                connection.since = time.monotonic()
                self._idle.append(connection)
                if self._reaper is None:
                    self._reaper = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._reap)
        self._leave()

    def _reap(self) -> None:
        self._reaper = None
        now = time.monotonic()
        while self._idle and now - self._idle[0].since >= KEPT_SECONDS - 0.1:
            self._idle.popleft().close()
        if self._idle:
            left = self._idle[0].since + KEPT_SECONDS - now
            self._reaper = asyncio.get_running_loop().call_later(left, self._reap)

    def close(self) -> None:
        """Ends the sockets that nobody uses now, and the others when their answers have ended."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            self._idle.pop().close()

    async def _connect(self, seconds: float) -> Connection:
        connection = Connection(self._end)
        try:
            async with asyncio.timeout(seconds):
                tls = (self._tls or await _trusted()) if self._origin.tls else None
                sock = await aiohappyeyeballs.start_connection(
                    await self._addresses(), happy_eyeballs_delay=0.25, interleave=1
                )
                if _UNSENT is not None:
                    # So that one who takes a large body slowly is seen to take it. Not every sandbox has it.
                    with suppress(OSError):
                        sock.setsockopt(socket.IPPROTO_TCP, _UNSENT, UNSENT_BYTES)
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=tls,
                    server_hostname=self._origin.host if tls else None,
                )
            return connection
        except BaseException as error:
            # Where it has moved to is looked up again.
            self._resolved = None
            # Not its socket: that is the loop's, which might take its next one of that number for this.
            connection.close()
            if isinstance(error, TimeoutError):
                raise self._fail(Unavailable, "could not connect in time") from None
            if isinstance(error, ssl.SSLCertVerificationError):
                raise self._fail(Unavailable, "could not connect: its TLS certificate is not to be trusted") from None
            if isinstance(error, OSError | UnicodeError):
                raise self._fail(Unavailable, "could not connect") from None
            raise

    async def _addresses(self) -> list[aiohappyeyeballs.AddrInfoType]:
        now = time.monotonic()
        if self._resolved is None or now - self._resolved[0] > RESOLVED_SECONDS:
            host, port = self._origin.host, self._origin.port
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._resolved = now, list(found)
        return self._resolved[1]


_context: ssl.SSLContext | None = None


async def _trusted() -> ssl.SSLContext:
    """Trusts whom the system trusts. Made once, and on a thread: reading all those certificates takes its time."""
    global _context
    if _context is None:
        context = await asyncio.to_thread(ssl.create_default_context)
        context.set_alpn_protocols(["http/1.1"])
        _context = context
    return _context


LONGEST_REST_SECONDS = 86_400.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `retry-after-ms` or `retry-after` (seconds or a date) ask for; None when neither can be read.

    `headers` in lower case. https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        with suppress(ValueError):
            seconds = float(value) / scale
            if math.isfinite(seconds):
                return min(max(0.0, seconds), LONGEST_REST_SECONDS)
            continue
        with suppress(TypeError, ValueError):
            return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), LONGEST_REST_SECONDS)
    return None


def named(kind: type[ProviderError], text: str, provider: str) -> ProviderError:
    """An error that says whose it is."""
    return kind(f"{provider}: {text}" if provider else text, provider=provider)
