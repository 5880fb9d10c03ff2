"""GET /v1/models: the configured models, and the words that routes answer to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from gateway.snapshot import Snapshot
from providers.errors import ModelNotFound

if TYPE_CHECKING:
    from gateway.app import Gateway

ROUTES_OWNER = "talaria"


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["models"])

    @api.get("/v1/models", summary="List the models and routes that calls may name")
    async def list_models(request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        return {"object": "list", "data": list(listing(gateway.snapshot).values())}

    @api.get("/v1/models/{model:path}", summary="One model or route")
    async def get_model(model: str, request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        found = listing(gateway.snapshot).get(model)
        if found is None:
            raise ModelNotFound(f"The model `{model[:256]}` does not exist here.", param="model")
        return found

    return api


def listing(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """OpenAI's model objects by id: the models that are on, then the words of routes that have a candidate."""
    found: dict[str, dict[str, Any]] = {}
    for name, target in snapshot.table.models.items():
        released = target.model.card.released
        found[name] = _object(name, target.model.provider, released)
    for route in snapshot.table.routes:
        if route.candidates or route.fallback:
            for word in sorted(route.match.models):
                found.setdefault(word, _object(word, ROUTES_OWNER, None))
    return found


def _object(id: str, owner: str, released: str | None) -> dict[str, Any]:
    created = int(datetime.fromisoformat(released).replace(tzinfo=UTC).timestamp()) if released else 0
    return {"id": id, "object": "model", "created": created, "owned_by": owner}
