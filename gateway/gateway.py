"""What lives as long as the process: everything that calls share, put together from one configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.auth import Auth
from gateway.config import Config
from gateway.feedback import Feedback
from gateway.journal import Journal
from gateway.keys import Keys, KeysUnavailable, Ring, SqliteKeys
from gateway.learning import Learning
from gateway.metrics import Metrics
from gateway.middleware import Scope
from gateway.record import Listener, Record, settle
from gateway.snapshot import Snapshot, build
from gateway.state import Blobs, Leases, LocalBlobs, LocalLeases
from gateway.wire import Wire, anthropic, completions, embeddings, fim, openai
from routing.health import Health, LocalHealth
from routing.outlook import Outlook
from routing.planner import Planner
from routing.router import Router

log = logging.getLogger("talaria")

WIRES: dict[str, Wire] = {
    "/v1/chat/completions": openai,
    "/v1/completions": completions,
    "/v1/embeddings": embeddings,
    "/v1/fim/completions": fim,
    "/v1/messages": anthropic,
}
"""Where each dialect and operation is spoken."""

KEYS_LOOK_SECONDS = 0.5


def built(config: Config) -> Snapshot:
    """The snapshot of a configuration, with every dialect there is."""
    return build(config, tuple(WIRES.values()))


class Gateway:
    """What lives as long as the process, and the snapshot that calls run under.

    `listeners` hear every settled record once, in order; one that fails is logged and stops nobody.
    """

    def __init__(self, config: Config, keys: Keys | None = None) -> None:
        self.snapshot = built(config)
        self.metrics = Metrics()
        self.health: Health = LocalHealth()
        self.leases: Leases = LocalLeases()
        self.blobs: Blobs = LocalBlobs()
        self.keys = keys or (SqliteKeys(config.server.ledger) if config.server.auth == "keys" else None)
        self._keys_version = self.keys.version() if self.keys else None
        self.auth = Auth(Ring(self.keys.all()) if self.keys else None, self.metrics.refused)
        self.outlook = Outlook()
        self.planner = Planner(self.outlook, self.health)
        self.router = Router(self.health, [self.metrics.attempted], self.outlook)
        self.feedback = Feedback(
            config.server.ledger,
            lambda answer, verdict: self.metrics.judged(answer, verdict, self.snapshot.config),
        )
        self.listeners: Sequence[Listener] = (
            Learning(self.outlook).settled,
            self.metrics.settled,
            self.feedback.settled,
            Journal(log).settled,
        )
        self.draining = False
        self._closing: set[asyncio.Future[None]] = set()
        self.metrics.configured(self.snapshot.hash, self.snapshot.objectives)

    def identify(self, scope: Scope) -> str | None:
        """The id of the key that a request carries. Raises Unauthorized."""
        return self.auth.identify(dict(scope["headers"]))

    @contextmanager
    def in_flight(self, latency_class: str) -> Iterator[None]:
        gauge = self.metrics.in_flight(latency_class)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    @contextmanager
    def tenancy(self) -> Iterator[Snapshot]:
        """The snapshot for one call, which keeps it until the call ends."""
        snapshot = self.snapshot
        tenants = snapshot.tenants
        tenants.count += 1
        try:
            yield snapshot
        finally:
            tenants.count -= 1
            if tenants.retired and not tenants.count:
                self._close(snapshot)

    def apply(self, snapshot: Snapshot) -> None:
        """Calls that come from now on run under `snapshot`; those under way end under the one they began with.

        What was learned of models' health, and every counter, stays.
        """
        old, self.snapshot = self.snapshot, snapshot
        self.metrics.configured(snapshot.hash, snapshot.objectives)
        log.setLevel(snapshot.config.server.log.level.upper())
        old.tenants.retired = True
        if not old.tenants.count:
            self._close(old)

    def _close(self, snapshot: Snapshot) -> None:
        closing = asyncio.ensure_future(snapshot.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def settle(self, record: Record) -> None:
        """Works a record out and tells everybody."""
        settle(record)
        for listener in self.listeners:
            try:
                listener(record)
            except Exception as error:
                log.error("%s a listener failed: %s", record.id, type(error).__name__)

    async def watch_keys(self) -> None:
        """Keeps the keys in memory those of the database."""
        keys = self.keys
        if keys is None:
            return
        well = True
        while True:
            await asyncio.sleep(KEYS_LOOK_SECONDS)
            try:
                version = await asyncio.to_thread(keys.version)
                if version != self._keys_version:
                    self.auth.change(Ring(await asyncio.to_thread(keys.all)))
                    self._keys_version = version
                well = True
            except KeysUnavailable as error:
                if well:
                    log.error("server.ledger: %s; the keys stay as they were read last", error)
                well = False
