"""What the policy would do with a request, and why, without calling anyone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gateway.api.calls import hinted
from gateway.config import Config, ModelEntry
from gateway.gateway import built
from gateway.prompts import Prompt
from gateway.snapshot import Snapshot
from gateway.wire import Wire, completions, embeddings, fim, openai
from providers.types import Call
from routing import tasks
from routing.health import LocalHealth
from routing.latency_class import LatencyClass
from routing.outlook import Option, Outlook
from routing.planner import Plan, Planner
from routing.route import Route


def explain(config: Config, raw: bytes) -> dict[str, Any]:
    """The decision for a request's body, with nothing learned yet. Raises what the gateway would answer with."""
    return decision(built(config), Planner(Outlook(), LocalHealth()), raw)


def decision(
    snapshot: Snapshot, planner: Planner, raw: bytes, headers: Mapping[bytes, bytes] | None = None
) -> dict[str, Any]:
    """The decision for a request's body, as plain data, by what `planner` has learned.

    The operation shows in the body: chat has messages, embeddings an input, fill-in-the-middle a prompt and a suffix,
    completions a prompt. `headers` are hints. Raises what the gateway would answer with.
    """
    wire = _spoken(raw)
    asked = wire.decode(raw)
    now = time.monotonic()
    hints = hinted(asked.hints, headers or {})
    call = snapshot.call("explain", now, wire.OPERATION, raw, asked, hints, None)
    route = snapshot.table.route(call)
    aim = snapshot.latency_class(call, route)
    plan = planner.plan(snapshot.table, call, route, aim, now)
    options = list(plan.options) or planner.outlook.options(
        call, call.task, plan.targets, snapshot.table.qualities, now, call.chars, plan.conversation
    )
    return {
        "model": call.model,
        **_task(snapshot, call),
        "use_case": snapshot.use_case(call.hints),
        "prompt_tokens": round(options[0].prompt_tokens) if options else None,
        "needs": [{"ability": ability, "param": param} for ability, param in call.needs.items()],
        "latency_class": aim.name,
        "target_ms": None if aim.target is None else round(aim.target * 1000),
        "target_of": aim.target_of,
        "deadline_ms": round((call.deadline - now) * 1000),
        "retries": aim.retries,
        "route": plan.route,
        "routes_passed_over": _passed(snapshot, call, route),
        "policy": plan.reason,
        "experiment": plan.experiment,
        "arm": plan.arm,
        "candidates": _candidates(snapshot, call, route, options),
        "passed_over": [{"model": name, "reason": reason} for name, reason in plan.passed_over],
        "off": [{"model": name, "reason": reason} for name, reason in snapshot.table.off.items()],
        "targets": [
            {"model": target.name, "provider": target.model.provider, "upstream": target.model.upstream}
            for target in plan.targets
        ],
        "expected": _expected(options, plan),
        "notes": _notes(options, plan, aim),
        "prompts": [
            {"model": target.name, **_prompt(entry, call.body)}
            for target in plan.targets
            if (entry := snapshot.config.models[target.name].prompt) is not None
        ],
    }


def _spoken(raw: bytes) -> Wire:
    body = openai.parse(raw)
    if "input" in body:
        return embeddings
    if "prompt" in body:
        return fim if "suffix" in body else completions
    return openai


def _task(snapshot: Snapshot, call: Call) -> dict[str, Any]:
    if call.hints.task is not None:
        return {"task": call.task, "task_confidence": 1.0, "task_reason": "said by the caller"}
    if not snapshot.config.tasks.classify:
        return {"task": call.task, "task_confidence": 0.0, "task_reason": "tasks.classify is off"}
    guess = tasks.guess(call)
    return {"task": call.task, "task_confidence": guess.confidence, "task_reason": guess.reason}


def _passed(snapshot: Snapshot, call: Call, taken: Route | None) -> list[dict[str, str]]:
    """The routes that ask for the same model and come before the one that took the call, with what did not fit."""
    found = []
    for route in snapshot.table.routes:
        if route is taken:
            break
        if call.model in route.match.models:
            found.append({"route": route.name, "reason": route.match.misfit(call) or ""})
    return found


def _candidates(snapshot: Snapshot, call: Call, route: Route | None, options: list[Option]) -> list[dict[str, Any]]:
    scores: list[Mapping[str, float]] = [{}] * len(options)
    if route is not None and len(options) > 1:
        scores = list(route.policy.weigh(call, options))
    return [
        {
            "model": option.name,
            "score": {name: round(part, 4) for name, part in parts.items()},
            **_numbers(option),
            "quality": option.quality,
            **_source(snapshot.config.models[option.name]),
            "answers_seen": round(option.samples, 1),
            "in_flight": option.in_flight,
        }
        for option, parts in zip(options, scores, strict=True)
    ]


def _source(entry: ModelEntry) -> dict[str, str]:
    return {} if entry.quality is None or entry.quality.source is None else {"quality_source": entry.quality.source}


def _numbers(option: Option) -> dict[str, Any]:
    return {
        "ttft_ms": round(option.ttft * 1000),
        "ttft_p95_ms": round(option.ttft_p95 * 1000),
        "answer_ms": round(option.seconds * 1000),
        "output_tokens": round(option.output_tokens),
        "cached_tokens": round(option.cached_tokens),
        "cost_usd": None if option.cost is None else float(f"{option.cost:.3g}"),
    }


def _expected(options: list[Option], plan: Plan) -> dict[str, Any] | None:
    """Of the first target."""
    first = next((option for option in options if plan.targets and option.target is plan.targets[0]), None)
    return None if first is None else {"model": first.name, **_numbers(first)}


def _notes(options: list[Option], plan: Plan, aim: LatencyClass) -> list[str]:
    """What an admin should hear of it, in plain words."""
    found = []
    first = next((option for option in options if plan.targets and option.target is plan.targets[0]), None)
    if first is not None and aim.target is not None:
        answer = aim.target_of == "answer"
        expected = first.seconds if answer else first.ttft
        if expected > aim.target:
            what = f"an answer of about {first.output_tokens:.0f} tokens" if answer else "the first token"
            found.append(
                f"class {aim.name} aims for {aim.target * 1000:.0f} ms, but {what} takes {first.name} about "
                f"{expected * 1000:.0f} ms; no candidate is expected to be faster"
                if plan.reason == "fastest"
                else f"class {aim.name} aims for {aim.target * 1000:.0f} ms, but {what} takes {first.name} about "
                f"{expected * 1000:.0f} ms"
            )
    if len(plan.targets) == 1:
        found.append(f"only {plan.targets[0].name} is left: when it fails, the call fails")
    return found


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
