"""POST /admin/api/explain: what would become of a request, now or under a draft of the configuration."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request

from gateway.api.metrics import admit
from gateway.config import ConfigError, parse
from gateway.explain import decision
from gateway.gateway import Gateway, built
from gateway.snapshot import Snapshot
from providers.errors import InvalidRequest, RequestTooLarge

FIELDS = ("request", "headers", "config")


def router(gateway: Gateway) -> APIRouter:
    api = APIRouter(tags=["operations"])

    @api.post("/admin/api/explain", summary="Where a request would go, and why, without calling anyone")
    async def explain(request: Request) -> dict[str, Any]:
        """`{"request": <body>, "headers": {<hint>: <text>}, "config": <YAML of a draft>}`; only `request` is needed.

        By what is known of the models just now, under the configuration that runs or the draft.
        """
        server = gateway.snapshot.config.server
        admit(request, server)
        body = await _body(request, server.max_body_bytes)
        snapshot = gateway.snapshot if body.get("config") is None else await _draft(body["config"])
        return decision(snapshot, gateway.planner, orjson.dumps(body["request"]), _hints(body.get("headers") or {}))

    return api


async def _body(request: Request, limit: int) -> dict[str, Any]:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > limit:
            raise RequestTooLarge(f"The body of your request is larger than {limit} bytes.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body of your request is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict) or not isinstance(body.get("request"), dict):
        raise InvalidRequest("Missing required parameter: 'request', the body to be explained.", param="request")
    for field in body:
        if field not in FIELDS:
            raise InvalidRequest(
                f"Unknown parameter: '{field[:64]}'; known ones: {', '.join(FIELDS)}.", param=field[:64]
            )
    return body


def _hints(headers: Any) -> dict[bytes, bytes]:
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest("Invalid type for 'headers': expected an object of strings.", param="headers")
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


async def _draft(text: Any) -> Snapshot:
    if not isinstance(text, str):
        raise InvalidRequest("Invalid type for 'config': expected the YAML as a string.", param="config")
    try:
        return await asyncio.to_thread(lambda: built(parse(text, "draft")))
    except ConfigError as error:
        raise InvalidRequest(str(error), param="config", code="invalid_config") from None
