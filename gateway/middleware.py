"""The door: one id and one clock for every request, the house rules, and a word for whatever went wrong within.

Pure ASGI, as is all that a chat passes through: nothing stands between a caller's leaving and those who wait for it.
"""

from __future__ import annotations

import logging
import os
import re
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

from gateway import errors
from gateway.caller import Message, Receive, Send
from gateway.config import is_loopback
from gateway.wire import Wire, anthropic, openai
from providers.errors import InvalidRequest, TalariaError

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEADER_BYTES = 64 * 1024

log = logging.getLogger("talaria")

_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([a-zA-Z0-9.-]+))(?::[0-9]{1,5})?")


class Exchange:
    """What the door knows of one request."""

    __slots__ = ("id", "responding", "started")

    def __init__(self) -> None:
        self.id = "req_" + os.urandom(12).hex()
        self.started = time.monotonic()
        self.responding = False

    @property
    def label(self) -> list[tuple[bytes, bytes]]:
        """The headers that bear the id, one for each vendor's SDK."""
        id = self.id.encode()
        return [(b"x-request-id", id), (b"request-id", id)]


class Door:
    """Gives each request its `Exchange` (in the scope, as `exchange`), and those in `hot` straight to their app.

    `hot` is by method and path; all else goes to `app`.

    `home_only` serves requests alone that were sent to a loopback name, so that no web page can reach a gateway without
    keys through a name of its own.
    """

    def __init__(self, app: App, hot: dict[tuple[str, str], App], home_only: bool) -> None:
        self._app = app
        self._hot = hot
        self._home_only = home_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope["exchange"] = Exchange()
        hot = self._hot.get((scope["method"], scope["path"]))
        try:
            self._admit(scope)
            if hot is not None:
                await hot(scope, receive, send)
            else:
                await self._app(scope, receive, _labelled(send, exchange))
        except TalariaError as error:
            await refuse(error, scope, send)
        except Exception as error:
            report(error, exchange)
            if not exchange.responding:
                await refuse(error, scope, send)

    def _admit(self, scope: Scope) -> None:
        size = 0
        host = b""
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"host":
                host = value
        if size > MAX_HEADER_BYTES:
            raise InvalidRequest("The headers of your request are too large.", code="headers_too_large", status=431)
        if self._home_only and not _is_home(host):
            raise InvalidRequest(
                "Without keys only requests to a loopback name, such as localhost, are served.",
                code="forbidden_host",
                status=403,
            )


def words(error: BaseException, scope: Scope) -> bytes:
    """An error's body, in the dialect that a request speaks."""
    exchange: Exchange = scope["exchange"]
    wire: Wire = anthropic if anthropic.is_spoken(scope) else openai
    return wire.refusal(error, exchange.id)


async def refuse(error: BaseException, scope: Scope, send: Send) -> None:
    """Answers a request with an error."""
    exchange: Exchange = scope["exchange"]
    body = words(error, scope)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *exchange.label,
        *errors.headers(error),
    ]
    await send({"type": "http.response.start", "status": errors.face(error).status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _labelled(send: Send, exchange: Exchange) -> Send:
    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.responding = True
            message["headers"] = [*message.get("headers", ()), *exchange.label]
        await send(message)

    return labelled


@lru_cache(maxsize=64)
def _is_home(host: bytes) -> bool:
    """Whether a host header, with or without a port, bears a loopback name."""
    found = _HOST.fullmatch(host.decode("latin-1"))
    return found is not None and is_loopback(found[1] or found[2])


def report(error: Exception, exchange: Exchange) -> None:
    """Logs an error that should not be."""
    # Where it happened, not what it said: a message may quote the request or a key.
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames[-6:]))
    log.error("%s internal error %s at %s", exchange.id, type(error).__name__, where)
