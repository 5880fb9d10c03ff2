"""POST /v1/messages/count_tokens: how long a request is, by the vendor's own count where it has one.

No model writes anything, so there is no record and no bill, and a failure is told as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import orjson

from gateway import errors
from gateway.api.calls import passed_on
from gateway.caller import Caller, CallerLeft, Receive, Send
from gateway.gateway import Gateway
from gateway.middleware import Exchange, Scope
from gateway.record import estimate
from gateway.snapshot import Snapshot
from gateway.wire import anthropic
from providers.errors import DeadlineExceeded, TalariaError


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
            except TalariaError as error:
                body = snapshot.conceal(anthropic.refusal(error, exchange.id))
                status = errors.face(error).status
                head += errors.headers(error)
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
        call = snapshot.call(exchange.id, exchange.started, anthropic.OPERATION, raw, asked, asked.hints, key_id)
        call.headers = passed_on(sent, anthropic.HEADERS)
        route = snapshot.table.route(call)
        _, budget = snapshot.budget(call, route)
        target = snapshot.table.plan(call, route, gateway.health, exchange.started).targets[0]
        endpoint = target.endpoints.get(anthropic.COUNT)
        if endpoint is None:
            return orjson.dumps({"input_tokens": max(1, estimate(call, None).input)})
        counted = replace(call, operation=anthropic.COUNT, stream=False)
        try:
            async with asyncio.timeout_at(call.deadline):
                return (await endpoint.complete(counted, target.model, budget.timeouts)).body
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed before the tokens were counted.", code="timeout") from None
