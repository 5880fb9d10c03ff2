"""The gateway as ASGI apps: the one that callers meet, and the one for operators."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
from gateway.gateway import WIRES, Gateway
from gateway.middleware import App, Door, words
from providers.errors import InvalidRequest, TalariaError


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
