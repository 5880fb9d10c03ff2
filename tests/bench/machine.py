"""Cores, clocks and memory of processes, as far as the system tells of them."""

from __future__ import annotations

import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
"""Of this checkout: contenders run the code beside the benchmark, whatever is installed."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the contenders have to themselves, and which the callers and the vendor share; None for any."""

    contender: int | None
    load: int | None

    @property
    def told(self) -> str:
        if self.contender is None:
            return "not pinned: this system cannot"
        if self.contender == self.load:
            return "one core for everything"
        return f"contenders on core {self.contender}, callers and vendor on core {self.load}"


def cores() -> Cores:
    if not hasattr(os, "sched_setaffinity"):
        return Cores(None, None)
    mine = sorted(os.sched_getaffinity(0))
    return Cores(mine[0], mine[-1] if len(mine) == 1 else mine[1])


def pin(core: int | None) -> None:
    """Keeps this process, and those it starts from now on, on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """For what is started within."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Strangers:
    """How much of the cores was used by others: other processes, and other machines on the same host.

    `share` is that of the worse core, 0 to 1, since the watch began. It is always 0 where the system does not tell.
    """

    def __init__(self, own: Mapping[int | None, Callable[[], float]]) -> None:
        self._own = own
        """For each core, what tells the CPU seconds that the benchmark itself used there."""
        self._began = time.perf_counter()
        self._before = self._unknown()

    def _unknown(self) -> dict[int | None, float]:
        return {core: _busy(core) - own() for core, own in self._own.items()}

    def share(self) -> float:
        took = time.perf_counter() - self._began
        now = self._unknown()
        return max(0.0, *((now[core] - before) / took for core, before in self._before.items()))


def _busy(core: int | None) -> float:
    """CPU seconds of a core since the system started, those stolen by other machines included."""
    with suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith(f"cpu{core} "):
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
                return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Process:
    """A command that serves, and the processes that it starts."""

    def __init__(
        self, command: Sequence[str], core: int | None, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.log = log
        with log.open("wb") as out, pinned(core):
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**clean, **(environment or {})},
                start_new_session=True,
            )
        self._pids: list[int] = []

    def gone(self) -> bool:
        return self._popen.poll() is not None

    def settle(self) -> None:
        """Counts the processes that belong to it from now on."""
        main = psutil.Process(self._popen.pid)
        self._pids = [main.pid, *(child.pid for child in main.children(recursive=True))]

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of all threads."""
        return sum(map(_cpu, self._pids))

    def resident_mb(self) -> float:
        return sum(psutil.Process(pid).memory_info().rss for pid in self._pids) / 2**20

    def stop(self) -> None:
        """Ends it and what it started, and nothing else."""
        if self.gone():
            return
        found = psutil.Process(self._popen.pid)
        mine = [*found.children(recursive=True), found]
        self._popen.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(5)
        for process in mine:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait()


def _cpu(pid: int) -> float:
    if sys.platform == "linux":
        # A process's own clock, to the nanosecond; `stat` counts in hundredths of a second. See clock_getcpuclockid(3).
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """A port that nobody has, and nobody is given a moment later: it is below those that the system hands out."""
    while True:
        port = _RANDOM.randrange(15_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


_RANDOM = random.SystemRandom()


def description() -> str:
    """What machine this is, for the report; no names."""
    kind = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                kind = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores ({kind}), {platform.system()}, Python {platform.python_version()}"
