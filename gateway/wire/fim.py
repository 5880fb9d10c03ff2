"""Fill-in-the-middle, in Inception's dialect: https://docs.inceptionlabs.ai

The answer is the text between `prompt` and `suffix`, in the form of OpenAI's completions. A model whose vendor has no
such endpoint is served through its completions, in one of two ways:

- by its `fim_template` in the configuration, which writes both texts as one prompt;
- else with `suffix` as it came, where the catalog or `features` says that the model takes one.

There `max_tokens` and `stop` are by default what Inception documents; its presence penalty is Mercury's own and stays
away. `top_k` and `repetition_penalty` have no place in completions: they are left out and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.wire import Request, openai
from gateway.wire.checks import Check, described, integer, is_a, mistyped, number, schema
from providers.base import Endpoint, Stream
from providers.errors import InvalidRequest, Unsupported
from providers.types import Call, Model, Reply, Timeouts

OPERATION = "fim"
HEADERS, DONE, PING = openai.HEADERS, openai.DONE, openai.PING
frame, refusal, failure = openai.frame, openai.refusal, openai.failure

MAX_TOKENS = 512
STOP = ("\n\n", "\n \n")
"""How long an answer is where the caller says nothing."""

NOT_IN_COMPLETIONS = {"top_k": -1, "repetition_penalty": 1}
"""Parameters of Inception's alone, each with the value that asks for nothing."""


def decode(raw: bytes) -> Request:
    """A request body. Raises InvalidRequest, naming the parameter."""
    return openai.request(openai.checked(raw, CHECKS, "prompt"), {})


def through(endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
    """Served from completions, by a template or with a suffix. None for a model that has neither."""
    completions = endpoints.get("completions")
    if completions is None or (model.fim_template is None and "suffix" not in model.card.abilities):
        return None
    return ThroughCompletions(completions)


# --- Through completions ---


class ThroughCompletions:
    """Fill-in-the-middle of a model that completes texts."""

    def __init__(self, completions: Endpoint) -> None:
        self._completions = completions

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        asked, dropped = as_completion(call, model)
        reply = await self._completions.complete(asked, model, timeouts)
        reply.dropped += tuple(dropped)
        return reply

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        asked, dropped = as_completion(call, model)
        stream = await self._completions.stream(asked, model, timeouts)
        stream.dropped += tuple(dropped)
        return stream


def as_completion(call: Call, model: Model) -> tuple[Call, list[str]]:
    """The call as one for completions, and the parameters that were left out."""
    body = dict(call.body)
    asked = {param: body.pop(param, None) for param in NOT_IN_COMPLETIONS}
    dropped = [param for param, value in asked.items() if value not in (None, NOT_IN_COMPLETIONS[param])]
    if dropped and model.on_unsupported == "error":
        raise Unsupported(f"{model.name} does not take {dropped[0]}", param=dropped[0])
    if body.get("max_tokens") is None:
        body["max_tokens"] = MAX_TOKENS
    if body.get("stop") is None:
        body["stop"] = list(STOP)
    if model.fim_template is not None:
        body["prompt"] = fill(model.fim_template, body["prompt"], body.pop("suffix", None) or "")
    elif not body.get("suffix"):
        body.pop("suffix", None)
    return replace(call, operation="completions", body=body, needs={}), dropped


def fill(template: str, prefix: str, suffix: str) -> str:
    """The template with both texts in their places, whatever they say themselves."""
    before, _, after = template.partition("{prefix}")
    if "{suffix}" in before:
        return before.replace("{suffix}", suffix, 1) + prefix + after
    return before + prefix + after.replace("{suffix}", suffix, 1)


# --- What a request must be ---


@described({"type": "integer", "minimum": -1, "maximum": 1000, "not": {"const": 0}})
def _top_k(name: str, value: Any) -> None:
    integer(-1, 1000)(name, value)
    if value == 0:
        raise InvalidRequest("Invalid 'top_k': expected -1, or 1 to 1000.", param=name, code="invalid_value")


@described({"type": "number", "exclusiveMinimum": 0})
def _repetition_penalty(name: str, value: Any) -> None:
    number(0.0, 1e9)(name, value)
    if value == 0:
        raise InvalidRequest(f"Invalid '{name}': expected a value above 0.", param=name, code="decimal_below_min_value")


@described({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
def _stop(name: str, value: Any) -> None:
    if type(value) is str:
        return
    if type(value) is not list or not all(type(each) is str for each in value):
        raise mistyped(name, "an array of strings", value)


CHECKS: Mapping[str, Check] = {
    **{
        param: openai.CHECKS[param]
        for param in ("model", "top_p", "frequency_penalty", "presence_penalty", "stream", "stream_options", "metadata")
    },
    "prompt": is_a(str, "a string"),
    "suffix": is_a(str, "a string"),
    "max_tokens": integer(1, 2**31),
    "top_k": _top_k,
    "repetition_penalty": _repetition_penalty,
    "stop": _stop,
}
SCHEMA = schema(CHECKS, "model", "prompt")
