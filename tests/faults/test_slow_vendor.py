"""Traffic of three classes while a vendor becomes ten times as slow: routing goes around it, a fixed order does not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import httpx
import pytest

from tests import fleet
from tests.fleet import Serving, Simulator

pytestmark = pytest.mark.anyio

SECONDS = 6.0
"""Before the change, and again after it."""
PER_SECOND = 12
"""Calls to each gateway."""

CLASSES = {"realtime": ("answer", 1.0), "interactive": ("first_token", 1.0), "background": ("answer", 2.0)}

ROUTES = """\
latency_classes:
  realtime: {{target_ms: {brisk}, target_of: answer}}
  interactive: {{target_ms: {brisk}, target_of: first_token}}
  background: {{target_ms: {patient}, target_of: answer}}
routes:
  - {{name: auto, candidates: [mercury, gpt-4.1-nano, claude-haiku], choose: {{by: {policy}}}}}
"""


class Told(NamedTuple):
    latency_class: str
    started: float
    model: str
    kept: bool


def config(simulator: Simulator, policy: str) -> str:
    """With targets; a fixed order is told of none, for whoever knows them goes around what is slow in any order."""
    brisk, patient = ("null", "null") if policy == "ordered" else (1000, 2000)
    head, _, _ = fleet.THREE_VENDORS.partition("latency_classes:")
    return (head + "fallbacks: {{fillers: [instruct], small: [claude-haiku]}}\n" + ROUTES).format(
        simulator=simulator.url, policy=policy, brisk=brisk, patient=patient
    )


async def one(client: httpx.AsyncClient, gateway: Serving, latency_class: str) -> Told:
    body = {
        "model": "auto",
        "stream": True,
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "say exactly: one two three four"}],
        "metadata": {"latency_class": latency_class, "task": "classification"},
    }
    started = time.monotonic()
    first = None
    async with client.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, timeout=30) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if first is None and '"content":"' in line and '"content":""' not in line:
                first = time.monotonic()
    ended = time.monotonic()
    until, target = CLASSES[latency_class]
    assert first is not None
    return Told(
        latency_class,
        started,
        answer.headers["x-talaria-model"],
        (ended if until == "answer" else first) - started <= target,
    )


async def traffic(gateway: Serving, until: float) -> list[Told]:
    calls = []
    names = list(CLASSES)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        number = 0
        while time.monotonic() < until:
            calls.append(asyncio.create_task(one(client, gateway, names[number % 3])))
            number += 1
            await asyncio.sleep(1 / PER_SECOND)
        return await asyncio.gather(*calls)


async def test_targets_are_kept_when_a_vendor_becomes_ten_times_as_slow(figure: Callable[[str], None]) -> None:
    with (
        fleet.simulated(speed=1) as simulator,
        fleet.serving(config(simulator, "score")) as ours,
        fleet.serving(config(simulator, "ordered")) as fixed,
    ):
        changed = time.monotonic() + SECONDS
        runs = [asyncio.create_task(traffic(each, changed + 1 + SECONDS)) for each in (ours, fixed)]
        await asyncio.sleep(SECONDS)
        # It took a quarter of a second.
        slow = {"vendor": "inception", "model": "*", "kind": "latency", "seconds": 2.25}
        await asyncio.to_thread(simulator.faults, slow)
        scored, ordered = await asyncio.gather(*runs)
    share = {}
    for name, told in (("score", scored), ("a fixed order", ordered)):
        counted = [each for each in told if not changed <= each.started < changed + 1]
        share[name] = sum(each.kept for each in counted) / len(counted)
        classes = Counter(each.latency_class for each in counted if each.kept)
        where = Counter(each.model for each in counted)
        figure(
            f"a vendor ten times as slow half-way: {name} keeps {share[name]:.1%} of {len(counted)} ({dict(classes)}, {dict(where)})"
        )
    before = {each.model for each in scored if each.started < changed}
    assert "mercury" in before, "what became slow had calls before"
    assert share["score"] >= 0.95
    assert share["a fixed order"] < 0.6
