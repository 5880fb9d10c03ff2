"""The table says what was measured, on made-up measurements, and the benchmark's own callers and vendor are right."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.bench import load, plot, report
from tests.bench.bars import Bar, Results, bars
from tests.bench.bodies import small
from tests.bench.load import Target
from tests.bench.upstream import Pace, Upstream


def rounds(**figures: list[float]) -> list[dict[str, float]]:
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


def run(floor: float = 260.0, **scenarios: dict[str, list[dict[str, float]]]) -> Results:
    """Measurements in which the floor takes `floor` microseconds for a plain request."""
    plain = scenarios.pop("plain_32", {})
    plain.setdefault("floor", rounds(cpu_us=[floor] * 3, rps=[3800.0] * 3))
    named = {name.replace("_", "-"): entries for name, entries in {"plain_32": plain, **scenarios}.items()}
    return Results(
        {
            "when": "2026-01-01",
            "commit": "",
            "machine": "a machine",
            "cores": "two of them",
            "seconds": 60.0,
            "scenarios": {
                name: {"kind": "plain", "title": name, "entries": entries} for name, entries in named.items()
            },
            "peers": {},
        }
    )


def verdicts(results: Results) -> dict[str, str]:
    return {bar.what: bar.verdict for bar in bars(results)}


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    # 0.5, 2 and 0.8: the ratio of the medians would be 1.
    results = run(
        plain_32={
            "floor": rounds(cpu_us=[200.0, 100.0, 250.0], rps=[1.0, 1.0, 1.0]),
            "talaria": rounds(cpu_us=[100.0, 200.0, 200.0], rps=[1.0, 1.0, 1.0]),
        }
    )
    assert results.ratio("plain-32", "talaria", "floor", "cpu_us") == pytest.approx(0.8)
    assert verdicts(results)["plain, 32 connections, no keys: CPU a request, times the floor's"] == "met"


def test_what_is_added_is_over_no_gateway_in_the_same_round() -> None:
    results = run(
        plain_1={
            "direct": rounds(p50_ms=[0.1, 1.1, 0.2], p99_ms=[0.2, 0.2, 0.2]),
            "talaria": rounds(p50_ms=[0.6, 1.4, 0.5], p99_ms=[1.9, 1.9, 1.9]),
        }
    )
    found = {bar.what: bar for bar in bars(results)}
    assert found["plain, 1 connection: added, p50"].value == pytest.approx(0.3)
    assert found["plain, 1 connection: added, p50"].verdict == "met"
    assert found["plain, 1 connection: added, p99"].verdict == "missed"


def test_a_slow_machine_has_its_own_bars_but_for_ratios() -> None:
    figures = {"talaria": rounds(cpu_us=[420.0] * 3, rps=[1.0] * 3)}
    fast, slow = verdicts(run(260.0, plain_32=dict(figures))), verdicts(run(520.0, plain_32=dict(figures)))
    assert fast["the same: CPU a request"] == "missed"
    assert slow["the same: CPU a request"] == "met at this speed"
    assert run(520.0).slowness == 2.0


def test_chunks_are_compared_where_nobody_is_overloaded() -> None:
    def results(floor: float) -> Results:
        there = {"floor:parse": rounds(cpu_us=[10.0]), "talaria": rounds(cpu_us=[9.0])}
        calm = {"floor:parse": rounds(cpu_us=[10.0]), "talaria": rounds(cpu_us=[5.0])}
        return run(floor, streams_48=there, streams_16=calm)

    assert verdicts(results(260.0))["48 streams: CPU a chunk, times the floor's that parses"] == "missed"
    assert verdicts(results(1000.0))["16 streams: CPU a chunk, times the floor's that parses"] == "met"


@pytest.mark.parametrize(
    ("value", "bound", "least", "slowness", "verdict"),
    [
        (0.8, 0.8, False, 1.0, "met"),
        (0.81, 0.8, False, 1.0, "missed"),
        (1.2, 1.2, True, 1.0, "met"),
        (1.19, 1.2, True, 1.0, "missed"),
        (15.0, 10.0, False, 2.0, "met at this speed"),
        (21.0, 10.0, False, 2.0, "missed"),
        (25.0, 48.0, True, 2.0, "met at this speed"),
        (23.0, 48.0, True, 2.0, "missed"),
        (11.0, 10.0, False, 0.5, "missed"),
        (None, 10.0, False, 1.0, "not measured"),
    ],
)
def test_a_bar_is_met_or_missed(value: float | None, bound: float, least: bool, slowness: float, verdict: str) -> None:
    assert Bar("it", value, bound, least=least, slowness=slowness).verdict == verdict


def test_growth_over_fewer_requests_than_asked_can_be_missed_but_not_met() -> None:
    def verdict(requests: int, grown: float) -> str:
        results = run()
        results.run["memory"] = {
            "started_mb": 60.0,
            "warm_mb": 60.0,
            "requests": requests,
            "grown_mb": [(0, 60.0), (requests, 60.0 + grown)],
        }
        return next(told for what, told in verdicts(results).items() if what.startswith("memory grown"))

    assert [verdict(20_000, 4.0), verdict(20_000, 6.0), verdict(100_000, 4.0)] == ["met so far", "missed", "met"]


def test_nothing_measured_is_nothing_met() -> None:
    empty = Results({"scenarios": {}})
    assert set(verdicts(empty).values()) == {"not measured"}


def test_the_table_shows_each_bar() -> None:
    told = report.bars_table(
        [Bar("requests", 1.5, 1.2, "{:.2f}x", least=True), Bar("waiting", 30.0, 10.0, "{:.0f} ms")]
    )
    assert told.splitlines()[2:] == [
        "| requests | at least 1.20x |  | 1.50x | met |",
        "| waiting | at most 10 ms |  | 30 ms | **missed** |",
    ]


def test_figures_go_between_their_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "it.md"
    path.write_text(
        "before\n<!-- bench: machine -->\nold\n<!-- bench: end -->\nbetween\n<!-- bench: peers -->\nkept\n<!-- bench: end -->\n"
    )
    # A run of one scenario replaces no whole one.
    assert report.write(path, run()) == []
    assert report.write(path, run(streams_48={})) == ["machine"]
    text = path.read_text()
    assert "old" not in text
    assert "a machine" in text
    # Peers were not measured.
    assert "between\n<!-- bench: peers -->\nkept\n<!-- bench: end -->\n" in text
    assert report.write(path, run(streams_48={})) == ["machine"]
    assert path.read_text() == text


def test_the_plot_is_the_same_for_the_same_figures() -> None:
    results = run(plain_32={"talaria": rounds(cpu_us=[130.0] * 3, rps=[1.0] * 3)})
    drawn = plot.svg(results)
    assert drawn == plot.svg(results)
    wide = [
        float(bar.attrib["width"]) for bar in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert wide[1] == pytest.approx(wide[0] / 2, abs=0.1)


def test_the_vendor_keeps_its_pace_and_callers_miss_nothing() -> None:
    async def measured() -> tuple[load.Streamed, load.Plain]:
        upstream = Upstream(Pace(rate=500, tokens=50))
        target = Target(await upstream.listen(), "/openai/v1/chat/completions", "any")
        try:
            streamed = await load.streams(target, small("any", True), 4, 0.15, upstream.pace, lambda: 0.0)
            return streamed, await load.plain(target, small("any"), 2, 5, lambda: 0.0, most=20)
        finally:
            upstream.close()

    streamed, plain = uvloop.run(measured())
    assert streamed.chunks == streamed.streams * 50
    # The last of 50 chunks leaves 49 intervals after the first, and never before.
    assert streamed.whole_p50_ms >= 97
    assert (plain.requests, plain.errors) == (20, 0)


def test_errors_are_told_and_not_measured() -> None:
    async def measured() -> Any:
        upstream = Upstream()
        target = Target(await upstream.listen(), "/openai/v1/chat/completions", "upstream-fails")
        try:
            return await load.plain(target, small(target.model), 1, 5, lambda: 0.0, most=2)
        finally:
            upstream.close()

    with pytest.raises(load.Refused, match="400 Bad Request"):
        uvloop.run(measured())
