"""What is asked of the figures, and whether they meet it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

REFERENCE_FLOOR_US = 260.0
"""CPU of the floor for a plain request on the machine that the bars were set on."""

REFERENCE_CHUNK_US = 17.0
"""CPU of the floor that parses for a chunk, there: at 48 streams of 1,000 tokens/s, which are three quarters of a core."""


MEMORY_REQUESTS = 100_000
"""What the bar for growth asks for; a run makes fewer of them unless told otherwise."""


class Results:
    """What a run measured. A figure is the median of its rounds; what was not measured is None."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = run

    @staticmethod
    def median(values: list[float]) -> float | None:
        return statistics.median(values) if values else None

    def rounds(self, scenario: str, entry: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run["scenarios"].get(scenario, {"entries": {}})["entries"].get(entry, [])
        return found

    def all(self, scenario: str) -> list[dict[str, Any]]:
        """The rounds of every entry."""
        return [one for rounds in self.run["scenarios"][scenario]["entries"].values() for one in rounds]

    def value(self, scenario: str, entry: str, figure: str) -> float | None:
        return self.median([each[figure] for each in self.rounds(scenario, entry) if figure in each])

    def pairs(
        self, scenario: str, entry: str, other: str, figure: str, made: Callable[[float, float], float]
    ) -> list[float]:
        """`made` of the figures of two entries in each round."""
        both = zip(self.rounds(scenario, entry), self.rounds(scenario, other), strict=False)
        return sorted(made(one[figure], two[figure]) for one, two in both if figure in one and figure in two)

    def ratios(self, scenario: str, entry: str, other: str, figure: str) -> list[float]:
        return self.pairs(scenario, entry, other, figure, lambda one, two: one / two)

    def ratio(self, scenario: str, entry: str, other: str, figure: str) -> float | None:
        return self.median(self.ratios(scenario, entry, other, figure))

    def added(self, scenario: str, entry: str, figure: str, other: str = "direct") -> float | None:
        return self.median(self.pairs(scenario, entry, other, figure, lambda one, two: one - two))

    @property
    def slowness(self) -> float:
        """How many times slower this machine is than the one that the bars were set on, by the floor's plain requests."""
        here = self.value("plain-32", "floor", "cpu_us")
        return here / REFERENCE_FLOOR_US if here else 1.0

    @property
    def streams(self) -> str:
        """The scenario that loads this machine as 48 streams loaded that one.

        What is overloaded reads several chunks at a time, so that each seems to cost less: a ratio of two that are says
        nothing.
        """
        return "streams-48" if self.slowness < 2 else "streams-16"


@dataclass(frozen=True, slots=True)
class Bar:
    """One demand. `slowness` is what a slower machine makes of it: 1 for what does not depend on the machine."""

    what: str
    value: float | None
    bound: float
    form: str = "{:.2f}"
    least: bool = False
    """Whether the value must be at least `bound`; otherwise at most."""
    slowness: float = 1.0
    gates: bool = False
    """Whether missing it fails the run."""
    partial: bool = False
    """Whether less was measured than the bar asks for: it can be missed, and not be met."""

    @property
    def here(self) -> float:
        """The bound at this machine's speed."""
        return self.bound / self.slowness if self.least else self.bound * self.slowness

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self._meets(self.bound):
            return "met so far" if self.partial else "met"
        if self.slowness > 1 and self._meets(self.here):
            return "met at this speed"
        return "missed"

    def _meets(self, bound: float) -> bool:
        assert self.value is not None
        return self.value >= bound if self.least else self.value <= bound

    def told(self, value: float | None) -> str:
        return "–" if value is None else self.form.format(value)

    @property
    def demand(self) -> str:
        return f"at {'least' if self.least else 'most'} {self.told(self.bound)}"


def beside(results: Results) -> list[Bar]:
    """Those that peers are needed for."""
    return [
        Bar(
            f"plain, 32 connections: requests/s, times {name}'s",
            results.ratio("peers-plain", "talaria", peer, "rps"),
            bound,
            "{:.1f}x",
            least=True,
        )
        for name, peer, bound in (("LiteLLM", "litellm", 25), ("Portkey", "portkey", 2.8))
    ]


def bars(results: Results) -> list[Bar]:
    slow, equal = results.slowness, results.streams.removeprefix("streams-")
    value, ratio, added = results.value, results.ratio, results.added
    run = results.run
    starts, memory, calm = run.get("starts") or {}, run.get("memory") or {}, run.get("stall_free") or {}
    grown = memory["grown_mb"][-1][1] - memory["warm_mb"] if memory else None
    requests = memory.get("requests", MEMORY_REQUESTS)
    whole = ratio("streams-48", "talaria", "direct", "whole_p50_ms")
    return [
        Bar(
            "plain, 32 connections, all on: requests/s, times the floor's",
            ratio("plain-32", "talaria-full", "floor", "rps"),
            1.2,
            "{:.2f}x",
            least=True,
        ),
        Bar(
            "the same: CPU a request, times the floor's",
            ratio("plain-32", "talaria-full", "floor", "cpu_us"),
            0.8,
            "{:.2f}x",
            gates=True,
        ),
        Bar(
            "plain, 32 connections, no keys: CPU a request, times the floor's",
            ratio("plain-32", "talaria", "floor", "cpu_us"),
            0.8,
            "{:.2f}x",
            gates=True,
        ),
        Bar("the same: CPU a request", value("plain-32", "talaria", "cpu_us"), 210, "{:,.0f} µs", slowness=slow),
        *(beside(results) if run.get("peers") else ()),
        Bar(
            "plain, 1 connection: added, p50",
            added("plain-1", "talaria", "p50_ms"),
            0.4,
            "{:.2f} ms",
            slowness=slow,
        ),
        Bar(
            "plain, 1 connection: added, p99",
            added("plain-1", "talaria", "p99_ms"),
            1.5,
            "{:.2f} ms",
            slowness=slow,
        ),
        Bar("48 streams: those that stall", value("streams-48", "talaria", "stalled"), 0, "{:.0f}"),
        Bar(
            "48 streams: whole stream over direct",
            None if whole is None else (whole - 1) * 100,
            3,
            "{:.1f} %",
            slowness=slow,
        ),
        Bar("48 streams: CPU a chunk", value("streams-48", "talaria", "cpu_us"), 10, "{:.1f} µs"),
        Bar(
            "48 streams, Anthropic translated: CPU a chunk",
            value("streams-48", "talaria:anthropic", "cpu_us"),
            18,
            "{:.1f} µs",
        ),
        Bar(
            f"{equal} streams: CPU a chunk, times the floor's that parses",
            ratio(results.streams, "talaria", "floor:parse", "cpu_us"),
            10 / REFERENCE_CHUNK_US,
            "{:.2f}x",
            gates=True,
        ),
        Bar(
            f"{equal} streams, Anthropic translated: CPU a chunk, times the floor's that parses",
            ratio(results.streams, "talaria:anthropic", "floor:parse", "cpu_us"),
            18 / REFERENCE_CHUNK_US,
            "{:.2f}x",
            gates=True,
        ),
        Bar(
            "streams at a time without a stall",
            (calm.get("entries", {}).get("talaria") or {}).get("streams"),
            48,
            "{:.0f}",
            least=True,
            slowness=slow,
        ),
        Bar(
            "48 streams, TLS to the vendor: those that stall",
            value("streams-48", "talaria-tls", "stalled"),
            0,
            "{:.0f}",
        ),
        Bar(
            "48 streams of Mercury's blocks: those that stall",
            value("streams-blocky", "talaria:mercury", "stalled"),
            0,
            "{:.0f}",
        ),
        Bar(
            "16 streams: added to the first token, p50",
            added("streams-16", "talaria", "ttft_p50_ms"),
            3,
            "{:.1f} ms",
            slowness=slow,
        ),
        Bar(
            "16 streams: added to the first token, p99",
            added("streams-16", "talaria", "ttft_p99_ms"),
            8,
            "{:.1f} ms",
            slowness=slow,
        ),
        Bar(
            "16 streams: added to a chunk, p99",
            added("streams-16", "talaria", "delay_p99_ms"),
            1,
            "{:.1f} ms",
            slowness=slow,
        ),
        Bar("memory after the start", memory.get("started_mb"), 90, "{:.0f} MB"),
        Bar(
            f"memory grown over {requests:,} mixed requests"
            + (f" of {MEMORY_REQUESTS:,}" if requests < MEMORY_REQUESTS else ""),
            grown,
            5,
            "{:.1f} MB",
            partial=requests < MEMORY_REQUESTS,
        ),
        Bar(
            "start to the first answer",
            results.median(starts.get("first_answer_s", [])),
            1.2,
            "{:.2f} s",
            slowness=slow,
        ),
        Bar("importing the gateway", results.median(starts.get("import_s", [])), 0.8, "{:.2f} s", slowness=slow),
        Bar(
            "/health/live while bodies of 2 MB come in, p99",
            value("plain-image", "talaria", "probe_p99_ms"),
            50,
            "{:.0f} ms",
            slowness=slow,
        ),
    ]
