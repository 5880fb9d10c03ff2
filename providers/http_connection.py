"""One socket to a vendor: HTTP/1.1, a request at a time, the answer parsed by llhttp as it arrives.

What is here is what a proxy needs of https://www.rfc-editor.org/rfc/rfc9112 and no more. A socket is used again only
where the answer came to its end, both sides keep it open, and nothing was left over.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import httptools

from providers.errors import BadReply, ProviderError, TimedOut, Unavailable

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 256 * 1024

UNREAD_BYTES = 256 * 1024
"""What is held for a slow reader before the vendor is slowed down."""

COPIED_BYTES = 64 * 1024
"""Bodies up to this size leave in one piece with their head."""

PIECE_BYTES = 256 * 1024
"""Larger ones leave in pieces of this size, as the socket takes them."""

DRAIN_SECONDS = 0.1
"""How long the end of a connection's answer is waited for, once the answer itself is there."""

Fail = Callable[[type[ProviderError], str], ProviderError]
"""An error that says whose it is."""


class Connection(asyncio.Protocol):
    """The socket. `on_end` hears of it once for each request, when its answer has ended in whatever way.

    It may be used again where it is still `open` then.
    """

    __slots__ = ("_answer", "_full", "_kept", "_on_end", "_parser", "_rest", "_transport", "open", "since")

    def __init__(self, on_end: Callable[[Connection], None]) -> None:
        self._on_end = on_end
        self._answer: Answer | None = None
        self._kept = False
        self._full = False
        self._rest: bytes | memoryview = b""
        self._parser: Any = httptools.HttpResponseParser(self)
        # Of what servers get wrong, all that leaves no doubt about where an answer ends.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: Any = None
        self.open = False
        self.since = 0.0
        """When it was last given back, monotonic."""

    def send(self, head: bytes, body: bytes, idle: float | None, fail: Fail) -> Answer:
        """Sends a request. `idle` bounds the silence of the vendor from now on, in seconds."""
        answer = self._answer = Answer(self, idle, fail)
        if not self.open:
            self._lose("the connection was lost")
        elif len(body) <= COPIED_BYTES:
            self._transport.write(head + body)
        else:
            whole = memoryview(body)
            self._rest = whole[PIECE_BYTES:] or b""
            self._transport.writelines((head, whole[:PIECE_BYTES]))
            self._pour()
        return answer

    def _pour(self) -> None:
        while self._rest and not self._full and not self._transport.is_closing():
            piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:] or b""
            self._transport.write(piece)

    def close(self) -> None:
        """Ends it at once: what is under way is given up."""
        if self._transport is not None:
            self._transport.abort()
        self._lose("the connection was closed before the answer was complete")

    def pause(self) -> None:
        with suppress(RuntimeError):
            self._transport.pause_reading()

    def resume(self) -> None:
        with suppress(RuntimeError):
            self._transport.resume_reading()

    # What the loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Nothing was asked for: whatever it is, it is no answer to what comes next.
            self.close()
            return
        answer.plain += len(data)
        try:
            self._parser.feed_data(data)
            if answer.plain > MAX_HEADER_BYTES:
                raise httptools.HttpParserError("headers without an end")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Where the answer was complete before that, it is only the connection that is of no use any more.
            answer.fail(BadReply, "the answer is not valid HTTP")
            self.close()
        else:
            if answer.done:
                if self._kept and not self._rest and not self._full:
                    self._answer = None
                    self._on_end(self)
                else:
                    self.close()
        answer.heard()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._answer is not None:
            # Who takes what we send is not silent.
            self._answer.heard()
        self._pour()

    def eof_received(self) -> None:
        self._lose("the connection was closed before the answer was complete", ended=True)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer is not None and (tls := self._transport.get_extra_info("ssl_object")) is not None:
            # What it holds for a slow reader is whole, but uvloop lets go of it when the vendor closes.
            with suppress(ssl.SSLError):
                while self._answer is not None:
                    if data := tls.read(UNREAD_BYTES):
                        self.data_received(data)
                    else:
                        self.eof_received()
        self._lose("the connection was lost")

    def _lose(self, words: str, ended: bool = False) -> None:
        self.open = False
        # It holds on to this as this does to it, and garbage is looked for but rarely.
        self._parser = None
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.lost(words, ended)
            self._on_end(self)

    # What the parser says

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done:
            raise ValueError("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.header(name, value)

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.begin(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.add(body)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is not None and answer.status:
            answer.end()
            # Asked now: the parser forgets it with the next byte.
            self._kept = self._parser.should_keep_alive()


_LENGTHS = frozenset(("content-length", "transfer-encoding"))


class Answer:
    """What comes back: the seam's `Response`, filled while it arrives."""

    __slots__ = (
        "_coded",
        "_connection",
        "_error",
        "_fail",
        "_heard",
        "_idle",
        "_inflate",
        "_parts",
        "_paused",
        "_timer",
        "_unread",
        "_waiter",
        "done",
        "headers",
        "plain",
        "status",
        "waited",
    )

    def __init__(self, connection: Connection, idle: float | None, fail: Fail) -> None:
        self._connection = connection
        self._fail = fail
        self._parts: list[bytes] = []
        self._unread = 0
        self._coded = False
        self._inflate: Any = None
        self._paused = False
        self._error: ProviderError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._idle = idle
        self._heard = monotonic()
        self._timer = None if idle is None else asyncio.get_running_loop().call_later(idle, self._listen)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.waited = 0.0
        self.done = False
        self.plain = 0
        """Bytes that came since the last of the body: of headers, trailers and what stands between chunks."""

    # What the seam reads

    async def begun(self) -> None:
        """Returns when the headers are there. Raises what became of it otherwise."""
        while not self.status and self._error is None:
            await self._more()
        if self._error is not None and not self.status:
            raise self._error

    async def read(self) -> bytes:
        started = monotonic()
        parts: list[bytes] = []
        size = 0
        while (part := await self._next()) is not None:
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                self.close()
                raise self._fail(BadReply, f"the answer is larger than {MAX_REPLY_BYTES} bytes")
        self.waited += monotonic() - started
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._next()
        if part is None:
            raise StopAsyncIteration
        return part

    async def drain(self) -> None:
        with suppress(ProviderError, TimeoutError):
            if not self.done:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while await self._next() is not None:
                        pass
        self.close()

    def close(self) -> None:
        """Ends the connection, unless the answer is all there and it serves others already."""
        if not self.done and self._error is None:
            self._connection.close()

    async def _next(self) -> bytes | None:
        """All that came since the last time; None at the end."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self.done:
                return None
            await self._more()
        parts = self._parts
        part = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._heard = monotonic()
            self._connection.resume()
        return part

    async def _more(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    # What the connection says

    def header(self, name: bytes, value: bytes) -> None:
        # After the body come trailers, which nobody has asked for.
        if not self.status:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").rstrip(" \t")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def begin(self, status: int) -> None:
        headers = self.headers
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise ValueError("a transfer coding that nobody has asked for")
        if status < 200:
            if status < 100 or not _LENGTHS.isdisjoint(headers):
                raise ValueError("an answer before the answer that is none")
            self.headers = {}
            return
        self.status = status
        coding = headers.get("content-encoding", "").lower()
        if coding not in ("", "identity"):
            if coding not in ("gzip", "x-gzip", "deflate"):
                raise ValueError("an encoding that nobody has asked for")
            self._coded = True

    def add(self, body: bytes) -> None:
        self.plain = 0
        if self._coded:
            if self._inflate is None:
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                body = self._inflate.decompress(body, MAX_REPLY_BYTES)
            except zlib.error:
                raise ValueError("not what its encoding says") from None
            if self._inflate.unconsumed_tail or self._inflate.unused_data:
                raise ValueError("too much of it")
            if not body:
                return
        self._parts.append(body)
        self._unread += len(body)

    def heard(self) -> None:
        """The vendor is at work; called after each read."""
        if self._idle is not None:
            self._heard = monotonic()
        if self._unread > UNREAD_BYTES and not self._paused and not self.done:
            self._paused = True
            self._connection.pause()
        self._wake()

    def end(self) -> None:
        """The last byte is there. ValueError where it cannot be the last."""
        if self._inflate is not None and not self._inflate.eof:
            raise ValueError("an encoding that does not end")
        self.done = True
        self._quiet()

    def lost(self, words: str, ended: bool) -> None:
        """The connection is gone: where it has `ended`, so has an answer that does not say how long it is."""
        if ended and self.status and self._error is None and _LENGTHS.isdisjoint(self.headers):
            with suppress(ValueError):
                self.end()
        self.fail(Unavailable, words)
        self._wake()

    def fail(self, kind: type[ProviderError], words: str) -> None:
        if not self.done and self._error is None:
            self._error = self._fail(kind, words)
            self._quiet()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _listen(self, again: bool = False) -> None:
        """Gives up on a vendor that is silent for too long. While the reader is slow, it is not the vendor who is."""
        assert self._idle is not None
        left = self._heard + self._idle - monotonic()
        if self._paused or left > 0:
            self._timer = asyncio.get_running_loop().call_later(max(left, self._idle / 10), self._listen)
        elif not again:
            # The loop may be what was late: what has come meanwhile is read first.
            self._timer = asyncio.get_running_loop().call_later(0.001, self._listen, True)
        else:
            self.fail(TimedOut, "no answer in time")
            self._connection.close()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
