"""What is measured, as a table, and how: round by round over the contenders, so that noise meets all of them alike."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.bench import load
from tests.bench.bodies import BODIES
from tests.bench.contenders import Contender, Place, Talaria, TalariaFull
from tests.bench.load import Plain, Refused, Streamed
from tests.bench.machine import ROOT, Cores, Strangers
from tests.bench.upstream import Pace, Upstream

NOISE = 0.15
"""A measurement is repeated when others used a larger share of a core meanwhile."""

REPEATS_SECONDS = 45.0
"""What all repetitions together may take."""


FAST = Pace()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`entries` are contenders, with the way through them after a colon; see `contenders`."""

    name: str
    title: str
    kind: str
    """`plain` or `streams`."""
    count: int
    """Connections, or streams at a time."""
    entries: tuple[str, ...]
    rounds: int = 3
    seconds: float = 1.5
    """Of each measurement."""
    body: str = "small"
    pace: Pace = FAST
    probes: bool = False
    """Whether the gateway's health is asked for meanwhile."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes."""
        return self.rounds * len(self.entries) * (self.seconds + 0.5)


FLOORS = ("direct", "nginx", "floor", "floor:parse")

SCENARIOS = (
    Scenario("plain-1", "1 connection", "plain", 1, ("direct", "nginx", "floor", "talaria"), seconds=1.2),
    Scenario(
        "plain-32",
        "32 connections",
        "plain",
        32,
        ("direct", "nginx", "floor", "talaria", "talaria-full", "talaria:anthropic", "talaria-tls"),
        rounds=5,
    ),
    Scenario("plain-256", "256 connections", "plain", 256, ("direct", "nginx", "floor", "talaria")),
    Scenario("plain-long", "100 messages of 1 kB, 32 connections", "plain", 32, ("floor", "talaria"), body="long"),
    Scenario(
        "plain-image", "an image of 2 MB, 2 connections", "plain", 2, ("floor", "talaria"), body="image", probes=True
    ),
    Scenario("streams-1", "1 stream", "streams", 1, (*FLOORS, "talaria"), seconds=2.0),
    Scenario(
        "streams-16",
        "16 streams",
        "streams",
        16,
        (*FLOORS, "talaria", "talaria-full", "talaria:anthropic", "talaria-tls"),
    ),
    Scenario(
        "streams-16-700",
        "16 streams at 700 tokens/s",
        "streams",
        16,
        ("direct", "floor:parse", "talaria"),
        pace=Pace(rate=700),
    ),
    Scenario(
        "streams-48",
        "48 streams",
        "streams",
        48,
        (*FLOORS, "talaria", "talaria-full", "talaria:anthropic", "talaria-tls"),
    ),
    Scenario(
        "streams-48-700",
        "48 streams at 700 tokens/s",
        "streams",
        48,
        ("direct", "floor:parse", "talaria"),
        pace=Pace(rate=700),
    ),
    Scenario(
        "streams-blocky",
        "48 streams in blocks of 8 tokens",
        "streams",
        48,
        ("direct", "floor:parse", "talaria", "talaria:mercury"),
        pace=Pace(block=8),
    ),
)
"""Streams are of 200 tokens, a token a chunk, at 1,000 tokens/s, unless they say otherwise."""

QUICK = (
    replace(SCENARIOS[1], entries=("floor", "talaria"), rounds=5, seconds=1.2),
    replace(
        next(each for each in SCENARIOS if each.name == "streams-16"),
        entries=("direct", "floor:parse", "talaria"),
        seconds=1.2,
    ),
)


def against(peers: Iterable[str]) -> tuple[Scenario, ...]:
    """The two scenarios that peers are measured in."""
    others = ("floor", "talaria", *peers)
    return (
        Scenario("peers-plain", "32 connections, with peers", "plain", 32, others, seconds=3.0),
        Scenario("peers-streams", "16 streams, with peers", "streams", 16, ("direct", *others), seconds=2.0),
    )


Say = Callable[[str], None]


class Bench:
    """Contenders that run, and what was measured of them."""

    def __init__(
        self,
        upstream: Upstream,
        place: Place,
        cores: Cores,
        running: dict[str, Contender],
        say: Say,
        repeats: float = REPEATS_SECONDS,
    ) -> None:
        self.upstream = upstream
        self.place = place
        self.running = running
        self.say = say
        self._cores = cores
        self._repeats = repeats

    async def run(self, scenario: Scenario, rounds: int) -> dict[str, Any]:
        """Everything that was measured in `rounds`: for each entry a list of rounds."""
        entries = [entry for entry in scenario.entries if entry.partition(":")[0] in self.running]
        found: dict[str, list[dict[str, Any]]] = {entry: [] for entry in entries}
        failed: dict[str, str] = {}
        for number in range(rounds):
            # Each round begins with another one.
            turn = number % len(entries) if entries else 0
            for entry in entries[turn:] + entries[:turn]:
                if entry not in failed:
                    try:
                        found[entry].append(await self._settled(scenario, entry))
                    except (Refused, OSError) as error:
                        if entry.startswith("talaria"):
                            raise
                        failed[entry] = str(error)
                        self.say(f"  {entry:18} cannot do it: {error}")
        found = {entry: measured for entry, measured in found.items() if entry not in failed}
        for entry, measured in found.items():
            self.say(f"  {entry:18} {summary(measured)}")
        return {
            "title": scenario.title,
            "kind": scenario.kind,
            "count": scenario.count,
            "rate": scenario.pace.rate,
            "block": scenario.pace.block,
            "entries": found,
            "failed": failed,
        }

    async def _settled(self, scenario: Scenario, entry: str) -> dict[str, Any]:
        """One measurement; once more where strangers were in its way, as long as there is time for it."""
        found = await self.measure(scenario, entry)
        if found["strangers"] > NOISE and self._repeats > 0:
            started = time.perf_counter()
            again = await self.measure(scenario, entry)
            self._repeats -= time.perf_counter() - started
            if again["strangers"] < found["strangers"]:
                return again
        return found

    async def measure(self, scenario: Scenario, entry: str) -> dict[str, Any]:
        name, _, way = entry.partition(":")
        contender = self.running[name]
        target = contender.target(way)
        body = BODIES[scenario.body](target.model, scenario.kind == "streams")
        upstream = self.upstream
        # Connections and caches warm, before anything counts.
        if scenario.kind == "plain":
            await load.plain(target, body, scenario.count, 0.15, contender.cpu)
        else:
            upstream.pace = Pace(1000, 20)
            await load.streams(target, body, scenario.count, 0.05, upstream.pace, contender.cpu)
        upstream.pace = scenario.pace
        upstream.late = 0.0
        strangers = self._watch(contender)
        probing = asyncio.ensure_future(load.probe(target.port, "/health/live", 0.02)) if scenario.probes else None
        found: Plain | Streamed
        if scenario.kind == "plain":
            found = await load.plain(target, body, scenario.count, scenario.seconds, contender.cpu)
        else:
            found = await load.streams(target, body, scenario.count, scenario.seconds, scenario.pace, contender.cpu)
        more: dict[str, Any] = {"strangers": strangers.share(), "late_ms": upstream.late * 1e3}
        if isinstance(found, Plain):
            more["rps"] = found.rps
        else:
            more["chunks_per_second"] = found.chunks / found.seconds
        if probing is not None:
            probing.cancel()
            more["probe_p99_ms"] = load.at(sorted(await probing), 0.99)
        return asdict(found) | more

    def _watch(self, contender: Contender) -> Strangers:
        own: dict[int | None, Callable[[], float]] = {self._cores.load: time.process_time}
        if self._cores.contender == self._cores.load:
            own = {self._cores.load: lambda: time.process_time() + contender.cpu()}
        elif self._cores.contender is not None and contender.process is not None:
            own[self._cores.contender] = contender.cpu
        return Strangers(own)

    # --- as many as there can be ---

    async def stall_free(self, entry: str, limit: int, seconds: float = 14.0) -> dict[str, Any]:
        """The most streams at a time, `limit` at most, without one that stalls."""
        low, high, step = 0, limit + 1, 8
        end = time.perf_counter() + seconds
        levels: list[dict[str, Any]] = []
        while high - low > max(1, low // 12) and time.perf_counter() < end:
            count = min(step, limit) if high > limit else (low + high) // 2
            scenario = Scenario("stall-free", "", "streams", count, (entry,), seconds=0.5)
            for _ in range(2):
                found = await self.measure(scenario, entry)
                if not found["stalled"]:
                    break
            levels.append({"streams": count, "gap_ms": found["gap_ms"], "stalled": found["stalled"]})
            if found["stalled"]:
                high = count
            else:
                low = count
                step = count * 2
                if count == limit:
                    break
        levels.sort(key=lambda level: level["streams"])
        self.say(f"  {entry:18} {low} streams at a time")
        return {"streams": low, "levels": levels}

    async def most(self, scenario: Scenario, limit: int = 256) -> dict[str, Any]:
        """How many streams the callers carry by themselves, and how many without a stall each contender."""
        own = await self.stall_free("direct", limit)
        found = {"direct": own}
        for entry in scenario.entries:
            if entry.partition(":")[0] in self.running and entry != "direct":
                found[entry] = await self.stall_free(entry, own["streams"])
        return {"limit": limit, "entries": found}

    # --- starts and memory ---

    async def starts(self, count: int = 5) -> dict[str, Any]:
        """Seconds from a start to its first answer, and of an import."""
        took = []
        for number in range(count + 1):
            one = Talaria(self.place)
            try:
                seconds = await one.start()
            finally:
                one.stop()
            # The first one compiles what was changed since the last setup.
            if number:
                took.append(seconds)
        imports = [_import() for _ in range(3)]
        self.say(f"  first answer after {statistics.median(took):.2f} s, import {statistics.median(imports):.2f} s")
        return {"first_answer_s": took, "import_s": imports}

    async def memory(self, requests: int, seconds: float) -> dict[str, Any]:
        """MB resident after a start, once every kind of request was made, and after `requests` more."""
        one = Talaria(self.place)
        await one.start()
        process = one.process
        assert process is not None
        try:
            # FastAPI is loaded a second after the start.
            await asyncio.sleep(3)
            started = process.resident_mb()
            made = await self._mixed(one, 2000)
            warm = process.resident_mb()
            grown = [(0, warm)]
            end = time.perf_counter() + seconds
            made = 0
            while made < requests and time.perf_counter() < end:
                made += await self._mixed(one, min(2000, requests - made))
                grown.append((made, process.resident_mb()))
        finally:
            one.stop()
        self.say(f"  {started:.1f} MB, warm {warm:.1f} MB, {grown[-1][1]:.1f} MB after {made:,} requests")
        return {"started_mb": started, "warm_mb": warm, "requests": made, "grown_mb": grown}

    async def _mixed(self, one: Contender, count: int) -> int:
        """Plain ones, streams, errors and callers who leave, 6 : 2 : 1 : 1."""
        target, failing = one.target(), one.target("fails")
        body, stream = BODIES["small"](target.model), BODIES["small"](target.model, True)
        tenth = max(1, count // 10)
        await load.plain(target, body, 32, 60, one.cpu, most=6 * tenth)
        self.upstream.pace = Pace(1000, 20)
        await load.streams(target, stream, 32, 60, self.upstream.pace, one.cpu, most=2 * tenth)
        self.upstream.pace = Pace()
        await load.leave(target, stream, tenth, 32)
        with suppress(Refused):
            await load.plain(failing, BODIES["small"](failing.model), 32, 60, one.cpu, most=tenth)
        return 10 * tenth

    # --- what goes over the wires ---

    async def traffic(self, one: TalariaFull, count: int = 1000) -> dict[str, Any]:
        """Bytes for a request and a chunk on each side of the gateway, in its log and in its metrics."""
        target = one.target()
        body, stream = BODIES["small"](target.model), BODIES["small"](target.model, True)
        assert one.process is not None
        log = one.process.log
        before, received = log.stat().st_size, self.upstream.received
        plain = await load.plain(target, body, 16, 60, one.cpu, most=count)
        received = self.upstream.received - received
        written = log.stat().st_size - before
        self.upstream.pace = Pace()
        streamed = await load.streams(target, stream, 4, 0.4, self.upstream.pace, one.cpu)
        direct = self.running["direct"].target()
        vendor = await load.plain(direct, body, 1, 60, one.cpu, most=10)
        vendor_stream = await load.streams(direct, stream, 1, 0.1, self.upstream.pace, one.cpu)
        metrics = await _get(target.port, "/metrics")
        found = {
            "asked": len(target.request(body)),
            "asked_upstream": received / plain.requests,
            "answered_upstream": vendor.bytes,
            "answered": plain.bytes,
            "chunk_upstream": vendor_stream.bytes,
            "chunk": streamed.bytes,
            "log": written / plain.requests,
            "metrics": len(metrics),
            "series": sum(not line.startswith(b"#") for line in metrics.splitlines()),
        }
        self.say("  " + ", ".join(f"{name} {value:,.0f} B" for name, value in found.items()))
        return found


def _import() -> float:
    """Seconds that importing the gateway takes."""
    code = "import time; t = time.perf_counter(); import gateway.app; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT).stdout)


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def summary(rounds: list[dict[str, Any]]) -> str:
    """A line for the one who waits."""

    def mid(name: str) -> float:
        return statistics.median(each[name] for each in rounds)

    noise = f"  (others {max(each['strangers'] for each in rounds):.0%})"
    if "rps" in rounds[0]:
        return (
            f"{mid('rps'):8,.0f} requests/s {mid('cpu_us'):8,.1f} us CPU"
            f"  p50 {mid('p50_ms'):.2f} ms  p99 {mid('p99_ms'):.2f} ms{noise}"
        )
    return (
        f"{mid('chunks_per_second'):8,.0f} chunks/s {mid('cpu_us'):8,.1f} us CPU  first {mid('ttft_p50_ms'):.2f} ms"
        f"  whole {mid('whole_p50_ms'):.0f} ms  gap {mid('gap_ms'):.1f} ms  stalled {mid('stalled'):.0f}{noise}"
    )
