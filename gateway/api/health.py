"""GET /health/live and /health/ready: answered from memory; they call nobody."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.caller import Receive, Send
from gateway.gateway import Gateway
from gateway.middleware import Exchange, Scope

LIVE = "/health/live"
READY = "/health/ready"

State = tuple[int, dict[str, str]]
"""A status, and what is told."""


def live() -> State:
    """Whether the process serves at all."""
    return 200, {"status": "ok"}


def ready(gateway: Gateway) -> State:
    """Whether it takes new calls."""
    return (503, {"status": "draining"}) if gateway.draining else live()


class Probe:
    """One of them as an ASGI app."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        status, told = self._state()
        body = orjson.dumps(told)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *exchange.label]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
