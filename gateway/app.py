"""The gateway as ASGI apps: the one that callers meet, and the one for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gateway.api.calls import Calls
from gateway.api.count_tokens import CountTokens
from gateway.api.health import LIVE, READY, Probe, live, ready
from gateway.caller import Receive, Send
from gateway.gateway import WIRES, Gateway
from gateway.middleware import App, Door, Scope

WARM_SECONDS = 1.0
"""The first answers have the process to themselves."""


def create_app(gateway: Gateway) -> Door:
    """The gateway as callers meet it. Its lifespan is the gateway's."""
    hot: dict[tuple[str, str], App] = {("POST", path): Calls(gateway, wire) for path, wire in WIRES.items()}
    hot["POST", "/v1/messages/count_tokens"] = CountTokens(gateway)
    hot |= _probes(gateway)

    def make() -> App:
        from gateway import rest

        return rest.callers(gateway, [(method, path, app) for (method, path), app in hot.items()])

    return Door(Later(make, gateway), hot, home_only=gateway.snapshot.config.server.auth == "none")


def create_admin(gateway: Gateway) -> Door:
    """What operators see, for a listener of its own."""

    def make() -> App:
        from gateway import rest

        return rest.operators(gateway)

    return Door(Later(make), _probes(gateway), home_only=False)


def _probes(gateway: Gateway) -> dict[tuple[str, str], App]:
    probes: dict[str, App] = {LIVE: Probe(live), READY: Probe(lambda: ready(gateway))}
    return {(method, path): probe for path, probe in probes.items() for method in ("GET", "HEAD")}


class Later:
    """An app that is made on a thread while callers are served, or when the first one asks for it.

    It answers for the lifespan, and keeps the gateway's keys fresh for as long as that lasts.
    """

    def __init__(self, make: Callable[[], App], gateway: Gateway | None = None) -> None:
        self._make = make
        self._gateway = gateway
        self._made: asyncio.Future[App] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            app = await asyncio.shield(self.made())
            await app(scope, receive, send)

    def made(self) -> asyncio.Future[App]:
        """The app, once it is there."""
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
        return self._made

    async def _warm(self) -> None:
        await asyncio.sleep(WARM_SECONDS)
        await asyncio.shield(self.made())

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._warm())]
        if self._gateway is not None:
            tasks.append(asyncio.create_task(self._gateway.watch_keys()))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._gateway is not None:
            await self._gateway.snapshot.aclose()
        await send({"type": "lifespan.shutdown.complete"})
