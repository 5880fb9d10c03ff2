"""GET /metrics: for Prometheus, and for nobody else."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.config import Server, is_loopback
from gateway.gateway import Gateway
from providers.errors import Unauthorized


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["operations"])

    @api.get("/metrics", summary="Every instrument, in Prometheus' text format")
    async def metrics(request: Request) -> Response:
        admit(request, gateway.snapshot.config.server)
        return Response(gateway.metrics.expose(gateway.snapshot.transports), media_type=CONTENT_TYPE_LATEST)

    return api


def admit(request: Request, server: Server) -> None:
    """Lets in who holds the admin key, or anybody on a loopback listener that has none. Raises Unauthorized."""
    key = server.admin.key
    if key is None:
        host, _ = server.admin.address or server.address
        if is_loopback(host):
            return
        raise Unauthorized("Off loopback this needs `server.admin.key` to be set and sent.", code="admin_key_required")
    given = request.headers.get("authorization", "").partition(" ")[2].strip()
    if not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        raise Unauthorized("This needs the admin key, as `Authorization: Bearer <key>`.", code="admin_key_required")
