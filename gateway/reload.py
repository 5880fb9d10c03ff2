"""Takes up a changed configuration file while calls go on; one that cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from gateway.config import Config, ConfigError
from gateway.gateway import Gateway, built
from gateway.snapshot import Snapshot

LOOK_SECONDS = 0.3

log = logging.getLogger("talaria")

FIXED = ("listen", "auth", "admin.listen", "redis", "ledger", "drain_seconds", "log.format")
"""Keys under `server` that are settled at the start: another value waits for a restart."""


class Reload:
    """Watches one file. `read` gives the configuration that it says, or raises ConfigError."""

    def __init__(self, gateway: Gateway, path: Path, read: Callable[[], Config]) -> None:
        self._gateway = gateway
        self._path = path
        self._read = read
        self._started = gateway.snapshot.config
        self._asked = asyncio.Event()
        self._seen = self._look()

    def ask(self) -> None:
        """Reads the file again soon, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Looks at the file until cancelled. Replaced files, mounts and swapped links are seen, too: it polls."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
            seen = self._look()
            if self._asked.is_set() or seen != self._seen:
                self._asked.clear()
                self._seen = seen
                await self.now()

    async def now(self) -> bool:
        """Reads the file, and applies what it says; whether it could."""
        try:
            snapshot = await asyncio.to_thread(self._build)
        except Exception as error:
            # Whatever is wrong with a file, the next one is still looked at.
            self._gateway.metrics.reloaded(False)
            told = error if isinstance(error, ConfigError) else type(error).__name__
            log.error("the configuration stays as it was:\n%s", told)
            return False
        config = snapshot.config
        waiting = [key for key in FIXED if _at(config, key) != _at(self._started, key)]
        for key in waiting:
            log.warning("server.%s: the new value waits for a restart", key)
        for warning in config.warnings:
            log.warning("%s", warning)
        self._gateway.apply(snapshot)
        self._gateway.metrics.reloaded(True)
        log.info("the configuration is now %s", config.hash)
        return True

    def _build(self) -> Snapshot:
        return built(self._read())

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _at(config: Config, key: str) -> object:
    value: object = config.server
    for part in key.split("."):
        value = getattr(value, part)
    return value
