"""OpenAI's completions of a text, as they were before chat."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Wish
from providers.simulator.dialects import Call, Event, Refusal, Reply, data
from providers.simulator.dialects.openai_rules import check_range, check_stop, invalid, mistyped
from providers.simulator.models import Model
from providers.simulator.tokens import estimate, split

Json = dict[str, Any]
PARAMETERS = frozenset(
    {
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
        "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    }
)  # fmt: skip
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
INTEGERS: dict[str, tuple[int, int | None]] = {
    "n": (1, 128),
    "best_of": (1, 20),
    "max_tokens": (0, None),
    "logprobs": (0, 5),
    "seed": (-(2**63), 2**63),
}
BOOLEANS = ("stream", "echo")
USUAL_TOKENS = 16
MOST_PROMPTS = 2048
NOT_HERE = (
    "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
)
Prompt = str | list[int]


def completions(call: Call) -> Reply:
    prompts = check(call.body, call.model)
    body = call.body
    limit = USUAL_TOKENS if body.get("max_tokens") is None else body["max_tokens"]
    counted = sum(max(1, count(prompt)) for prompt in prompts) + estimate(body.get("suffix") or "")
    longest = max(count(prompt) for prompt in prompts)
    if longest + limit > call.model.context:
        raise invalid(
            f"This model's maximum context length is {call.model.context} tokens, however you requested "
            f"{longest + limit} tokens ({longest} in your prompt; {limit} for the completion). Please reduce your "
            "prompt; or completion length.",
            None,
            "context_length_exceeded",
        )
    stop = body.get("stop") or ()
    many = body.get("n") or 1
    answers = [
        call.compose(
            Wish(written(prompt), max_tokens=limit, stop=[stop] if isinstance(stop, str) else stop), place * many + turn
        )
        for place, prompt in enumerate(prompts)
        for turn in range(many)
    ]
    echoes = [written(prompt) if body.get("echo") else "" for prompt in prompts for _ in range(many)]
    generated = sum(answer.tokens for answer in answers) * max(1, (body.get("best_of") or many) // many)
    rendering = Rendering(call, answers, echoes, Usage(counted, generated))
    if body.get("stream"):
        return Reply(rendering.id, rendering.usage, events=list(rendering.events()))
    return Reply(rendering.id, rendering.usage, body=rendering.whole())


def count(prompt: Prompt) -> int:
    return estimate(prompt) if isinstance(prompt, str) else len(prompt)


def written(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(f" t{token}" for token in prompt)


# What is refused


def check(body: Mapping[str, Any], model: Model) -> list[Prompt]:
    """The prompts of a request that OpenAI would take."""
    if not model.can("completions"):
        raise Refusal(404, NOT_HERE, "invalid_request_error", param="model")
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name not in PARAMETERS:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}", "invalid_request_error")
    for name, (low, high) in NUMBERS.items():
        if name in given:
            check_range(name, given[name], low, high, "decimal", type(given[name]) in (int, float))
    for name, (least, most) in INTEGERS.items():
        if name in given:
            check_range(name, given[name], least, most, "integer", type(given[name]) is int)
    for name in BOOLEANS:
        if name in given and type(given[name]) is not bool:
            raise mistyped(name, "a boolean", given[name])
    for name in ("suffix", "user"):
        if name in given and type(given[name]) is not str:
            raise mistyped(name, "a string", given[name])
    for name in ("logit_bias", "stream_options"):
        if name in given and type(given[name]) is not dict:
            raise mistyped(name, "an object", given[name])
    if "stream_options" in given and not given.get("stream"):
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", None
        )
    check_stop(given.get("stop"))
    if given.get("max_tokens", 0) > model.max_output:
        raise invalid(f"max_tokens is too large: {given['max_tokens']}.", "max_tokens")
    if given.get("best_of", 20) < given.get("n", 1):
        raise invalid("You requested that the server return more choices than it will generate.", "best_of", None)
    if given.get("suffix") == "":
        raise invalid("'suffix' must not be empty.", "suffix")
    if "suffix" in given and given.get("echo"):
        raise invalid("'echo' and 'suffix' cannot be used together.", "suffix", None)
    return prompts_of(given.get("prompt", "<|endoftext|>"))


def prompts_of(prompt: Any) -> list[Prompt]:
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise mistyped("prompt", "a string, an array of strings or an array of tokens", prompt)
    if is_tokens(prompt):
        return [prompt]
    if len(prompt) > MOST_PROMPTS:
        raise invalid(f"Invalid 'prompt': more than {MOST_PROMPTS} prompts.", "prompt", "array_above_max_length")
    if all(isinstance(each, str) for each in prompt) or all(is_tokens(each) for each in prompt):
        return prompt
    raise invalid("Invalid 'prompt': texts and tokens cannot be mixed.", "prompt", "invalid_type")


def is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int and each >= 0 for each in value)


# What is said


class Rendering:
    """The completions of one request, whole or in chunks."""

    def __init__(self, call: Call, answers: list[Answer], echoes: list[str], usage: Usage) -> None:
        self.call = call
        self.answers = answers
        self.echoes = echoes
        self.usage = usage
        self.id = call.identifier("cmpl-", 29)
        self.frame = {
            "id": self.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": f"{call.model.id}:20230824-v2",
        }
        options = call.body.get("stream_options") or {}
        self.with_usage = bool(options.get("include_usage")) and not call.withhold_usage

    def whole(self) -> Json:
        choices = [
            self.choice(index, echo + said(answer), self.finish(answer), 0)
            for index, (echo, answer) in enumerate(zip(self.echoes, self.answers, strict=True))
        ]
        body = {**self.frame, "choices": choices, "usage": self.usage_body()}
        if self.call.withhold_usage:
            del body["usage"]
        return body

    def events(self) -> Iterator[Event]:
        tokens = 0
        pairs = enumerate(zip(self.echoes, self.answers, strict=True))
        for turn in zip_longest(*(self.chunks(index, echo, answer) for index, (echo, answer) in pairs)):
            for made in turn:
                if made:
                    choice, generated = made
                    tokens += generated
                    yield self.event([choice], tokens)
        if self.with_usage:
            yield self.event([], tokens, self.usage_body())
        yield Event(b"data: [DONE]\n\n", tokens, terminal=True)

    def chunks(self, index: int, echo: str, answer: Answer) -> Iterator[tuple[Json, int]]:
        at = 0
        if echo:
            yield self.choice(index, echo, None, at), 0
            at += len(echo)
        pieces = [piece for part in answer.parts for piece in part.pieces]
        for piece in pieces:
            yield self.choice(index, piece, None, at), 1
            at += len(piece)
        yield self.choice(index, "", self.finish(answer), at), 0

    def event(self, choices: list[Json], tokens: int, usage: Json | None = None) -> Event:
        stated = {"usage": usage} if self.with_usage else {}
        return Event(data({**self.frame, "choices": choices, **stated}), tokens)

    def choice(self, index: int, text: str, finish: str | None, at: int) -> Json:
        return {"text": text, "index": index, "logprobs": self.logprobs(text, at), "finish_reason": finish}

    def logprobs(self, text: str, at: int) -> Json | None:
        most = self.call.body.get("logprobs")
        if most is None:
            return None
        pieces = split(text)
        offsets = [at + sum(map(len, pieces[:place])) for place in range(len(pieces))]
        scores = [-0.001 * (1 + len(piece)) for piece in pieces]
        tops = [{piece: score} for piece, score in zip(pieces, scores, strict=True)] if most else None
        return {"tokens": pieces, "token_logprobs": scores, "top_logprobs": tops, "text_offset": offsets}

    def finish(self, answer: Answer) -> str:
        return "length" if answer.finish == "length" else "stop"

    def usage_body(self) -> Json:
        usage = self.usage
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }


def said(answer: Answer) -> str:
    return "".join(part.text for part in answer.parts)
