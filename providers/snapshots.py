"""Streams whose texts replace each other: Mercury's `diffusing`, https://docs.inceptionlabs.ai

Each text is the whole answer so far, in parts still noise; it may change at any place and get shorter. The last
one that is not empty is the answer. `Raw` hands all of them on, `Final` only the last; a vendor mixes them in.
"""

from __future__ import annotations

from typing import Any

from providers.base import Batch, Endpoint, Stream
from providers.lenient import dumps
from providers.openai_chat import Reader
from providers.types import Call, Json, Model, Reply, Timeouts

MODES = ("final", "raw")
"""What a caller may say of snapshots: the words of `Hints.diffusing`. Without any it is the first."""


def wanted(call: Call, stream: bool) -> bool:
    """Whether snapshots are asked of the vendor: in streams only, and never where a tool may be called.

    What becomes of tool calls among snapshots is documented nowhere.
    """
    return bool(call.body.get("diffusing")) and stream and not call.body.get("tools")


class Snapshots(Reader):
    """Keeps the tally of the text that holds, instead of all that came."""

    moulded = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lengths: dict[int, int] = {}

    def _replace(self, index: int, text: str) -> None:
        """Counts `text` in place of the one before it."""
        self._tally.chars += len(text) - self._lengths.get(index, 0)
        self._lengths[index] = len(text)


class Raw(Snapshots):
    """Snapshots as the vendor sends them, after a chunk that says what they are."""

    _told = False

    def _pass(self, chunk: Json, data: bytes, batch: Batch) -> None:
        if not self._told and _choices(chunk):
            self._told = True
            head = {key: chunk[key] for key in ("id", "object", "created") if key in chunk}
            batch.append(dumps({**head, "model": self._name, "choices": [], "talaria": {"stream_mode": "replace"}}))
        super()._pass(chunk, data, batch)

    def _observe(self, choices: Any) -> None:
        # The usual count adds what is replaced here.
        for index, delta in _deltas(choices):
            if text := _text(delta):
                self._replace(index, text)
                self._tally.chars -= len(text)
        super()._observe(choices)


class Final(Snapshots):
    """The last snapshot as one delta, once its choice is finished. Nothing has begun before that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deltas: dict[int, Json] = {}
        """For each choice, its role and its last snapshot."""
        self._waiting: list[tuple[Json, bytes]] = []
        """Chunks with more than text, until the first choice is finished."""

    def _pass(self, chunk: Json, data: bytes, batch: Batch) -> None:
        choices = _choices(chunk)
        if not choices:
            super()._pass(chunk, data, batch)
            return
        for index, delta in _deltas(choices):
            kept = self._deltas.setdefault(index, {})
            if text := _text(delta):
                self._replace(index, text)
            kept |= {key: delta.pop(key) for key in ("role", "content") if delta.get(key)}
            delta.pop("content", None)
        finished = [choice for choice in choices if choice.get("finish_reason")]
        if not finished:
            if any(delta for _, delta in _deltas(choices)):
                self._waiting.append((chunk, dumps(chunk)))
            return
        for earlier, said in self._waiting:
            super()._pass(earlier, said, batch)
        self._waiting.clear()
        if settled := [self._settle(index) for index in map(_index, finished) if self._deltas.get(index)]:
            text_chunk = {key: value for key, value in chunk.items() if key != "usage"} | {"choices": settled}
            super()._pass(text_chunk, dumps(text_chunk), batch)
        super()._pass(chunk, dumps(chunk), batch)

    def _settle(self, index: int) -> Json:
        # The usual count adds it once more.
        self._replace(index, "")
        return {"index": index, "delta": self._deltas.pop(index), "finish_reason": None}


class Diffusing:
    """A chat endpoint whose streams come as snapshots for those who ask."""

    def __init__(self, plain: Endpoint, final: Endpoint, raw: Endpoint) -> None:
        self._plain = plain
        self._final = final
        self._raw = raw

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        return await self._plain.complete(call, model, timeouts)

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        if "diffusing" not in model.card.abilities or not wanted(call, True):
            return await self._plain.stream(call, model, timeouts)
        if call.hints.diffusing != "raw":
            return await self._final.stream(call, model, timeouts)
        stream = await self._raw.stream(call, model, timeouts)
        stream.replaces = True
        return stream


def _choices(chunk: Json) -> list[Json]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _deltas(choices: Any) -> list[tuple[int, Json]]:
    found = choices if isinstance(choices, list) else ()
    return [
        (_index(choice), choice["delta"])
        for choice in found
        if isinstance(choice, dict) and isinstance(choice.get("delta"), dict)
    ]


def _index(choice: Json) -> int:
    index = choice.get("index")
    return index if type(index) is int else 0


def _text(delta: Json) -> str:
    text = delta.get("content")
    return text if isinstance(text, str) else ""
