"""A caller who leaves takes the vendor's call along on every endpoint, and its tokens are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import fleet

LONG = "write 1200 words"
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "instruct", "prompt": LONG, "max_tokens": 2000}),
    ("/v1/completions", {"model": "claude-haiku", "prompt": LONG, "max_tokens": 2000}),
    ("/v1/fim/completions", {"model": "mercury-edit-2", "prompt": LONG, "suffix": "end", "max_tokens": 4000}),
    ("/v1/fim/completions", {"model": "instruct", "prompt": LONG, "suffix": "end", "max_tokens": 2000}),
]


@pytest.fixture(scope="module")
def paced() -> Iterator[fleet.Simulator]:
    with fleet.simulated(speed=1) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def serving(paced: fleet.Simulator) -> Iterator[fleet.Serving]:
    with fleet.serving(fleet.THREE_VENDORS.format(simulator=paced.url)) as gateway:
        yield gateway


def estimated(gateway: fleet.Serving) -> float:
    return gateway.metric("talaria_estimated_tokens_total")


def ended(simulator: fleet.Simulator) -> bool:
    return any(row["peer_closed"] and row["closed_at"] for row in simulator.requests())


@pytest.mark.parametrize(("path", "body"), CALLS, ids=lambda value: value if isinstance(value, str) else value["model"])
def test_a_stream_that_is_left_ends_upstream(
    serving: fleet.Serving, paced: fleet.Simulator, path: str, body: dict[str, Any]
) -> None:
    paced.reset()
    before = estimated(serving)
    with httpx.stream("POST", serving.url + path, json={**body, "stream": True}, timeout=20) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()).startswith("data: ")
    fleet.wait_for(lambda: ended(paced))
    fleet.wait_for(lambda: estimated(serving) > before)
    (row,) = paced.bill()
    assert not row["completed"]


@pytest.mark.parametrize(
    ("path", "body"),
    [*CALLS, ("/v1/embeddings", {"model": "text-embedding-3-small", "input": list(range(4000))})],
    ids=lambda value: value if isinstance(value, str) else value["model"],
)
def test_a_whole_answer_that_nobody_waits_for_ends_upstream(
    serving: fleet.Serving, paced: fleet.Simulator, path: str, body: dict[str, Any]
) -> None:
    paced.reset()
    paced.faults({"vendor": "*", "model": "*", "kind": "latency", "seconds": 30})
    before = estimated(serving)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(serving.url + path, json=body, timeout=httpx.Timeout(10, read=0.5))
    fleet.wait_for(lambda: ended(paced))
    fleet.wait_for(lambda: estimated(serving) > before)
    told = estimated(serving) - before
    if path == "/v1/embeddings":
        assert told == 4000
