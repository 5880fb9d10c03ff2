"""What the policy would do with a request, without calling anyone."""

from __future__ import annotations

import time
from typing import Any

from gateway.config import Config
from gateway.snapshot import build
from gateway.wire import openai as wire
from routing.health import LocalHealth


def explain(config: Config, raw: bytes) -> dict[str, Any]:
    """The decision for a chat request's body, as plain data. Raises what the gateway would answer with."""
    snapshot = build(config, [wire])
    asked = wire.decode(raw)
    now = time.monotonic()
    call = snapshot.call("explain", now, wire.OPERATION, raw, asked, asked.hints, None)
    route = snapshot.table.route(call)
    latency_class, budget = snapshot.budget(call, route)
    plan = snapshot.table.plan(call, route, LocalHealth(), now)
    return {
        "model": call.model,
        "route": plan.route,
        "task": call.hints.task,
        "use_case": snapshot.use_case(call.hints),
        "latency_class": latency_class,
        "deadline_ms": round((call.deadline - now) * 1000),
        "retries": budget.retries,
        "needs": [{"ability": ability, "param": param} for ability, param in call.needs.items()],
        "targets": [
            {"model": target.name, "provider": target.model.provider, "upstream": target.model.upstream}
            for target in plan.targets
        ],
        "passed_over": [{"model": name, "reason": reason} for name, reason in plan.passed_over],
        "off": [{"model": name, "reason": reason} for name, reason in snapshot.table.off.items()],
    }
