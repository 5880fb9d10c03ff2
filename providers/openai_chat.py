"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat

Callers speak the same dialect, so a request goes on as it came but for the fields that the model's card or the gateway
changes, and an answer passes as bytes but for the model's name and, on streams, the usage nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar
from uuid import uuid4

from providers.abilities import fit, leave_out, neutral, refuse_dropped
from providers.base import Batch
from providers.errors import BadReply, TalariaError
from providers.lenient import dumps, loads
from providers.mould import Mould
from providers.openai_errors import decode_error, failure_in
from providers.sse import parse
from providers.types import Call, Card, Json, Model, Reply, Tally, Usage

MOST_TOKENS = 10**12
"""A larger count is none."""

FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


def encode(call: Call, model: Model, stream: bool | None = None) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out or bent.

    `stream` says how the answer shall come, where that is not as the caller asked.
    """
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    set_stream(body, call.stream if stream is None else stream)
    bound(body, model.card, dropped)
    if model.card.unknown == "drop":
        for param in [param for param in body if param not in model.card.accepts]:
            leave_out(body, param, dropped)
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def set_stream(body: Json, stream: bool) -> None:
    """Asks for a stream or for none. Every stream is asked for its usage: without it nobody knows what it cost."""
    if stream:
        options = body.get("stream_options")
        body["stream"] = True
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
        if body.get("stream"):
            body["stream"] = False


def bound(body: Json, card: Card, dropped: list[str]) -> None:
    """Brings the output limit, the sampling parameters and the effort within what the model takes."""
    for param in ("max_completion_tokens", "max_tokens"):
        wanted = body.get(param)
        if card.max_output is not None and type(wanted) is int and wanted > card.max_output:
            body[param] = card.max_output
            dropped.append(param)
    if card.max_tokens_name is not None:
        wanted = body.pop("max_tokens", None)
        preferred = body.pop("max_completion_tokens", None)
        if preferred is not None or wanted is not None:
            body[card.max_tokens_name] = wanted if preferred is None else preferred
    for param, allowed in (("temperature", card.temperature), ("top_p", card.top_p)):
        value = body.get(param)
        if value is None:
            continue
        if allowed is None:
            if not neutral(param, value):
                leave_out(body, param, dropped)
        elif type(value) in (int, float) and not allowed[0] <= value <= allowed[1]:
            body[param] = min(max(value, allowed[0]), allowed[1])
            dropped.append(param)
    effort = body.get("reasoning_effort")
    if effort is None:
        return
    if not card.reasoning:
        leave_out(body, "reasoning_effort", dropped)
    elif isinstance(effort, str) and effort in card.reasoning:
        told = card.reasoning[effort]
        if told is None:
            del body["reasoning_effort"]
        elif told != effort:
            body["reasoning_effort"] = told
            if effort != "none":
                dropped.append("reasoning_effort")


# --- The vendor's answer as ours ---


def decode(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer, byte for byte but for the model's name."""
    answer = read_answer(provider, headers, body)
    tally = Tally()
    body = identify(tally, body, answer, model.name)
    observe(tally, answer)
    return Reply(body, tally, headers)


DecodeError = Callable[[str, int, Mapping[str, str], bytes], TalariaError]


def read_answer(
    provider: str,
    headers: Mapping[str, str],
    body: bytes,
    holds: str = "choices",
    decode_error: DecodeError = decode_error,
) -> Json:
    """The JSON of an answer with status 200, whose list `holds` is not empty.

    Raises what an error in it says, and BadReply when it is none.
    """
    try:
        answer = loads(body)
    except ValueError:
        raise BadReply(f"{provider}: the answer is not JSON, or not whole", provider=provider) from None
    if isinstance(answer, dict):
        failed = failure_in(answer)
        if failed is not None:
            raise decode_error(provider, 200, headers, dumps(failed))
        if isinstance(answer.get(holds), list) and answer[holds]:
            return answer
    raise BadReply(f"{provider}: the answer has no {holds}", provider=provider)


def observe(tally: Tally, answer: Json, part: str = "message") -> None:
    """Notes what a whole answer says of itself; `part` is where a choice has what was said."""
    for choice in answer["choices"]:
        if isinstance(choice, dict):
            _observe_content(tally, choice.get(part))
            _observe_finish(tally, choice.get("finish_reason"))
    usage = answer.get("usage")
    if isinstance(usage, dict):
        tally.usage = decode_usage(usage)


def decode_usage(usage: Json) -> Usage:
    """Disjoint counts: OpenAI's `prompt_tokens` hold the cached ones, its `completion_tokens` the reasoning."""
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    cache_read = tokens(prompt, "cached_tokens")
    cache_write = tokens(prompt, "cache_write_tokens")
    return Usage(
        input=max(0, tokens(usage, "prompt_tokens") - cache_read - cache_write),
        cache_read=cache_read,
        cache_write=cache_write,
        output=tokens(usage, "completion_tokens"),
        reasoning=tokens(completion, "reasoning_tokens"),
    )


def tokens(counts: Any, name: str) -> int:
    """A count; 0 where a vendor has none there, or something else."""
    value = counts.get(name) if isinstance(counts, dict) else None
    return int(value) if isinstance(value, int | float) and 0 < value < MOST_TOKENS else 0


def identify(tally: Tally, data: bytes, parsed: Json, name: str) -> bytes:
    """`data` under `name`, and with an id. What the vendor leaves out of both, `parsed` is given, too."""
    whole = parsed.get("id") is not None and parsed.get("model") is not None
    if parsed.get("id") is None:
        parsed["id"] = tally.id or f"talaria-{uuid4().hex}"
    tally.id = tally.id or parsed["id"]
    if whole:
        return rename(data, parsed, name)
    parsed["model"] = name
    return dumps(parsed)


def rename(data: bytes, parsed: Json, name: str) -> bytes:
    """`data` with `name` as its top-level `model`: spliced in place, and written anew only where that is ambiguous.

    Inside of strings every quote has a backslash before it, so text never looks like the key.
    """
    old = parsed.get("model")
    if not isinstance(old, str) or old == name:
        return data
    for needle, replacement in _needles(old, name):
        at = data.find(needle)
        if at >= 0:
            end = at + len(needle)
            if data.find(needle, end) < 0:
                return data[:at] + replacement + data[end:]
            break
    return dumps({**parsed, "model": name})


@lru_cache(maxsize=1024)
def _needles(old: str, new: str) -> tuple[tuple[bytes, bytes], ...]:
    was, will_be = dumps(old), dumps(new)
    return tuple((colon + was, colon + will_be) for colon in (b'"model":', b'"model": '))


def _observe_finish(tally: Tally, finish: Any) -> None:
    if isinstance(finish, str) and finish:
        if finish in FINISHES:
            tally.finish = finish
        else:
            tally.finish, tally.unknown_finish = "stop", finish


_CONTENT = frozenset({"content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"})


def _observe_content(tally: Tally, message: Any) -> None:
    if isinstance(message, str):
        message = {"content": message}
    if isinstance(message, dict):
        for key, value in message.items():
            if value and key in _CONTENT:
                tally.begun = True
                tally.chars += len(value) if isinstance(value, str) else _length(value)


def _length(value: Any) -> int:
    """Characters of text, names and arguments in what is more than a string: tool calls, parts, audio."""
    total = 0
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, dict):
            called = item.get("function") or item.get("custom") or item
            for key in ("name", "arguments", "input", "text", "transcript"):
                text = called.get(key) if isinstance(called, dict) else None
                if isinstance(text, str):
                    total += len(text)
    return total


# --- A stream ---


class Reader:
    """Turns the vendor's events into the caller's chunks, and keeps the tally.

    Bytes are kept: only the model's name is spliced in, and usage is taken out for a caller who did not ask for it. One
    who did gets exactly one usage chunk, with empty choices, whatever chunk the vendor put it on.
    """

    part: ClassVar[str] = "delta"
    """Where a choice has what was said."""
    moulded: ClassVar[bool] = True
    """Whether chunks that say nothing new but their text may pass without being looked at."""

    def __init__(self, provider: str, model: Model, include_usage: bool, tally: Tally) -> None:
        self.failure: TalariaError | None = None
        """What the vendor broke off with: to be raised once the chunks before it are handed on."""
        self.done = False
        self._provider = provider
        self._name = model.name
        self._include_usage = include_usage
        self._tally = tally
        self._usage: Json = {}
        self._held: bytes | None = None
        """The usage chunk, until it is clear that no other follows."""
        self._split_off: Json | None = None
        """A usage chunk made from one that had choices too: sent last, where the vendor has none of its own."""
        self._usage_sent = False
        self._mould = Mould() if self.moulded else Mould(0)
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether every choice has been given its finish reason."""
        return bool(self._finished) and self._seen <= self._finished

    def read(self, events: list[bytes]) -> Batch:
        """The chunks of `events`. Stops at the end and at an error, and says so in `done` and `failure`."""
        batch: Batch = []
        for raw in events:
            if (cast := self._mould.cast(raw)) is not None and self._held is None:
                self._tally.chars += self._mould.said
                batch.append(cast)
                continue
            event = parse(raw)
            if event is None:
                continue
            data = event.data
            if data == b"[DONE]":
                # Some look-alikes give no finish reason, but this word.
                self.end(batch, whole=self.finished or self._tally.begun)
                break
            try:
                chunk = loads(data)
            except ValueError:
                chunk = None
            if not isinstance(chunk, dict):
                self._tally.malformed += 1
                continue
            if self.amend(chunk):
                if not chunk:
                    self._tally.malformed += 1
                    continue
                data = dumps(chunk)
            failed = failure_in(chunk)
            if failed is not None:
                self.failure = self.fail(dumps(failed))
                break
            self._pass(chunk, data, batch)
            self._learn(raw, chunk, batch)
        return batch

    def _learn(self, raw: bytes, chunk: Json, batch: Batch) -> None:
        """Takes the shape of a chunk that says some text and nothing else."""
        match chunk.get("choices"):
            case [{"index": 0, "finish_reason": None, self.part: said}] if batch and chunk.get("usage") is None:
                if isinstance(said, dict):
                    text = said.get("content")
                    if any(value and key not in ("role", "content") for key, value in said.items()):
                        return
                else:
                    text = said
                if isinstance(text, str):
                    self._mould.learn(raw, text, batch[-1])

    def end(self, batch: Batch, whole: bool) -> None:
        """Closes the answer: adds what was held back, or finds that it came to no end."""
        self.done = True
        if not whole:
            self.failure = BadReply(f"{self._provider} closed the stream early", provider=self._provider)
        elif self._include_usage and not self._usage_sent:
            if self._held is not None:
                batch.append(self._held)
            elif self._split_off is not None:
                batch.append(dumps(self._split_off))

    def fail(self, data: bytes) -> TalariaError:
        """What an error among the events stands for."""
        return decode_error(self._provider, 200, {}, data)

    def amend(self, chunk: Json) -> bool:
        """Mends, in place, what a vendor says differently from OpenAI; True when something was.

        A chunk that is left empty could not be read.
        """
        return False

    def _pass(self, chunk: Json, data: bytes, batch: Batch) -> None:
        tally = self._tally
        choices = chunk.get("choices")
        if choices:
            self._observe(choices)
        data = identify(tally, data, chunk, self._name)
        if "usage" not in chunk:
            self._release_usage(batch)
            batch.append(data)
        elif not isinstance(chunk["usage"], dict):
            self._release_usage(batch)
            batch.append(data if self._include_usage else _without_usage(data, chunk, self._name))
        else:
            self._usage |= {key: value for key, value in chunk["usage"].items() if value is not None}
            tally.usage = decode_usage(self._usage)
            self._pass_usage(chunk, data, batch)

    def _pass_usage(self, chunk: Json, data: bytes, batch: Batch) -> None:
        if chunk.get("choices"):
            envelope = {key: value for key, value in chunk.items() if key in _ENVELOPE}
            self._split_off = {**envelope, "model": self._name, "choices": [], "usage": chunk["usage"]}
        elif self._include_usage:
            self._held = data
            return
        elif chunk.keys() <= _ENVELOPE:
            return
        batch.append(_without_usage(data, chunk, self._name))

    def _release_usage(self, batch: Batch) -> None:
        # A chunk after the usage (a moderation result) keeps its place after it.
        if self._held is not None and not self._usage_sent:
            batch.append(self._held)
            self._usage_sent = True

    def _observe(self, choices: Any) -> None:
        tally = self._tally
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            if type(index) is not int:
                index = 0
            self._seen.add(index)
            _observe_content(tally, choice.get(self.part))
            finish = choice.get("finish_reason")
            if finish:
                self._finished.add(index)
                _observe_finish(tally, finish)


_ENVELOPE = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"}
)
"""What a chunk has when it is there for nothing but its usage."""


def _without_usage(data: bytes, chunk: Json, name: str) -> bytes:
    if chunk["usage"] is None:
        for null in (b',"usage":null', b', "usage": null', b'"usage":null,', b'"usage": null, '):
            at = data.find(null)
            if at >= 0 and data.find(null, at + 1) < 0:
                return data[:at] + data[at + len(null) :]
    rest = {key: value for key, value in chunk.items() if key != "usage"}
    if "model" in rest:
        rest["model"] = name
    return dumps(rest)
