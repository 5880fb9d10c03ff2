"""One log line for each call: what came of it, never what was said in it."""

from __future__ import annotations

import logging

from gateway.record import Record


class Journal:
    """Writes settled records to a logger: failures as warnings, all else as information."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def settled(self, record: Record) -> None:
        outcome = record.outcome
        level = logging.INFO if outcome in ("ok", "cancelled", "caller_error", "policy") else logging.WARNING
        if not self._log.isEnabledFor(level):
            return
        journey = record.journey
        served = journey.served if journey else None
        found = record.face
        usage = record.usage
        self._log.log(
            level,
            "%s %s route=%s model=%s attempts=%d status=%d seconds=%.3f overhead_ms=%.2f tokens=%d+%d%s%s%s",
            record.id,
            outcome,
            (journey.plan.route or "direct") if journey else "none",
            served.model.name if served else "none",
            len(journey.attempts) if journey else 0,
            record.status,
            record.seconds,
            record.overhead_seconds * 1000,
            usage.prompt,
            usage.output,
            " estimated" if record.estimated else "",
            f" prompt={record.prompt}" if record.prompt else "",
            f" error={found.label}" if found else "",
        )
