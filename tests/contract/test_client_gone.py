"""A caller who leaves takes the vendor's call along, whenever that is, and what was billed until then is told."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import fleet

TIMES = 100
TOGETHER = {"early": 4, "amid": 8, "whole": 8}
SEED = 11
MODELS = ("mercury", "gpt-4.1-nano", "claude-haiku")
SLOWEST_SECONDS = 10.0
"""Every one must be closed by then, on whatever machine; on an idle one it takes milliseconds."""


@dataclass
class Departure:
    number: int
    model: str
    kind: str
    abruptly: bool
    left_at: float = 0.0


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fleet.Simulator]:
    folder = tmp_path_factory.mktemp("paced")
    with fleet.process("simulate", "--speed", "1", folder=folder, ready="/control/health") as simulator:
        yield fleet.Simulator(simulator.url)


@pytest.fixture(scope="module")
def serving(paced: fleet.Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[fleet.Process]:
    folder: Path = tmp_path_factory.mktemp("serving")
    text = fleet.THREE_VENDORS.format(simulator=paced.url)
    (folder / "talaria.yaml").write_text(text, encoding="utf-8")
    with fleet.process("serve", folder=folder) as gateway:
        yield gateway


def metric(gateway: fleet.Process, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(fleet.http.get(f"{gateway.url}/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def request(departure: Departure) -> bytes:
    # The time to the first token is 0.3 s and more; as many words as are needed for an answer to outlast its caller.
    words = 300 if departure.kind == "early" else 1200
    text = f"caller {departure.number}: write {words} words"
    body: dict[str, Any] = {"model": departure.model, "messages": [{"role": "user", "content": text}]}
    if departure.kind != "whole":
        body["stream"] = True
    raw = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(raw)}\r\n"
    return head.encode() + b"content-type: application/json\r\n\r\n" + raw


async def leave(departure: Departure, port: int, wait: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(departure))
    await writer.drain()
    if departure.kind == "amid":
        await reader.readuntil(b"data: ")
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(reader.read(65536), left)
            except TimeoutError:
                break
    else:
        await asyncio.sleep(wait)
    departure.left_at = time.time()
    if departure.abruptly:
        writer.transport.abort()
    else:
        writer.close()


async def crowd(kind: str, port: int) -> list[Departure]:
    draw = random.Random(f"{SEED} {kind}")
    departures = [Departure(i, draw.choice(MODELS), kind, draw.random() < 0.5) for i in range(TIMES)]
    gate = asyncio.Semaphore(TOGETHER[kind])

    async def one(departure: Departure) -> None:
        async with gate:
            await leave(departure, port, draw.uniform(0, {"early": 0.25, "amid": 0.5, "whole": 1.0}[kind]))

    await asyncio.gather(*(one(departure) for departure in departures))
    return departures


def arrived(simulator: fleet.Simulator) -> dict[int, dict[str, Any]]:
    """The requests that the vendors saw, by the number of the caller."""
    found = {}
    for row in simulator.requests():
        content = row["body"]["messages"][0]["content"]
        text: str = content if isinstance(content, str) else content[0]["text"]
        found[int(text.partition(":")[0].removeprefix("caller "))] = row
    return found


@pytest.mark.parametrize("kind", ["early", "amid", "whole"])
def test_upstream_calls_end_with_their_callers(paced, serving, figure, kind):
    """Before the first byte of a stream, in the middle of it, and before an answer that comes whole."""
    paced.reset()
    counters = {
        "cancelled": ("talaria_requests_total", {"outcome": "cancelled"}),
        "input": ("talaria_tokens_total", {"type": "input"}),
        "output": ("talaria_tokens_total", {"type": "output"}),
        "estimated": ("talaria_estimated_tokens_total", {}),
        "cost": ("talaria_cost_dollars_total", {}),
    }
    before = {word: metric(serving, name, **labels) for word, (name, labels) in counters.items()}
    departures = asyncio.run(crowd(kind, int(serving.url.rpartition(":")[2])))
    fleet.wait_for(lambda: all(row["closed_at"] for row in arrived(paced).values()), 30)
    fleet.wait_for(lambda: metric(serving, "talaria_requests_in_flight") == 0, 30)
    rows = arrived(paced)
    told = {word: metric(serving, name, **labels) - before[word] for word, (name, labels) in counters.items()}
    delays = []
    for departure in departures:
        row = rows.get(departure.number)
        if row is None:  # gone before anybody had been called
            continue
        assert row["peer_closed"], departure
        delays.append(row["closed_at"] - departure.left_at)
    delays.sort()
    bill = paced.bill()
    billed = sum(row["output_tokens"] for row in bill)
    figure(
        f"{kind}: {len(delays)} of {TIMES} callers left while a vendor was at work; upstream closed after "
        f"p50 {1000 * delays[len(delays) // 2]:.1f} ms, p99 {1000 * delays[int(len(delays) * 0.99)]:.1f} ms, "
        f"at most {1000 * delays[-1]:.1f} ms; {billed} output tokens billed, {told['output']:.0f} told"
    )
    assert delays[-1] < SLOWEST_SECONDS
    assert len(delays) > TIMES * 0.8
    assert told["cancelled"] == TIMES
    assert not any(row["completed"] for row in bill)
    assert told["estimated"] == told["input"] + told["output"] > 0
    assert told["cost"] > 0
    if kind == "amid":
        assert 0.5 * billed < told["output"] < 2 * billed
    if kind == "whole":  # nothing of it was seen: only time tells
        assert 0.2 * billed < told["output"] < 5 * billed


def test_a_gateway_that_was_left_often_serves_on(paced, serving):
    answer = fleet.http.post(
        f"{serving.url}/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "say exactly: still here"}]},
    )
    assert answer.json()["choices"][0]["message"]["content"] == "still here"
