"""A vendor that costs next to nothing: whole answers at once, streams by the clock, in three dialects, over TLS too.

Every chunk of a stream bears one `@` and, in 12 hex digits, the microsecond of the monotonic clock at which it left.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any

import orjson

TICK = 0.001
"""Seconds between looks at what is due: as fine as uvloop's timers are."""

MARK = b"@"

MODELS = {"openai": "gpt-4.1-nano-2025-04-14", "inception": "mercury-2", "anthropic": "claude-haiku-4-5-20251001"}

FAILS = b'"upstream-fails"'
"""A model that is answered with a 400."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How streams are written: `tokens` in all, `rate` a second (0: at once), `block` of them in each chunk."""

    rate: float = 1000.0
    tokens: int = 200
    block: int = 1

    @property
    def chunks(self) -> int:
        return math.ceil(self.tokens / self.block)

    @property
    def interval(self) -> float:
        """Seconds between chunks."""
        return self.block / self.rate if self.rate else 0.0

    @property
    def seconds(self) -> float:
        """From the first chunk to the last."""
        return (self.chunks - 1) * self.interval


class Upstream:
    """The server, on the loop that it is started on. `pace` may be changed between streams."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.late = 0.0
        """The most seconds that a chunk left after its time, since this was last set to 0."""
        self.received = 0
        """Bytes of requests."""
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._streams: list[_Stream] = []
        self._ticking = False

    async def listen(self, tls: ssl.SSLContext | None = None) -> int:
        """Another port of 127.0.0.1 to be found at, and its number."""
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=tls, backlog=2048)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def begin(self, dialect: Dialect, transport: asyncio.Transport) -> None:
        """Answers with a stream whose chunk `i` leaves `i` intervals from now, never drifting."""
        pace = self.pace
        stream = _Stream(dialect, transport, time.monotonic(), pace)
        first = pace.chunks if not pace.rate else 1
        transport.write(dialect.opening + dialect.chunk(_stamp(), pace.block) * first)
        stream.sent = first
        if stream.sent == pace.chunks:
            transport.write(dialect.ending)
            return
        self._streams.append(stream)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        stamp = _stamp()
        pieces: dict[tuple[str, int], bytes] = {}
        over = False
        for stream in self._streams:
            due = int((now - stream.started) * stream.speed) + 1 - stream.sent
            if due <= 0:
                continue
            due = min(due, stream.chunks - stream.sent)
            self.late = max(self.late, now - stream.started - stream.sent / stream.speed)
            dialect = stream.dialect
            piece = pieces.get((dialect.name, stream.block))
            if piece is None:
                piece = pieces[dialect.name, stream.block] = dialect.chunk(stamp, stream.block)
            stream.sent += due
            if stream.sent == stream.chunks:
                over = True
                stream.transport.write(piece * due + dialect.ending)
            elif stream.transport.is_closing():
                over = True
                stream.sent = stream.chunks
            else:
                stream.transport.write(piece if due == 1 else piece * due)
        if over:
            self._streams = [stream for stream in self._streams if stream.sent < stream.chunks]
        if self._streams:
            self._loop.call_later(TICK, self._tick)
        else:
            self._ticking = False


class _Stream:
    __slots__ = ("block", "chunks", "dialect", "sent", "speed", "started", "transport")

    def __init__(self, dialect: Dialect, transport: asyncio.Transport, started: float, pace: Pace) -> None:
        self.dialect = dialect
        self.transport = transport
        self.started = started
        self.sent = 0
        self.chunks = pace.chunks
        self.block = pace.block
        self.speed = pace.rate / pace.block
        """Chunks a second."""


class _Connection(asyncio.Protocol):
    """Reads requests, one after the other."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._upstream.received += len(data)
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        while data:
            end = data.find(b"\r\n\r\n") + 4
            size = end + length(data, end) if end > 3 else 0
            if not size or len(data) < size:
                self._parts, self._have, self._need = [data], len(data), size
                return
            self._answer(data[:size], end)
            data = data[size:]

    def _answer(self, request: bytes, end: int) -> None:
        line = request[: request.find(b"\r\n")]
        if line.startswith(b"GET"):
            self._transport.write(_whole(_MODELS))
            return
        dialect = _ANTHROPIC if b"/messages" in line else _INCEPTION if b"/inception/" in line else _OPENAI
        if len(request) < 4096 and FAILS in request:
            self._transport.write(dialect.failure)
        elif _STREAM.search(request, end):
            self._upstream.begin(dialect, self._transport)
        else:
            self._transport.write(dialect.whole)


def length(data: bytes, end: int) -> int:
    """The bytes of the body that headers up to `end` announce."""
    found = _LENGTH.search(data, 0, end)
    return int(found[1]) if found else 0


_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')


def _stamp() -> bytes:
    return b"@%012x" % (time.monotonic_ns() // 1000)


def _whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
        b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
    )


def _framed(data: bytes) -> bytes:
    """As one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Dialect:
    """One vendor's answers, written beforehand."""

    def __init__(
        self, name: str, whole: object, failure: object, opening: list[bytes], delta: bytes, ending: list[bytes]
    ) -> None:
        """`delta` is an event with `%b` where its text goes."""
        self.name = name
        self.whole = _whole(orjson.dumps(whole))
        self.failure = _whole(orjson.dumps(failure), b"400 Bad Request")
        self.opening = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
            b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(map(_framed, opening))
        )
        self.ending = b"".join(map(_framed, ending)) + b"0\r\n\r\n"
        self._delta = delta

    def chunk(self, stamp: bytes, tokens: int) -> bytes:
        """The next chunk, as it goes over the wire: its stamp is its first word."""
        return _framed(self._delta % (stamp + b" word" * (tokens - 1) + b" "))


_USAGE = {
    "prompt_tokens": 18,
    "completion_tokens": 60,
    "total_tokens": 78,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
_TEXT = "word " * 60
_FAILURE = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}}


def _openai() -> Dialect:
    common = {"id": "chatcmpl-bench", "created": 1764000000, "model": MODELS["openai"], "service_tier": "default"}
    message = {"role": "assistant", "content": _TEXT, "refusal": None, "annotations": []}
    whole = {
        **common,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
        "system_fingerprint": "fp_0a1b2c3d4e",
    }

    def event(delta: dict[str, object], finish: str | None = None) -> bytes:
        chunk = {
            **common,
            "object": "chat.completion.chunk",
            "system_fingerprint": "fp_0a1b2c3d4e",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            "usage": None,
        }
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    usage = {**common, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
    return Dialect(
        "openai",
        whole,
        _FAILURE,
        [event({"role": "assistant", "content": "", "refusal": None})],
        event({"content": "%b"}),
        [event({}, "stop"), b"data: " + orjson.dumps(usage) + b"\n\n", b"data: [DONE]\n\n"],
    )


def _inception() -> Dialect:
    common = {"id": "chatcmpl-bench", "created": 1764000000, "model": MODELS["inception"]}
    usage = {"prompt_tokens": 18, "completion_tokens": 60, "total_tokens": 78, "reasoning_tokens": 0}
    message = {"role": "assistant", "content": _TEXT, "tool_calls": None, "tool_call_id": None}
    whole = {
        **common,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
        "warning": None,
    }

    def event(choices: list[dict[str, object]], **more: object) -> bytes:
        chunk = {**common, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    return Dialect(
        "inception",
        whole,
        _FAILURE,
        [event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])],
        event([{"index": 0, "delta": {"content": "%b"}, "finish_reason": None}]),
        [
            event([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
            event([], usage=usage),
            b"data: [DONE]\n\n",
        ],
    )


def _anthropic() -> Dialect:
    usage = {
        "input_tokens": 18,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 60,
        "service_tier": "standard",
    }
    message = {
        "model": MODELS["anthropic"],
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": _TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}

    def event(kind: str, **fields: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))

    return Dialect(
        "anthropic",
        message,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}},
        [
            event("message_start", message=start),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("ping"),
        ],
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "%b"}),
        [
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage),
            event("message_stop"),
        ],
    )


_OPENAI, _INCEPTION, _ANTHROPIC = _openai(), _inception(), _anthropic()
_MODELS = orjson.dumps(
    {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "bench"} for name in MODELS.values()]}
)
