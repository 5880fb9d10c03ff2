"""Conversations as one text, by a Jinja2 template: for servers that complete texts and know no chat.

Templates are as models are published with: `messages`, `tools` and `add_generation_prompt` are theirs to use, as are
`tojson` and `raise_exception`. They run in Jinja2's sandbox, read no file, and write no more than MOST_CHARS.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from providers.abilities import leave_out
from providers.base import Batch, Endpoint, Stream
from providers.errors import BadReply, InvalidRequest, Unsupported
from providers.lenient import dumps, loads
from providers.types import Call, Json, Model, Reply, Timeouts

MOST_CHARS = 8 * 1024 * 1024

CHAT_ONLY = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "reasoning_effort"),
        *("modalities", "audio", "prediction", "store", "verbosity", "web_search_options", "top_logprobs"),
        *("max_completion_tokens", "logprobs", "service_tier", "safety_identifier", "prompt_cache_key", "diffusing"),
    }
)
"""Parameters of chat that completions do not have."""

_STRETCHING = frozenset({"center", "expandtabs", "format", "format_map", "indent", "ljust", "pprint", "rjust", "zfill"})

_PROBE = "How many sandals has Mercury?"


class WrongTemplate(ValueError):
    """A template that cannot be used; its text says why."""


class Template:
    """A compiled template. Raises WrongTemplate for one that is none, or that does not write what it is given."""

    def __init__(self, text: str) -> None:
        # Only who has a template needs it.
        from jinja2 import TemplateError, TemplateSyntaxError, meta

        environment = _environment()
        try:
            names = meta.find_undeclared_variables(environment.parse(text))
            self._template = environment.from_string(text)
        except TemplateSyntaxError as error:
            raise WrongTemplate(f"line {error.lineno}: {error.message}") from None
        except TemplateError as error:
            raise WrongTemplate(str(error.message)) from None
        self._text = text
        self.takes_tools = "tools" in names
        self._probe()

    def __repr__(self) -> str:
        return f"Template({self._text!r})"

    def render(self, messages: list[Json], tools: list[Json] | None = None) -> str:
        """The conversation as one text. Raises Unsupported where the template cannot write it."""
        said: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(messages=messages, tools=tools, add_generation_prompt=True):
                size += len(piece)
                if size > MOST_CHARS:
                    raise Unsupported(f"the template writes more than {MOST_CHARS} characters", param="messages")
                said.append(piece)
        except InvalidRequest:
            raise
        except Exception as error:
            # Whatever an expression may do. What it says might quote a message, and is for the template's author alone.
            raise Unsupported("the model's template cannot write these messages", param="messages") from error
        return "".join(said)

    def _probe(self) -> None:
        """Some templates have no place for a system message, and say so."""
        user = {"role": "user", "content": _PROBE}
        turns = [user, {"role": "assistant", "content": "Two."}, user]
        try:
            text = self.render([{"role": "system", "content": "You are brief."}, *turns])
        except Unsupported:
            try:
                text = self.render(turns)
            except Unsupported as error:
                raise WrongTemplate(str(error.__cause__ or error.message)) from None
        if _PROBE not in text:
            raise WrongTemplate("does not write the messages: they are in `messages`, each with `role` and `content`")


def _environment() -> Any:
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Also without what makes a long text of a short one."""

        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not all(isinstance(each, int | float) for each in (left, right)):
                raise SecurityError(f"{operator} is for plain numbers only")
            return super().call_binop(context, operator, left, right)

        def wrap_str_format(self, value: Any) -> None:
            """Without it `format` is an attribute like any other."""

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return attr not in _STRETCHING and super().is_safe_attribute(obj, attr, value)

    def refuse(message: str) -> None:
        raise Unsupported(f"the model's template does not take these messages: {message}", param="messages")

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    usual = environment.globals
    environment.globals = {name: usual[name] for name in ("range", "dict", "namespace")} | {"raise_exception": refuse}
    environment.filters = {name: each for name, each in environment.filters.items() if name not in _STRETCHING}
    environment.filters["tojson"] = _as_json
    return environment


def _as_json(value: Any, indent: int | None = None) -> str:
    # Jinja2's own is for HTML.
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(indent, 8))


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
        if limit is not None:
            body["max_tokens"] = limit
        body["prompt"] = self._template.render(messages, None if choice == "none" else tools)
        needs = {ability: param for ability, param in call.needs.items() if ability not in ("tools", "diffusing")}
        if dropped and model.on_unsupported == "error":
            raise Unsupported(f"{model.name} does not support {dropped[0]} as given", param=dropped[0])
        return replace(call, operation="completions", body=body, needs=needs), sorted(dropped)


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
