"""What `talaria serve` runs: the gateway from a file, or the demo."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import orjson

from gateway import server
from gateway.app import create_admin, create_app
from gateway.config import Config, load
from gateway.demo import GREETING, demo
from gateway.gateway import Gateway
from gateway.keys import Ring
from gateway.reload import Reload
from gateway.server import Site

log = logging.getLogger("talaria")

MOMENT_SECONDS = 0.02
"""Lines of the log that come within it are written together."""


async def serve_file(path: Path, host: str | None, port: int | None) -> None:
    """The gateway with a configuration file. Raises ConfigError, and OSError where it cannot listen."""

    def read() -> Config:
        return load(path).listening(host, port)

    config = read()
    log_as_configured(config)
    for warning in config.warnings:
        log.warning("%s", warning)
    gateway = Gateway(config)
    reload = Reload(gateway, path, read)
    watching = asyncio.create_task(reload.watch())
    try:
        await _serve(gateway, [], lambda url: log.info("listening on %s", url), reload.ask)
    finally:
        watching.cancel()


async def serve_demo(host: str | None, port: int | None) -> None:
    """The gateway with the simulator beside it on a free port."""
    # Imported here, so that a gateway in front of real vendors starts without it.
    from gateway import simulate

    beside = simulate.site(server.listen("127.0.0.1", 0))
    config = demo(beside.url).listening(host, port)
    log_as_configured(config)

    def greet(url: str) -> None:
        models = ", ".join([*config.models, *(route.name for route in config.routes)])
        print(GREETING.format(url=url, models=models), flush=True)

    await _serve(Gateway(config), [beside], greet)


async def _serve(
    gateway: Gateway,
    beside: list[Site],
    on_ready: Callable[[str], None],
    on_hangup: Callable[[], None] | None = None,
) -> None:
    config = gateway.snapshot.config
    main = Site(create_app(gateway), server.listen(*config.server.address))
    sites = [main]
    if config.server.admin.address is not None:
        sites.append(Site(create_admin(gateway), server.listen(*config.server.admin.address)))

    _first_key(gateway)

    def drain() -> None:
        gateway.draining = True
        log.info("draining: answers under way have %g seconds to end", config.server.drain_seconds)

    def ready() -> None:
        gc.freeze()
        # Cycles are rare here, and looking for them at the usual pace takes some 4 % of the time.
        gc.set_threshold(20_000, 20, 50)
        gc.enable()
        on_ready(main.url)

    await server.run(
        [*sites, *beside],
        drain_seconds=config.server.drain_seconds,
        on_ready=ready,
        on_drain=drain,
        on_hangup=on_hangup,
    )


def _first_key(gateway: Gateway) -> None:
    """Without any key nobody could call: the first start makes one, and shows it this once."""
    if gateway.keys is None or gateway.keys.all():
        return
    _, text = gateway.keys.create("first")
    gateway.auth.change(Ring(gateway.keys.all()))
    print(f"The first application key, shown only now:\n\n  {text}\n", flush=True)


class Lines(logging.Formatter):
    """One line of text per record. A second's timestamp is written once: there may be thousands of lines in it."""

    def __init__(self) -> None:
        super().__init__("%(message)s")
        self._second = 0
        self._stamp = ""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.stamp(record.created)} {record.levelname} {super().format(record)}"

    def stamp(self, created: float) -> str:
        """Seconds since the epoch as UTC, in ISO 8601."""
        second = int(created)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._stamp


class JsonLines(Lines):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.stamp(record.created), "level": record.levelname.lower(), "message": record.getMessage()}
        return orjson.dumps(line).decode()


class Batched(logging.StreamHandler[TextIO]):
    """Writes the lines of a moment together: one write for each is what a busy gateway spends most of its log on.

    What is worse than information, and what is logged while no loop runs, is written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
        if record.levelno <= logging.INFO:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                if len(self._lines) == 1:
                    loop.call_later(MOMENT_SECONDS, self.flush)
                return
        self.flush()

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            try:
                self.stream.write("\n".join(lines) + "\n")
            except (OSError, ValueError):
                # Nobody reads it any more; calls go on.
                return
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()


def log_as_configured(config: Config) -> None:
    """Sends the log to stderr, at the level and in the format that the configuration asks for."""
    handler = Batched(sys.stderr)
    handler.setFormatter(JsonLines() if config.server.log.format == "json" else Lines())
    # Who logged and on which thread, no line says: https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for logger in (log, logging.getLogger("uvicorn")):
        logger.handlers[:] = [handler]
        logger.propagate = False
    log.setLevel(config.server.log.level.upper())
    # What the server says of its own going up and down is said in our words already.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
