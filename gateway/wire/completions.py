"""OpenAI's completions of a text, as callers speak it: https://platform.openai.com/docs/api-reference/completions

A model that has no such endpoint is served through its chat, by this mapping:

- The prompt, one text, is the only message, from the user. Tokens and several prompts are refused, naming `prompt`.
- `max_tokens` is 16 where the caller says nothing, as OpenAI documents it.
- `stop`, `temperature`, `top_p`, `n`, `seed`, `presence_penalty`, `frequency_penalty`, `logit_bias`, `user`,
  `reasoning_effort`, `stream_options` and `metadata` are chat's own. What else there is, is left out and named.
- `suffix`, `echo`, `best_of` above 1 and `logprobs` are refused. `on_unsupported: drop` leaves the last two out.
- The message's text comes back as `text`, and nothing of the thoughts before it. A refusal is a text that ends with
  `content_filter`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from gateway.wire import Request, openai
from gateway.wire.checks import Check, described, integer, is_a, mistyped, schema
from providers.base import Batch, Endpoint, Stream
from providers.errors import InvalidRequest, Unsupported
from providers.lenient import dumps, loads
from providers.types import Call, Json, Model, Reply, Timeouts

OPERATION = "completions"
HEADERS, DONE, PING = openai.HEADERS, openai.DONE, openai.PING
frame, refusal, failure = openai.frame, openai.refusal, openai.failure

MAX_TOKENS = 16
"""The longest answer where the caller says nothing."""

MAX_PROMPTS = 2048

CHAT_PARAMETERS = frozenset(
    {
        *("stop", "temperature", "top_p", "n", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user"),
        *("reasoning_effort", "stream", "stream_options", "metadata"),
    }
)
"""What means the same in chat."""

_FINISHES = {"length": "length", "content_filter": "content_filter"}


def decode(raw: bytes) -> Request:
    """A request body. Raises InvalidRequest, naming the parameter."""
    body = openai.checked(raw, CHECKS, "prompt")
    needs: dict[str, str] = {}
    if body.get("suffix"):
        needs["suffix"] = "suffix"
    if (body.get("n") or 1) > 1:
        needs["n"] = "n"
    if body.get("logprobs") is not None:
        needs["logprobs"] = "logprobs"
    return openai.request(body, needs)


def through(endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
    """Served from chat, by the mapping above."""
    chat = endpoints.get("chat")
    return None if chat is None else ThroughChat(chat)


# --- Through chat ---


class ThroughChat:
    """Completions of a model that has only chat."""

    def __init__(self, chat: Endpoint) -> None:
        self._chat = chat

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        asked, dropped = as_chat(call, model)
        reply = await self._chat.complete(asked, model, timeouts)
        return replace(reply, body=dumps(as_text(loads(reply.body))), dropped=_joined(reply.dropped, dropped))

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        asked, dropped = as_chat(call, model)
        chat = await self._chat.stream(asked, model, timeouts)
        return Stream(_texts(chat), chat.close, chat.tally, chat.headers, _joined(chat.dropped, dropped))


def as_chat(call: Call, model: Model) -> tuple[Call, list[str]]:
    """The call as one for chat, and the parameters that were left out. Raises Unsupported, naming the parameter."""
    body = call.body
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise _unsupported(model, "prompt", "takes one text")
    if body.get("suffix"):
        raise _unsupported(model, "suffix", "only writes on at the end of a text")
    if body.get("echo"):
        raise _unsupported(model, "echo", "does not repeat the prompt")
    if body.get("max_tokens") == 0:
        raise _unsupported(model, "max_tokens", "answers with a token at least")
    dropped = []
    if body.get("logprobs") is not None:
        dropped.append("logprobs")
    if (body.get("best_of") or 1) > 1:
        dropped.append("best_of")
    if dropped and model.on_unsupported != "drop":
        raise _unsupported(model, dropped[0], "has no counterpart of it")
    known = CHAT_PARAMETERS | CHECKS.keys()
    dropped += [param for param, value in body.items() if param not in known and value is not None]
    if dropped and model.on_unsupported == "error":
        raise _unsupported(model, dropped[0], "does not take it")
    chat = {param: value for param, value in body.items() if param in CHAT_PARAMETERS}
    limit = body.get("max_tokens")
    chat |= {
        "model": call.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": MAX_TOKENS if limit is None else limit,
    }
    several = {"n": "n"} if (body.get("n") or 1) > 1 else {}
    return replace(call, operation="chat", body=chat, needs=several), dropped


def as_text(answer: Json) -> Json:
    """A chat's answer as one of completions."""
    found = {
        "id": answer.get("id"),
        "object": "text_completion",
        "created": answer.get("created"),
        "model": answer.get("model"),
        "choices": [_choice(choice, choice.get("message") or {}) for choice in answer["choices"]],
    }
    found |= {key: answer[key] for key in ("usage", "system_fingerprint") if answer.get(key) is not None}
    return found


async def _texts(chat: Stream) -> AsyncIterator[Batch]:
    refused: set[Any] = set()
    async for batch in chat:
        texts = [dumps(text) for chunk in batch if (text := _chunk(loads(chunk), refused)) is not None]
        if texts:
            yield texts


def _chunk(chunk: Json, refused: set[Any]) -> Json | None:
    """A chat's chunk as one of completions; None where it has nothing for them."""
    choices = []
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        index = choice.get("index")
        if delta.get("refusal"):
            refused.add(index)
        if delta.get("content") or delta.get("refusal") or choice.get("finish_reason"):
            choices.append(_choice(choice, delta, index in refused))
    usage = chunk.get("usage")
    if not choices and usage is None:
        return None
    found = {
        "id": chunk.get("id"),
        "object": "text_completion",
        "created": chunk.get("created"),
        "model": chunk.get("model"),
        "choices": choices,
    }
    return found if usage is None else found | {"usage": usage}


def _choice(choice: Json, said: Json, refused: bool = False) -> Json:
    refusal = said.get("refusal")
    finish = choice.get("finish_reason")
    if finish:
        finish = "content_filter" if refused or refusal else _FINISHES.get(finish, "stop")
    return {
        "text": said.get("content") or refusal or "",
        "index": choice.get("index", 0),
        "logprobs": None,
        "finish_reason": finish,
    }


def _joined(dropped: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*more, *dropped)))


def _unsupported(model: Model, param: str, why: str) -> Unsupported:
    return Unsupported(
        f"{model.name} serves completions through chat, which {why}; {param} cannot be as given", param=param
    )


# --- What a request must be ---


TOKENS: Json = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
BATCH: Json = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_PROMPTS},
        TOKENS,
        {"type": "array", "items": TOKENS, "minItems": 1, "maxItems": MAX_PROMPTS},
    ]
}
"""One text or several, as such or in tokens."""


@described(BATCH)
def _prompt(name: str, value: Any) -> None:
    if type(value) is str:
        return
    if type(value) is not list:
        raise mistyped(name, "a string, an array of strings or tokens, or an array of arrays of tokens", value)
    check_batch(name, value, MAX_PROMPTS)


def check_batch(name: str, batch: list[Any], most: int) -> None:
    """A list of texts, of tokens, or of lists of tokens. Raises InvalidRequest."""
    if not batch:
        raise InvalidRequest(f"Invalid '{name}': empty array.", param=name, code="empty_array")
    kind = type(batch[0])
    if kind is int:
        return _tokens(name, batch)
    if kind is not str and kind is not list:
        raise mistyped(f"{name}[0]", "a string, a token or an array of tokens", batch[0])
    if len(batch) > most:
        raise InvalidRequest(
            f"Invalid '{name}': array too long. Expected an array with maximum length {most}, "
            f"but got an array with length {len(batch)} instead.",
            param=name,
            code="array_above_max_length",
        )
    for i, each in enumerate(batch):
        if type(each) is not kind:
            raise mistyped(f"{name}[{i}]", "a string" if kind is str else "an array of tokens", each)
        if isinstance(each, list):
            if not each:
                raise InvalidRequest(f"Invalid '{name}[{i}]': empty array.", param=name, code="empty_array")
            _tokens(f"{name}[{i}]", each)


def _tokens(name: str, tokens: list[Any]) -> None:
    for i, token in enumerate(tokens):
        if type(token) is not int:
            raise mistyped(f"{name}[{i}]", "an integer", token)
        if not 0 <= token < 2**31:
            raise InvalidRequest(f"Invalid '{name}[{i}]': no token has this number.", param=name, code="invalid_value")


CHECKS: dict[str, Check] = {
    **{param: openai.CHECKS[param] for param in sorted(CHAT_PARAMETERS)},
    "model": openai.CHECKS["model"],
    "prompt": _prompt,
    "suffix": is_a(str, "a string"),
    "max_tokens": integer(0, 2**31),
    "echo": is_a(bool, "a boolean"),
    "best_of": integer(0, 20),
    "logprobs": integer(0, 5),
}
SCHEMA = schema(CHECKS, "model", "prompt")
