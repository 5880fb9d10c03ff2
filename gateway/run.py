"""What `talaria serve` runs: the gateway from a file, or the demo."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway import server
from gateway.app import create_admin, create_app
from gateway.config import Config, load
from gateway.demo import GREETING, demo
from gateway.gateway import Gateway
from gateway.keys import Ring
from gateway.reload import Reload
from gateway.server import Site

log = logging.getLogger("talaria")


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


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
                "level": record.levelname.lower(),
                "message": record.getMessage(),
            }
        )


def log_as_configured(config: Config) -> None:
    """Sends the log to stderr, at the level and in the format that the configuration asks for."""
    handler = logging.StreamHandler(sys.stderr)
    if config.server.log.format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger in (log, logging.getLogger("uvicorn")):
        logger.handlers[:] = [handler]
        logger.propagate = False
    log.setLevel(config.server.log.level.upper())
    # What the server says of its own going up and down is said in our words already.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
