"""The only place where things are put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gateway import errors, openapi
from gateway.api import health, metrics, models
from gateway.api.calls import Calls
from gateway.api.count_tokens import CountTokens
from gateway.auth import Auth
from gateway.config import Config
from gateway.journal import Journal
from gateway.keys import Keys, KeysUnavailable, Ring, SqliteKeys
from gateway.metrics import Metrics
from gateway.middleware import App, Door, Scope, words
from gateway.record import Listener, Record, settle
from gateway.snapshot import Snapshot, build
from gateway.state import Blobs, Leases, LocalBlobs, LocalLeases
from gateway.wire import Wire, anthropic, completions, embeddings, fim, openai
from providers.errors import InvalidRequest, TalariaError
from routing.health import Health, LocalHealth
from routing.router import Router

log = logging.getLogger("talaria")

WIRES: dict[str, Wire] = {
    "/v1/chat/completions": openai,
    "/v1/completions": completions,
    "/v1/embeddings": embeddings,
    "/v1/fim/completions": fim,
    "/v1/messages": anthropic,
}
"""Where each dialect and operation is spoken."""

KEYS_LOOK_SECONDS = 0.5


class Gateway:
    """What lives as long as the process, and the snapshot that calls run under.

    `listeners` hear every settled record once, in order; one that fails is logged and stops nobody.
    """

    def __init__(self, config: Config, keys: Keys | None = None) -> None:
        self.snapshot: Snapshot = build(config, tuple(WIRES.values()))
        self.metrics = Metrics()
        self.health: Health = LocalHealth()
        self.leases: Leases = LocalLeases()
        self.blobs: Blobs = LocalBlobs()
        self.keys = keys or (SqliteKeys(config.server.ledger) if config.server.auth == "keys" else None)
        self._keys_version = self.keys.version() if self.keys else None
        self.auth = Auth(Ring(self.keys.all()) if self.keys else None, self.metrics.refused)
        self.router = Router(self.health, [self.metrics.attempted])
        self.listeners: Sequence[Listener] = (self.metrics.settled, Journal(log).settled)
        self.draining = False
        self._closing: set[asyncio.Future[None]] = set()
        self.metrics.configured(self.snapshot.hash)

    def identify(self, scope: Scope) -> str | None:
        """The id of the key that a request carries. Raises Unauthorized."""
        return self.auth.identify(dict(scope["headers"]))

    @contextmanager
    def in_flight(self, latency_class: str) -> Iterator[None]:
        gauge = self.metrics.in_flight(latency_class)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    @contextmanager
    def tenancy(self) -> Iterator[Snapshot]:
        """The snapshot for one call, which keeps it until the call ends."""
        snapshot = self.snapshot
        tenants = snapshot.tenants
        tenants.count += 1
        try:
            yield snapshot
        finally:
            tenants.count -= 1
            if tenants.retired and not tenants.count:
                self._close(snapshot)

    def apply(self, config: Config) -> None:
        """Calls that come from now on run under `config`; those under way end under the one they began with.

        What was learned of models' health, and every counter, stays.
        """
        old, self.snapshot = self.snapshot, build(config, tuple(WIRES.values()))
        self.metrics.configured(self.snapshot.hash)
        log.setLevel(config.server.log.level.upper())
        old.tenants.retired = True
        if not old.tenants.count:
            self._close(old)

    def _close(self, snapshot: Snapshot) -> None:
        closing = asyncio.ensure_future(snapshot.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def settle(self, record: Record) -> None:
        """Works a record out and tells everybody."""
        settle(record)
        for listener in self.listeners:
            try:
                listener(record)
            except Exception as error:
                log.error("%s a listener failed: %s", record.id, type(error).__name__)

    async def watch_keys(self) -> None:
        """Keeps the keys in memory those of the database."""
        keys = self.keys
        if keys is None:
            return
        well = True
        while True:
            await asyncio.sleep(KEYS_LOOK_SECONDS)
            try:
                version = await asyncio.to_thread(keys.version)
                if version != self._keys_version:
                    self.auth.change(Ring(await asyncio.to_thread(keys.all)))
                    self._keys_version = version
                well = True
            except KeysUnavailable as error:
                if well:
                    log.error("server.ledger: %s; the keys stay as they were read last", error)
                well = False


def create_app(gateway: Gateway) -> Door:
    """The gateway as an ASGI app."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(gateway.watch_keys())
        try:
            yield
        finally:
            watching.cancel()
            await gateway.snapshot.aclose()

    api = _api("Talaria", lifespan)

    @api.get("/openapi.json", include_in_schema=False)
    async def document(request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        return described

    api.include_router(models.router(gateway))
    api.include_router(health.router(gateway))
    server = gateway.snapshot.config.server
    if server.admin.listen is None:
        api.include_router(metrics.router(gateway))
    hot: dict[str, App] = {path: Calls(gateway, wire) for path, wire in WIRES.items()}
    hot["/v1/messages/count_tokens"] = CountTokens(gateway)
    described = openapi.document(api.openapi(), WIRES)
    for path, app in hot.items():
        # The door is quicker; the route is there for all that is not a POST.
        api.router.routes.append(Route(path, app, methods=["POST"]))
    return Door(api, hot, home_only=server.auth == "none")


def create_admin(gateway: Gateway) -> Door:
    """What operators see, for a listener of its own."""
    api = _api("Talaria operations", None)
    api.include_router(health.router(gateway))
    api.include_router(metrics.router(gateway))
    return Door(api, {}, home_only=False)


def _api(title: str, lifespan: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]] | None) -> FastAPI:
    api = FastAPI(title=title, version=version("talaria"), lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    api.add_exception_handler(TalariaError, _refused)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _refused)
    return api


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status = error.status_code
        known = {404: "Unknown request URL.", 405: "This method is not allowed here."}
        code = "unknown_url" if status == 404 else None
        error = InvalidRequest(known.get(status, str(error.detail)), code=code, status=status)
    elif isinstance(error, RequestValidationError):
        error = InvalidRequest("The request is not valid.")
    headers = {name.decode(): value.decode() for name, value in errors.headers(error)}
    return Response(words(error, request.scope), errors.face(error).status, headers, media_type="application/json")
