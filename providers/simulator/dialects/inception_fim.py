"""Inception's fill-in-the-middle: the text between a prompt and a suffix, whole or in blocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Wish
from providers.simulator.dialects import Call, Event, Reply, data, is_integer, is_number
from providers.simulator.dialects.inception_rules import too_long, unfit, unknown_model
from providers.simulator.models import Model
from providers.simulator.tokens import estimate

Json = dict[str, Any]
TYPES: dict[str, type] = {"prompt": str, "suffix": str, "stop": list, "stream": bool, "stream_options": dict}
NUMBERS: dict[str, tuple[float, float]] = {
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (1e-9, 1e9),
}
PARAMETERS = frozenset({"model", "max_tokens", "top_k", *TYPES, *NUMBERS})
USUAL_TOKENS = 512
USUAL_STOP = ("\n\n", "\n \n")


def fill(call: Call) -> Reply:
    if not call.model.can("fim"):
        raise unknown_model(call.requested)
    body = call.body
    check(body, call.model)
    limit = body.get("max_tokens") or USUAL_TOKENS
    prompt = max(1, estimate(body["prompt"]) + estimate(body.get("suffix") or ""))
    if prompt + limit > call.model.context:
        raise too_long(call.model.context)
    stop = USUAL_STOP if body.get("stop") is None else body["stop"]
    answer = call.compose(Wish(body["prompt"], max_tokens=limit, stop=stop))
    rendering = Rendering(call, answer, Usage(prompt, answer.tokens))
    if body.get("stream"):
        return Reply(rendering.id, rendering.usage, events=list(rendering.events()))
    return Reply(rendering.id, rendering.usage, body=rendering.whole())


def check(body: Json, model: Model) -> None:
    for name, value in body.items():
        if name not in PARAMETERS:
            raise unfit(("body", name), "Extra inputs are not permitted", value, kind="extra_forbidden")
    given = {name: value for name, value in body.items() if value is not None}
    if "prompt" not in given:
        raise unfit(("body", "prompt"), "Field required", None, kind="missing")
    for name, shape in TYPES.items():
        if name in given and not isinstance(given[name], shape):
            raise unfit(("body", name), "Input should be of another type", given[name])
    if not all(isinstance(each, str) for each in given.get("stop", ())):
        raise unfit(("body", "stop"), "Input should be a list of strings", given["stop"])
    for name, (low, high) in NUMBERS.items():
        if name in given and not (is_number(given[name]) and low <= given[name] <= high):
            raise unfit(("body", name), f"Input should be between {low:g} and {high:g}", given[name])
    top_k = given.get("top_k", -1)
    if not (is_integer(top_k) and (top_k == -1 or 1 <= top_k <= 1000)):
        raise unfit(("body", "top_k"), "Input should be -1 or between 1 and 1000", top_k)
    limit = given.get("max_tokens", 1)
    if not (is_integer(limit) and 1 <= limit <= model.max_output):
        raise unfit(("body", "max_tokens"), f"Input should be between 1 and {model.max_output}", limit)


class Rendering:
    """One filling in Inception's shapes."""

    def __init__(self, call: Call, answer: Answer, usage: Usage) -> None:
        self.call = call
        self.answer = answer
        self.usage = usage
        self.id = call.identifier("cmpl-", 12)
        self.frame = {
            "id": self.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": call.model.id,
        }
        finish = {"length": "length", "refusal": "content_filter"}
        self.finish = finish.get(answer.finish, "stop")
        self.pieces = [piece for part in answer.parts for piece in part.pieces]

    def whole(self) -> Json:
        choice = {"index": 0, "text": "".join(self.pieces), "finish_reason": self.finish}
        body = {**self.frame, "choices": [choice], "usage": self.usage_body(), "warning": None}
        if self.call.withhold_usage:
            del body["usage"]
        return body

    def events(self) -> Iterator[Event]:
        source = self.call.random(1)
        at = 0
        while at < len(self.pieces):
            size = source.randint(*self.call.model.block)
            text = "".join(self.pieces[at : at + size])
            at = min(at + size, len(self.pieces))
            yield self.event([{"index": 0, "text": text, "finish_reason": None}], at)
        yield self.event([{"index": 0, "text": "", "finish_reason": self.finish}], at)
        if (self.call.body.get("stream_options") or {}).get("include_usage") and not self.call.withhold_usage:
            yield Event(data({**self.frame, "choices": [], "usage": self.usage_body()}), at)
        yield Event(b"data: [DONE]\n\n", at, terminal=True)

    def event(self, choices: list[Json], tokens: int) -> Event:
        return Event(data({**self.frame, "choices": choices}), tokens)

    def usage_body(self) -> Json:
        usage = self.usage
        return {
            "prompt_tokens": usage.input_tokens,
            "reasoning_tokens": 0,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "cached_input_tokens": 0,
        }
