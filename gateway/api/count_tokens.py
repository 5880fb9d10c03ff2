"""POST /v1/messages/count_tokens: how long a request is, by the vendor's own count where it has one.

No model writes anything, so there is no record and no bill, and a failure is told as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import orjson

from gateway import errors
from gateway.api.calls import hinted, passed_on
from gateway.caller import Caller, CallerLeft, Receive, Send
from gateway.gateway import Gateway
from gateway.middleware import Exchange, Scope, report
from gateway.record import estimate
from gateway.snapshot import Snapshot
from gateway.wire import anthropic
from providers.errors import DeadlineExceeded, Overloaded, TalariaError
from providers.types import Call
from routing import retry
from routing.latency_class import LatencyClass
from routing.target import Target


class CountTokens:
    """The endpoint, as an ASGI app."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        caller = Caller(receive, send)
        head = [(b"content-type", b"application/json"), *exchange.label]
        status = 200
        with self._gateway.tenancy() as snapshot, suppress(CallerLeft):
            try:
                body = await self._count(snapshot, scope["headers"], caller, exchange)
            except CallerLeft:
                raise
            except (asyncio.CancelledError, Exception) as failure:
                error = _told(failure, exchange)
                body = snapshot.conceal(anthropic.refusal(error, exchange.id))
                status = errors.face(error).status
                head += errors.headers(error)
            finally:
                caller.forget()
            if not caller.gone:
                await caller.start(status, [*head, (b"content-length", b"%d" % len(body))])
                await caller.write(body)

    async def _count(
        self, snapshot: Snapshot, sent: Iterable[tuple[bytes, bytes]], caller: Caller, exchange: Exchange
    ) -> bytes:
        gateway = self._gateway
        headers = dict(sent)
        key_id = gateway.auth.identify(headers)
        raw = await caller.body(headers, snapshot.config.server.max_body_bytes)
        asked = anthropic.decode_count(raw)
        hints = hinted(asked.hints, headers)
        call = snapshot.call(exchange.id, exchange.started, anthropic.OPERATION, raw, asked, hints, key_id)
        call.headers = passed_on(sent, anthropic.HEADERS)
        route = snapshot.table.route(call)
        aim = snapshot.latency_class(call, route)
        target = gateway.planner.plan(snapshot.table, call, route, aim, time.monotonic()).targets[0]
        if anthropic.COUNT not in target.endpoints:
            return orjson.dumps({"input_tokens": _estimated(call, target, snapshot)})
        caller.watch()
        try:
            async with asyncio.timeout_at(call.deadline):
                return await _counted(replace(call, operation=anthropic.COUNT, stream=False), target, aim)
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed before the tokens were counted.", code="timeout") from None


def _estimated(call: Call, target: Target, snapshot: Snapshot) -> int:
    """By the characters of the request, with the words that the model's prompt puts around it."""
    prompt = snapshot.config.models[target.name].prompt
    if prompt is not None:
        call = replace(call, body={**call.body, "prompt": [prompt.system_prefix, prompt.system_suffix]})
    return max(1, estimate(call, None).input)


async def _counted(call: Call, target: Target, aim: LatencyClass) -> bytes:
    """The vendor's own count; what may be mended by another try gets as many as any call's."""
    tries = 0
    while True:
        tries += 1
        try:
            return (await target.endpoints[call.operation].complete(call, target.model, aim.timeouts)).body
        except TalariaError as error:
            pause = retry.pause(error, tries)
            if not retry.steps(error).again or tries > aim.retries or pause > retry.PATIENCE_SECONDS:
                raise
            if time.monotonic() + pause >= call.deadline:
                raise
        await asyncio.sleep(pause)


def _told(failure: BaseException, exchange: Exchange) -> BaseException:
    """What the caller is told of a failure; what should not be is logged."""
    if isinstance(failure, asyncio.CancelledError):
        return Overloaded("The gateway is shutting down.")
    if isinstance(failure, Exception) and not isinstance(failure, TalariaError):
        report(failure, exchange)
    return failure
