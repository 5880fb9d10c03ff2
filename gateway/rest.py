"""All that is not hot, by FastAPI: models, metrics, the OpenAPI document, and what is told of paths that are none.

Loading FastAPI takes as long as all the rest of the gateway, so this is imported once callers are served.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gateway import errors, openapi
from gateway.api import explain, feedback, health, metrics, models
from gateway.gateway import WIRES, Gateway
from gateway.middleware import App, words
from providers.errors import InvalidRequest, TalariaError


def callers(gateway: Gateway, hot: Iterable[tuple[str, str, App]]) -> FastAPI:
    """For the listener that callers meet. `hot` are the methods and paths that its door serves without this."""
    api = _api("Talaria")

    @api.get("/openapi.json", include_in_schema=False)
    async def document(request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        return described

    api.include_router(models.router(gateway))
    api.include_router(feedback.router(gateway))
    api.include_router(_health(gateway))
    if gateway.snapshot.config.server.admin.listen is None:
        api.include_router(metrics.router(gateway))
        api.include_router(explain.router(gateway))
    described = openapi.document(api.openapi(), WIRES)
    for method, path, app in hot:
        if method == "POST":
            # For all that is not a POST: what is not allowed there is told as elsewhere.
            api.router.routes.append(Route(path, app, methods=[method]))
    return api


def operators(gateway: Gateway) -> FastAPI:
    """For a listener of the operators' own."""
    api = _api("Talaria operations")
    api.include_router(_health(gateway))
    api.include_router(metrics.router(gateway))
    api.include_router(explain.router(gateway))
    return api


def _health(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["health"])

    @api.get(health.LIVE, summary="Whether the process serves at all")
    async def live() -> JSONResponse:
        return JSONResponse(health.live()[1])

    @api.get(health.READY, summary="Whether it takes new calls: 503 while it drains")
    async def ready() -> JSONResponse:
        status, told = health.ready(gateway)
        return JSONResponse(told, status)

    return api


def _api(title: str) -> FastAPI:
    api = FastAPI(title=title, version=version("talaria"), openapi_url=None, redirect_slashes=False)
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
