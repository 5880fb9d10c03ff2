"""What the policy would do with a request, without calling anyone."""

from __future__ import annotations

import time
from typing import Any

from gateway.config import Config
from gateway.prompts import Prompt
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
        "prompts": [
            {"model": target.name, **_prompt(entry, call.body)}
            for target in plan.targets
            if (entry := config.models[target.name].prompt) is not None
        ],
        "passed_over": [{"model": name, "reason": reason} for name, reason in plan.passed_over],
        "off": [{"model": name, "reason": reason} for name, reason in snapshot.table.off.items()],
    }


def _prompt(entry: Prompt, body: dict[str, Any]) -> dict[str, Any]:
    """What a prompt does to a request, without what is said in either."""
    prompt = entry.build()
    sent, clamped = prompt.apply(body)
    parameters = {name: value for name, value in sent.items() if name != "messages" and value != body.get(name)}
    return {
        "prompt": prompt.label,
        "rules": list(prompt.rules),
        "messages": [f"{each['role']}: {_length(each.get('content'))} characters" for each in sent["messages"]],
        "parameters": parameters,
        "clamped": clamped,
    }


def _length(content: Any) -> int:
    if isinstance(content, list):
        return sum(len(part.get("text", "")) for part in content)
    return len(content or "")
