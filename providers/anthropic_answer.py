"""Anthropic's answers, whole or as events, as OpenAI's."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from providers.anthropic_errors import decode_error
from providers.base import Batch
from providers.errors import BadReply, TalariaError
from providers.mould import Mould
from providers.sse import Splitter, parse
from providers.types import Json, Model, Tally, Usage

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
    "compaction": "length",
}
REFUSED = "The model declined to answer."

_TIERS = {"standard": "default", "priority": "priority", "batch": "default"}
_NOTHING: Mapping[str, str] = {}


class Reading(NamedTuple):
    """What the request says about how its answer is to be read."""

    names: Mapping[str, str] = _NOTHING
    """Tools that had to be renamed, and what the caller calls them."""
    json_tool: str | None = None
    """The tool whose input is the answer's content."""
    unfence: bool = False
    """Whether the content is JSON that may come in a markdown fence."""


PLAIN = Reading()


# --- the whole answer ---


def decode(raw: bytes, model: Model, reading: Reading = PLAIN, *, provider: str = "anthropic") -> tuple[bytes, Tally]:
    """The answer as a `chat.completion`, and what it came to. Raises what an error in place of an answer stands for."""
    try:
        reply = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadReply(f"{provider}: the answer is not JSON", provider=provider) from None
    if isinstance(reply, dict) and "content" not in reply and isinstance(reply.get("error"), dict):
        raise decode_error(provider, 200, _NOTHING, raw)
    try:
        return _completion(reply, model, reading)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadReply(f"{provider}: the answer is not a message", provider=provider) from None


def _completion(reply: Json, model: Model, reading: Reading) -> tuple[bytes, Tally]:
    tally = Tally(id=str(reply["id"]))
    text: list[str] = []
    thoughts: list[str] = []
    details: list[Json] = []
    calls: list[Json] = []
    answered = False
    for block in reply["content"]:
        match block["type"]:
            case "text":
                text.append(block["text"])
            case "tool_use" if block["name"] == reading.json_tool:
                if not answered:
                    text.append(orjson.dumps(block["input"]).decode())
                answered = True
            case "tool_use":
                arguments = orjson.dumps(block["input"]).decode()
                tally.chars += len(arguments)
                name = reading.names.get(block["name"], block["name"])
                function = {"name": name, "arguments": arguments}
                calls.append({"id": block["id"], "type": "function", "function": function})
            case "thinking":
                thoughts.append(block["thinking"])
                if block.get("signature"):
                    details.append(_thought(len(details), block["thinking"], block["signature"]))
            case "redacted_thinking":
                details.append(_redacted(len(details), block["data"]))
    content = "".join(text)
    reasoning = "".join(thoughts)
    tally.chars += len(content) + len(reasoning)
    if reading.unfence:
        fence = Fence()
        content = fence.feed(content) + fence.flush()
    stop = reply.get("stop_reason")
    settle(tally, stop, bool(calls))
    refusal = _refusal(stop, reply.get("stop_details"))
    message: Json = {
        "role": "assistant",
        "content": content if content or not (calls or refusal) else None,
        "refusal": refusal,
    }
    if reasoning:
        message["reasoning_content"] = reasoning
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    tally.begun = bool(content or reasoning or calls or refusal)
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": tally.finish}
    if reply.get("stop_sequence") is not None:
        choice["stop_sequence"] = reply["stop_sequence"]
    answer: Json = {
        "id": tally.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model.name,
        "choices": [choice],
        "system_fingerprint": None,
    }
    counts = reply.get("usage")
    if isinstance(counts, dict):
        tally.usage = decode_usage(counts)
        answer["usage"] = usage_json(tally.usage)
        if (tier := counts.get("service_tier")) in _TIERS:
            answer["service_tier"] = _TIERS[tier]
    return orjson.dumps(answer), tally


def settle(tally: Tally, stop: Any, called: bool) -> None:
    """OpenAI's finish reason for Anthropic's; a word without a counterpart ends the answer and is kept."""
    finish = FINISH.get(stop) if isinstance(stop, str) else None
    if finish is None:
        finish, tally.unknown_finish = "stop", str(stop)[:64]
    elif finish == "tool_calls" and not called:
        finish = "stop"
    tally.finish = finish


def _refusal(stop: Any, details: Any) -> str | None:
    if stop != "refusal":
        return None
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) and explanation else REFUSED


def _thought(index: int, thinking: str, signature: str) -> Json:
    return {"index": index, "type": "thinking", "thinking": thinking, "signature": signature}


def _redacted(index: int, data: str) -> Json:
    return {"index": index, "type": "redacted_thinking", "data": data}


# --- usage ---


def decode_usage(raw: Mapping[str, Any], known: Usage | None = None) -> Usage:
    """The counts of `raw`; what it does not say stays as `known`.

    Counts are totals so far, also in streams (measured: `message_delta` repeats those of `message_start`), so they are
    set and never added. Anthropic counts cached tokens beside `input_tokens`, not among them.
    """
    usage = Usage() if known is None else known
    usage.input = _count(raw, "input_tokens", usage.input)
    usage.output = _count(raw, "output_tokens", usage.output)
    usage.cache_read = _count(raw, "cache_read_input_tokens", usage.cache_read)
    written = usage.cache_write + usage.cache_write_1h
    split = raw.get("cache_creation")
    if isinstance(split, dict):
        usage.cache_write_1h = _count(split, "ephemeral_1h_input_tokens", usage.cache_write_1h)
        written = _count(split, "ephemeral_5m_input_tokens", usage.cache_write) + usage.cache_write_1h
    written = _count(raw, "cache_creation_input_tokens", written)
    usage.cache_write_1h = min(usage.cache_write_1h, written)
    usage.cache_write = written - usage.cache_write_1h
    details = raw.get("output_tokens_details")
    if isinstance(details, dict):
        usage.reasoning = _count(details, "thinking_tokens", usage.reasoning)
    return usage


def _count(raw: Mapping[str, Any], name: str, known: int) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else known


def usage_json(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


# --- the answer as it arrives ---


class _Block:
    """A content block that is being received."""

    __slots__ = ("index", "kind", "said", "signature", "text")

    def __init__(self, kind: str, index: int = 0, text: str = "", signature: str = "") -> None:
        self.kind = kind
        self.index = index
        self.said = False
        self.text = text
        self.signature = signature


class Decoder:
    """Turns what is read from the vendor into OpenAI's chunks, and fills `tally`.

    After each `read` look at `trouble` (the vendor broke off with an error; what came before it is in the batch) and at
    `done`; when nothing more is to be read, call `end`.
    """

    def __init__(
        self, model: Model, reading: Reading, tally: Tally, *, include_usage: bool, provider: str = "anthropic"
    ) -> None:
        self.tally = tally
        self.done = False
        self.trouble: TalariaError | None = None
        self._provider = provider
        self._reading = reading
        self._include_usage = include_usage
        self._splitter = Splitter()
        self._fence = Fence() if reading.unfence else None
        self._blocks: dict[int, _Block] = {}
        self._opened = False
        self._tools = 0
        self._details = 0
        self._answered = False
        self._stop: Any = None
        self._sequence: Any = None
        self._refused: Any = None
        self._model = orjson.dumps(model.name)
        self._created = int(time.time())
        usage = b',"usage":null' if include_usage else b""
        self._tail = b',"logprobs":null,"finish_reason":null}]' + usage + b"}"
        self._text_tail = b"}" + self._tail
        self._head = self._text_head = b""
        self._mould = Mould(0) if reading.unfence else Mould()

    def read(self, data: bytes) -> Batch:
        return self._take(self._splitter.feed(data))

    def end(self) -> Batch:
        """What the end of the stream completes. A stream that was cut short leaves a BadReply in `trouble`."""
        out = self._take(self._splitter.flush())
        if not self.done and self.trouble is None:
            if self._stop is None:
                self.trouble = BadReply(f"{self._provider} closed the stream early", provider=self._provider)
            else:
                self._finish(out)
        return out

    def _take(self, events: list[bytes]) -> Batch:
        out: Batch = []
        tally = self.tally
        for raw in events:
            if self.done or self.trouble is not None:
                break
            if (written := self._mould.cast(raw)) is not None:
                tally.chars += self._mould.said
                out.append(written)
                continue
            event = parse(raw)
            if event is None:
                continue
            try:
                data = orjson.loads(event.data)
                kind = data.get("type")
                if kind == "content_block_delta":
                    delta = data["delta"]
                    if delta["type"] == "text_delta":
                        self._text(out, delta["text"])
                        if out:
                            self._mould.learn(raw, delta["text"], out[-1])
                    else:
                        self._delta(out, data["index"], delta)
                elif kind == "content_block_start":
                    self._start(out, data["index"], data["content_block"])
                elif kind == "content_block_stop":
                    if (block := self._blocks.pop(data["index"], None)) is not None:
                        self._close(out, block)
                elif kind == "message_start":
                    self._message(out, data["message"])
                elif kind == "message_delta":
                    self._conclude(data)
                elif kind == "message_stop":
                    self._finish(out)
                elif kind == "error" or (kind is None and "error" in data):
                    self.trouble = decode_error(self._provider, 200, _NOTHING, event.data)
            except (AttributeError, KeyError, TypeError, ValueError):
                tally.malformed += 1
        return out

    def _message(self, out: Batch, message: Json) -> None:
        counts = message.get("usage")
        if isinstance(counts, dict):
            self.tally.usage = decode_usage(counts, self.tally.usage)
        id = message.get("id")
        self._open(out, id if isinstance(id, str) else None)

    def _open(self, out: Batch, id: str | None = None) -> None:
        if self._opened:
            return
        self._opened = True
        self.tally.id = id or f"msg_{time.time_ns():x}"
        self._head = (
            b'{"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":0,"delta":'
            % (
                orjson.dumps(self.tally.id),
                self._created,
                self._model,
            )
        )
        self._text_head = self._head + b'{"content":'
        out.append(self._head + b'{"role":"assistant","content":""}' + self._tail)

    def _text(self, out: Batch, text: str) -> None:
        if text.__class__ is not str:
            raise TypeError
        if not text:
            return
        if not self._opened:
            self._open(out)
        tally = self.tally
        tally.begun = True
        tally.chars += len(text)
        if self._fence is not None:
            text = self._fence.feed(text)
            if not text:
                return
        out.append(self._text_head + orjson.dumps(text) + self._text_tail)

    def _send(self, out: Batch, delta: Json) -> None:
        self._open(out)
        out.append(self._head + orjson.dumps(delta) + self._tail)

    def _start(self, out: Batch, index: int, content: Json) -> None:
        kind = content["type"]
        if kind == "text":
            self._text(out, content.get("text") or "")
        elif kind == "tool_use":
            if content["name"] == self._reading.json_tool:
                # A second answer would make one string of two JSON texts.
                block = _Block("other" if self._answered else "json")
                self._answered = True
            else:
                name = self._reading.names.get(content["name"], content["name"])
                function = {"name": name, "arguments": ""}
                call = {"index": self._tools, "id": content["id"], "type": "function", "function": function}
                self._send(out, {"tool_calls": [call]})
                block = _Block("tool", self._tools)
                self._tools += 1
                self.tally.begun = True
            self._blocks[index] = block
            if content.get("input"):
                self._argue(out, block, orjson.dumps(content["input"]).decode())
        elif kind == "thinking":
            self._blocks[index] = block = _Block("thinking", signature=content.get("signature") or "")
            self._think(out, block, content.get("thinking") or "")
        elif kind == "redacted_thinking":
            self._blocks[index] = _Block("redacted", text=content["data"])

    def _delta(self, out: Batch, index: int, delta: Json) -> None:
        block = self._blocks.get(index)
        if block is None:
            return
        kind = delta["type"]
        if kind == "input_json_delta":
            self._argue(out, block, delta["partial_json"])
        elif kind == "thinking_delta":
            self._think(out, block, delta["thinking"])
        elif kind == "signature_delta":
            block.signature += delta["signature"]

    def _argue(self, out: Batch, block: _Block, part: str) -> None:
        if not part:
            return
        block.said = True
        if block.kind == "json":
            self._text(out, part)
        elif block.kind == "tool":
            self.tally.chars += len(part)
            self._send(out, {"tool_calls": [{"index": block.index, "function": {"arguments": part}}]})

    def _think(self, out: Batch, block: _Block, part: str) -> None:
        if not part:
            return
        self.tally.begun = True
        self.tally.chars += len(part)
        block.text += part
        self._send(out, {"reasoning_content": part})

    def _close(self, out: Batch, block: _Block) -> None:
        if block.kind in ("tool", "json"):
            if not block.said:
                self._argue(out, block, "{}")
        elif block.kind == "redacted" or block.signature:
            detail = (
                _redacted(self._details, block.text)
                if block.kind == "redacted"
                else _thought(self._details, block.text, block.signature)
            )
            self._details += 1
            self._send(out, {"reasoning_details": [detail]})

    def _conclude(self, data: Json) -> None:
        counts = data.get("usage")
        if isinstance(counts, dict):
            self.tally.usage = decode_usage(counts, self.tally.usage)
        delta = data["delta"]
        if delta.get("stop_reason") is not None:
            self._stop = delta["stop_reason"]
            self._sequence = delta.get("stop_sequence")
            self._refused = _refusal(self._stop, delta.get("stop_details"))
            settle(self.tally, self._stop, self._tools > 0)

    def _finish(self, out: Batch) -> None:
        self.done = True
        self._open(out)
        if self._stop is None:
            settle(self.tally, None, False)
        for block in self._blocks.values():
            # A tool's block that was cut off stays as it is, so that the caller sees that it is not whole.
            if block.kind not in ("tool", "json"):
                self._close(out, block)
        if self._fence is not None and (rest := self._fence.flush()):
            out.append(self._text_head + orjson.dumps(rest) + self._text_tail)
        if self._refused:
            self.tally.begun = True
            self._send(out, {"refusal": self._refused})
        choice: Json = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": self.tally.finish}
        if self._sequence is not None:
            choice["stop_sequence"] = self._sequence
        chunk: Json = {
            "id": self.tally.id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": orjson.Fragment(self._model),
            "choices": [choice],
        }
        if self._include_usage:
            chunk["usage"] = None
        out.append(orjson.dumps(chunk))
        if self._include_usage:
            usage = self.tally.usage
            chunk["choices"] = []
            chunk["usage"] = None if usage is None else usage_json(usage)
            out.append(orjson.dumps(chunk))


class Fence:
    """Takes the markdown fence off a text that comes in parts; a text without one passes as it is.

    Only what may still turn out to be the fence is held back: the opening line, and what looks like the closing one.
    """

    _OPENING = re.compile(r"\s*```[A-Za-z0-9_+-]*[ \t]*\r?\n")
    _PERHAPS = re.compile(r"\s*(`{0,2}|```[A-Za-z0-9_+-]*[ \t]*\r?)\Z")
    _LONGEST = 256

    def __init__(self) -> None:
        self._held = ""
        self._within: bool | None = None

    def feed(self, text: str) -> str:
        if self._within is False:
            return text
        held = self._held + text
        if self._within is None:
            if opening := self._OPENING.match(held):
                self._within = True
                held = held[opening.end() :]
            elif len(held) <= self._LONGEST and self._PERHAPS.match(held):
                self._held = held
                return ""
            else:
                self._within = False
                self._held = ""
                return held
        said = held.rstrip()
        bare = said.rstrip("`")
        at = len(bare.rstrip()) if len(said) - len(bare) <= 3 else len(held)
        if len(held) - at > self._LONGEST:
            at = len(held)
        self._held = held[at:]
        return held[:at]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return "" if self._within and held.strip() in ("", "```") else held
