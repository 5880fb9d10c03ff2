"""The gateway's OpenAPI document: what FastAPI knows of itself, and the endpoints that do not go through it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gateway.wire import Wire

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type"]}},
}


def document(own: dict[str, Any], wires: Mapping[str, Wire]) -> dict[str, Any]:
    """`own`, with a path for each of `wires`."""
    return {**own, "paths": {**own["paths"], **{path: {"post": _operation(wire)} for path, wire in wires.items()}}}


def _operation(wire: Wire) -> dict[str, Any]:
    told = (inspect.getdoc(wire) or wire.OPERATION).split("\n")[0]
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if wire.SCHEMA["properties"].get("stream") != {"const": False}:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "tags": ["calls"],
        "summary": told.partition(": ")[0].rstrip("."),
        "operationId": wire.OPERATION,
        "requestBody": {"required": True, "content": {"application/json": {"schema": wire.SCHEMA}}},
        "responses": {
            "200": {"description": "The answer, whole or in parts.", "content": answers},
            "default": {"description": "What went wrong.", "content": {"application/json": {"schema": ERROR}}},
        },
    }
