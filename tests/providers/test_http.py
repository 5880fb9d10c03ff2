"""Both transports against a real server that misbehaves by path."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from providers import http_connection
from providers.base import Transport
from providers.errors import BadReply, ProviderError, TimedOut, Unavailable
from providers.http import PooledTransport
from providers.http_httpx import HttpxTransport
from providers.types import Timeouts

pytestmark = pytest.mark.anyio

PATIENT = Timeouts(connect=5, idle=5)
HASTY = Timeouts(connect=5, idle=0.1)
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers one request after another on each connection."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        self.left = asyncio.Event()
        """Set when a client has closed a connection in the middle of its answer."""
        self.go = asyncio.Event()
        self.serving: set[asyncio.Task[None]] = set()

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.ensure_future(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                self.requests.append((method, path, headers, body))
                if not await self.answer(path, reader, writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match path:
            case "/plain":
                writer.write(b"HTTP/1.1 201 Created\r\nX-Request-ID: r1\r\nContent-Length: 5\r\n\r\nhello")
            case "/empty":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            case "/chunks":
                writer.write(CHUNKED + b"3\r\none\r\n")
                await self.go.wait()
                writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
            case "/redirect":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /plain\r\nContent-Length: 0\r\n\r\n")
            case "/reset":
                writer.transport.abort()
                return False
            case "/half":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                return False
            case "/half-chunks":
                writer.write(CHUNKED + b"4\r\nhalf\r\n")
                return False
            case "/garbage":
                writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
                return False
            case "/silent":
                await self._wait_for_the_client_to_leave(reader)
                return False
            case "/stall":
                writer.write(CHUNKED + b"3\r\none\r\n")
                await self._wait_for_the_client_to_leave(reader)
                return False
        await writer.drain()
        return True

    async def _wait_for_the_client_to_leave(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self.left.set()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    served = Server()
    listener = await asyncio.start_server(served.begin, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    yield served, f"http://127.0.0.1:{port}"
    listener.close()
    await asyncio.gather(*served.serving, return_exceptions=True)


@pytest.fixture(params=[PooledTransport, HttpxTransport])
async def transport(request: pytest.FixtureRequest, server: object) -> AsyncIterator[Transport]:
    made: Transport = request.param()
    yield made
    await made.aclose()


async def test_post_sends_headers_and_body_and_returns_status_headers_and_body(
    transport: Transport, server: tuple[Server, str]
) -> None:
    served, url = server
    response = await transport.post(url + "/plain", {"authorization": "Bearer k"}, b'{"a":1}', PATIENT)
    assert (response.status, response.headers["x-request-id"]) == (201, "r1")
    assert await response.read() == b"hello"
    method, path, headers, body = served.requests[0]
    assert (method, path, body) == ("POST", "/plain", b'{"a":1}')
    assert headers["authorization"] == "Bearer k"


async def test_an_empty_body_is_sent_empty(transport: Transport, server: tuple[Server, str]) -> None:
    served, url = server
    response = await transport.post(url + "/empty", {}, b"", PATIENT)
    assert await response.read() == b""
    assert (served.requests[0][0], served.requests[0][3]) == ("POST", b"")


async def test_chunks_are_handed_on_as_they_arrive(transport: Transport, server: tuple[Server, str]) -> None:
    served, url = server
    response = await transport.post(url + "/chunks", {}, b"", PATIENT)
    chunks = response.chunks()
    assert await anext(chunks) == b"one"
    served.go.set()
    assert [chunk async for chunk in chunks] == [b"two"]


async def test_a_connection_is_used_again(transport: Transport, server: tuple[Server, str]) -> None:
    served, url = server
    for _ in range(3):
        await (await transport.post(url + "/plain", {}, b"", PATIENT)).read()
    assert (len(served.requests), served.connections) == (3, 1)


async def test_redirects_are_not_followed(transport: Transport, server: tuple[Server, str]) -> None:
    served, url = server
    response = await transport.post(url + "/redirect", {}, b"", PATIENT)
    assert (response.status, await response.read(), len(served.requests)) == (302, b"", 1)


async def test_nobody_listening_is_unavailable(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="could not connect"):
        await transport.post(f"http://127.0.0.1:{port}/", {}, b"", PATIENT)


@pytest.mark.parametrize(
    ("path", "timeouts", "expected"),
    [
        ("/reset", PATIENT, Unavailable),
        ("/half", PATIENT, Unavailable),
        ("/half-chunks", PATIENT, Unavailable),
        ("/garbage", PATIENT, BadReply),
        ("/silent", HASTY, TimedOut),
        ("/stall", HASTY, TimedOut),
    ],
)
@pytest.mark.parametrize("whole", [True, False], ids=["read", "chunks"])
async def test_what_goes_wrong_is_told_in_our_words(
    transport: Transport,
    server: tuple[Server, str],
    path: str,
    timeouts: Timeouts,
    expected: type[ProviderError],
    whole: bool,
) -> None:
    _, url = server

    async def call() -> None:
        response = await transport.post(url + path, {}, b"", timeouts)
        if whole:
            await response.read()
        else:
            _ = [chunk async for chunk in response.chunks()]

    with pytest.raises(ProviderError) as raised:
        await call()
    assert type(raised.value) in expected_of(transport, expected)
    assert "127.0.0.1" not in raised.value.message


def expected_of(transport: Transport, expected: type[ProviderError]) -> tuple[type[ProviderError], ...]:
    # httpx has one class of error for a connection that was lost and for an answer that is no HTTP.
    lost_or_garbled = isinstance(transport, HttpxTransport) and expected is Unavailable
    return (Unavailable, BadReply) if lost_or_garbled else (expected,)


async def test_chunks_before_the_break_are_handed_on(transport: Transport, server: tuple[Server, str]) -> None:
    _, url = server
    chunks = (await transport.post(url + "/half-chunks", {}, b"", PATIENT)).chunks()
    assert await anext(chunks) == b"half"
    with pytest.raises(expected_of(transport, Unavailable)):
        await anext(chunks)


async def test_close_is_seen_by_the_vendor_at_once(transport: Transport, server: tuple[Server, str]) -> None:
    served, url = server
    response = await transport.post(url + "/stall", {}, b"", PATIENT)
    assert await anext(response.chunks()) == b"one"
    response.close()
    await asyncio.wait_for(served.left.wait(), 1)


@pytest.mark.parametrize("path", ["/silent", "/stall"])
async def test_a_cancelled_call_is_seen_by_the_vendor_at_once(
    transport: Transport, server: tuple[Server, str], path: str
) -> None:
    served, url = server

    async def call() -> None:
        await (await transport.post(url + path, {}, b"", PATIENT)).read()

    task = asyncio.create_task(call())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(served.left.wait(), 1)


async def test_answers_have_a_largest_size(server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = server
    monkeypatch.setattr(http_connection, "MAX_REPLY_BYTES", 4)
    transport = PooledTransport()
    response = await transport.post(url + "/plain", {}, b"", PATIENT)
    with pytest.raises(BadReply):
        await response.read()
    await transport.aclose()
