"""Counting a request's tokens: the vendor's work ends with its caller and its time, and what goes wrong is told as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from providers.errors import InvalidRequest, Overwhelmed
from providers.types import Call, Reply, Tally
from tests import fleet

KEY = "a-vendor-key-nobody-may-see"
CONFIG = f"""\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  anthropic: {{kind: anthropic, base_url: "http://127.0.0.1:1", keys: [{{id: main, value: {KEY}}}]}}
models:
  claude: {{provider: anthropic, upstream: claude-haiku-4-5-20251001}}
  kind:
    provider: anthropic
    upstream: claude-haiku-4-5-20251001
    prompt: {{name: kind, version: 1, system_prefix: "{"Be kind. " * 40}"}}
"""
COUNTED = b'{"input_tokens":7}'
Count = Callable[[Call], Awaitable[Any]]


class Vendor:
    """An endpoint that counts as the test says."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.ended: list[BaseException] = []
        self.counts: list[Count] = []

    async def complete(self, call: Call, model: Any, timeouts: Any) -> Reply:
        self.calls.append(call)
        try:
            for count in self.counts[:1]:
                self.counts = self.counts[1:]
                await count(call)
        except BaseException as error:
            self.ended.append(error)
            raise
        return Reply(COUNTED, Tally(), {})

    stream: Any = None


def failing(error: Exception) -> Count:
    async def count(call: Call) -> None:
        raise error

    return count


async def forever(call: Call) -> None:
    await asyncio.sleep(60)


@pytest.fixture(scope="module")
def serving() -> Iterator[fleet.Serving]:
    with fleet.serving(CONFIG) as gateway:
        yield gateway


@pytest.fixture
def vendor(serving: fleet.Serving) -> Vendor:
    found = Vendor()
    endpoints: Any = serving.gateway.snapshot.table.models["claude"].endpoints
    assert "count_tokens" in endpoints
    endpoints["count_tokens"] = found
    return found


def count(serving: fleet.Serving, model: str = "claude", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return fleet.http.post(f"{serving.url}/v1/messages/count_tokens", json=body, **more)


def test_the_vendors_work_ends_when_its_caller_leaves(serving: fleet.Serving, vendor: Vendor) -> None:
    vendor.counts = [forever]
    with pytest.raises(httpx.ReadTimeout):
        count(serving, timeout=0.2)
    fleet.wait_for(lambda: vendor.ended)
    assert isinstance(vendor.ended[0], asyncio.CancelledError)
    assert count(serving).content == COUNTED


def test_a_deadline_in_the_headers_holds(serving: fleet.Serving, vendor: Vendor) -> None:
    vendor.counts = [forever]
    late = count(serving, headers={"x-talaria-deadline-ms": "50"})
    assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout_error")
    wrong = count(serving, headers={"x-talaria-task": "nothing-known"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    assert len(vendor.calls) == 1


def test_a_busy_vendor_is_asked_again(serving: fleet.Serving, vendor: Vendor) -> None:
    vendor.counts = [failing(Overwhelmed("Busy", provider="anthropic", status=529))]
    assert count(serving).content == COUNTED
    assert len(vendor.calls) == 2


def test_what_another_try_cannot_mend_is_told_at_once(serving: fleet.Serving, vendor: Vendor) -> None:
    vendor.counts = [failing(Overwhelmed("Busy", provider="anthropic", status=529, retry_after=60.0))]
    busy = count(serving)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "60")
    vendor.counts = [failing(InvalidRequest(f"No, {KEY}"))]
    wrong = count(serving)
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (400, "No, ***")
    assert len(vendor.calls) == 2


def test_an_error_that_should_not_be_says_nothing_of_itself(serving: fleet.Serving, vendor: Vendor) -> None:
    vendor.counts = [failing(RuntimeError(KEY))]
    broken = count(serving)
    assert (broken.status_code, broken.json()["error"]["type"]) == (500, "api_error")
    assert KEY not in broken.text
    assert broken.headers["request-id"] == broken.json()["request_id"]


def test_a_models_prompt_is_counted_and_not_gone_past(serving: fleet.Serving) -> None:
    target = serving.gateway.snapshot.table.models["kind"]
    assert "count_tokens" not in target.endpoints
    assert count(serving, "kind").json()["input_tokens"] > 80
