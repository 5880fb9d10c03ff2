"""One socket to a vendor that says whatever it likes, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import random
import re
import socket
import struct
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from providers import http_connection
from providers.errors import BadReply, ProviderError, TimedOut, Unavailable
from providers.http import PooledTransport
from providers.http_connection import Connection
from providers.types import Timeouts
from tests.fleet import until

pytestmark = pytest.mark.anyio

PATIENT = Timeouts(connect=5, idle=20)
HASTY = Timeouts(connect=5, idle=0.06)


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Peer:
    """The vendor's end of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self._held = bytearray()

    async def request(self, pause: float = 0.0) -> tuple[str, bytes]:
        """A request's head and body, read with pauses. EOFError where there is none."""
        while b"\r\n\r\n" not in self._held:
            await self._more()
        head, _, rest = bytes(self._held).partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found
        size = int(found[1])
        self._held = bytearray(rest)
        while len(self._held) < size:
            await self._more()
            if pause:
                await asyncio.sleep(pause)
        body = bytes(self._held[:size])
        del self._held[:size]
        return head.decode("latin-1"), body

    async def head(self) -> None:
        """Reads until a head is there, and little beyond."""
        while b"\r\n\r\n" not in self._held:
            await self._more(1024)

    async def _more(self, most: int = 65536) -> None:
        data = await self.loop.sock_recv(self.sock, most)
        if not data:
            raise EOFError
        self._held += data

    async def say(self, *pieces: bytes) -> None:
        """Each a read of its own on the other side, as far as one can see to it."""
        for piece in pieces:
            await self.loop.sock_sendall(self.sock, piece)
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Until the caller has left."""
        with contextlib.suppress(OSError):
            while await self.loop.sock_recv(self.sock, 65536):
                pass

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Serve = Callable[[Peer], Awaitable[None]]


class Vendor:
    """Hands each connection to `serve`, and closes it when that returns."""

    def __init__(self, serve: Serve, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.serve = serve
        self.made = 0
        self.open = 0
        self.most = 0
        self._tasks = {asyncio.create_task(self._accept())}

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.made += 1
            self._tasks.add(asyncio.create_task(self._serve(sock)))

    async def _serve(self, sock: socket.socket) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            with contextlib.suppress(OSError, EOFError):
                await self.serve(Peer(sock))
        finally:
            self.open -= 1
            sock.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error


@contextlib.asynccontextmanager
async def vendor(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[Vendor]:
    found = Vendor(serve, host)
    try:
        yield found
    finally:
        await found.stop()


@contextlib.asynccontextmanager
async def calling(connections: int = 0, **more: Any) -> AsyncIterator[PooledTransport]:
    transport = PooledTransport("acme", connections, **more)
    try:
        yield transport
    finally:
        await transport.aclose()


async def ask(
    transport: PooledTransport, url: str, body: bytes = b"{}", timeouts: Timeouts = PATIENT
) -> tuple[int, bytes]:
    response = await transport.post(url, {"authorization": "Bearer fakekey"}, body, timeouts)
    return response.status, await response.read()


# Answers


@dataclass(frozen=True)
class Answer:
    """What a vendor sends, and what a caller is to make of it."""

    name: str
    data: bytes
    body: bytes | type[ProviderError]
    status: int = 200
    kept: bool = True
    """Whether the connection may serve another request."""
    closes: bool = False
    """Whether the vendor closes after it."""


def head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def sized(body: bytes, *lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return head(*lines, b"Content-Length: %d" % len(body), first=first) + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", lines: tuple[bytes, ...] = ()) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(*lines, b"Transfer-Encoding: chunked") + body + end


TEXT = b"data: " + bytes(range(97, 123)) * 3 + b"\n\n"
ZIPPED = gzip.compress(TEXT, mtime=0)

ANSWERS = [
    Answer("sized", sized(TEXT), TEXT),
    Answer("empty", sized(b""), b""),
    Answer("no-reason", sized(TEXT, first=b"HTTP/1.1 200"), TEXT),
    Answer("chunked", chunked(TEXT, b"more"), TEXT + b"more"),
    Answer("chunked-and-empty", chunked(), b""),
    Answer("extensions", head(b"Transfer-Encoding: chunked") + b'3;a=b;c="d"\r\none\r\n0;z\r\n\r\n', b"one"),
    Answer("spaces-after-size", head(b"Transfer-Encoding: chunked") + b"3 \r\none\r\n0\r\n\r\n", b"one"),
    Answer("trailers", chunked(TEXT, end=b"0\r\nX-Sum: 1\r\nContent-Encoding: br\r\n\r\n"), TEXT),
    Answer("CHUNKED", head(b"TRANSFER-ENCODING: CHUNKED ") + b"3\r\none\r\n0\r\n\r\n", b"one"),
    Answer("bare-line-feeds", sized(TEXT).replace(b"\r\n", b"\n"), TEXT),
    Answer("until-close", head() + TEXT, TEXT, kept=False, closes=True),
    Answer("until-close-and-empty", head(), b"", kept=False, closes=True),
    Answer("close", sized(TEXT, b"Connection: close"), TEXT, kept=False),
    Answer("close-among-others", sized(TEXT, b"Connection: keep-alive, close"), TEXT, kept=False),
    Answer("closed-at-once", sized(TEXT), TEXT, kept=False, closes=True),
    Answer("1.0", sized(TEXT, first=b"HTTP/1.0 200 OK"), TEXT, kept=False),
    Answer("1.0-kept", sized(TEXT, b"Connection: keep-alive", first=b"HTTP/1.0 200 OK"), TEXT),
    Answer("1.0-until-close", head(first=b"HTTP/1.0 200 OK") + TEXT, TEXT, kept=False, closes=True),
    Answer("204", head(first=b"HTTP/1.1 204 No Content"), b"", status=204),
    Answer("304", head(b"Content-Length: 99", first=b"HTTP/1.1 304 Not Modified"), b"", status=304),
    Answer("204-with-a-body", sized(TEXT, first=b"HTTP/1.1 204 No Content"), b"", status=204, kept=False),
    Answer("100-before", head(first=b"HTTP/1.1 100 Continue") + sized(TEXT), TEXT),
    Answer("103-before", head(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints") * 3 + chunked(TEXT), TEXT),
    Answer("upgrade-offered", sized(TEXT, b"Connection: Upgrade", b"Upgrade: h2c"), TEXT),
    Answer("blank-lines-before", b"\r\n\r\n" + sized(TEXT), TEXT),
    Answer("gzip", sized(ZIPPED, b"Content-Encoding: gzip "), TEXT),
    Answer("gzip-in-chunks", chunked(ZIPPED[:7], ZIPPED[7:], lines=(b"Content-Encoding: GZIP",)), TEXT),
    Answer("gzip-until-close", head(b"Content-Encoding: gzip") + ZIPPED, TEXT, kept=False, closes=True),
    Answer("gzip-of-nothing", sized(b"", b"Content-Encoding: gzip"), b""),
    Answer("deflate", sized(zlib.compress(TEXT), b"Content-Encoding: deflate"), TEXT),
    Answer("no-coding", sized(TEXT, b"Content-Encoding:"), TEXT),
    # Where an answer ends is beyond doubt, but something comes after it.
    Answer("two-at-once", sized(TEXT) + sized(b"not asked for"), TEXT, kept=False),
    Answer("one-and-a-bit", sized(TEXT) + b"HTTP/1.1 2", TEXT, kept=False),
    Answer("bytes-after", sized(TEXT) + b"x", TEXT, kept=False),
    Answer("bytes-after-chunks", chunked(TEXT) + b"x", TEXT, kept=False),
    Answer("bytes-after-close", sized(TEXT, b"Connection: close") + b"x", TEXT, kept=False),
    Answer("100-after", sized(TEXT) + head(first=b"HTTP/1.1 100 Continue"), TEXT, kept=False),
    # Where it ends is in doubt, or it is none.
    Answer("both-lengths", head(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    Answer("both-lengths-turned", head(b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    Answer("two-lengths", head(b"Content-Length: 3", b"Content-Length: 4") + b"one", BadReply),
    Answer("list-of-lengths", head(b"Content-Length: 3, 4") + b"one", BadReply),
    Answer("negative-length", head(b"Content-Length: -1") + b"one", BadReply),
    Answer("signed-length", head(b"Content-Length: +3") + b"one", BadReply),
    Answer("endless-length", head(b"Content-Length: 18446744073709551616") + b"one", BadReply),
    Answer("no-length", head(b"Content-Length:") + b"one", BadReply),
    Answer("hexadecimal-length", head(b"Content-Length: 0x3") + b"one", BadReply),
    Answer("twice-chunked", head(b"Transfer-Encoding: chunked, chunked") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    Answer("chunked-inside", head(b"Transfer-Encoding: chunked, identity") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    Answer("zipped-chunks", head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    Answer("nearly-chunked", head(b"Transfer-Encoding: \x0bchunked") + b"3\r\none\r\n0\r\n\r\n", BadReply),
    *(
        Answer(f"chunk-size-{size!r}", head(b"Transfer-Encoding: chunked") + size + b"\r\none\r\n0\r\n\r\n", BadReply)
        for size in (b"g", b"", b"-3", b"+3", b"0x3", b" 3", b"fffffffffffffffff")
    ),
    Answer("chunk-too-long", head(b"Transfer-Encoding: chunked") + b"3\r\nfour\r\n0\r\n\r\n", BadReply),
    Answer("101", head(b"Connection: upgrade", b"Upgrade: x", first=b"HTTP/1.1 101 Switching") + b"raw", BadReply),
    Answer("101-to-nothing", head(first=b"HTTP/1.1 101 Switching") + sized(TEXT), BadReply),
    Answer("1xx-with-a-body", sized(b"secret", first=b"HTTP/1.1 150 Hm") + sized(TEXT), BadReply),
    Answer("status-99", head(first=b"HTTP/1.1 099 Hm") + b"raw", BadReply),
    Answer("status-1000", sized(TEXT, first=b"HTTP/1.1 1000 Hm"), BadReply),
    Answer("0.9", b"hello there, how are you?\r\n\r\n", BadReply),
    Answer("tls", b"\x15\x03\x01\x00\x02\x02\x46", BadReply),
    Answer("http2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", BadReply),
    Answer("header-without-colon", sized(TEXT, b"X"), BadReply),
    Answer("brotli", sized(TEXT, b"Content-Encoding: br"), BadReply),
    Answer("not-gzip", sized(TEXT, b"Content-Encoding: gzip"), BadReply),
    Answer("half-a-gzip", sized(ZIPPED[:-9], b"Content-Encoding: gzip"), BadReply),
    Answer("two-gzips", sized(ZIPPED * 2, b"Content-Encoding: gzip"), BadReply),
]  # fmt: skip


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cuts(data: bytes, seed: int) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in random pieces."""
    yield [data]
    yield bytewise(data)
    chance = random.Random(seed)
    for _ in range(2):
        places = [0, *sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randint(1, 6)))), len(data)]
        yield [data[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
async def test_an_answer_is_the_same_however_it_was_cut(answer: Answer) -> None:
    pieces: list[bytes] = []
    left = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        try:
            await peer.say(*pieces)
            if not answer.closes:
                await peer.request()
                await peer.say(sized(b"the next"))
        finally:
            peer.close()
            left.set()

    for pieces in cuts(answer.data, seed=7):
        left.clear()
        async with vendor(serve) as server, calling(1) as transport:
            if isinstance(answer.body, bytes):
                assert await asyncio.wait_for(ask(transport, server.url), 5) == (answer.status, answer.body)
            else:
                with pytest.raises(answer.body):
                    await asyncio.wait_for(ask(transport, server.url), 5)
            if not answer.kept or not isinstance(answer.body, bytes):
                await asyncio.wait_for(left.wait(), 5)
                # What the vendor's end has said by now has been heard.
                for _ in range(3):
                    await asyncio.sleep(0)
                pieces = [sized(b"the next")]
            assert await asyncio.wait_for(ask(transport, server.url), 5) == (200, b"the next")
            assert server.made == (1 if answer.kept and isinstance(answer.body, bytes) else 2)
            assert (transport.in_use, transport.waiters) == (0, 0)


async def test_parts_of_a_gzip_that_mean_nothing_yet_are_no_chunks() -> None:
    async with (
        vendor(lambda peer: sleepy(peer, *bytewise(sized(ZIPPED, b"Content-Encoding: gzip")))) as server,
        calling() as transport,
    ):
        response = await transport.post(server.url, {}, b"", PATIENT)
        chunks = [chunk async for chunk in response.chunks()]
        assert all(chunks)
        assert b"".join(chunks) == TEXT


async def test_headers_of_every_kind() -> None:
    lines = (
        b"X-None:", b"X-Blank: \t ", b"X-Spaces:   a b  \t", b"X-Many: 1", b"X-MANY: 2", b"X-Folded: a", b" b",
        b"X-Latin: \xe9", b"X-Colon: a:b", b"X-Control: a\x01b",
    )  # fmt: skip

    async def serve(peer: Peer) -> None:
        await peer.request()
        early = head(b"X-Early: 1", first=b"HTTP/1.1 103 Early Hints")
        await peer.say(*bytewise(early + chunked(b"one", end=b"0\r\nX-Late: 1\r\n\r\n", lines=lines)))
        await peer.request()
        await peer.say(sized(b"two"))

    async with vendor(serve) as server, calling() as transport:
        first = await transport.post(server.url, {}, b"", PATIENT)
        assert await first.read() == b"one"
        second = await transport.post(server.url, {}, b"", PATIENT)
        assert await second.read() == b"two"
        assert dict(first.headers) == {
            "x-none": "", "x-blank": "", "x-spaces": "a b", "x-many": "1, 2", "x-folded": "a b",
            "x-latin": "é", "x-colon": "a:b", "x-control": "a\x01b", "transfer-encoding": "chunked",
        }  # fmt: skip
        assert dict(second.headers) == {"content-length": "3"}
        assert server.made == 1


ENDLESS = {
    "value": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 9999),
    "name": (b"HTTP/1.1 200 OK\r\n", b"x" * 9999),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"".join(b"X%d: y\r\n" % i for i in range(999))),
    "reason": (b"HTTP/1.1 200 ", b"x" * 9999),
    "interim": (b"", head(first=b"HTTP/1.1 100 Continue") * 99),
    "trailer": (chunked(b"one", end=b"0\r\nX: "), b"x" * 9999),
    "trailers": (chunked(b"one", end=b"0\r\n"), b"".join(b"X%d: y\r\n" % i for i in range(999))),
    "extension": (head(b"Transfer-Encoding: chunked") + b"3;", b"x" * 9999),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_what_has_no_end_is_not_read_for_ever(kind: str) -> None:
    start, more = ENDLESS[kind]
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(start)
        for _ in range(2000):
            await peer.say(more)
            sent += len(more)

    async with vendor(serve) as server, calling() as transport:
        with pytest.raises(BadReply):
            await asyncio.wait_for(ask(transport, server.url), 10)
        # What sockets hold comes on top of what was read.
        assert sent < 10 * http_connection.MAX_HEADER_BYTES
        assert transport.in_use == 0


async def test_a_long_stream_of_small_chunks_in_small_pieces_has_an_end() -> None:
    """What stands between chunks is not counted together."""
    times = http_connection.MAX_HEADER_BYTES // 64

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(head(b"Transfer-Encoding: chunked"))
        for _ in range(times):
            await peer.say(b"1;" + b"e" * 100, b"\r\nx\r\n")
        await peer.say(b"0\r\n\r\n")

    async with vendor(serve) as server, calling() as transport:
        assert await ask(transport, server.url) == (200, b"x" * times)


# Ends


BROKEN = {
    "sized": sized(b"hello"),
    "chunked": chunked(b"hello", b"you", end=b"0\r\nX: y\r\n\r\n"),
    "interim": head(first=b"HTTP/1.1 100 Continue") + sized(b"hello"),
    "gzip": chunked(ZIPPED[:40], ZIPPED[40:], lines=(b"Content-Encoding: gzip",)),
}


@pytest.mark.parametrize("by", [Peer.close, Peer.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("kind", BROKEN)
async def test_an_answer_that_breaks_off_anywhere_is_an_error(kind: str, by: Callable[[Peer], None]) -> None:
    data = BROKEN[kind]
    cut = 0

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(data[:cut])
        by(peer)

    async with vendor(serve) as server, calling(1) as transport:
        for cut in range(len(data)):  # noqa: B007
            with pytest.raises(Unavailable, match=r"^acme: the connection was (closed before|lost)"):
                await asyncio.wait_for(ask(transport, server.url), 5)
        assert (transport.in_use, server.made) == (0, len(data))


@pytest.mark.parametrize("coding", ["plain", "gzip"])
async def test_an_answer_without_a_length_ends_where_the_vendor_ends_it(coding: str) -> None:
    top = head(b"Content-Encoding: gzip") if coding == "gzip" else head(b"X-Plain: 1")
    data = top + (ZIPPED if coding == "gzip" else TEXT)
    cut = 0
    end: Callable[[Peer], None] = Peer.close
    heard = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(data[:cut])
        if end is Peer.reset and cut >= len(top):
            await heard.wait()
        end(peer)

    async with vendor(serve) as server, calling(1) as transport:
        for cut in range(len(data) + 1):
            whole = cut == len(data) if coding == "gzip" and cut > len(top) else cut >= len(top)
            end = Peer.close
            if whole:
                expected = TEXT if coding == "gzip" and cut > len(top) else data[len(top) : cut]
                assert await ask(transport, server.url) == (200, expected)
            else:
                with pytest.raises(Unavailable):
                    await ask(transport, server.url)
            # A connection that is reset has ended nothing.
            end = Peer.reset
            heard.clear()
            asking = asyncio.create_task(transport.post(server.url, {}, b"", PATIENT))
            await asyncio.wait([asking])
            heard.set()
            with pytest.raises(Unavailable):
                await (await asking).read()
        assert transport.in_use == 0


async def test_a_request_on_a_lost_connection_is_told_so() -> None:
    async def serve(peer: Peer) -> None:
        pass

    ended: list[Connection] = []
    async with vendor(serve) as server:
        connection = Connection(ended.append)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", server.port)
        await until(lambda: not connection.open)
        await asyncio.sleep(0.01)
        answer = connection.send(
            b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"", None, lambda kind, text: kind(text)
        )
        with pytest.raises(Unavailable):
            await asyncio.wait_for(answer.begun(), 5)
        assert ended == [connection]


# Silence, and slowness


async def sleepy(peer: Peer, *pieces: bytes) -> None:
    await peer.request()
    await peer.say(*pieces)
    await peer.gone()


@pytest.mark.parametrize(
    "pieces",
    [(), (b"HTTP/1.1",), (head(first=b"HTTP/1.1 100 Continue"),), (sized(b"hello")[:-1],), (chunked(b"one")[:-2],), (head(),)],
    ids=["nothing", "part-of-a-head", "interim", "part-of-a-body", "between-chunks", "until-close"],
)  # fmt: skip
async def test_silence_is_borne_for_so_long(pieces: tuple[bytes, ...]) -> None:
    async with vendor(lambda peer: sleepy(peer, *pieces)) as server, calling(1) as transport:
        started = time.monotonic()
        with pytest.raises(TimedOut, match="no answer in time"):
            await asyncio.wait_for(ask(transport, server.url, timeouts=HASTY), 5)
        assert time.monotonic() - started >= 0.05
        assert transport.in_use == 0
        await until(lambda: server.open == 0)


async def test_slowness_is_no_silence() -> None:
    data = head(first=b"HTTP/1.1 100 Continue") + chunked(b"one", b"two")
    step = len(data) // 10

    async def serve(peer: Peer) -> None:
        await peer.request()
        for i in range(0, len(data), step):
            await peer.say(data[i : i + step])
            await asyncio.sleep(0.04)

    async with vendor(serve) as server, calling() as transport:
        started = time.monotonic()
        assert await ask(transport, server.url, timeouts=Timeouts(idle=0.25)) == (200, b"onetwo")
        assert time.monotonic() - started > 0.3


async def test_a_loop_that_was_busy_does_not_take_the_vendor_for_silent() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    asked, busy = threading.Event(), threading.Event()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            asked.set()
            busy.wait(5)
            sock.sendall(sized(b"in time"))
            sock.recv(65536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    async with calling() as transport:
        task = asyncio.create_task(ask(transport, f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts=HASTY))
        await until(asked.is_set)

        # On some other socket's behalf: uvloop runs the timers that are due then before it reads what has come.
        near, far = socket.socketpair()
        loop = asyncio.get_running_loop()

        def stall() -> None:
            loop.remove_reader(near)
            busy.set()
            time.sleep(0.2)

        with near, far:
            loop.add_reader(near, stall)
            far.send(b"x")
            assert await task == (200, b"in time")
    await asyncio.to_thread(thread.join, 5)
    listener.close()


PARTS = [hashlib.sha256(b"%d" % i).digest() * 2048 for i in range(128)]
"""8 MB, no two parts alike."""


@contextlib.contextmanager
def taking_at_most(size: int) -> Iterator[None]:
    """Of the memory that Python hands out."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framing", ["chunked", "until-close"])
async def test_a_reader_who_does_not_read_slows_the_vendor_and_misses_nothing(framing: str) -> None:
    size = sum(map(len, PARTS))
    top = head(b"Transfer-Encoding: chunked") if framing == "chunked" else head()
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await peer.request()
        await peer.say(top)
        for part in PARTS:
            await peer.say(b"%x\r\n%b\r\n" % (len(part), part) if framing == "chunked" else part)
            sent += len(part)
        if framing == "chunked":
            await peer.say(b"0\r\n\r\n")
            await peer.gone()

    async with vendor(serve) as server, calling() as transport:
        with taking_at_most(2_000_000):
            response = await transport.post(server.url, {}, b"", HASTY)
            before = -1
            while not sent or sent != before:
                before = sent
                await asyncio.sleep(0.1)
        # It was silent for longer than it may be, but not of its own will.
        assert sent < size
        digest = hashlib.sha256()
        async for part in response.chunks():
            digest.update(part)
        assert digest.digest() == hashlib.sha256(b"".join(PARTS)).digest()
        assert transport.in_use == 0


async def test_a_vendor_has_its_time_again_after_a_slow_reader() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(head(b"Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(large), large))
        await go.wait()
        await asyncio.sleep(0.08)
        await peer.say(b"0\r\n\r\n")
        await peer.gone()

    large = b"x" * (http_connection.UNREAD_BYTES + 1)
    go = asyncio.Event()
    async with vendor(serve) as server, calling() as transport:
        response = await transport.post(server.url, {}, b"", Timeouts(idle=0.3))
        await asyncio.sleep(0.4)
        go.set()
        assert await response.read() == large


async def test_a_reader_who_leaves_a_whole_answer_unread_holds_nobody_up() -> None:
    """The connection reads on for the next request, and is held back for that one's reader alone."""
    large = b"x" * (http_connection.UNREAD_BYTES + 1)

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.loop.sock_sendall(peer.sock, sized(large))

    async with vendor(serve) as server, calling(1) as transport:
        unread = await transport.post(server.url, {}, b"", PATIENT)
        await until(lambda: transport.in_use == 0)
        assert await asyncio.wait_for(ask(transport, server.url), 5) == (200, large)
        assert await unread.read() == large
        assert server.made == 1


# Request bodies


@pytest.mark.parametrize("size", [70_000, 2_000_000, 30_000_000])
async def test_a_large_body_arrives_whole_and_is_not_copied(size: int) -> None:
    body = (b"".join(PARTS) * 4)[:size]
    held = sys.getrefcount(body)
    got = b""

    async def serve(peer: Peer) -> None:
        nonlocal got
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await peer.head()
        started.set()
        await go.wait()
        _, got = await peer.request()
        await peer.say(sized(b"thanks"))
        await peer.request()
        await peer.say(sized(b"again"))

    started, go = asyncio.Event(), asyncio.Event()
    async with vendor(serve) as server, calling() as transport:
        with taking_at_most(2_000_000):
            task = asyncio.create_task(ask(transport, server.url, body))
            await started.wait()
            await asyncio.sleep(0.05)
        go.set()
        assert await task == (200, b"thanks")
        assert got == body
        # Nor kept: a connection may be idle for long.
        assert sys.getrefcount(body) == held
        assert await ask(transport, server.url) == (200, b"again")
        assert server.made == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system takes more than is sent")
async def test_a_vendor_who_takes_a_large_body_slowly_is_not_silent() -> None:
    async def serve(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await peer.request(pause=0.005)
        await peer.say(sized(b"thanks"))

    async with vendor(serve) as server, calling() as transport:
        started = time.monotonic()
        assert await ask(transport, server.url, bytes(5_000_000), Timeouts(idle=0.3)) == (200, b"thanks")
        assert time.monotonic() - started > 0.3


async def test_a_vendor_who_does_not_take_a_large_body_is_silent() -> None:
    async def serve(peer: Peer) -> None:
        await peer.head()
        await never.wait()

    never = asyncio.Event()
    async with vendor(serve) as server, calling() as transport:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(ask(transport, server.url, bytes(30_000_000), HASTY), 10)
        assert transport.in_use == 0


async def test_an_answer_to_a_body_that_is_not_sent_yet_is_got() -> None:
    """And what is left of the body does not end up before the next request."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(sized(b"too large", first=b"HTTP/1.1 413 Content Too Large"))
        await peer.gone()

    async with vendor(serve) as server, calling() as transport:
        for made in (1, 2):
            assert await ask(transport, server.url, bytes(30_000_000)) == (413, b"too large")
            assert (server.made, transport.in_use) == (made, 0)
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("by", [Peer.close, Peer.reset], ids=["closed", "reset"])
async def test_a_connection_lost_while_a_large_body_leaves(by: Callable[[Peer], None]) -> None:
    async def serve(peer: Peer) -> None:
        await peer.head()
        by(peer)

    async with vendor(serve) as server, calling() as transport:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(ask(transport, server.url, bytes(30_000_000)), 5)
        assert transport.in_use == 0


async def test_a_call_cancelled_while_its_body_leaves_closes_the_connection() -> None:
    async def serve(peer: Peer) -> None:
        await peer.head()
        asked.set()
        await go.wait()
        await peer.gone()

    asked, go = asyncio.Event(), asyncio.Event()
    async with vendor(serve) as server, calling() as transport:
        task = asyncio.create_task(ask(transport, server.url, bytes(30_000_000)))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.in_use == 0
        go.set()
        await until(lambda: server.open == 0)


# What callers do


async def test_drain_waits_for_an_end_that_comes_late_and_not_for_one_that_does_not() -> None:
    late = asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(chunked(b"data: [DONE]\n\n", end=b""))
            await late.wait()
            await peer.say(b"0\r\n\r\n")

    async with vendor(serve) as server, calling() as transport:
        response = await transport.post(server.url, {}, b"", PATIENT)
        await anext(response.chunks())
        asyncio.get_running_loop().call_soon(late.set)
        await response.drain()
        assert (transport.in_use, server.open) == (0, 1)
        late.clear()
        response = await transport.post(server.url, {}, b"", PATIENT)
        await anext(response.chunks())
        await response.drain()
        assert (transport.in_use, server.made) == (0, 1)
        late.set()
        await until(lambda: server.open == 0)


async def test_closing_twice_and_after_the_end_harms_nobody() -> None:
    async def serve(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            await peer.say(chunked(body, end=b"" if body == b"endless" else b"0\r\n\r\n"))

    async with vendor(serve) as server, calling(1) as transport:
        ended = await transport.post(server.url, {}, b"one", PATIENT)
        assert await ended.read() == b"one"
        other = await transport.post(server.url, {}, b"endless", PATIENT)
        for _ in range(2):
            ended.close()
            await ended.drain()
        chunks = other.chunks()
        assert await anext(chunks) == b"endless"
        for _ in range(3):
            other.close()
        with pytest.raises(Unavailable):
            await anext(chunks)
        assert transport.in_use == 0
        assert await ask(transport, server.url, b"two") == (200, b"two")
        assert server.made == 2


async def test_an_answer_without_a_length_that_is_given_up_does_not_look_whole() -> None:
    async with vendor(lambda peer: sleepy(peer, head() + b"some")) as server, calling() as transport:
        response = await transport.post(server.url, {}, b"", PATIENT)
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        response.close()
        with pytest.raises(Unavailable):
            await reading


async def test_nothing_is_said_of_keys() -> None:
    async with vendor(lambda peer: sleepy(peer, b"garbage\r\n\r\n")) as server, calling() as transport:
        with pytest.raises(BadReply) as raised:
            await ask(transport, server.url)
        told = [raised.value]
        for value in ("fakekey\n", "fakekey\r\nx-evil: 1", "fake\0key", "fakekey…"):
            with pytest.raises(ValueError, match="a header has") as refused:
                await transport.post(server.url, {"authorization": value}, b"", PATIENT)
            told.append(refused.value)
        for error in told:
            assert "fake" not in f"{error!r} {error} {error.__cause__!r} {vars(error)}"
        assert "fake" not in repr(transport)
        assert server.made == 1


@pytest.mark.parametrize("value", ["a\r\n", "a\n", "\r\na", "a\r\nb: c", "a\rb", "a\0", "\n"])
async def test_a_header_that_would_be_two_is_never_sent(value: str) -> None:
    async with vendor(lambda peer: sleepy(peer, sized(b""))) as server, calling() as transport:
        for headers in ({"x-a": value}, {value: "a"}, {"x-a": "a", "x-b": value, "x-c": "c"}):
            with pytest.raises(ValueError, match="line break"):
                await transport.post(server.url, headers, b"", PATIENT)
        assert server.made == 0
