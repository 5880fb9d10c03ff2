from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import inceptionai
import openai
import pytest

from providers.simulator import create_app
from providers.simulator.server import running

MODELS = {"inception": "mercury", "openai": "gpt-4.1-nano", "anthropic": "claude-haiku-4-5-20251001"}
PATHS = {
    "inception": "/inception/v1/chat/completions",
    "openai": "/openai/v1/chat/completions",
    "anthropic": "/anthropic/v1/messages",
}


@dataclass(frozen=True)
class Simulator:
    """A running simulator, spoken to without any SDK."""

    url: str
    http: httpx.Client

    def body(self, vendor: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
        limit = {} if "max_completion_tokens" in more else {"max_tokens": 500}
        return {"model": MODELS[vendor], "messages": [{"role": "user", "content": text}], **limit, **more}

    def post(self, vendor: str, text: str = "Hello", **more: Any) -> httpx.Response:
        return self.http.post(PATHS[vendor], json=self.body(vendor, text, **more))

    def send(self, vendor: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(PATHS[vendor], json=body, headers=named)

    def break_(self, kind: str, vendor: str = "*", model: str = "*", **more: Any) -> None:
        fault = {"vendor": vendor, "model": model, "kind": kind, **more}
        assert self.http.put("/control/faults", json=[fault]).status_code == 200

    def bill(self) -> list[dict[str, Any]]:
        return self.http.get("/control/bill").json()["rows"]

    def requests(self) -> list[dict[str, Any]]:
        return self.http.get("/control/requests").json()["requests"]


def client(url: str) -> httpx.Client:
    headers = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}
    return httpx.Client(base_url=url, headers=headers, timeout=10)


@pytest.fixture(scope="session")
def started() -> Iterator[Simulator]:
    with running(create_app(seed=7, speed=0)) as url, client(url) as http:
        yield Simulator(url, http)


@pytest.fixture(autouse=True)
def simulator(started: Simulator) -> Simulator:
    for what in ("bill", "faults", "requests"):
        started.http.delete(f"/control/{what}")
    return started


@pytest.fixture(scope="session")
def paced() -> Iterator[Simulator]:
    """A simulator that takes its time."""
    with running(create_app(seed=7, speed=4)) as url, client(url) as http:
        yield Simulator(url, http)


@pytest.fixture(scope="session")
def mercury(started: Simulator) -> Iterator[inceptionai.Inception]:
    with inceptionai.Inception(base_url=f"{started.url}/inception/v1", api_key="key", max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def gpt(started: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{started.url}/openai/v1", api_key="key", max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def claude(started: Simulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{started.url}/anthropic", api_key="key", max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def older_claude(started: Simulator) -> Iterator[anthropic.Anthropic]:
    """The SDK of today, speaking the API version before it."""
    headers = {"anthropic-version": "2023-06-01"}
    with anthropic.Anthropic(
        base_url=f"{started.url}/anthropic", api_key="key", max_retries=0, default_headers=headers
    ) as sdk:
        yield sdk
