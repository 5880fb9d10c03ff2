"""The ASGI app: finds the dialect, lets a fault strike, and has the answer delivered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson

from providers.simulator.bill import Bill, Request, Requests
from providers.simulator.connection import Connection, PeerLeft, Receive, Scope, Send
from providers.simulator.control import Control
from providers.simulator.delivery import Delivery, Pace, send_json
from providers.simulator.dialects import Call, Dialect, Refusal, Reply, World
from providers.simulator.dialects.anthropic import Anthropic
from providers.simulator.dialects.inception import Inception
from providers.simulator.dialects.openai import OpenAI
from providers.simulator.faults import Fault, Faults

FOREVER = 86_400.0
# Inception's SDK writes the version itself, though the documented base URL has it: it comes twice.
_VERSION = re.compile(r"^(v1/)+")


class Simulator:
    def __init__(self, seed: int, speed: float) -> None:
        self.world = World(seed)
        self.speed = speed
        self.faults = Faults(seed)
        self.bill = Bill()
        self.requests = Requests()
        self.control = Control(self.bill, self.faults, self.requests)
        dialects: tuple[Dialect, ...] = (Inception(), OpenAI(), Anthropic())
        self.dialects = {dialect.vendor: dialect for dialect in dialects}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _live(receive, send)
        connection = Connection(scope, receive, send)
        try:
            await self.serve(connection, scope["method"], scope["path"], scope["query_string"])
        except PeerLeft:
            pass
        finally:
            await connection.close()

    async def serve(self, connection: Connection, method: str, path: str, query: bytes) -> None:
        raw = await connection.body()
        room, _, rest = path.lstrip("/").partition("/")
        if room == "control":
            return await self.control.serve(connection, method, "/" + rest, raw)
        dialect = self.dialects.get(room)
        if dialect is None or not rest.startswith("v1/"):
            return await send_json(connection, 404, {"error": {"message": f"nothing lives at {path}"}})
        request = self.requests.begin(method, path, room, connection.headers)
        try:
            exchange = Exchange(self, dialect, connection, request)
            await exchange.run(method, "/" + _VERSION.sub("", rest), dict(parse_qsl(query.decode())), raw)
        except PeerLeft:
            request.peer_closed = True
        finally:
            request.closed_at = connection.left_at or time.time()


class Exchange:
    """One request to a vendor, from its bytes to the last byte of the answer."""

    def __init__(self, simulator: Simulator, dialect: Dialect, connection: Connection, request: Request) -> None:
        self.simulator = simulator
        self.dialect = dialect
        self.connection = connection
        self.request = request
        self.request_id = f"req_{request.number:08x}{simulator.world.seed & 0xFFFF:04x}"
        self.call: Call | None = None

    async def run(self, method: str, path: str, query: Mapping[str, str], raw: bytes) -> None:
        try:
            self.dialect.authenticate(self.connection.headers)
            if method == "GET":
                await self.send(200, self.dialect.look_up(path.rstrip("/"), query))
            elif method == "POST" and path in self.dialect.endpoints:
                await self.answer(path, self.parse(raw))
            else:
                raise self.dialect.failure(404 if method == "POST" else 405, None)
        except Refusal as refusal:
            await self.refuse(refusal)

    def parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise self.dialect.unreadable() from None
        self.request.body = body
        if not isinstance(body, dict):
            raise self.dialect.unreadable()
        return body

    async def answer(self, path: str, body: dict[str, Any]) -> None:
        requested = body.get("model")
        self.request.model = requested if isinstance(requested, str) else None
        known = self.dialect.models.get(self.request.model or "")
        names = [name for name in (self.request.model, known and known.id, known and known.alias) if name]
        fault = self.simulator.faults.draw(self.dialect.vendor, names, body.get("stream") is True)
        if fault:
            self.request.fault = fault.kind
            if await self.strike(fault):
                return
        model = self.dialect.find(body)
        self.call = Call(
            self.simulator.world,
            self.request.number,
            self.connection.headers,
            body,
            requested=str(requested),
            model=model,
            withhold_usage=fault is not None and fault.kind == "no_usage",
        )
        reply = self.dialect.endpoints[path](self.call)
        await self.deliver(reply, fault)

    async def strike(self, fault: Fault) -> bool:
        """Applies a fault that comes before or instead of the answer; tells whether it took the answer's place."""
        match fault.kind:
            case "latency":
                await self.pause(1.0 if fault.seconds is None else fault.seconds)
                return False
            case "silent":
                await self.pause(FOREVER if fault.seconds is None else fault.seconds)
                await self.connection.reset()
            case "reset_before":
                await self.connection.reset()
            case "status":
                refusal = self.dialect.failure(fault.status or 500, fault.code)
                if fault.retry_after is not None:
                    refusal.headers.append(("retry-after", f"{fault.retry_after:g}"))
                raise refusal
            case "error_body":
                error = self.dialect.failure(fault.status or 500, fault.code)
                await self.send(200, self.dialect.render_error(error, self.request_id))
            case "wrong_content_type":
                page = b"<!doctype html><html><head><title>Hello</title></head><body>One moment, please.</body></html>"
                self.request.status = fault.status or 200
                await self.connection.start(self.request.status, [("content-type", "text/html; charset=utf-8")])
                await self.connection.write(page, last=True)
            case _:
                return False
        return True

    async def pause(self, seconds: float) -> None:
        await self.connection.until(asyncio.get_running_loop().time() + seconds)

    async def deliver(self, reply: Reply, fault: Fault | None) -> None:
        assert self.call is not None
        headers = self.dialect.headers(self.call, self.request_id, reply.usage)
        pace = Pace.of(self.call, reply.usage, self.simulator.speed)
        requested = self.call.requested

        def charge(tokens: int, completed: bool) -> None:
            if reply.usage:
                self.simulator.bill.add(reply.id, self.dialect.vendor, requested, reply.usage, tokens, completed)

        self.request.status = 200
        await Delivery(self.connection, self.dialect, reply, fault, pace, charge).run(headers)

    async def refuse(self, refusal: Refusal) -> None:
        body = self.dialect.render_error(refusal, self.request_id)
        await self.send(refusal.status, body, refusal.headers)

    async def send(self, status: int, body: Any, headers: list[tuple[str, str]] | None = None) -> None:
        self.request.status = status
        own = self.dialect.headers(self.call, self.request_id, None)
        await send_json(self.connection, status, body, [*own, *(headers or [])])


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def create_app(seed: int = 0, speed: float = 1.0) -> Simulator:
    """A simulator of its own; speed multiplies the models' speeds, and 0 answers without any delay."""
    return Simulator(seed, speed)
