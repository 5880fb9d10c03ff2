"""Inception's API (Mercury): OpenAI's dialect with habits of its own. https://docs.inceptionlabs.ai

Only fields that Inception documents are sent. Its answers are mended where they differ from OpenAI's: usage comes in
two shapes, absent tool calls as an empty list or null, and what it changed of a request as a `warning`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from providers import openai, openai_chat, snapshots
from providers.abilities import fit, leave_out, name_dropped, neutral, refuse_dropped
from providers.base import Transport
from providers.lenient import dumps
from providers.openai import Form
from providers.openai_chat import bound, decode_usage, observe, read_answer, set_stream
from providers.openai_errors import decode_error
from providers.openai_tools import calls, mend_call, mend_fragment
from providers.types import Call, Json, Model, Reply, Tally

__all__ = ["Provider", "Reader", "decode", "decode_error", "decode_usage", "encode", "mend_usage"]

FIM_FIELDS = frozenset(
    {
        *("model", "prompt", "suffix", "max_tokens", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
        *("repetition_penalty", "stop", "stream", "stream_options"),
    }
)
"""All that is documented for fill-in-the-middle."""

_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id"})


# --- The call as the vendor's request ---


def encode(call: Call, model: Model, stream: bool | None = None) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out or bent."""
    stream = call.stream if stream is None else stream
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    if "diffusing" in body and not snapshots.wanted(call, stream):
        leave_out(body, "diffusing", dropped)
    asked = body.get("reasoning_effort")
    bound(body, model.card, dropped)
    if asked in ("none", "minimal") and body.get("tools") and body.get("reasoning_effort") == "instant":
        # Without reasoning Mercury is documented as unfit for tools.
        body["reasoning_effort"] = "low"
        name_dropped("reasoning_effort", dropped)
    for param in list(body):
        if param not in model.card.accepts or body[param] is None:
            leave_out(body, param, dropped)
    stop = body.get("stop")
    if isinstance(stop, str):
        body["stop"] = [stop]
    elif stop == []:
        del body["stop"]
    body["messages"] = [_encode_message(message, dropped) for message in body["messages"]]
    set_stream(body, stream)
    if "stream_options" in body:
        body["stream_options"] = {"include_usage": True}
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def _encode_message(message: Json, dropped: list[str]) -> Json:
    if message.keys() == {"role", "content"} and type(message["content"]) is str and message["role"] != "developer":
        return message
    encoded = {key: value for key, value in message.items() if key in _MESSAGE_FIELDS}
    if message.get("role") == "developer":
        encoded["role"] = "system"
    content = message.get("content")
    if isinstance(content, list):
        encoded["content"] = [_encode_part(part) for part in content]
    elif not content and isinstance(message.get("refusal"), str):
        encoded["content"] = message["refusal"]
    for key in ("tool_calls", "tool_call_id"):
        if key in encoded and not encoded[key]:
            del encoded[key]
    for key, value in message.items():
        if key not in _MESSAGE_FIELDS and key != "refusal" and not neutral(key, value):
            name_dropped(f"messages.{key}", dropped)
    return encoded


def _encode_part(part: Any) -> Any:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case _:
            return part


# --- The vendor's answer as ours ---


def decode(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer, mended, under the model's configured name."""
    answer = read_answer(provider, headers, body)
    warning = answer.pop("warning", None)
    for choice in answer["choices"]:
        if isinstance(choice, dict):
            choice.setdefault("logprobs", None)
            message = choice.get("message")
            if isinstance(message, dict):
                _mend_message(message)
                message.setdefault("refusal", None)
                for call in calls(message):
                    mend_call(call)
    _mend_top(answer)
    answer.setdefault("system_fingerprint", None)
    answer["model"] = model.name
    tally = Tally(id=answer.get("id"))
    observe(tally, answer)
    warnings = (_text(warning),) if warning else ()
    return Reply(dumps(answer), tally, headers, warnings=warnings)


class Reader(openai_chat.Reader):
    """Mends each chunk before it is passed on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ids: dict[str, list[str]] = {}
        """For each choice, the ids of its tool calls so far."""

    def amend(self, chunk: Json) -> bool:
        mended = _mend_top(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict):
                mended |= _mend_message(delta)
                if "tool_calls" in delta:
                    ids = self._ids.setdefault(str(choice.get("index", 0)), [])
                    for call in calls(delta):
                        mended |= mend_fragment(call, ids)
        return mended


class Final(snapshots.Final, Reader):
    """Of the mended snapshots the last."""


class Raw(snapshots.Raw, Reader):
    """All of the mended snapshots."""


def mend_usage(usage: Json) -> Json:
    """Either of Inception's two shapes of usage in OpenAI's.

    The flat shape does not say whether its completion tokens hold the reasoning; its total does.
    """
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    cached = _nested(usage, "prompt_tokens_details", "cached_tokens", usage.get("cached_input_tokens"))
    reasoning = _nested(usage, "completion_tokens_details", "reasoning_tokens", usage.get("reasoning_tokens"))
    if reasoning and usage.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _nested(usage: Json, group: str, name: str, flat: Any) -> int:
    details = usage.get(group)
    value = details.get(name) if isinstance(details, dict) else None
    return _count(flat if value is None else value)


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _mend_top(answer: Json) -> bool:
    mended = False
    for key in ("warning", "reasoning_summary"):
        if key in answer and answer[key] is None:
            del answer[key]
            mended = True
    usage = answer.get("usage")
    if isinstance(usage, dict):
        answer["usage"] = mend_usage(usage)
        mended |= answer["usage"] != usage
    return mended


def _mend_message(message: Json) -> bool:
    """A message or a delta: no empty tool calls, no call id of null, text as text."""
    mended = False
    for key in ("tool_calls", "tool_call_id"):
        if key in message and not message[key]:
            del message[key]
            mended = True
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = "".join(_text(part) for part in content)
        mended = True
    return mended


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case {"text": str(text)} | {"content": str(text)} | {"message": str(text)}:
            return text
        case {"type": _}:
            return ""
        case _:
            return dumps(value).decode()


# --- Fill-in-the-middle ---


def encode_fim(call: Call, model: Model, stream: bool | None = None) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out or bent."""
    body, dropped = fit(call, model)
    body["model"] = model.upstream
    bound(body, model.card, dropped)
    for param in list(body):
        if param not in FIM_FIELDS or body[param] is None:
            leave_out(body, param, dropped)
    stop = body.get("stop")
    if isinstance(stop, str):
        body["stop"] = [stop]
    set_stream(body, call.stream if stream is None else stream)
    if "stream_options" in body:
        body["stream_options"] = {"include_usage": True}
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def decode_fim(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer, mended, under the model's configured name."""
    answer = read_answer(provider, headers, body)
    warning = answer.pop("warning", None)
    _mend_top(answer)
    answer["model"] = model.name
    tally = Tally(id=answer.get("id"))
    observe(tally, answer, "text")
    warnings = (_text(warning),) if warning else ()
    return Reply(dumps(answer), tally, headers, warnings=warnings)


class FimReader(Reader):
    """Chunks of text instead of deltas; what surrounds them is mended as in chat."""

    part = "text"


# --- The vendor ---


class Provider(openai.Provider):
    """Inception's API under `base_url`."""

    forms: ClassVar[Mapping[str, Form]] = {
        "chat": Form("/chat/completions", encode, decode, Reader),
        "final": Form("/chat/completions", encode, decode, Final),
        "raw": Form("/chat/completions", encode, decode, Raw),
        "fim": Form("/fim/completions", encode_fim, decode_fim, FimReader),
    }

    def __init__(self, name: str, base_url: str, keys: Sequence[str], transport: Transport) -> None:
        super().__init__(name, base_url, keys, transport)
        endpoints = dict(self.endpoints)
        endpoints["chat"] = snapshots.Diffusing(endpoints["chat"], endpoints.pop("final"), endpoints.pop("raw"))
        self.endpoints = endpoints
