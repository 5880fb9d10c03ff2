"""Conversations as one text, by a Jinja2 template: for servers that complete texts and know no chat.

Templates are as models are published with: `messages`, `tools` and `add_generation_prompt` are theirs to use, as are
`tojson` and `raise_exception`. Where they run, and within which bounds: `providers.prompt_sandbox`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from providers.abilities import leave_out
from providers.base import Batch, Endpoint, Stream
from providers.errors import BadReply, InvalidRequest, Unsupported
from providers.lenient import dumps, loads
from providers.types import Call, Json, Model, Reply, Timeouts

LONGEST = 32 * 1024
"""Characters of a template."""

LEAST_SIZE = 1024 * 1024
SIZE_PER_CHARACTER = 64
"""What a template may make, in characters and items: so many, and so many more for each that it is given."""

SECONDS = 1.0
SECONDS_TO_TRY = 0.25
"""Of the processor's time, for one rendering."""

USUAL_LIMIT = 4096
"""Tokens of an answer where neither caller nor card has a limit: completions would stop at 16."""

CHAT_ONLY = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort"),
        *("modalities", "audio", "prediction", "store", "verbosity", "web_search_options", "top_logprobs"),
        *("max_completion_tokens", "logprobs", "service_tier", "safety_identifier", "prompt_cache_key", "diffusing"),
    }
)
"""Parameters of chat that completions do not have."""

_PROBE = "How many sandals has Mercury?"


class WrongTemplate(ValueError):
    """A template that cannot be used; its text says why."""


class Template:
    """A compiled template. Raises WrongTemplate for one that is none, or that does not write what it is given."""

    def __init__(self, text: str) -> None:
        # Only who has a template needs it.
        from jinja2 import TemplateSyntaxError, meta

        from providers.prompt_sandbox import Sandbox

        if len(text) > LONGEST:
            raise WrongTemplate(f"is longer than {LONGEST} characters")
        try:
            with _metered(SECONDS_TO_TRY, 0):
                environment = Sandbox(_refuse)
                names = meta.find_undeclared_variables(environment.parse(text))
                self._template = environment.from_string(text)
        except TemplateSyntaxError as error:
            raise WrongTemplate(f"line {error.lineno}: {error.message}") from None
        except Exception as error:
            # What Python says of code that is nested too deep, among others.
            raise WrongTemplate(str(error) or type(error).__name__) from None
        self._text = text
        self.takes_tools = "tools" in names
        self._probe()

    def __repr__(self) -> str:
        return f"Template({self._text!r})"

    def render(self, messages: list[Json], tools: list[Json] | None = None, seconds: float = SECONDS) -> str:
        """The conversation as one text. Raises Unsupported where the template cannot write it."""
        from providers.prompt_sandbox import weight

        try:
            with _metered(seconds, weight([messages, tools], sys.maxsize)):
                return self._template.render(messages=messages, tools=tools, add_generation_prompt=True)
        except InvalidRequest:
            raise
        except Exception as error:
            # Whatever an expression may do. What it says might quote a message, and is for the template's author alone.
            raise Unsupported("the model's template cannot write these messages", param="messages") from error

    def _probe(self) -> None:
        """Some templates have no place for a system message, and say so."""
        user = {"role": "user", "content": _PROBE}
        turns = [user, {"role": "assistant", "content": "Two."}, user]
        try:
            text = self.render([{"role": "system", "content": "You are brief."}, *turns], seconds=SECONDS_TO_TRY)
        except Unsupported:
            try:
                text = self.render(turns, seconds=SECONDS_TO_TRY)
            except Unsupported as error:
                raise WrongTemplate(str(error.__cause__ or error.message)) from None
        if _PROBE not in text:
            raise WrongTemplate("does not write the messages: they are in `messages`, each with `role` and `content`")


@lru_cache(maxsize=256)
def compiled(text: str) -> Template:
    """The template, compiled and tried once however often it is asked for."""
    return Template(text)


@contextmanager
def _metered(seconds: float, given: int) -> Iterator[None]:
    """What is rendered herein ends when it is too much for a template that is given so many characters."""
    from providers.prompt_sandbox import Meter, meter

    token = meter.set(Meter(LEAST_SIZE + SIZE_PER_CHARACTER * given, seconds))
    try:
        yield
    finally:
        meter.reset(token)


def _refuse(message: str) -> None:
    raise Unsupported(f"the model's template does not take these messages: {message}", param="messages")


class Templated:
    """A chat endpoint over one that completes texts."""

    def __init__(self, completions: Endpoint, template: Template) -> None:
        self._completions = completions
        self._template = template

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        asked, dropped = self._as_completion(call, model)
        reply = await self._completions.complete(asked, model, timeouts)
        reply.body = dumps(_as_chat(loads(reply.body)))
        reply.dropped += tuple(dropped)
        return reply

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        asked, dropped = self._as_completion(call, model)
        stream = await self._completions.stream(asked, model, timeouts)
        return Stream(_deltas(stream), stream.close, stream.tally, stream.headers, (*stream.dropped, *dropped))

    def _as_completion(self, call: Call, model: Model) -> tuple[Call, list[str]]:
        """The call as one for completions, and the parameters that were left out."""
        body, dropped = dict(call.body), list[str]()
        tools = body.get("tools")
        choice = body.get("tool_choice") or "auto"
        if tools and not self._template.takes_tools:
            raise Unsupported(f"{model.name}'s template has no place for tools", param="tools")
        if choice not in ("auto", "none"):
            raise Unsupported(f"{model.name} cannot be made to call a tool", param="tool_choice")
        messages = [_plain(message, at, model) for at, message in enumerate(body["messages"])]
        limit = body.get("max_completion_tokens")
        for param in CHAT_ONLY & body.keys():
            if param in ("messages", "tools", "tool_choice", "max_completion_tokens"):
                del body[param]
            else:
                leave_out(body, param, dropped)
        prompt = body["prompt"] = self._template.render(messages, None if choice == "none" else tools)
        if limit is not None:
            body["max_tokens"] = limit
        elif body.get("max_tokens") is None:
            body["max_tokens"] = _usual_limit(prompt, model)
        needs = {ability: param for ability, param in call.needs.items() if ability not in ("tools", "diffusing")}
        if dropped and model.on_unsupported == "error":
            raise Unsupported(f"{model.name} does not support {dropped[0]} as given", param=dropped[0])
        return replace(call, operation="completions", body=body, needs=needs), sorted(dropped)


def _usual_limit(prompt: str, model: Model) -> int:
    """As much as the model says, less where its window is small: no token is shorter than a byte."""
    limit, window = model.card.max_output or USUAL_LIMIT, model.card.context
    return limit if window is None else min(limit, max(window - len(prompt.encode()), window // 4))


def _plain(message: Json, at: int, model: Model) -> Json:
    """A message whose content is text, as templates expect."""
    content = message.get("content")
    if not isinstance(content, list):
        return message if content is not None else {**message, "content": ""}
    texts = [part.get("text", part.get("refusal")) for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise Unsupported(f"{model.name} takes nothing but text", param=f"messages[{at}].content")
    return {**message, "content": "".join(map(str, texts))}


def _as_chat(answer: Json) -> Json:
    """A completion as a chat answer."""
    choices = [
        {
            "index": choice.get("index", at),
            "message": {"role": "assistant", "content": choice.get("text") or "", "refusal": None},
            "logprobs": None,
            "finish_reason": choice.get("finish_reason"),
        }
        for at, choice in enumerate(answer["choices"])
    ]
    return {**answer, "id": _id(answer), "object": "chat.completion", "choices": choices}


async def _deltas(stream: Stream) -> AsyncIterator[Batch]:
    """The chunks of a completion as those of a chat."""
    begun: set[int] = set()
    async for batch in stream:
        yield [dumps(_chunk(loads(data), begun)) for data in batch]


def _chunk(chunk: Json, begun: set[int]) -> Json:
    choices = []
    for at, choice in enumerate(chunk.get("choices") or ()):
        if not isinstance(choice, dict):
            raise BadReply("a chunk has choices that are none")
        index = choice.get("index", at)
        role = {} if index in begun else {"role": "assistant"}
        begun.add(index)
        text = choice.get("text")
        delta = {**role, "content": text} if text or role else {}
        choices.append({"index": index, "delta": delta, "finish_reason": choice.get("finish_reason")})
    return {**chunk, "id": _id(chunk), "object": "chat.completion.chunk", "choices": choices}


def _id(answer: Mapping[str, Any]) -> Any:
    id = answer.get("id")
    return "chatcmpl-" + id.removeprefix("cmpl-") if isinstance(id, str) else id
