"""A request and a chunk cost no more than they should, held against the bare floor in the same minute.

CPU seconds of the two processes, not time: a busy machine makes both wait. What noise there is adds to a figure and
never takes from it, so the least of several rounds is nearest to the truth, and further rounds mend what was disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.bench import load
from tests.bench.bodies import small
from tests.bench.contenders import Contender, Floor, Place, TalariaFull
from tests.bench.upstream import Pace, Upstream

MOST_FOR_A_REQUEST = 1.0
"""Times the floor's, with keys, routes, metrics and log on."""

MOST_FOR_A_CHUNK = 1.25
"""Times the floor's that reads every event and writes it anew."""

ROUNDS = 3
MOST_ROUNDS = 10

PACE = Pace(rate=125, tokens=50)
"""So slow that each read brings one chunk, however busy the machine is."""


@dataclass
class Cost:
    """CPU microseconds, the least of some rounds."""

    gateway: float
    floor: float

    @property
    def ratio(self) -> float:
        return self.gateway / self.floor

    def __str__(self) -> str:
        return f"{self.gateway:.0f} us of CPU, the bare floor {self.floor:.0f} us: {self.ratio:.2f} times"


async def least(
    measure: Callable[[Contender], Awaitable[float]], gateway: Contender, floor: Contender, bound: float
) -> Cost:
    """Round by round, until they are enough and the bound is met, or it is hopeless."""
    cost = Cost(float("inf"), float("inf"))
    for number in range(MOST_ROUNDS):
        if number >= ROUNDS and cost.ratio <= bound:
            break
        cost.gateway = min(cost.gateway, await measure(gateway))
        cost.floor = min(cost.floor, await measure(floor))
    return cost


async def request(contender: Contender) -> float:
    target = contender.target()
    return (await load.plain(target, small(target.model), 16, 0.3, contender.cpu)).cpu_us


async def chunk(contender: Contender) -> float:
    target = contender.target("parse" if isinstance(contender, Floor) else "")
    return (await load.streams(target, small(target.model, True), 32, PACE.seconds, PACE, contender.cpu)).cpu_us


async def measured(folder: Path) -> tuple[Cost, Cost]:
    upstream = Upstream(PACE)
    place = Place(folder, None, await upstream.listen(), 0, folder)
    gateway, floor = TalariaFull(place), Floor(place)
    try:
        await asyncio.gather(gateway.start(), floor.start())
        for contender in (gateway, floor):
            await request(contender)
        return (
            await least(request, gateway, floor, MOST_FOR_A_REQUEST),
            await least(chunk, gateway, floor, MOST_FOR_A_CHUNK),
        )
    finally:
        gateway.stop()
        floor.stop()
        upstream.close()


def test_requests_and_chunks_cost_no_more_than_they_should(tmp_path: Path, figure: Callable[[str], None]) -> None:
    # One test for both, so that they are never measured at the same time.
    a_request, a_chunk = uvloop.run(measured(tmp_path))
    figure(f"a request costs {a_request}")
    figure(f"a chunk costs {a_chunk}")
    assert a_request.ratio <= MOST_FOR_A_REQUEST, f"a request costs {a_request}"
    assert a_chunk.ratio <= MOST_FOR_A_CHUNK, f"a chunk costs {a_chunk}"
