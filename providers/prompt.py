"""A prompt: what the configuration puts around a model's conversations, under a name and a version.

`Prompt.apply` writes the request, `Prompt.output` says what is taken off the answer, and `Prompted` is a chat endpoint
that does both. A prompt that has a template is served through completions, see `providers.prompt_template`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from providers.base import Batch, Endpoint, Stream
from providers.lenient import dumps, loads
from providers.prompt_output import Filter, Output, end, feed, stop_words
from providers.prompt_template import Template, Templated
from providers.types import Call, Json, Model, Reply, Timeouts

LIMITS = ("max_completion_tokens", "max_tokens")
"""Two names of one parameter: a rule for either holds for both."""

_SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rules of one model, as the configuration has them."""

    name: str
    version: str
    system_prefix: str = ""
    system_suffix: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    """The caller's role -> the one that is sent."""
    stop_map: Mapping[str, str] = field(default_factory=dict)
    """The caller's stop word -> the one that is sent."""
    stop_add: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    clamps: Mapping[str, tuple[int | float, int | float]] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    template: Template | None = None

    @property
    def label(self) -> str:
        """As records, logs and headers have it."""
        return f"{self.name}@{self.version}"

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of those that are set."""
        rules = {
            "system_prefix": self.system_prefix,
            "system_suffix": self.system_suffix,
            "roles": self.roles,
            "stop.map": self.stop_map,
            "stop.add": self.stop_add,
            "defaults": self.defaults,
            "clamps": self.clamps,
            "template": self.template,
            "output.strip_fences": self.output.strip_fences,
            "output.trim": self.output.trim,
            "output.remove_stop": self.output.remove_stop,
        }
        return tuple(name for name, value in rules.items() if value)

    def apply(self, body: Json) -> tuple[Json, list[str]]:
        """The request as it is sent, a copy where it differs, and the parameters whose value was clamped."""
        body = {**body, "messages": self._messages(body["messages"])}
        for param, value in self.defaults.items():
            names = LIMITS if param in LIMITS else (param,)
            if all(body.get(name) is None for name in names):
                body[param] = value
        if self.stop_map or self.stop_add:
            stops = [self.stop_map.get(word, word) for word in stop_words(body)]
            body["stop"] = list(dict.fromkeys((*stops, *self.stop_add)))
            if not body["stop"]:
                del body["stop"]
        clamped: list[str] = []
        for param, (least, most) in self.clamps.items():
            for name in LIMITS if param in LIMITS else (param,):
                value = body.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= most:
                    body[name] = min(max(value, least), most)
                    clamped.append(name)
        return body, clamped

    def _messages(self, messages: list[Json]) -> list[Json]:
        if self.system_prefix or self.system_suffix:
            messages = self._framed(messages)
        if self.roles:
            roles = self.roles
            messages = [{**each, "role": roles.get(each["role"], each["role"])} for each in messages]
        return messages

    def _framed(self, messages: list[Json]) -> list[Json]:
        """With the prefix before the system messages that a conversation opens with, and the suffix after them."""
        opening = next((at for at, each in enumerate(messages) if each["role"] not in _SYSTEM), len(messages))
        if not opening:
            text = "\n\n".join(part for part in (self.system_prefix, self.system_suffix) if part)
            return [{"role": "system", "content": text}, *messages]
        framed = list(messages)
        if self.system_prefix:
            framed[0] = {**framed[0], "content": _joined(self.system_prefix, framed[0]["content"])}
        if self.system_suffix:
            last = framed[opening - 1]
            framed[opening - 1] = {**last, "content": _joined(last["content"], self.system_suffix)}
        return framed


def _joined(first: str | list[Json], second: str | list[Json]) -> str | list[Json]:
    """Two contents with a blank line between them: as text where both are."""
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(part for part in (first, second) if part)
    if isinstance(first, str):
        return [{"type": "text", "text": f"{first}\n\n"}, *second]
    return [*first, {"type": "text", "text": f"\n\n{second}"}]


def prompted(endpoints: Mapping[str, Endpoint], prompt: Prompt) -> dict[str, Endpoint]:
    """A model's endpoints with the prompt around its chat.

    Messages, and counts of their tokens, are then no longer the vendor's own: nothing goes past the prompt.
    """
    found = {name: endpoint for name, endpoint in endpoints.items() if name not in ("messages", "count_tokens")}
    if prompt.template is not None and "completions" in endpoints:
        found["chat"] = Prompted(Templated(endpoints["completions"], prompt.template), prompt)
    elif "chat" in endpoints:
        found["chat"] = Prompted(endpoints["chat"], prompt)
    return found


class Prompted:
    """A chat endpoint whose requests and answers a prompt shapes. Answers that no output rule is for pass as bytes."""

    def __init__(self, chat: Endpoint, prompt: Prompt) -> None:
        self._chat = chat
        self._prompt = prompt

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        body, clamped = self._prompt.apply(call.body)
        call.written.body = body
        reply = await self._chat.complete(replace(call, body=body), model, timeouts)
        reply.tally.prompt = self._prompt.label
        reply.dropped = _named(reply.dropped, clamped)
        if self._prompt.output.filters(body):
            reply.body = self._edited(reply.body, body)
        return reply

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        body, clamped = self._prompt.apply(call.body)
        call.written.body = body
        stream = await self._chat.stream(replace(call, body=body), model, timeouts)
        stream.tally.prompt = self._prompt.label
        stream.dropped = _named(stream.dropped, clamped)
        # A snapshot is whole, and another one takes its place: there is nothing to take off piece by piece.
        if stream.replaces or not self._prompt.output.filters(body):
            return stream
        edited = _Edit(self._prompt.output, body).events(stream)
        return Stream(edited, stream.close, stream.tally, stream.headers, stream.dropped)

    def _edited(self, answer: bytes, body: Json) -> bytes:
        parsed = loads(answer)
        for choice in parsed["choices"]:
            message = choice.get("message") if isinstance(choice, dict) else None
            if isinstance(message, dict) and isinstance(message.get("content"), str):
                filters = self._prompt.output.filters(body)
                message["content"] = feed(filters, message["content"]) + end(filters)
        return dumps(parsed)


def _named(dropped: tuple[str, ...], clamped: list[str]) -> tuple[str, ...]:
    return (*dropped, *(name for name in clamped if name not in dropped))


class _Edit:
    """The output rules at work on one stream."""

    def __init__(self, output: Output, body: Json) -> None:
        self._output = output
        self._body = body
        self._filters: dict[int, list[Filter]] = {}
        """Of each choice that has begun and has not finished."""
        self._envelope: Json = {}

    async def events(self, stream: Stream) -> AsyncIterator[Batch]:
        async for batch in stream:
            if edited := [each for data in batch if (each := self._edit(data)) is not None]:
                yield edited
        # Some vendors give no finish reason; their text is all the same.
        if rests := self._rests():
            yield [dumps({**self._envelope, "choices": rests})]

    def _edit(self, data: bytes) -> bytes | None:
        """The chunk less what is taken off; None where nothing is left of it."""
        chunk = loads(data)
        self._envelope = {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
        choices = chunk.get("choices")
        changed = [self._edit_choice(choice) for choice in choices or () if isinstance(choice, dict)]
        if not any(changed):
            return data
        hollow = not chunk.get("usage") and all(map(_hollow, choices))
        return None if hollow else dumps(chunk)

    def _edit_choice(self, choice: Json) -> bool:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return False
        index = choice.get("index", 0)
        text, said = delta.get("content"), None
        if isinstance(text, str) and text:
            if index not in self._filters:
                self._filters[index] = self._output.filters(self._body)
            said = feed(self._filters[index], text)
        if choice.get("finish_reason") and (rest := end(self._filters.pop(index, []))):
            said = (said or "") + rest
        if said is None or said == text:
            return False
        delta["content"] = said
        return True

    def _rests(self) -> list[Json]:
        return [
            {"index": index, "delta": {"content": rest}, "finish_reason": None}
            for index, filters in self._filters.items()
            if (rest := end(filters))
        ]


def _hollow(choice: Json) -> bool:
    """Whether it says nothing any more."""
    return not choice.get("finish_reason") and not any(choice.get("delta", {}).values())
