"""One small real call per configured model, its answer held against what the gateway expects of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.config import Config
from gateway.snapshot import Snapshot, build
from gateway.wire import openai as wire
from providers.errors import TalariaError
from providers.types import Call, Tally
from routing.target import Target

QUESTION = b'{"model":"doctor","max_completion_tokens":512,"messages":[{"role":"user","content":"Say hello."}]}'


@dataclass(frozen=True, slots=True)
class Finding:
    model: str
    healthy: bool
    detail: str


async def examine(config: Config) -> list[Finding]:
    """A finding for each configured model, those that are off included."""
    snapshot = build(config, [])
    try:
        found = [await _visit(snapshot, target) for target in snapshot.table.models.values()]
    finally:
        await snapshot.aclose()
    return found + [Finding(name, False, reason) for name, reason in snapshot.table.off.items()]


async def _visit(snapshot: Snapshot, target: Target) -> Finding:
    started = time.monotonic()
    try:
        reply = await target.endpoints["chat"].complete(
            _call(snapshot, stream=False), target.model, _timeouts(snapshot)
        )
        wrong = [f"whole answer: {each}" for each in _wrong_reply(orjson.loads(reply.body), reply.tally)]
        whole = time.monotonic() - started
        started = time.monotonic()
        stream = await target.endpoints["chat"].stream(_call(snapshot, stream=True), target.model, _timeouts(snapshot))
        try:
            await stream.begin()
            first = time.monotonic() - started
            async for _ in stream:
                pass
        finally:
            stream.close()
        wrong += [f"stream: {each}" for each in _wrong_tally(stream.tally)]
    except TalariaError as error:
        return Finding(target.name, False, f"{type(error).__name__}: {error.message}")
    if wrong:
        return Finding(target.name, False, "; ".join(wrong))
    return Finding(target.name, True, f"whole answer in {whole:.2f} s, first token of a stream in {first:.2f} s")


def _call(snapshot: Snapshot, *, stream: bool) -> Call:
    asked = wire.decode(QUESTION)
    now = time.monotonic()
    call = snapshot.call("doctor", now, wire.OPERATION, QUESTION, asked, asked.hints, None)
    call.stream = call.include_usage = stream
    call.deadline = now + 60
    return call


def _timeouts(snapshot: Snapshot) -> Any:
    return snapshot.budgets["interactive"].timeouts


def _wrong_reply(body: Any, tally: Tally) -> Iterator[str]:
    if body.get("object") != "chat.completion":
        yield f"object is {body.get('object')!r}"
    choices = body.get("choices")
    if not choices or not isinstance(choices[0].get("message", {}).get("content"), str):
        yield "no text in the first choice"
    yield from _wrong_tally(tally)


def _wrong_tally(tally: Tally) -> Iterator[str]:
    if tally.finish not in ("stop", "length"):
        yield f"finish reason is {tally.finish!r}"
    if tally.usage is None or not (tally.usage.prompt and tally.usage.output):
        yield "no usage"
    if tally.malformed:
        yield f"{tally.malformed} malformed events"
    if tally.unknown_finish:
        yield f"unknown finish reason {tally.unknown_finish[:40]!r}"
