"""The sockets to a vendor: who gets them, who waits, which are used again, and none left behind. On both loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from test_http_connection import PATIENT, Peer, ask, calling, chunked, head, sized, vendor

from providers import http, http_connection
from providers.errors import Overloaded, ProviderError, Unavailable
from providers.http_connection import Connection
from providers.types import Timeouts
from tests import fleet
from tests.fleet import until

pytestmark = pytest.mark.anyio

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


async def echo(peer: Peer) -> None:
    while True:
        _, body = await peer.request()
        await peer.say(sized(body))


async def closing(peer: Peer) -> None:
    await peer.request()
    await peer.say(sized(b"", b"Connection: close"))


class Holding:
    """Answers each request when it is let go, in whatever order."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._gates: dict[bytes, asyncio.Event] = {}

    async def __call__(self, peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            self.asked.append(body)
            await self._gate(body).wait()
            await peer.say(sized(body))

    def let(self, body: bytes) -> None:
        self._gate(body).set()

    def _gate(self, body: bytes) -> asyncio.Event:
        return self._gates.setdefault(body, asyncio.Event())


def names(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


async def test_never_more_sockets_than_allowed_and_whoever_waits_longest_is_next() -> None:
    holding = Holding()
    async with vendor(holding) as server, calling(2) as transport:
        tasks = []
        for i, name in enumerate(names(6)):
            tasks.append(asyncio.create_task(ask(transport, server.url, name)))
            await until(lambda i=i: transport.in_use + transport.waiters == i + 1)
        await until(lambda: len(holding.asked) == 2)
        assert (transport.in_use, transport.waiters) == (2, 4)
        for i, name in enumerate(names(6)):
            assert holding.asked == names(min(i + 2, 6))
            holding.let(name)
            assert await tasks[i] == (200, name)
            await until(lambda i=i: len(holding.asked) == min(i + 3, 6))
        assert (server.made, server.most) == (2, 2)
        assert (transport.in_use, transport.waiters) == (0, 0)


async def test_a_place_whose_socket_broke_is_still_a_place() -> None:
    """Those who wait open sockets of their own where the one before them left none."""

    async with vendor(closing) as server, calling(1) as transport:
        assert await asyncio.gather(*(ask(transport, server.url) for _ in range(9))) == [(200, b"")] * 9
        assert (server.made, transport.in_use, transport.waiters) == (9, 0, 0)


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "QUEUE_SECONDS", 0.05)
    holding = Holding()
    async with vendor(holding) as server, calling(1) as transport:
        first = asyncio.create_task(ask(transport, server.url, b"first"))
        await until(lambda: holding.asked)
        with pytest.raises(Overloaded, match="in use") as raised:
            await ask(transport, server.url, b"second")
        assert raised.value.retry_after == 0.05
        assert (transport.in_use, transport.waiters) == (1, 0)
        holding.let(b"first")
        assert await first == (200, b"first")
        assert holding.asked == [b"first"]


@pytest.mark.parametrize("order", ["cancelled-first", "given-first", "just-cancelled"])
async def test_cancelled_while_it_waits(order: str) -> None:
    holding = Holding()
    async with vendor(holding) as server, calling(1) as transport:
        response = asyncio.create_task(transport.post(server.url, {}, b"1", PATIENT))
        await until(lambda: holding.asked)
        waiting = asyncio.create_task(ask(transport, server.url, b"2"))
        await until(lambda: transport.waiters == 1)
        # All in one turn of the loop: who waits has heard of neither when the other happens.
        if order == "cancelled-first":
            waiting.cancel()
            response.cancel()
            await asyncio.sleep(0)
        elif order == "given-first":
            response.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
        else:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        response.cancel()
        with pytest.raises(asyncio.CancelledError):
            await response
        assert (transport.in_use, transport.waiters) == (0, 0)
        holding.let(b"3")
        assert await ask(transport, server.url, b"3") == (200, b"3")


async def test_a_place_given_to_one_just_cancelled_goes_on_to_the_next() -> None:
    holding = Holding()
    async with vendor(holding) as server, calling(1) as transport:
        response = asyncio.create_task(transport.post(server.url, {}, b"1", PATIENT))
        await until(lambda: holding.asked)
        waiting = [asyncio.create_task(ask(transport, server.url, name)) for name in (b"2", b"3", b"4")]
        await until(lambda: transport.waiters == 3)
        response.cancel()
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        for name in (b"2", b"3", b"4"):
            holding.let(name)
        told = await asyncio.gather(response, *waiting, return_exceptions=True)
        assert [type(each) for each in told[:3]] == [asyncio.CancelledError] * 3
        assert told[3] == (200, b"4")
        assert (transport.in_use, transport.waiters) == (0, 0)


def descriptors() -> int:
    return len(os.listdir(DESCRIPTORS))


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts what Linux lists")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_cancelled_at_any_step_of_connecting(
    tls: bool, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop takes so many steps to connect; a call is cancelled after each of them, and leaves at once.

    Also where the vendor has no farewell for it.
    """
    certificate = certified(authority, "api.example")

    async def serve(peer: Peer) -> None:
        if tls:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            whole = certificate.wrap_bio(incoming, outgoing, server_side=True)
            wanting = True
            while wanting:
                incoming.write(await peer.loop.sock_recv(peer.sock, 65536) or farewell())
                with contextlib.suppress(ssl.SSLWantReadError):
                    whole.do_handshake()
                    wanting = False
                await peer.say(outgoing.read())
        await peer.gone()

    def farewell() -> bytes:
        raise EOFError

    # No thread looks the name up, and the vendor is on this loop: the steps are the same each time.
    resolving(monkeypatch, V4)
    context = trusting(authority)
    async with vendor(serve) as server:
        url = f"{'https' if tls else 'http'}://api.example:{server.port}"
        before = 0
        for steps in range(500):
            async with calling(1, tls=context) as transport:
                task = asyncio.create_task(ask(transport, url))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (transport.in_use, transport.waiters) == (0, 0)
            await until(lambda: server.open == 0, 5)
            before = before or descriptors()
            if server.made > 25:
                break
        assert descriptors() <= before + 2


async def test_a_vendor_who_does_not_take_connections_is_not_waited_for(authority: trustme.CA) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with calling(1, tls=trusting(authority)) as transport:
            with pytest.raises(Unavailable, match="acme: could not connect in time"):
                await ask(transport, f"https://127.0.0.1:{silent.getsockname()[1]}", timeouts=Timeouts(connect=0.1))
            assert transport.in_use == 0


async def test_sockets_that_nobody_needs_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEPT_SECONDS", 0.2)
    holding = Holding()
    async with vendor(holding) as server, calling() as transport:
        tasks = [asyncio.create_task(ask(transport, server.url, name)) for name in names(5)]
        await until(lambda: len(holding.asked) == 5)
        for name in names(5):
            holding.let(name)
        await asyncio.gather(*tasks)
        assert (transport.in_use, server.open) == (0, 5)
        used = 0
        while server.open > 1:
            await ask(transport, server.url, b"0")
            used += 1
            await asyncio.sleep(0.02)
        # The one that is in use all the time is the one that stays.
        assert used > 5
        assert server.made == 5
        await until(lambda: server.open == 0)
        assert await ask(transport, server.url, b"0") == (200, b"0")
        assert server.made == 6


@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["closed", "reset"])
async def test_a_socket_that_the_vendor_closed_meanwhile_is_not_used(linger: bytes | None) -> None:
    serving: list[asyncio.Task[Any]] = []

    async def serve(peer: Peer) -> None:
        serving.append(unwrapped(asyncio.current_task()))
        if linger is not None:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await echo(peer)

    async with vendor(serve) as server, calling(3) as transport:
        for made in (3, 6, 9):
            assert await asyncio.gather(*(ask(transport, server.url) for _ in range(3))) == [(200, b"{}")] * 3
            assert server.made == made
            for task in serving:
                task.cancel()
            await until(lambda: server.open == 0)
            await asyncio.sleep(0.01)


def unwrapped(task: asyncio.Task[Any] | None) -> asyncio.Task[Any]:
    assert task is not None
    return task


async def test_a_socket_that_closes_just_as_a_request_leaves_costs_that_request_alone() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(sized(b"one"))
        await peer.request()

    async with vendor(serve) as server, calling(1) as transport:
        for made in (1, 2, 3):
            assert await ask(transport, server.url) == (200, b"one")
            with pytest.raises(Unavailable):
                await ask(transport, server.url)
            assert (server.made, transport.in_use) == (made, 0)


async def test_what_comes_unasked_between_requests_is_no_answer_to_the_next() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(sized(b"one"))
        await go.wait()
        await peer.say(sized(b"poison"))
        await peer.gone()

    go = asyncio.Event()
    async with vendor(serve) as server, calling(1) as transport:
        assert await ask(transport, server.url) == (200, b"one")
        go.set()
        await until(lambda: server.open == 0)
        assert await ask(transport, server.url) == (200, b"one")
        assert server.made == 2


async def test_closing_lets_calls_under_way_end() -> None:
    holding = Holding()
    async with vendor(holding) as server, calling(2) as transport:
        assert holding.let(b"idle") is None
        await ask(transport, server.url, b"idle")
        tasks = [asyncio.create_task(ask(transport, server.url, name)) for name in names(4)]
        await until(lambda: (transport.in_use, transport.waiters, len(holding.asked)) == (2, 2, 3))
        await transport.aclose()
        assert transport.in_use == 2
        for name in names(4):
            holding.let(name)
        assert await asyncio.gather(*tasks) == [(200, name) for name in names(4)]
        assert (transport.in_use, transport.waiters) == (0, 0)
        # One that comes even later is served, and leaves nothing open.
        assert await ask(transport, server.url, b"0") == (200, b"0")
        await until(lambda: server.open == 0)


# Under load


async def fickle(peer: Peer, chance: random.Random) -> None:
    """Answers with what was asked, in one form or another, or breaks off anywhere."""
    while True:
        _, body = await peer.request()
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        half = len(body) // 2
        answer = chance.choice((sized(body), chunked(body[:half], body[half:]) if half else sized(body)))
        place = chance.randrange(len(answer))
        match chance.randrange(20):
            case 0:
                return
            case 1:
                await peer.say(answer[:place])
                return
            case 2:
                await peer.say(answer[:place])
                peer.reset()
                return
            case 3:
                await peer.say(sized(body, b"Connection: close"))
                return
            case 4:
                await peer.say(answer)
                return
            case 5:
                await peer.say(head() + body)
                return
            case 6:
                await peer.say(b"garbage\r\n\r\n")
                await peer.gone()
                return
            case _:
                await peer.say(answer[:place], answer[place:])


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts what Linux lists")
async def test_every_call_gets_its_own_answer_or_none(figure: Callable[[str], None]) -> None:
    """2,500 calls, 50 at a time, of which many are cancelled and many break: and nothing is left of them."""
    chance = random.Random(11)
    told = {"answered": 0, "broken": 0, "cancelled": 0}

    async def call(number: int) -> None:
        body = b"%d " % number * chance.choice((1, 2, 30, 3000))
        try:
            response = await transport.post(server.url, {}, body, PATIENT)
            if chance.random() < 0.2:
                chunks = response.chunks()
                assert body.startswith(await anext(chunks))
                response.close()
                return
            got = await response.read()
        except ProviderError:
            told["broken"] += 1
        except StopAsyncIteration:
            # One without a length that the vendor ended at once.
            assert "content-length" not in response.headers
        else:
            assert got == body
            told["answered"] += 1

    async def worker(numbers: Iterator[int]) -> None:
        for number in numbers:
            task = asyncio.create_task(call(number))
            if chance.random() < 0.2:
                for _ in range(chance.randrange(16)):
                    await asyncio.sleep(0)
                task.cancel()
                told["cancelled"] += 1
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def living() -> int:
        gc.collect()
        kinds = (Connection, http_connection.Answer)
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    async with vendor(lambda peer: fickle(peer, chance)) as server:
        async with calling(1) as transport:
            # The loop opens a file of its own with its first socket.
            await asyncio.gather(*(worker(iter(range(9))) for _ in range(2)))
        await until(lambda: server.open == 0)
        before, files = living(), descriptors()
        async with calling(20) as transport:
            numbers = iter(range(2500))
            await asyncio.wait_for(asyncio.gather(*(worker(numbers) for _ in range(50))), 60)
            assert (transport.in_use, transport.waiters) == (0, 0)
            await until(lambda: server.open <= 20)
            assert living() - before <= 2 * 20
        await until(lambda: server.open == 0)
        await until(lambda: descriptors() <= files)
    assert min(told.values()) > 300
    figure(f"of 2,500 calls under load {told}")


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_closed_connection_is_no_garbage_to_look_for() -> None:
    def living() -> int:
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    async with vendor(closing) as server, calling() as transport:
        await ask(transport, server.url)
        gc.collect()
        before = living()
        gc.disable()
        try:
            for _ in range(20):
                await ask(transport, server.url)
            await until(lambda: server.open == 0)
            assert living() - before <= 1
        finally:
            gc.enable()


# Where it connects to


async def test_ipv6_literals_paths_and_queries() -> None:
    heads: list[list[str]] = []

    async def serve(peer: Peer) -> None:
        while True:
            top, _ = await peer.request()
            heads.append(top.split("\r\n"))
            await peer.say(sized(b""))

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with vendor(serve, "::1") as server, calling() as transport:
        for path in ("", "/", "/v1/chat?api-version=1&a=b", "?a=b", "/a%20b#part"):
            await ask(transport, server.url + path)
        assert [lines[0] for lines in heads] == [
            f"POST {target} HTTP/1.1" for target in ("/", "/", "/v1/chat?api-version=1&a=b", "/?a=b", "/a%20b")
        ]
        assert {lines[1] for lines in heads} == {f"host: [::1]:{server.port}"}
        assert server.made == 1


def resolving(monkeypatch: pytest.MonkeyPatch, *found: tuple[socket.AddressFamily, str]) -> list[tuple[str, int]]:
    """Every name means these addresses, at the port asked for; returns what is asked."""
    loop = asyncio.get_running_loop()
    asked: list[tuple[str, int]] = []
    truly = loop.getaddrinfo

    async def resolve(name: str, port: int, **more: Any) -> list[Any]:
        if name[0].isalpha():
            asked.append((name, port))
            return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in found]
        return await truly(name, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    return asked


V4, V6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


async def test_the_host_header_is_what_the_url_says(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def serve(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.say(sized(b""))

    async with vendor(serve) as server, calling() as transport:
        asked = resolving(monkeypatch, V4)
        await ask(transport, f"http://api.example:{server.port}/v1")
        assert f"\r\nhost: api.example:{server.port}\r\n" in heads[0]
        for url, host, port in (
            ("http://api.invalid", "api.invalid", 80),
            ("https://api.invalid", "api.invalid", 443),
            ("https://api.invalid:80/", "api.invalid:80", 80),
        ):
            # Nobody listens there, but the head is made before.
            with pytest.raises(Unavailable):
                await ask(transport, url)
            assert asked[-1] == (host.split(":")[0], port)
            assert any(f"\r\nhost: {host}\r\n".encode() in head for _, head in transport._heads.values())


@pytest.mark.parametrize("first", [V4, V6], ids=["v4-first", "v6-first"])
async def test_a_name_with_two_addresses_of_which_one_listens(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, *((V4, V6) if first is V4 else (V6, V4)))
    async with vendor(echo) as server, calling() as transport:
        assert await ask(transport, f"http://localhost:{server.port}") == (200, b"{}")


async def test_a_name_is_looked_up_once_and_again_where_nobody_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with vendor(closing) as server, calling(1) as transport:
        asked = resolving(monkeypatch, V4)
        for _ in range(3):
            await ask(transport, f"http://api.example:{server.port}")
        assert (len(asked), server.made) == (1, 3)
    async with calling(1) as transport:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await ask(transport, f"http://api.example:{server.port}")
    assert len(asked) == 3


async def test_a_name_that_means_nothing_is_unavailable() -> None:
    async with calling(1) as transport:
        for name in ("nowhere.invalid", "a" * 64 + ".invalid", "a..invalid"):
            with pytest.raises(Unavailable, match="could not connect"):
                await ask(transport, f"http://{name}")
        assert transport.in_use == 0


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def listening(
    authority: trustme.CA | None,
    name: str = "127.0.0.1",
    answer: Callable[[Any], None] | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> AsyncIterator[str]:
    """On threads, each connection until its caller leaves: what is sent, and how it ends, is `answer`'s affair."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    context = certified(authority or trustme.CA(), name)
    context.maximum_version = version

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            sock.settimeout(30)
            whole: Any = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) if authority else sock
            with contextlib.closing(whole):
                if answer is not None:
                    answer(whole)
                    return
                while whole.recv(65536):
                    whole.sendall(sized(b""))

    def accept() -> None:
        with ThreadPoolExecutor(64) as threads, contextlib.suppress(OSError):
            while True:
                threads.submit(serve, listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"{'https' if authority else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        await asyncio.to_thread(thread.join, 10)


async def test_who_is_trusted_is_called_and_nobody_else(authority: trustme.CA) -> None:
    for name, context, right in (
        ("127.0.0.1", trusting(authority), True),
        ("127.0.0.1", trusting(trustme.CA()), False),
        ("api.example", trusting(authority), False),
    ):
        async with listening(authority, name) as url, calling(1, tls=context) as transport:
            for _ in range(2):
                if right:
                    assert await ask(transport, url) == (200, b"")
                    continue
                with pytest.raises(Unavailable, match=r"^acme: could not connect: its TLS certificate is not to be"):
                    await ask(transport, url)
            assert transport.in_use == 0


async def test_without_a_context_the_system_says_who_is_trusted(authority: trustme.CA) -> None:
    async with listening(authority) as url, calling(1) as transport:
        with pytest.raises(Unavailable, match="not to be trusted"):
            await ask(transport, url)


async def test_a_vendor_without_tls_is_unavailable(authority: trustme.CA) -> None:
    async with listening(None) as url, calling(1, tls=trusting(authority)) as transport:
        with pytest.raises(Unavailable, match="could not connect"):
            await ask(transport, url.replace("http:", "https:"))
        assert transport.in_use == 0


@pytest.mark.parametrize("framing", ["chunked", "until-close"])
@pytest.mark.parametrize("farewell", [True, False], ids=["close_notify", "cut"])
async def test_a_tls_stream_that_is_cut_is_no_whole_answer(
    authority: trustme.CA, framing: str, farewell: bool, anyio_backend: tuple[str, dict[str, Any]]
) -> None:
    cut = {"chunked": chunked(b"one", end=b""), "until-close": head() + b"one"}

    def answer(sock: ssl.SSLSocket) -> None:
        sock.recv(65536)
        sock.sendall(cut[framing])
        if farewell:
            sock.unwrap()

    async with listening(authority, answer=answer) as url, calling(1, tls=trusting(authority)) as transport:
        # To asyncio's own loop every end is one that was said.
        if framing == "until-close" and (farewell or not anyio_backend[1]["use_uvloop"]):
            assert await ask(transport, url) == (200, b"one")
        else:
            with pytest.raises(Unavailable, match="the connection was"):
                await asyncio.wait_for(ask(transport, url), 5)
        assert transport.in_use == 0


async def test_a_tls_connection_that_ends_as_it_begins_is_unavailable(authority: trustme.CA) -> None:
    """Until TLS 1.3 a farewell can come along with the end of the handshake: before the request has left."""

    def answer(sock: ssl.SSLSocket) -> None:
        sock.unwrap()

    async with (
        listening(authority, answer=answer, version=ssl.TLSVersion.TLSv1_2) as url,
        calling(1, tls=trusting(authority)) as transport,
    ):
        for _ in range(20):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(ask(transport, url, timeouts=Timeouts(idle=None)), 5)
            assert transport.in_use == 0


@pytest.mark.parametrize("sends", [sized, lambda body, line: head(line) + body], ids=["sized", "until-close"])
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
@pytest.mark.parametrize("rest", [1000, 3_000_000])
async def test_a_slow_reader_over_tls_misses_nothing_that_came_before_the_end(
    authority: trustme.CA, rest: int, sends: Callable[[bytes, bytes], bytes]
) -> None:
    body = random.Random(5).randbytes(http_connection.UNREAD_BYTES + 1 + rest)
    paused = threading.Event()

    def answer(sock: ssl.SSLSocket) -> None:
        sock.recv(65536)
        data = sends(body, b"Connection: close")
        sock.sendall(data[:-rest])
        paused.wait(10)
        sock.sendall(data[-rest:])
        if sends is not sized:
            # Says goodbye, and waits for none.
            sock.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                sock.unwrap()

    async with listening(authority, answer=answer) as url, calling(1, tls=trusting(authority)) as transport:
        response = await transport.post(url, {}, b"", PATIENT)
        await until(lambda: response._paused)  # type: ignore[attr-defined]
        paused.set()
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(response.read(), 5) == body
        assert transport.in_use == 0


async def test_a_large_body_over_tls_arrives_whole(authority: trustme.CA) -> None:
    body = random.Random(5).randbytes(10_000_000)
    got = bytearray()

    def answer(sock: ssl.SSLSocket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        got.extend(head.partition(b"\r\n\r\n")[2])
        while len(got) < len(body):
            got.extend(sock.recv(65536))
        sock.sendall(sized(b"thanks"))
        sock.recv(1)

    async with listening(authority, answer=answer) as url, calling(1, tls=trusting(authority)) as transport:
        assert await ask(transport, url, body) == (200, b"thanks")
        assert got == body
        assert transport.in_use == 0


# Through a whole gateway


def test_a_gateway_whose_sockets_are_all_taken_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the model is as well as before; a route goes on to the next."""
    monkeypatch.setattr(http, "QUEUE_SECONDS", 0.2)
    with fleet.simulated() as simulator:
        text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace(
            "kind: inception, ", "kind: inception, connections: 1, "
        )
        assert "connections: 1" in text
        with fleet.serving(text) as gateway:

            def call(model: str) -> Any:
                body = {"model": model, "messages": [{"role": "user", "content": "say exactly: hello"}]}
                return fleet.http.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)

            def taken() -> int:
                return sum(each.in_use for each in gateway.gateway.snapshot.transports if each.provider == "inception")

            simulator.faults({"vendor": "inception", "model": "*", "kind": "silent", "seconds": 60})
            body = b'{"model": "mercury", "messages": [{"role": "user", "content": "hello"}]}'
            with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as caller:
                request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
                caller.sendall(request % (len(body), body))
                fleet.wait_for(lambda: taken() == 1)
                refused = call("mercury")
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert refused.json()["error"]["code"] == "server_is_overloaded"
                onward = call("auto")
                assert (onward.status_code, onward.headers["x-talaria-model"]) == (200, "gpt-4.1-nano")
                assert onward.headers["x-talaria-attempts"] == "2"
            fleet.wait_for(lambda: taken() == 0)
            simulator.faults()
            again = call("auto")
            assert (again.headers["x-talaria-model"], again.headers["x-talaria-attempts"]) == ("mercury", "1")
