"""Vendors that speak OpenAI's dialect, each a row of data: `compatible.toml`.

A row says where a vendor is, how it takes a key, what it does not take and what it calls differently. Here stands what
such words do. A new vendor of the dialect is a new row and no code.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from providers import catalog, openai, openai_chat, openai_errors
from providers.abilities import name_dropped, neutral, refuse_dropped
from providers.base import Batch, Transport
from providers.errors import TalariaError
from providers.lenient import dumps, loads
from providers.openai import Form
from providers.openai_chat import FINISHES, identify, observe, read_answer
from providers.openai_tools import calls, mend_call, mend_fragment
from providers.types import Call, Card, Json, Model, Reply, Tally

FILE = Path(__file__).with_name("compatible.toml")

GENERIC = "generic"
"""The row of a vendor that has none of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is particular about one vendor. The defaults are OpenAI's."""

    name: str
    card: Card
    """What its models can do where the catalog does not list them; in the file, a table over `[kinds.compatible]`."""
    base_url: str = ""
    """Where it is, unless each customer has an address of their own."""
    keyless: bool = False
    """Asks for no key, as local servers do."""
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    """What stands before the key; empty where it stands alone."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """By operation, where they differ; `{upstream}` stands for the model's id."""
    query: str = ""
    """What every URL ends in."""
    without: tuple[str, ...] = ()
    """What it refuses, and is left out and named: parameters, or `messages.name` for what is inside of them."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Parameters that it calls differently."""
    developer_role: str = "developer"
    tool_choice: Mapping[str, str] = field(default_factory=dict)
    """Words of `tool_choice` that it calls differently."""
    names_tool: bool = True
    """Takes a tool's name as `tool_choice`. Where it does not, that tool alone is offered, and required."""
    flat: bool = False
    """Takes text as strings only, not in parts."""
    stream_usage: bool = True
    """Takes `stream_options.include_usage`. Where it does not, and tells no usage unasked, usage is estimated."""
    usage_at: str = ""
    """Where else a chunk may have its usage, as `x_groq.usage`."""
    cached_at: str = ""
    """What its usage calls the prompt tokens that were in its cache, beside OpenAI's `prompt_tokens_details`."""
    reasoning_apart: bool = False
    """Counts reasoning beside `completion_tokens`, not among them."""
    reasoning_field: str = "reasoning_content"
    """Where a message has its reasoning; callers find it in `reasoning_content`."""
    finishes: Mapping[str, str] = field(default_factory=dict)
    """Its own finish reasons, and OpenAI's for them."""
    too_long: tuple[str, ...] = ()
    """How it says that a prompt exceeds the window: an error's code or type, or how the text begins."""
    overloaded: tuple[int, ...] = ()
    """Statuses of its own for too much traffic."""
    resets: Mapping[str, str] = field(default_factory=dict)
    """Headers that are `0` when a limit is used up, each with the one that has the seconds until it is whole again."""
    conceal: str = ""
    """What its errors quote of our account, as a regular expression."""

    @property
    def bends(self) -> bool:
        """Whether requests are written differently from OpenAI's."""
        return bool(
            self.without
            or self.renames
            or self.tool_choice
            or self.flat
            or not self.names_tool
            or not self.stream_usage
            or self.developer_role != "developer"
        )


@cache
def rows() -> Mapping[str, Row]:
    """Every vendor that has a row, by name."""
    return parse(FILE.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Row]:
    """The rows by name. ValueError names the place that is wrong."""
    return {name: _row(name, table) for name, table in tomllib.loads(text).items()}


def _row(name: str, table: Json) -> Row:
    known = {each.name: each.type for each in fields(Row)}
    read: Json = {"card": catalog.usual("compatible", table.pop("card", {}), f"{name}.card")}
    for key, value in table.items():
        expected = _SHAPES.get(str(known.get(key)))
        if expected is None or key == "name":
            raise ValueError(f"{name}: unknown {key!r}; known: {', '.join(sorted(known.keys() - {'name'}))}")
        if type(value) is not expected:
            raise ValueError(f"{name}.{key}: a {expected.__name__} is expected")
        read[key] = tuple(table[key]) if expected is list else value
    return Row(name, **read)


_SHAPES: Mapping[str, type] = {
    "str": str,
    "bool": bool,
    "tuple[str, ...]": list,
    "tuple[int, ...]": list,
    "Mapping[str, str]": dict,
}


# --- The call as the vendor's request ---

Encode = Callable[[Call, Model, bool], tuple[bytes, list[str]]]


def encode(row: Row, plain: Encode, call: Call, model: Model, stream: bool) -> tuple[bytes, list[str]]:
    """The request that `plain` writes, as the vendor takes it, and what was left out or bent."""
    request, dropped = plain(call, model, stream)
    if not row.bends:
        return request, dropped
    body = loads(request)
    for path in row.without:
        if _left_out(body, path.split(".")):
            name_dropped(path, dropped)
    for ours, theirs in row.renames.items():
        if ours in body:
            body[theirs] = body.pop(ours)
    if not row.stream_usage:
        body.pop("stream_options", None)
    match body.get("tool_choice"):
        case {"type": "function", "function": {"name": str(name)}} if not row.names_tool:
            body["tools"] = [tool for tool in body.get("tools", ()) if _at(tool, "function.name") == name]
            body["tool_choice"] = row.tool_choice.get("required", "required")
        case str(choice):
            body["tool_choice"] = row.tool_choice.get(choice, choice)
    for message in body.get("messages", ()):
        if message.get("role") == "developer":
            message["role"] = row.developer_role
        if row.flat:
            _flatten(message)
    refuse_dropped(model, dropped)
    return dumps(body), dropped


def _left_out(node: Any, path: Sequence[str]) -> bool:
    """Whether something was taken out at `path` that makes a difference."""
    if isinstance(node, list):
        # From every one, so that the first found may not end it.
        return sum(_left_out(each, path) for each in node) > 0
    key, *rest = path
    if not isinstance(node, dict) or key not in node:
        return False
    return _left_out(node[key], rest) if rest else not neutral(key, node.pop(key))


def _flatten(message: Json) -> None:
    parts = message.get("content")
    if isinstance(parts, list):
        texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if len(texts) == len(parts):
            message["content"] = "\n".join(texts)


# --- The vendor's answer as ours ---


def decode(row: Row, part: str, provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """A whole answer: as it came but for the model's name, or mended where it differs from OpenAI's.

    `part` is where a choice has what was said.
    """
    answer = read_answer(provider, headers, body, decode_error=partial(decode_error, row))
    mended = _mend_usage(row, answer)
    for choice in answer["choices"]:
        if isinstance(choice, dict):
            mended |= _mend_finish(row, choice)
            message = choice.get("message")
            if isinstance(message, dict):
                mended |= _mend_message(row, message)
                for call in calls(message):
                    mended |= mend_call(call)
    tally = Tally()
    body = identify(tally, dumps(answer) if mended else body, answer, model.name)
    observe(tally, answer, part)
    return Reply(body, tally, headers)


class Reader(openai_chat.Reader):
    """Mends each chunk before it is passed on, and adds the finish where a stream ends without one."""

    nothing: ClassVar[Json] = {"delta": {}}
    """What a choice says that only ends."""

    def __init__(self, row: Row, provider: str, model: Model, include_usage: bool, tally: Tally) -> None:
        super().__init__(provider, model, include_usage, tally)
        self._row = row
        self._ids: dict[str, list[str]] = {}
        """For each choice, the ids of its tool calls so far."""
        self._last: Json = {}

    def fail(self, data: bytes) -> TalariaError:
        return decode_error(self._row, self._provider, 200, {}, data)

    def amend(self, chunk: Json) -> bool:
        self._last = chunk
        mended = _mend_usage(self._row, chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            mended |= _mend_finish(self._row, choice)
            delta = choice.get("delta")
            if isinstance(delta, dict):
                mended |= _mend_message(self._row, delta)
                ids = self._ids.setdefault(str(choice.get("index", 0)), [])
                for call in calls(delta):
                    mended |= mend_fragment(call, ids)
        return mended

    def end(self, batch: Batch, whole: bool) -> None:
        for index in sorted(self._seen - self._finished) if whole else ():
            finish = "tool_calls" if self._ids.get(str(index)) else "stop"
            self._tally.finish = self._tally.finish or finish
            envelope = {key: self._last[key] for key in ("id", "object", "created") if key in self._last}
            choice = {"index": index, **self.nothing, "finish_reason": finish}
            batch.append(dumps({**envelope, "model": self._name, "choices": [choice]}))
        super().end(batch, whole)


class TextReader(Reader):
    """Chunks of text instead of deltas."""

    part = "text"
    nothing: ClassVar[Json] = {"text": "", "logprobs": None}


def _mend_message(row: Row, message: Json) -> bool:
    """A message or a delta: no empty list of calls, text as text, reasoning where callers look for it."""
    mended = False
    if "tool_calls" in message and not message["tool_calls"]:
        del message["tool_calls"]
        mended = True
    if row.reasoning_field != "reasoning_content" and isinstance(message.get(row.reasoning_field), str):
        thought = message.pop(row.reasoning_field)
        message.setdefault("reasoning_content", thought)
        mended = True
    content = message.get("content")
    if isinstance(content, list):
        thoughts = "".join(_text(part.get("thinking")) for part in content if isinstance(part, dict))
        message["content"] = "".join(_text(part) for part in content)
        if thoughts:
            message["reasoning_content"] = thoughts
        mended = True
    return mended


def _text(content: Any) -> str:
    match content:
        case str():
            return content
        case list():
            return "".join(_text(part) for part in content)
        case {"text": str(text)}:
            return text
    return ""


def _mend_finish(row: Row, choice: Json) -> bool:
    finish = choice.get("finish_reason")
    if not isinstance(finish, str) or finish in FINISHES or finish not in row.finishes:
        return False
    choice["finish_reason"] = row.finishes[finish]
    return True


def _mend_usage(row: Row, answer: Json) -> bool:
    """Brings the usage to its place and into OpenAI's terms."""
    usage = answer.get("usage")
    mended = False
    if row.usage_at and not isinstance(usage, dict):
        usage = _at(answer, row.usage_at)
        if isinstance(usage, dict):
            answer["usage"] = usage = dict(usage)
            mended = True
    if not isinstance(usage, dict):
        return False
    cached = usage.get(row.cached_at)
    if type(cached) is int and _at(usage, "prompt_tokens_details.cached_tokens") is None:
        usage["prompt_tokens_details"] = {**_table(usage.get("prompt_tokens_details")), "cached_tokens": cached}
        mended = True
    reasoning = _at(usage, "completion_tokens_details.reasoning_tokens")
    if row.reasoning_apart and type(reasoning) is int and reasoning > 0:
        said, asked = usage.get("completion_tokens"), usage.get("prompt_tokens")
        # Only its own total tells whether the reasoning is beside the rest.
        if type(said) is int and type(asked) is int and usage.get("total_tokens") == asked + said + reasoning:
            usage["completion_tokens"] = said + reasoning
            mended = True
    return mended


def _at(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = _table(node).get(key)
    return node


def _table(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


# --- What goes wrong ---


def decode_error(row: Row, provider: str, status: int, headers: Mapping[str, str], body: bytes) -> TalariaError:
    """The vendor's error, whatever the shape of its body: OpenAI's, a string, or words at the top."""
    error = openai_errors.error_of(body)
    if row.conceal and "message" in error:
        error["message"] = re.sub(row.conceal, "***", error["message"])
    told = (error.get("code"), error.get("type"))
    if any(sign in told or error.get("message", "").startswith(sign) for sign in row.too_long):
        error["code"] = "context_length_exceeded"
    if "retry-after" not in headers:
        waits = [headers.get(reset, "") for used_up, reset in row.resets.items() if headers.get(used_up) == "0"]
        if longest := max((wait for wait in waits if re.fullmatch(r"\d+(\.\d+)?", wait)), key=float, default=None):
            headers = {**headers, "retry-after": longest}
    status = 503 if status in row.overloaded else status
    return openai_errors.decode_error(provider, status, headers, dumps({"error": error}))


# --- The vendor ---


class Provider(openai.Provider):
    """The vendor that a row describes: one of the file's by its name, or a row as such."""

    def __init__(
        self, name: str, base_url: str, keys: Sequence[str], transport: Transport, vendor: str | Row = GENERIC
    ) -> None:
        row = rows()[vendor] if isinstance(vendor, str) else vendor
        scheme = f"{row.auth_scheme} " if row.auth_scheme else ""
        forms = {operation: _form(row, operation, form) for operation, form in openai.Provider.forms.items()}
        super().__init__(name, base_url or row.base_url, keys, transport, forms, (row.auth_header, scheme))


def _form(row: Row, operation: str, form: Form) -> Form:
    answers: Json = {}
    if operation == "chat":
        answers = {"decode": partial(decode, row, "message"), "reader": partial(Reader, row)}
    elif operation == "completions":
        answers = {"decode": partial(decode, row, "text"), "reader": partial(TextReader, row)}
    return form._replace(
        path=row.paths.get(operation, form.path) + (f"?{row.query}" if row.query else ""),
        encode=partial(encode, row, form.encode),
        decode_error=partial(decode_error, row),
        **answers,
    )
