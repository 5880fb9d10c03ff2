"""What whole-gateway tests stand on: a simulator and gateways, on free loopback ports."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from gateway.app import create_app
from gateway.config import parse
from gateway.gateway import Gateway
from providers.simulator import create_app as create_simulator
from providers.simulator.server import running

http = httpx.Client(verify=False, trust_env=False)
"""For plain requests to loopback: one client for all, since each takes long to read its certificates."""

ROOT = Path(__file__).parent.parent
"""Of this checkout: commands run the code beside the tests, whatever is installed."""

THREE_VENDORS = """\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  inception: {{kind: inception, base_url: "{simulator}/inception/v1", keys: [{{id: main, value: test}}]}}
  openai:    {{kind: openai, base_url: "{simulator}/openai/v1", keys: [{{id: main, value: test}}]}}
  anthropic: {{kind: anthropic, base_url: "{simulator}/anthropic", keys: [{{id: main, value: test}}]}}
models:
  mercury:       {{provider: inception, upstream: mercury-2}}
  gpt-4.1-nano:  {{provider: openai, upstream: gpt-4.1-nano}}
  claude-haiku:  {{provider: anthropic, upstream: claude-haiku-4-5-20251001}}
  claude-sonnet: {{provider: anthropic, upstream: claude-sonnet-4-5-20250929, fallback: small}}
  text-embedding-3-small: {{provider: openai}}
  mercury-edit-2: {{provider: inception, fallback: fillers}}
  instruct:      {{provider: openai, upstream: gpt-3.5-turbo-instruct}}
use_cases: [tests]
latency_classes:
  realtime: {{target_ms: null, deadline_ms: 3000, first_token_ms: 300, idle_ms: 500}}
  interactive: {{target_ms: null}}
fallbacks:
  small: [mercury, gpt-4.1-nano, claude-haiku]
  fillers: [instruct]
routes:
  - {{name: auto, candidates: [mercury, gpt-4.1-nano, claude-haiku], fallback: small, choose: {{by: ordered}}}}
  - {{name: auto-cheap, candidates: [claude-haiku, gpt-4.1-nano], choose: {{by: cheapest}}}}
"""


@dataclass(frozen=True)
class Simulator:
    url: str

    def faults(self, *faults: dict[str, Any]) -> None:
        """Replaces the faults; none at all clears them."""
        http.put(f"{self.url}/control/faults", json=list(faults)).raise_for_status()

    def bill(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = http.get(f"{self.url}/control/bill").json()["rows"]
        return rows

    def requests(self) -> list[dict[str, Any]]:
        """What arrived, in order."""
        found = http.get(f"{self.url}/control/requests").json()
        rows: list[dict[str, Any]] = found["requests"] if isinstance(found, dict) else found
        return rows

    def reset(self) -> None:
        for room in ("bill", "faults", "requests"):
            http.delete(f"{self.url}/control/{room}").raise_for_status()


@contextmanager
def simulated(speed: float = 0) -> Iterator[Simulator]:
    with running(create_simulator(seed=7, speed=speed)) as url:
        yield Simulator(url)


@dataclass(frozen=True)
class Serving:
    url: str
    gateway: Gateway

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        return sum(
            sample.value
            for family in self.gateway.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def serving(text: str, **parts: Any) -> Iterator[Serving]:
    """A gateway on a thread, with this configuration."""
    gateway = Gateway(parse(text, "test.yaml"), **parts)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        create_app(gateway), ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield Serving(f"http://127.0.0.1:{listener.getsockname()[1]}", gateway)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class Process:
    """`talaria serve` as a user starts it."""

    url: str
    popen: subprocess.Popen[str]
    log: Path

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, and the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)


@contextmanager
def process(*arguments: str, folder: Path, ready: str = "/health/live") -> Iterator[Process]:
    """A `talaria` command that serves on a port of 127.0.0.1, given as its last argument pair `--port N`."""
    port = free_port()
    log = folder / f"talaria-{port}.log"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as out:
        popen = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments, "--port", str(port)],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            text=True,
        )
    found = Process(f"http://127.0.0.1:{port}", popen, log)

    def up() -> bool:
        if popen.poll() is not None:
            raise AssertionError(f"talaria ended with {popen.returncode}: {log.read_text()}")
        try:
            return http.get(found.url + ready).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(up, 30)
        yield found
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def free_port() -> int:
    """A port that nobody has, and nobody is given a moment later: it is below those that the system hands out."""
    while True:
        port = _random.randrange(15_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


_random = random.SystemRandom()


def wait_for(true: Any, seconds: float = 10) -> None:
    """Until something is true. AssertionError when it does not come to be."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.005)


async def until(true: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.005)
