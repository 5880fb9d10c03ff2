"""One request's connection: reads it, writes to it, notices when the caller leaves, and can tear it down."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRANSPORT = "simulator.transport"
"""The scope extension under which the server hands out its transport."""
_AWKWARD = re.compile(rb"(?<=\r)(?=\n)|(?=[\x80-\xbf])")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PeerLeft(Exception):
    """The caller closed the connection before the answer was complete."""


class Connection:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.split = self.headers.get("x-simulator-split") == "1"
        self.left_at: float | None = None
        self._receive = receive
        self._send = send
        self._left = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._done = False

    async def body(self) -> bytes:
        """The request's body; from then on the connection is watched."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise PeerLeft
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        self._watching = asyncio.create_task(self._watch())
        return b"".join(parts)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._done:
            self.left_at = time.time()
            self._left.set()

    async def close(self) -> None:
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def until(self, due: float) -> None:
        """Waits for a moment of the loop's clock."""
        wait = due - asyncio.get_running_loop().time()
        if wait > 0 and not self._left.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), wait)
        self.check()

    async def gone(self) -> None:
        await self._left.wait()
        raise PeerLeft

    def check(self) -> None:
        if self._left.is_set():
            raise PeerLeft

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Sends bytes, broken at the most awkward places if the caller asked for that."""
        self.check()
        if last:
            self._done = True
        pieces = _AWKWARD.split(data) if self.split else [data]
        for piece in pieces[:-1]:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await self._send({"type": "http.response.body", "body": pieces[-1], "more_body": not last})

    async def reset(self) -> None:
        """Resets the TCP connection: the peer sees ECONNRESET, not an end of file."""
        self._done = True
        transport = self.scope.get("extensions", {}).get(TRANSPORT)
        if transport is None:
            raise RuntimeError("resetting a connection needs the server of providers.simulator.server")
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        if self._watching:
            await self._watching
