"""GET /health/live and /health/ready: answered from memory; they call nobody."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from gateway.gateway import Gateway


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["health"])

    @api.get("/health/live", summary="Whether the process serves at all")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/health/ready", summary="Whether it takes new calls: 503 while it drains")
    async def ready() -> JSONResponse:
        if gateway.draining:
            return JSONResponse({"status": "draining"}, status_code=503)
        return JSONResponse({"status": "ok"})

    return api
