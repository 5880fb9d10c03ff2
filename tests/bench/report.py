"""A run as Markdown, in sections, and sections into documents between their marks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.bars import MEMORY_REQUESTS, Bar, Results, bars, beside
from tests.bench.plot import NAMES
from tests.bench.scenarios import NOISE

BUSY = 0.6
"""The share of a core that is planned with: the rest is for bursts, and for those who fail over from elsewhere."""

PORTS = 28_000
"""Connections from one address to one other: Linux's range of ephemeral ports."""


def table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return "\n".join([line(head), line(["---"] + ["--:"] * (len(head) - 1)), *map(line, rows)])


def _about(value: float | None, form: str = "{:,.1f}") -> str:
    return "–" if value is None else form.format(value)


def _span(values: list[float], form: str = "{:.2f}") -> str:
    """The median, and the least and the most of the rounds."""
    if not values:
        return "–"
    middle = Results.median(values)
    return f"{form.format(middle)} ({form.format(values[0])}–{form.format(values[-1])})"


# --- sections ---


def machine(results: Results) -> str:
    told = _measured(results)
    if results.value("plain-32", "floor", "cpu_us") is None:
        return told
    return (
        f"{told}\nBy the bare proxy's CPU for a plain request this machine is {results.slowness:.1f} times slower than the "
        "one that the bars were set on."
    )


def _measured(results: Results) -> str:
    """When, where, and how much others were in the way."""
    run = results.run
    state = f" at {run['commit']}" if run.get("commit") else ""
    minutes = run["seconds"] / 60
    told = f"Measured {run['when']}{state}: {run['machine']}; {run['cores']}; {minutes:.1f} minutes."
    noise = Results.median(
        [one["strangers"] for name in run["scenarios"] for one in results.all(name) if "strangers" in one]
    )
    if noise is None:
        return told
    told += f"\nOther processes took {noise:.0%} of a core meanwhile (the median of all measurements)"
    return told + ("." if noise < NOISE else ": **what is not CPU tells more of them than of the gateway**.")


def bars_table(found: list[Bar]) -> str:
    rows = [
        [
            bar.what,
            bar.demand,
            bar.told(bar.here) if bar.slowness > 1 else "",
            bar.told(bar.value),
            f"**{bar.verdict}**" if bar.verdict == "missed" else bar.verdict,
        ]
        for bar in found
    ]
    return table(["", "bar", "at this machine's speed", "measured", ""], rows)


def figures(results: Results) -> str:
    scenarios = {name: found for name, found in results.run["scenarios"].items() if not name.startswith("peers-")}
    return "\n\n".join(
        filter(None, [_plain(results, scenarios), _streams(results, scenarios), _calm(results), memory(results)])
    )


def _plain(results: Results, scenarios: dict[str, Any]) -> str:
    rows = []
    for name, scenario in scenarios.items():
        if scenario["kind"] != "plain":
            continue
        for entry in scenario["entries"]:
            value = lambda figure: results.value(name, entry, figure)  # noqa: B023, E731
            ratios = results.ratios(name, entry, "floor", "cpu_us")
            rows.append(
                [
                    f"{scenario['title']}: {NAMES[entry]}",
                    _about(value("rps"), "{:,.0f}"),
                    _about(value("cpu_us") or None, "{:,.0f}"),
                    _span(ratios) if ratios and entry not in ("direct", "floor") else "",
                    _about(value("p50_ms"), "{:.2f}"),
                    _about(value("p99_ms"), "{:.2f}"),
                ]
            )
    head = ["Plain", "requests/s", "CPU µs a request", "times the floor's", "p50 ms", "p99 ms"]
    return table(head, rows) if rows else ""


def _streams(results: Results, scenarios: dict[str, Any]) -> str:
    rows = []
    for name, scenario in scenarios.items():
        if scenario["kind"] != "streams":
            continue
        for entry in scenario["entries"]:
            ratios = results.ratios(name, entry, "floor:parse", "cpu_us")
            whole = results.ratio(name, entry, "direct", "whole_p50_ms")
            first50, first99 = (results.added(name, entry, f"ttft_{each}_ms") for each in ("p50", "p99"))
            delay = results.value(name, entry, "delay_p99_ms")
            rows.append(
                [
                    f"{scenario['title']}: {NAMES[entry]}",
                    _about(results.value(name, entry, "chunks_per_second"), "{:,.0f}"),
                    _about(results.value(name, entry, "cpu_us") or None),
                    _span(ratios) if ratios and not entry.startswith(("direct", "floor:parse")) else "",
                    f"{_about(first50)} / {_about(first99)}" if entry != "direct" else "",
                    _about(None if whole is None else (whole - 1) * 100, "{:+.1f} %") if entry != "direct" else "",
                    _about(delay),
                    _about(results.value(name, entry, "gap_ms"), "{:.0f}"),
                    f"{_about(results.value(name, entry, 'stalled'), '{:.0f}')}"
                    f" of {_about(results.value(name, entry, 'streams'), '{:.0f}')}",
                ]
            )
    head = [
        *("Streams", "chunks/s", "CPU µs a chunk", "times the floor's that parses", "first token p50 / p99, added ms"),
        *("whole stream, added", "chunk's way p99 ms", "largest gap ms", "stalled"),
    ]
    return table(head, rows) if rows else ""


def _calm(results: Results) -> str:
    calm = results.run.get("stall_free")
    if not calm:
        return ""
    own = calm["entries"]["direct"]["streams"]
    bound = "as far as was tried" if own == calm["limit"] else "where they stall themselves"
    told = ", ".join(
        f"{NAMES[entry]} {found['streams']}" for entry, found in calm["entries"].items() if entry != "direct"
    )
    return (
        f"Streams of 1,000 tokens/s at a time without a silence over 20 ms: {told}. "
        f"The benchmark's own callers and vendor carry {own} ({bound})."
    )


def memory(results: Results, least: int = 0) -> str:
    """How memory grew; nothing over fewer than `least` requests."""
    found = results.run.get("memory")
    if not found or found["requests"] < least:
        return ""
    way = found["grown_mb"]
    told = ", ".join(f"{mb:.1f} after {count:,}" for count, mb in way[:: max(1, len(way) // 10)][1:])
    return (
        f"Memory: {found['started_mb']:.1f} MB after the start, {found['warm_mb']:.1f} MB once 2,000 requests of all kinds "
        f"were made; from there, with further requests, {told}."
    )


def peers(results: Results) -> str:
    run = results.run
    if not run.get("peers"):
        return ""
    rows = []
    names = ["talaria", "floor", *(name for name, peer in run["peers"].items() if "missing" not in peer)]
    resident, starts = run.get("memory") or {}, run.get("starts") or {}
    own = {"resident_mb": resident.get("warm_mb"), "start_s": Results.median(starts.get("first_answer_s", []))}
    for entry in names:
        peer = own if entry == "talaria" else run["peers"].get(entry, {})
        rows.append(
            [
                NAMES[entry],
                _about(results.value("peers-plain", entry, "rps"), "{:,.0f}"),
                _about(results.value("peers-plain", entry, "p50_ms")),
                _about(results.value("peers-plain", entry, "cpu_us"), "{:,.0f}"),
                _about(results.value("peers-streams", entry, "chunks_per_second"), "{:,.0f}"),
                _about(results.value("peers-streams", entry, "cpu_us")),
                _about(results.added("peers-streams", entry, "ttft_p50_ms"), "{:,.1f}"),
                _about(results.value("peers-streams", entry, "whole_p50_ms"), "{:,.0f}"),
                _about(peer.get("resident_mb"), "{:,.0f}"),
                _about(peer.get("start_s")),
            ]
        )
    head = [
        *("", "requests/s", "p50 ms", "CPU µs a request", "chunks/s of 16 streams", "CPU µs a chunk"),
        *("first token, added ms", "whole stream ms", "MB after the run", "start s"),
    ]
    missing = [f"{name}: {peer['missing']}" for name, peer in run["peers"].items() if "missing" in peer]
    return "\n\n".join([_measured(results), table(head, rows), *missing, bars_table(beside(results))])


def speed(results: Results) -> str:
    """The ratios for the README, but for those to peers."""
    plain = results.ratio("plain-32", "talaria", "floor", "cpu_us")
    all_on = results.ratio("plain-32", "talaria-full", "floor", "cpu_us")
    chunk = results.ratio("streams-16", "talaria", "floor:parse", "cpu_us")
    if plain is None or all_on is None or chunk is None:
        return ""
    return "\n".join(
        [
            _item(
                f"A completion takes **{plain:.2f} times** the CPU that a bare Python proxy takes (Starlette and httpx over "
                f"aiohttp, no features), and {all_on:.2f} times with keys, routes, metrics and the log on."
            ),
            _item(
                f"A streamed chunk takes **{chunk:.2f} times** what such a proxy takes to read it and write it anew."
            ),
        ]
    )


def speed_peers(results: Results) -> str:
    """The ratio to peers for the README."""
    plain = results.ratio("peers-plain", "litellm", "talaria", "cpu_us")
    chunk = results.ratio("peers-streams", "litellm", "talaria", "cpu_us")
    if plain is None or chunk is None:
        return ""
    return _item(
        f"LiteLLM's proxy takes **{plain:.0f} times** the CPU for a completion, and {chunk:.0f} times for a chunk."
    )


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", 118, subsequent_indent="  ")


# --- what it takes ---


def capacity(results: Results) -> str:
    """What a core carries, what a fleet needs, and where the next limit lies; every number with its arithmetic."""
    traffic = results.run.get("traffic")
    plain = results.value("plain-32", "talaria-full", "cpu_us")
    same = results.value("streams-16", "talaria-full", "cpu_us")
    other = results.value("streams-16", "talaria:anthropic", "cpu_us")
    if not traffic or plain is None or same is None or other is None:
        return ""
    million = 1_000_000
    resident = results.run["memory"]["warm_mb"] if results.run.get("memory") else None

    def carried(cost: float) -> float:
        return BUSY * million / cost

    core = table(
        ["One core, all on", "CPU µs each", f"at {BUSY:.0%} of a core"],
        [
            [
                "plain completions",
                f"{plain:,.0f}",
                f"{BUSY} × 1,000,000 / {plain:,.0f} = {carried(plain):,.0f} a second",
            ],
            [
                "chunks, same dialect",
                f"{same:.1f}",
                f"{carried(same):,.0f} a second = {carried(same) / 1000:.0f} streams of 1,000 tokens/s",
            ],
            [
                "chunks, Anthropic translated",
                f"{other:.1f}",
                f"{carried(other):,.0f} a second = {carried(other) / 1000:.0f} streams of 1,000 tokens/s",
            ],
        ],
    )
    tokens = 200
    stream = same * tokens
    seconds = tokens / 1000 + 0.1
    cores_plain, cores_stream = million / carried(plain), million / carried(stream)
    at_once = million * seconds
    down = million * (traffic["asked"] + traffic["answered_upstream"])
    up = million * (traffic["asked_upstream"] + traffic["answered"])
    down_stream = million * (traffic["asked"] + tokens * traffic["chunk_upstream"])
    up_stream = million * (traffic["asked_upstream"] + tokens * traffic["chunk"])
    log = million * traffic["log"]
    per_core = at_once / cores_stream
    rows = [
        [
            "cores",
            f"1,000,000 / {carried(plain):,.0f} = {cores_plain:,.0f}",
            f"1,000,000 × {tokens} × {same:.1f} µs / {BUSY} = {cores_stream:,.0f}",
        ],
        [
            "answers under way",
            f"1,000,000 × 0.3 s = {million * 0.3:,.0f}",
            f"1,000,000 × ({tokens} / 1,000 + 0.1) s = {at_once:,.0f}, {per_core:.0f} a core",
        ],
        [
            "connections",
            f"2 for each: {2 * million * 0.3:,.0f}",
            f"2 for each: {2 * at_once:,.0f}; to one address of a vendor from "
            f"{at_once:,.0f} / {PORTS:,} = {at_once / PORTS:.0f} or more of ours",
        ],
        ["network in", _gigabits(down), _gigabits(down_stream)],
        ["network out", _gigabits(up), _gigabits(up_stream)],
        ["Redis operations", "0: all state is in the process", "0"],
        [
            "log, a line a call",
            f"{traffic['log']:.0f} B each: {log / 1e6:,.0f} MB/s, {log * 86_400 / 1e12:,.0f} TB a day",
            "the same",
        ],
        [
            "metrics",
            f"{traffic['series']} series, {traffic['metrics'] / 1000:.0f} kB a scrape and process: "
            f"{cores_plain * traffic['series'] / 1e6:,.1f} million series, "
            f"{cores_plain * traffic['metrics'] / 15 / 1e6:,.1f} MB/s at a scrape every 15 s",
            f"{cores_stream * traffic['series'] / 1e6:,.1f} million series, "
            f"{cores_stream * traffic['metrics'] / 15 / 1e6:,.1f} MB/s",
        ],
    ]
    if resident is not None:
        rows.append(
            [
                "memory",
                f"{cores_plain:,.0f} × {resident:.0f} MB = {cores_plain * resident / 1024:,.0f} GB",
                f"{cores_stream:,.0f} × {resident:.0f} MB = {cores_stream * resident / 1024:,.0f} GB",
            ]
        )
    slow = results.slowness
    speed = (
        f"Of this machine's cores: those of the bars' machine carry about {slow:.1f} times as much.\n\n"
        if slow > 1.2
        else ""
    )
    fleet = table(
        ["1,000,000 requests/s", "plain", f"streams of {tokens} chunks at 1,000 tokens/s"],
        rows,
    )
    return f"{speed}{core}\n\n{fleet}"


def _gigabits(each_second: float) -> str:
    return f"{each_second * 8 / 1e9:,.0f} Gbit/s"


def _whole(section: Callable[[Results], str]) -> Callable[[Results], str]:
    """Nothing where a run left out what the section is mostly made of: it keeps what it has of another run."""
    return lambda results: section(results) if {"plain-32", "streams-48"} <= results.run["scenarios"].keys() else ""


SECTIONS = {
    "machine": _whole(machine),
    "bars": _whole(lambda results: bars_table(bars(results))),
    "figures": _whole(figures),
    "memory": lambda results: memory(results, MEMORY_REQUESTS),
    "peers": peers,
    "capacity": capacity,
    "speed": speed,
    "speed-peers": speed_peers,
}


def document(results: Results) -> str:
    """A whole report, for the output folder."""
    parts = [machine(results), bars_table(bars(results)), "![Figures](bench.svg)", figures(results)]
    return "# Benchmark\n\n" + "\n\n".join(filter(None, [*parts, peers(results), capacity(results)])) + "\n"


def write(path: Path, results: Results) -> list[str]:
    """Puts sections between their marks, `<!-- bench: name -->` and `<!-- bench: end -->`; the names of those written.

    What a run did not measure stays as it is.
    """
    written: list[str] = []

    def fill(found: re.Match[str]) -> str:
        text = SECTIONS[found[1]](results)
        if not text:
            return found[0]
        written.append(found[1])
        return f"<!-- bench: {found[1]} -->\n{text}\n<!-- bench: end -->"

    before = path.read_text()
    after = re.sub(r"<!-- bench: ([a-z-]+) -->\n.*?<!-- bench: end -->", fill, before, flags=re.DOTALL)
    path.write_text(after)
    return written
