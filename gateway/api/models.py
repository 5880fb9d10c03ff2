"""GET /v1/models: the configured models, and the words that routes answer to.

In Anthropic's shape for those who send one of its headers, in OpenAI's for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from gateway.gateway import Gateway
from gateway.snapshot import Snapshot
from gateway.wire import anthropic
from providers.errors import InvalidRequest, ModelNotFound

ROUTES_OWNER = "talaria"


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["models"])

    @api.get("/v1/models", summary="List the models and routes that calls may name")
    async def list_models(request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        found = list(listing(gateway.snapshot).values())
        if anthropic.is_spoken(request.scope):
            return _page([_described(each, gateway.snapshot) for each in found], request.query_params)
        return {"object": "list", "data": found}

    @api.get("/v1/models/{model:path}", summary="One model or route")
    async def get_model(model: str, request: Request) -> dict[str, Any]:
        gateway.identify(request.scope)
        found = listing(gateway.snapshot).get(model)
        if found is None:
            raise ModelNotFound(f"The model `{model[:256]}` does not exist here.", param="model")
        return _described(found, gateway.snapshot) if anthropic.is_spoken(request.scope) else found

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


def _described(found: Mapping[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    """OpenAI's model object as Anthropic's."""
    id = found["id"]
    target = snapshot.table.models.get(id)
    return {
        "type": "model",
        "id": id,
        "display_name": id,
        "created_at": datetime.fromtimestamp(found["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": target.model.card.context if target else None,
        "max_tokens": target.model.card.max_output if target else None,
    }


def _page(found: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """All models in one page, unless the caller wants fewer or those after or before one."""
    ids = [each["id"] for each in found]
    if query.get("after_id") in ids:
        found = found[ids.index(query["after_id"]) + 1 :]
    if query.get("before_id") in ids:
        found = [each for each in found if ids.index(each["id"]) < ids.index(query["before_id"])]
    limit = query.get("limit", "1000")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= 1000):
        raise InvalidRequest("limit: expected a whole number from 1 to 1000", param="limit")
    page = found[: int(limit)]
    return {
        "data": page,
        "has_more": len(page) < len(found),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
