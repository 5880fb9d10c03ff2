"""The OpenAPI document describes what the gateway takes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.gateway import WIRES
from gateway.wire import completions, embeddings, fim, openai
from tests.fleet import Serving


@pytest.fixture
def document(gateway: Serving) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{gateway.url}/openapi.json", timeout=20).json()
    return found


def test_every_endpoint_is_in_the_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    assert {*WIRES, "/v1/models", "/health/live"} <= document["paths"].keys()
    for path, wire in WIRES.items():
        operation = document["paths"][path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"] == wire.SCHEMA
        assert len(operation["summary"]) > 10
    ids = [operation["operationId"] for each in document["paths"].values() for operation in each.values()]
    assert len(ids) == len(set(ids))


def test_only_what_can_be_streamed_is_said_to_be(document: dict[str, Any]) -> None:
    streamed = {path for path in WIRES if "text/event-stream" in str(document["paths"][path])}
    assert streamed == WIRES.keys() - {"/v1/embeddings"}


@pytest.mark.parametrize("wire", [openai, completions, embeddings, fim], ids=lambda wire: wire.OPERATION)
def test_every_parameter_that_is_checked_is_described(wire: Any) -> None:
    assert wire.SCHEMA["properties"].keys() == wire.CHECKS.keys()
    undescribed = {name for name, schema in wire.SCHEMA["properties"].items() if not schema}
    assert undescribed <= {"tool_choice", "function_call"}
