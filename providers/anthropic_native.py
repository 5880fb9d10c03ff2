"""Anthropic's Messages API for callers who speak it themselves.

A request goes on as it came but for the model's name, the gateway's own hints and the output limit of the model's card;
an answer passes byte for byte but for the model's name. Signatures, cache markers, and blocks and events that nobody
here knows are left alone.
"""

from __future__ import annotations

from typing import Any

from providers.abilities import fit, name_dropped, refuse_dropped
from providers.anthropic_answer import decode_usage, settle
from providers.anthropic_errors import decode_error
from providers.anthropic_request import LEAST_BUDGET
from providers.base import Batch
from providers.errors import BadReply, TalariaError
from providers.lenient import dumps, loads
from providers.mould import Mould
from providers.openai_chat import rename
from providers.sse import Splitter, parse
from providers.types import Call, Json, Model, Tally

UNSIGNED = "messages.content.thinking"


def encode(call: Call, model: Model) -> tuple[Json, tuple[str, ...]]:
    """The vendor's request, and the parameters that were bent."""
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    _limit(body, model.card.max_output, dropped)
    body["messages"] = _without_unsigned(body["messages"], dropped)
    if call.stream:
        body["stream"] = True
    refuse_dropped(model, dropped)
    return body, tuple(dropped)


def encode_count(call: Call, model: Model) -> Json:
    """The vendor's request for a count of tokens."""
    body, dropped = fit(call, model)
    return {**body, "model": model.upstream, "messages": _without_unsigned(body["messages"], dropped)}


def _limit(body: Json, most: int | None, dropped: list[str]) -> None:
    """Lowers the output limit to the model's, and with it a budget for thinking that would no longer be below it."""
    asked = body["max_tokens"]
    if most is None or asked <= most:
        return
    body["max_tokens"] = most
    dropped.append("max_tokens")
    thinking = body.get("thinking") or {}
    budget = thinking.get("budget_tokens")
    # A budget that was not below the caller's own limit is theirs to answer for: there are betas that allow it.
    if not isinstance(budget, int) or not most <= budget < asked:
        return
    if most > LEAST_BUDGET:
        body["thinking"] = {**thinking, "budget_tokens": most - 1}
        dropped.append("thinking.budget_tokens")
    else:
        del body["thinking"]
        dropped.append("thinking")


def _without_unsigned(messages: list[Json], dropped: list[str]) -> list[Json]:
    """Takes out the thoughts of other vendors' models, which bear no signature: Anthropic accepts only its own.

    A turn that was nothing else goes as a whole; Anthropic joins the turns around it.
    """
    kept: list[Json] = []
    for message in messages:
        content = message["content"]
        if message["role"] == "assistant" and isinstance(content, list):
            signed = [block for block in content if block.get("type") != "thinking" or block.get("signature")]
            if len(signed) < len(content):
                name_dropped(UNSIGNED, dropped)
                if not signed:
                    continue
                message = {**message, "content": signed}
        kept.append(message)
    return kept


# --- the whole answer ---


def decode(raw: bytes, model: Model, *, provider: str) -> tuple[bytes, Tally]:
    """The answer under the model's configured name, and what it came to.

    Raises what an error in place of an answer stands for.
    """
    try:
        message = loads(raw)
    except ValueError:
        raise BadReply(f"{provider}: the answer is not JSON", provider=provider) from None
    if isinstance(message, dict) and "content" not in message and isinstance(message.get("error"), dict):
        raise decode_error(provider, 200, {}, raw)
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        raise BadReply(f"{provider}: the answer is not a message", provider=provider)
    tally = Tally(id=_text(message.get("id")))
    called = False
    for block in message["content"]:
        if isinstance(block, dict):
            called = called or block.get("type") == "tool_use"
            _observe_block(tally, block)
    if isinstance(message.get("usage"), dict):
        tally.usage = decode_usage(message["usage"])
    settle(tally, message.get("stop_reason"), called)
    return rename(raw, message, model.name), tally


def _observe_block(tally: Tally, block: Json) -> None:
    """Notes a block that is there as a whole, or as far as its beginning says."""
    kind = block.get("type")
    if kind in ("text", "thinking"):
        _said(tally, block.get(kind))
    else:
        tally.begun = True
        if block.get("input"):
            tally.chars += len(dumps(block["input"]))


def _said(tally: Tally, text: Any) -> None:
    if isinstance(text, str) and text:
        tally.begun = True
        tally.chars += len(text)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- the answer as it arrives ---


class Reader:
    """Passes the vendor's events on as blocks, and fills `tally`. Used as `anthropic_answer.Decoder` is."""

    def __init__(self, model: Model, tally: Tally, *, provider: str) -> None:
        self.tally = tally
        self.done = False
        self.trouble: TalariaError | None = None
        self._provider = provider
        self._name = model.name
        self._splitter = Splitter()
        self._stopped = False
        self._called = False
        self._mould = Mould()

    def read(self, data: bytes) -> Batch:
        return self._take(self._splitter.feed(data))

    def end(self) -> Batch:
        """What the end of the stream completes. A stream that was cut short leaves a BadReply in `trouble`."""
        out = self._take(self._splitter.flush())
        if not self.done and self.trouble is None:
            if self._stopped:
                self.done = True
                out.append(b'event: message_stop\ndata: {"type":"message_stop"}')
            else:
                self.trouble = BadReply(f"{self._provider} closed the stream early", provider=self._provider)
        return out

    def _take(self, events: list[bytes]) -> Batch:
        out: Batch = []
        for block in events:
            if self.done or self.trouble is not None:
                break
            if (written := self._mould.cast(block)) is not None:
                self.tally.chars += self._mould.said
                out.append(written)
                continue
            event = parse(block)
            if event is None:
                continue
            raw = event.data
            try:
                data = loads(raw)
                kind = data.get("type")
                if kind == "error" or (kind is None and "error" in data):
                    self.trouble = decode_error(self._provider, 200, {}, raw)
                    break
                raw = self._observe(kind, data, raw)
            except (AttributeError, KeyError, TypeError, ValueError):
                self.tally.malformed += 1
                continue
            name = event.name or str(kind).encode()
            if b"\n" in raw:
                raw = raw.replace(b"\n", b"\ndata: ")
            out.append(b"event: %b\ndata: %b" % (name, raw))
            if kind == "content_block_delta" and (text := _text(data["delta"].get("text"))):
                self._mould.learn(block, text, out[-1])
        return out

    def _observe(self, kind: Any, data: Json, raw: bytes) -> bytes:
        """Notes what an event says. The event, under the model's configured name."""
        tally = self.tally
        match kind:
            case "content_block_delta":
                delta = data["delta"]
                for part in ("text", "thinking", "partial_json"):
                    _said(tally, delta.get(part))
            case "content_block_start":
                block = data["content_block"]
                self._called = self._called or block["type"] == "tool_use"
                _observe_block(tally, block)
            case "message_start":
                message = data["message"]
                tally.id = _text(message.get("id"))
                self._count(message)
                return _respelled(raw, data, self._name)
            case "message_delta":
                self._count(data)
                stop = data["delta"].get("stop_reason")
                if stop is not None:
                    self._stopped = True
                    settle(tally, stop, self._called)
            case "message_stop":
                self.done = True
                if tally.finish is None:
                    settle(tally, None, False)
        return raw

    def _count(self, bearer: Json) -> None:
        if isinstance(bearer.get("usage"), dict):
            self.tally.usage = decode_usage(bearer["usage"], self.tally.usage)


def _respelled(raw: bytes, start: Json, name: str) -> bytes:
    """A `message_start` with `name` as its message's model: spliced in, and written anew only where it must be."""
    old = start["message"].get("model")
    if not isinstance(old, str) or old == name:
        return raw
    for key in (b'"model":', b'"model": '):
        was = key + dumps(old)
        if raw.count(was) == 1:
            return raw.replace(was, key + dumps(name))
    return dumps({**start, "message": {**start["message"], "model": name}})
