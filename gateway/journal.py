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
        route = (journey.plan.route or "direct") if journey else "none"
        self._log.log(
            level,
            f"{record.id} {outcome} route={route} model={served.model.name if served else 'none'} "
            f"attempts={len(journey.attempts) if journey else 0} status={record.status} seconds={record.seconds:.3f} "
            f"overhead_ms={record.overhead_seconds * 1000:.2f} tokens={usage.prompt}+{usage.output}"
            f"{' estimated' if record.estimated else ''}{f' prompt={record.prompt}' if record.prompt else ''}"
            f"{f' error={found.label}' if found else ''}",
        )
