"""The one who asked: what they sent, what they have been told, and whether they are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from providers.errors import InvalidRequest, RequestTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

UPLOAD_SECONDS = 60.0
"""How long a body may take to arrive."""

# What a web page can send to another site without asking first.
_SIMPLE_TYPES = (b"text/plain", b"multipart/form-data", b"application/x-www-form-urlencoded")


class CallerLeft(Exception):
    """The connection is closed from the other side."""


class Caller:
    """One request's conversation. `gone` is true once the caller has left, `told` once an answer has begun."""

    __slots__ = ("_receive", "_send", "_watching", "_work", "gone", "told")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._work = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self.gone = False
        self.told = False

    async def body(self, headers: Mapping[bytes, bytes], limit: int) -> bytes:
        """What was sent. Raises CallerLeft, RequestTooLarge above `limit` bytes, InvalidRequest for forms."""
        if headers.get(b"content-type", b"").lower().startswith(_SIMPLE_TYPES):
            raise InvalidRequest("The content type of your request must be application/json.", status=415)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise RequestTooLarge(f"The body of your request is larger than {limit} bytes.")
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self._parts(limit)
        except TimeoutError:
            text = f"The body of your request did not arrive within {UPLOAD_SECONDS:g} seconds."
            raise InvalidRequest(text, status=408) from None

    async def _parts(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise RequestTooLarge(f"The body of your request is larger than {limit} bytes.")
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        """Begins an answer."""
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        except (OSError, RuntimeError) as error:
            raise _left(error) from None
        self.told = True

    async def write(self, body: bytes, *, more: bool = False) -> None:
        """A part of the answer; the last one unless there is `more`."""
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except (OSError, RuntimeError) as error:
            raise _left(error) from None

    def watch(self) -> None:
        """From now on, cancels the work when the caller leaves."""
        self._watching = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._work is not None:
            self._work.cancel()

    def forget(self) -> None:
        """Stops watching. A cancellation that came of it is over."""
        if self._watching is not None:
            self._watching.cancel()
        if self.gone and self._work is not None:
            self._work.uncancel()


def _left(error: Exception) -> Exception:
    """A transport that was closed under the server's hands says so in the one way or the other."""
    return CallerLeft() if isinstance(error, OSError) or "closed" in str(error) else error
