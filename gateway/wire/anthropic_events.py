"""OpenAI's chunks as Anthropic's stream events: https://platform.claude.com/docs/en/build-with-claude/streaming"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from providers.base import Batch
from providers.lenient import dumps, loads
from providers.types import Json, Tally, Usage

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Anthropic's reason to stop for OpenAI's."""

_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def usage_json(usage: Usage | None) -> Json:
    """Anthropic counts cached tokens beside `input_tokens`. Zeros where the vendor did not count."""
    usage = usage or Usage()
    counts: Json = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def reasoning_of(message: Json) -> str:
    """The reasoning in a message or a delta, under either of the names it goes by."""
    for name in ("reasoning_content", "reasoning"):
        text = message.get(name)
        if isinstance(text, str) and text:
            return text
    return ""


def opening(told: Json, name: str) -> Json:
    """How a message begins: under the configured `name`, and an id of the gateway's own where the vendor gave none."""
    id = told.get("id")
    return {
        "id": id if isinstance(id, str) and id else f"msg_{time.time_ns():x}",
        "type": "message",
        "role": "assistant",
        "model": name,
    }


class _Block:
    """A content block; while another is open before it, what belongs to it is held."""

    __slots__ = ("held", "kind", "said", "start")

    def __init__(self, kind: str, start: Json) -> None:
        self.kind = kind
        self.start = start
        self.held: list[str] = []
        self.said: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether nothing more can belong to it once another has begun."""
        if self.kind != "tool_use":
            return True
        try:
            return isinstance(loads("".join(self.said).encode()), dict)
        except ValueError:
            return False


class Writer:
    """Writes the events for chunks of the model `name`, batch by batch; `end` when the last chunk was written."""

    def __init__(self, tally: Tally, name: str) -> None:
        self._tally = tally
        self._name = name
        self._begun = False
        self._index = 0
        self._open: deque[_Block] = deque()
        self._tools: dict[int, _Block] = {}
        self._finish: str | None = None
        self._sequence: str | None = None
        self._refused = False

    def write(self, batch: Batch) -> Batch:
        out: Batch = []
        for raw in batch:
            try:
                self._chunk(out, loads(raw))
            except (AttributeError, TypeError, ValueError):
                self._tally.malformed += 1
        return out

    def end(self) -> Batch:
        """What closes the message: the blocks that are open, why it ended, and what it came to."""
        out: Batch = []
        self._begin(out, {})
        while self._open:
            self._close(out)
        change = {"stop_reason": self._stop(), "stop_sequence": self._sequence}
        out.append(_event("message_delta", delta=change, usage=usage_json(self._tally.usage)))
        out.append(_event("message_stop"))
        return out

    def _chunk(self, out: Batch, chunk: Json) -> None:
        self._begin(out, chunk)
        for choice in chunk.get("choices") or ():
            self._delta(out, choice.get("delta") or {})
            if isinstance(choice.get("finish_reason"), str):
                self._finish = choice["finish_reason"]
                self._sequence = choice.get("stop_sequence")

    def _stop(self) -> str:
        stop = STOPS.get(self._finish or "stop", "end_turn")
        if self._refused:
            return "refusal"
        if self._tools and stop == "end_turn":
            return "tool_use"
        if stop == "tool_use" and not self._tools:
            return "end_turn"
        return "stop_sequence" if self._sequence is not None and stop == "end_turn" else stop

    def _begin(self, out: Batch, chunk: Json) -> None:
        if self._begun:
            return
        message: Json = {
            **opening(chunk, self._name),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_json(None),
        }
        self._begun = True
        out.append(_event("message_start", message=message))

    def _delta(self, out: Batch, delta: Json) -> None:
        if thought := reasoning_of(delta):
            self._say(out, "thinking", thought)
        for name in ("content", "refusal"):
            text = delta.get(name)
            if isinstance(text, str) and text:
                self._refused = self._refused or name == "refusal"
                self._say(out, "text", text)
        for call in delta.get("tool_calls") or ():
            self._call(out, call)

    def _say(self, out: Batch, kind: str, text: str) -> None:
        block = self._open[-1] if self._open else None
        if block is None or block.kind != kind:
            start: Json = {"type": kind, kind: ""}
            if kind == "thinking":
                start["signature"] = ""
            block = self._add(out, _Block(kind, start))
        self._tell(out, block, text)

    def _call(self, out: Batch, call: Json) -> None:
        number = call.get("index")
        number = number if isinstance(number, int) else 0
        function = call.get("function") or {}
        block = self._tools.get(number)
        if block is None:
            id = call.get("id") or f"call_{number}"
            start: Json = {"type": "tool_use", "id": id, "name": function.get("name") or "", "input": {}}
            block = self._tools[number] = self._add(out, _Block("tool_use", start))
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            self._tell(out, block, arguments)

    def _add(self, out: Batch, block: _Block) -> _Block:
        self._open.append(block)
        if len(self._open) == 1:
            out.append(_event("content_block_start", index=self._index, content_block=block.start))
        else:
            self._advance(out)
        return block

    def _tell(self, out: Batch, block: _Block, text: str) -> None:
        if block.kind == "tool_use":
            block.said.append(text)
        if self._open and block is self._open[0]:
            out.append(self._part(block, text))
            if len(self._open) > 1:
                self._advance(out)
        else:
            block.held.append(text)

    def _advance(self, out: Batch) -> None:
        while len(self._open) > 1 and self._open[0].complete:
            self._close(out)

    def _close(self, out: Batch) -> None:
        """Closes the block that is open, and opens the next with what was held of it."""
        self._open.popleft()
        out.append(_event("content_block_stop", index=self._index))
        self._index += 1
        if self._open:
            block = self._open[0]
            out.append(_event("content_block_start", index=self._index, content_block=block.start))
            out.extend(self._part(block, text) for text in block.held)
            block.held.clear()

    def _part(self, block: _Block, text: str) -> bytes:
        kind, name = _DELTAS[block.kind]
        return _event("content_block_delta", index=self._index, delta={"type": kind, name: text})


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b" % (kind.encode(), dumps({"type": kind, **fields}))
