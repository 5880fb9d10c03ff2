"""`make bench`, or `python -m tests.bench --help`."""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from tests.bench import machine, plot, report
from tests.bench.bars import Results, bars
from tests.bench.contenders import HOUSE, Contender, Nginx, NotHere, Place, TalariaFull, certificates
from tests.bench.peers import PEERS
from tests.bench.scenarios import QUICK, REPEATS_SECONDS, SCENARIOS, Bench, Scenario, against
from tests.bench.upstream import Upstream

EXTRAS = ("stall-free", "starts", "memory", "traffic")

LONGEST_SECONDS = 450.0
"""After this long rounds are left out, so that a run ends within eight minutes. Peers come on top."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measures the gateway beside a bare proxy, nginx and no gateway."
    )
    parser.add_argument("--quick", action="store_true", help="two scenarios, within a minute")
    names = [*(scenario.name for scenario in SCENARIOS), *(each.name for each in against(())), *EXTRAS]
    parser.add_argument(
        "--scenario", action="append", default=[], choices=names, metavar="NAME", help=f"only this: {', '.join(names)}"
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        choices=list(PEERS),
        help="another gateway too, in two scenarios; it is installed below .tools/peers",
    )
    parser.add_argument("--nginx", default=shutil.which("nginx"), metavar="PATH", help="where nginx is")
    parser.add_argument(
        "--memory-requests", type=int, default=20_000, metavar="N", help="mixed requests to see memory grow over"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for what is measured")
    parser.add_argument(
        "--write",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="puts figures between a document's marks",
    )
    parser.add_argument(
        "--from", dest="old", type=Path, metavar="JSON", help="tells an earlier run again; runs nothing"
    )
    return parser.parse_args()


def main() -> int:
    asked = options()
    if asked.old is not None:
        run = json.loads(asked.old.read_text())
    else:
        Nginx.binary = asked.nginx
        started = time.perf_counter()
        try:
            run = uvloop.run(measure(asked))
        except KeyboardInterrupt:
            return 130
        run["seconds"] = time.perf_counter() - started
    results = Results(run)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "bench.json").write_text(json.dumps(run, indent=1) + "\n")
    (asked.out / "bench.md").write_text(report.document(results))
    (asked.out / "bench.svg").write_text(plot.svg(results))
    found = bars(results)
    print(report.machine(results) + "\n\n" + report.bars_table([bar for bar in found if bar.value is not None]))
    say(f"\n{asked.out}/bench.json, bench.md and bench.svg have all of it.")
    for path in asked.write:
        written = report.write(path, results)
        image = path.with_suffix(".svg")
        if "figures" in written and f"({image.name})" in path.read_text():
            image.write_text(plot.svg(results))
        say(f"{path}: {', '.join(written) or 'nothing'} written")
    missed = [bar.what for bar in found if bar.gates and bar.verdict == "missed"]
    if missed:
        say(f"missed: {'; '.join(missed)}")
    return 1 if missed else 0


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    cores = machine.cores()
    run: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": machine.description(),
        "cores": cores.told,
        "seconds": 0.0,
        "scenarios": {},
        "peers": {},
    }
    say(f"{run['machine']}; {cores.told}")
    machine.pin(cores.load)
    scenarios, extras = chosen(asked)
    upstream = Upstream()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tls, ca = certificates(folder)
        place = Place(folder, cores.contender, await upstream.listen(), await upstream.listen(tls), ca)
        running: dict[str, Contender] = {}
        bench = Bench(upstream, place, cores, running, say, 10.0 if asked.quick else REPEATS_SECONDS)
        gc.disable()
        try:
            await _start(running, place, needed(scenarios, extras), run["peers"])
            await _all(bench, scenarios, extras, asked.memory_requests, run, started)
        finally:
            for contender in running.values():
                contender.stop()
            upstream.close()
    return run


def chosen(asked: argparse.Namespace) -> tuple[list[Scenario], list[str]]:
    """The scenarios and the extras that were asked for."""
    known = [*SCENARIOS, *(against(asked.peer) if asked.peer else ())]
    if asked.quick:
        return list(QUICK), []
    if not asked.scenario:
        return known, list(EXTRAS)
    return [each for each in known if each.name in asked.scenario], [each for each in EXTRAS if each in asked.scenario]


def needed(scenarios: Iterable[Scenario], extras: Iterable[str]) -> list[str]:
    """The contenders, in the order in which they start."""
    names = {entry.partition(":")[0] for scenario in scenarios for entry in scenario.entries}
    if "stall-free" in extras:
        names |= {"direct", "nginx", "floor", "talaria"}
    if "traffic" in extras:
        names |= {"direct", "talaria-full"}
    return [name for name in (*HOUSE, *PEERS) if name in names]


async def _start(running: dict[str, Contender], place: Place, names: Iterable[str], peers: dict[str, Any]) -> None:
    for name in names:
        try:
            if name in PEERS:
                say(f"{name}: {PEERS[name].package}")
                PEERS[name].install()
            contender = (PEERS.get(name) or HOUSE[name])(place)
            seconds = await contender.start()
        except NotHere as missing:
            if name in ("talaria", "talaria-full", "talaria-tls", "floor"):
                raise SystemExit(str(missing)) from None
            say(f"without {name}: {missing}")
            if name in PEERS:
                peers[name] = {"missing": str(missing)}
            continue
        running[name] = contender
        if name in PEERS:
            peers[name] = {"package": PEERS[name].package, "start_s": seconds}


async def _all(
    bench: Bench, scenarios: list[Scenario], extras: list[str], requests: int, run: dict[str, Any], started: float
) -> None:
    extra_seconds = {"stall-free": 60.0, "starts": 12.0, "memory": 40.0, "traffic": 5.0}
    ahead = sum(scenario.cost for scenario in scenarios) + sum(extra_seconds[extra] for extra in extras)
    peer_seconds = sum(scenario.cost for scenario in scenarios if scenario.name.startswith("peers-"))
    for scenario in scenarios:
        late = time.perf_counter() - started + ahead > LONGEST_SECONDS + peer_seconds
        rounds = max(2, scenario.rounds - 1) if late else scenario.rounds
        say(f"{scenario.name}: {scenario.title}")
        run["scenarios"][scenario.name] = await bench.run(scenario, rounds)
        ahead -= scenario.cost
    for name, peer in run["peers"].items():
        if name in bench.running and (process := bench.running[name].process) is not None:
            peer["resident_mb"] = process.resident_mb()
    if "stall-free" in extras:
        say("stall-free: how many streams at a time")
        entries = ("nginx", "floor:parse", "talaria", "talaria:anthropic")
        run["stall_free"] = await bench.most(Scenario("stall-free", "", "streams", 0, entries))
        own = run["stall_free"]["entries"]["direct"]["streams"]
        if own:
            most = Scenario(
                "streams-most",
                f"{own} streams, all that the callers carry",
                "streams",
                own,
                ("direct", "nginx", "floor:parse", "talaria"),
                rounds=2,
            )
            run["scenarios"][most.name] = await bench.run(most, most.rounds)
    if "traffic" in extras:
        say("traffic: bytes for a request")
        full = bench.running["talaria-full"]
        assert isinstance(full, TalariaFull)
        run["traffic"] = await bench.traffic(full)
    if "starts" in extras:
        say("starts: to the first answer")
        run["starts"] = await bench.starts()
    if "memory" in extras:
        say(f"memory: over {requests:,} requests")
        # More than the default takes the time it takes.
        run["memory"] = await bench.memory(requests, 60.0 if requests <= 20_000 else 3600.0)


def _commit() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True, cwd=machine.ROOT
        )
        return done.stdout.strip()
    return ""


if __name__ == "__main__":
    sys.exit(main())
