"""One small real call per configured model, its answer held against what the gateway expects of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.config import Config
from gateway.snapshot import Snapshot, build
from gateway.wire import Wire, completions, embeddings, fim, openai
from providers.errors import TalariaError
from providers.types import Call, Tally
from routing.target import Target

QUESTIONS: tuple[tuple[Wire, bytes], ...] = (
    (openai, b'{"model":"doctor","max_completion_tokens":512,"messages":[{"role":"user","content":"Say hello."}]}'),
    (completions, b'{"model":"doctor","max_tokens":64,"prompt":"Once upon a time"}'),
    (fim, b'{"model":"doctor","max_tokens":64,"prompt":"def add(a, b):\\n    return ","suffix":"\\n"}'),
    (embeddings, b'{"model":"doctor","input":"hello"}'),
)
"""What is asked of a model: the first that it serves."""


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
    wire, question = next(((wire, raw) for wire, raw in QUESTIONS if wire.OPERATION in target.endpoints), (None, b""))
    if wire is None:
        return Finding(target.name, False, "serves nothing that its vendor has; see `serves`")
    endpoint = target.endpoints[wire.OPERATION]
    started = time.monotonic()
    try:
        reply = await endpoint.complete(
            _call(snapshot, wire, question, stream=False), target.model, _timeouts(snapshot)
        )
        whole = time.monotonic() - started
        if wire is embeddings:
            wrong = list(_wrong_vectors(orjson.loads(reply.body), reply.tally))
            return Finding(target.name, not wrong, "; ".join(wrong) or f"a vector in {whole:.2f} s")
        wrong = [f"whole answer: {each}" for each in _wrong_reply(orjson.loads(reply.body), reply.tally)]
        started = time.monotonic()
        stream = await endpoint.stream(_call(snapshot, wire, question, stream=True), target.model, _timeouts(snapshot))
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


def _call(snapshot: Snapshot, wire: Wire, question: bytes, *, stream: bool) -> Call:
    asked = wire.decode(question)
    now = time.monotonic()
    call = snapshot.call("doctor", now, wire.OPERATION, question, asked, asked.hints, None)
    call.stream = call.include_usage = stream
    call.deadline = now + 60
    return call


def _timeouts(snapshot: Snapshot) -> Any:
    return snapshot.classes["interactive"].timeouts


def _wrong_reply(body: Any, tally: Tally) -> Iterator[str]:
    choice = (body.get("choices") or [{}])[0]
    match body.get("object"):
        case "chat.completion":
            text = choice.get("message", {}).get("content")
        case "text_completion":
            text = choice.get("text")
        case other:
            yield f"object is {other!r}"
            return
    if not isinstance(text, str):
        yield "no text in the first choice"
    yield from _wrong_tally(tally)


def _wrong_vectors(body: Any, tally: Tally) -> Iterator[str]:
    data = body.get("data")
    if not data or not isinstance(data[0].get("embedding"), list):
        yield "no vector"
    if tally.usage is None or not tally.usage.prompt:
        yield "no usage"


def _wrong_tally(tally: Tally) -> Iterator[str]:
    if tally.finish not in ("stop", "length"):
        yield f"finish reason is {tally.finish!r}"
    if tally.usage is None or not (tally.usage.prompt and tally.usage.output):
        yield "no usage"
    if tally.malformed:
        yield f"{tally.malformed} malformed events"
    if tally.unknown_finish:
        yield f"unknown finish reason {tally.unknown_finish[:40]!r}"
