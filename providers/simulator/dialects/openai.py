"""OpenAI's dialect: chat completions, models, and the endpoints that the files beside this one have."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson

from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Finish, Part, Tool, Wish
from providers.simulator.dialects import Call, Endpoint, Event, Headers, Refusal, Reply, data, envelope, text_of
from providers.simulator.dialects.openai_completions import completions
from providers.simulator.dialects.openai_embeddings import embeddings
from providers.simulator.dialects.openai_rules import check, invalid
from providers.simulator.models import Model, served_by
from providers.simulator.prompt_cache import prefixes
from providers.simulator.tokens import estimate, estimate_json

Json = dict[str, Any]
FINISH: dict[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refusal": "stop",
}
EFFORT = {"none": 0, "minimal": 10, "low": 40, "medium": 120, "high": 400, "xhigh": 800, "max": 1600}
HARD_EFFORT = ("high", "xhigh", "max")
"""Efforts that may think until no tokens are left for an answer."""
IMAGE_TOKENS = 255
CACHE_STEP = 128
NOT_HERE = (
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
    "Did you mean to use v1/completions?"
)
PADDING = b"bQ7rZ1xWk9LmT4vS"
RATE_HEADERS = {
    "x-ratelimit-limit-requests": "30000",
    "x-ratelimit-limit-tokens": "150000000",
    "x-ratelimit-remaining-requests": "29999",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-reset-tokens": "0s",
}
ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request could not be processed."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: (
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: ("invalid_request_error", None, "Invalid URL"),
    413: ("invalid_request_error", None, "Request body is too large."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: (
        "service_unavailable_error",
        "server_is_overloaded",
        "The engine is currently overloaded, please try again later.",
    ),
}
BILLING = frozenset(
    {
        "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
    }
)  # fmt: skip


class OpenAI:
    vendor = "openai"
    broken_event = b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"delta":{"conte\n\n'

    def __init__(self) -> None:
        self.models: Mapping[str, Model] = served_by(self.vendor)
        self.endpoints: Mapping[str, Endpoint] = {
            "/chat/completions": self.chat,
            "/completions": completions,
            "/embeddings": embeddings,
        }

    def authenticate(self, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "You didn't provide an API key.", "invalid_request_error")
        if key in ("bad", "invalid"):
            raise Refusal(401, f"Incorrect API key provided: {key}.", "invalid_request_error", code="invalid_api_key")

    def look_up(self, path: str, query: Mapping[str, str]) -> Any:
        if path == "/models":
            listed = {model.id: describe(name, model) for name, model in self.models.items() if name == model.id}
            aliases = [describe(name, model) for name, model in self.models.items() if name != model.id]
            return {"object": "list", "data": [*listed.values(), *aliases]}
        name = path.removeprefix("/models/")
        if name in self.models:
            return describe(name, self.models[name])
        raise self.unknown(name) if path.startswith("/models/") else self.failure(404, None)

    def find(self, body: Json) -> Model:
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise invalid("you must provide a model parameter", None, None)
        if name not in self.models:
            raise self.unknown(name)
        return self.models[name]

    def unknown(self, name: str) -> Refusal:
        message = f"The model `{name}` does not exist or you do not have access to it."
        return Refusal(404, message, "invalid_request_error", code="model_not_found")

    def failure(self, status: int, code: str | None) -> Refusal:
        fallback = ERRORS[500] if status >= 500 else ERRORS[400]
        kind, usual, message = ERRORS.get(status, fallback)
        if code in BILLING:
            kind, message = (
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.",
            )
        refusal = Refusal(status, message, kind, code=code or usual)
        if status == 429 and kind != "insufficient_quota":
            exhausted = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}
            refusal.headers += (RATE_HEADERS | exhausted).items()
        return refusal

    def unreadable(self) -> Refusal:
        return invalid("We could not parse the JSON body of your request.", None, None)

    def render_error(self, refusal: Refusal, request_id: str) -> Json:
        return envelope(refusal)

    def stream_error(self, code: str | None) -> bytes:
        return data(envelope(self.failure(500, code)))

    def headers(self, call: Call | None, request_id: str, usage: Usage | None) -> Headers:
        headers = [("x-request-id", request_id), ("access-control-expose-headers", "X-Request-ID")]
        if call:
            spent = usage.input_tokens if usage else 0
            headers += [("openai-processing-ms", str(12 + call.digest % 400)), ("openai-version", "2020-10-01")]
            headers += [("openai-organization", "org-simulator"), ("openai-project", "proj_simulator")]
            headers += [*RATE_HEADERS.items(), ("x-ratelimit-remaining-tokens", str(150_000_000 - spent))]
        return headers

    def chat(self, call: Call) -> Reply:
        if call.model.can("completions") or call.model.can("embeddings"):
            raise Refusal(404, NOT_HERE, "invalid_request_error", param="model")
        check(call.body, call.model)
        body = call.body
        prompt, cached, written = self.count_prompt(call)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if prompt + (limit or 1) > call.model.context:
            raise invalid(
                f"This model's maximum context length is {call.model.context} tokens. However, your messages resulted "
                f"in {prompt} tokens. Please reduce the length of the messages.",
                "messages",
                "context_length_exceeded",
            )
        wish = wish_of(body, call.model, limit or min(call.model.max_output, call.model.context - prompt))
        answers = [call.compose(wish, choice) for choice in range(body.get("n") or 1)]
        usage = Usage(
            prompt,
            sum(answer.tokens for answer in answers),
            cached,
            written,
            sum(answer.thinking_tokens for answer in answers),
        )
        rendering = Rendering(call, answers, usage)
        if body.get("stream"):
            return Reply(rendering.id, usage, events=list(rendering.events()))
        return Reply(rendering.id, usage, body=rendering.whole())

    def count_prompt(self, call: Call) -> tuple[int, int, int]:
        """All prompt tokens, those read from the cache, and those written to it."""
        parts = [(b"tools", estimate_json(call.body.get("tools") or call.body.get("functions")))]
        parts += [(orjson.dumps(message), count_message(message)) for message in call.body["messages"]]
        total = 3 + sum(tokens for _, tokens in parts)
        if total < call.model.min_cacheable:
            return total, 0, 0
        beginnings = prefixes(call.model.id, parts)
        cached = call.world.cache.read(beginnings, call.model.min_cacheable) // CACHE_STEP * CACHE_STEP
        call.world.cache.write(beginnings)
        return total, cached, total - cached if call.model.can("paid_cache_writes") else 0


def describe(name: str, model: Model) -> Json:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "system",
        "shutdown_date": model.shutdown,
    }


def count_message(message: Json) -> int:
    content = message.get("content")
    images = sum(part.get("type") != "text" for part in content) if isinstance(content, list) else 0
    return 4 + estimate(text_of(content)) + images * IMAGE_TOKENS + estimate_json(message.get("tool_calls"))


def wish_of(body: Json, model: Model, limit: int) -> Wish:
    messages = body["messages"]
    prompt = next((text_of(each["content"]) for each in reversed(messages) if each["role"] == "user"), "")
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] not in ("tool", "function"):
            break
        results.insert(0, text_of(message["content"]))
    tools, choice = tools_of(body)
    wanted = body.get("response_format") or {}
    schema: Json | None = {"type": "object"} if wanted.get("type") == "json_object" else None
    if wanted.get("type") == "json_schema":
        schema = wanted["json_schema"].get("schema") or {"type": "object"}
    if schema == {"type": "object"}:
        schema = {"type": "object", "additionalProperties": {"type": "string"}}
    stop = body.get("stop") or ()
    effort = body.get("reasoning_effort") or "medium"
    reasoning = EFFORT[effort] if effort in HARD_EFFORT else min(EFFORT[effort], limit // 2)
    return Wish(
        prompt=prompt,
        from_user=messages[-1]["role"] == "user",
        tools=tools,
        tool_choice=choice,
        parallel=body.get("parallel_tool_calls") is not False and "functions" not in body,
        tool_results=results,
        json_schema=schema,
        max_tokens=limit,
        stop=[stop] if isinstance(stop, str) else stop,
        reasoning=reasoning if model.can("reasoning") else 0,
    )


def tools_of(body: Json) -> tuple[list[Tool], str]:
    tools = [
        Tool(tool[tool["type"]]["name"], tool[tool["type"]].get("parameters") or {}, tool["type"] == "custom")
        for tool in body.get("tools") or ()
    ]
    tools += [Tool(each["name"], each.get("parameters") or {}) for each in body.get("functions") or ()]
    choice = body.get("tool_choice") or body.get("function_call") or "auto"
    if isinstance(choice, str):
        return tools, {"required": "any"}.get(choice, choice)
    if choice.get("type") == "allowed_tools":
        allowed = choice["allowed_tools"]
        names = {tool[tool["type"]]["name"] for tool in allowed["tools"]}
        mode = "any" if allowed.get("mode") == "required" else "auto"
        return [tool for tool in tools if tool.name in names], mode
    return tools, "=" + (choice.get("name") or choice[choice["type"]]["name"])


class Rendering:
    """One completion in OpenAI's shapes, whole or in chunks."""

    def __init__(self, call: Call, answers: Sequence[Answer], usage: Usage) -> None:
        self.call = call
        self.answers = answers
        self.usage = usage
        self.id = call.identifier("chatcmpl-", 29)
        options = call.body.get("stream_options") or {}
        self.with_usage = bool(options.get("include_usage")) and not call.withhold_usage
        self.obfuscated = options.get("include_obfuscation") is not False
        self.legacy = bool(call.body.get("functions"))
        tier = call.body.get("service_tier")
        self.frame = {
            "created": int(time.time()),
            "model": call.model.id,
            "service_tier": "default" if tier in (None, "auto") else tier,
            "system_fingerprint": f"fp_{call.model.created % 7919 * 7 + len(call.model.id):010x}",
        }
        self.head = data({"id": self.id, "object": "chat.completion.chunk", **self.frame})[: -len(b"}\n\n")]

    def whole(self) -> Json:
        body = {
            "id": self.id,
            "object": "chat.completion",
            **self.frame,
            "choices": [self.choice(index, answer) for index, answer in enumerate(self.answers)],
            "usage": self.usage_body(),
        }
        if self.call.withhold_usage:
            del body["usage"]
        if self.call.body.get("moderation"):
            body["moderation"] = {"input": {"results": []}, "output": {"results": []}}
        return body

    def choice(self, index: int, answer: Answer) -> Json:
        refusal = answer.text("refusal")
        text = answer.text()
        message: Json = {
            "role": "assistant",
            "content": None if refusal or (answer.calls and not text) else text,
            "refusal": refusal or None,
            "annotations": [],
        }
        if self.legacy and answer.calls:
            call = answer.calls[0]
            message["function_call"] = {"name": call.tool.name if call.tool else "", "arguments": call.text}
        elif answer.calls:
            message["tool_calls"] = [self.tool_call(index, number, part) for number, part in enumerate(answer.calls)]
        return {
            "index": index,
            "message": message,
            "logprobs": self.logprobs(answer.parts),
            "finish_reason": self.finish(answer),
        }

    def finish(self, answer: Answer) -> str:
        return "function_call" if self.legacy and answer.finish == "tool_calls" else FINISH[answer.finish]

    def tool_call(self, index: int, number: int, part: Part, arguments: str | None = None) -> Json:
        assert part.tool
        said = part.text if arguments is None else arguments
        id = self.call.identifier("call_", 24, 1 + index * 1000 + number)
        if part.tool.custom:
            return {"id": id, "type": "custom", "custom": {"name": part.tool.name, "input": said}}
        return {"id": id, "type": "function", "function": {"name": part.tool.name, "arguments": said}}

    def usage_body(self) -> Json:
        usage = self.usage
        prompt_details = {"cached_tokens": usage.cache_read_tokens, "audio_tokens": 0}
        if usage.cache_write_tokens:
            prompt_details["cache_write_tokens"] = usage.cache_write_tokens
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": prompt_details,
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def logprobs(self, parts: Sequence[Part]) -> Json | None:
        if not self.call.body.get("logprobs"):
            return None
        said = {
            kind: [piece for part in parts if part.kind == kind for piece in part.pieces]
            for kind in ("text", "refusal")
        }
        return {
            "content": [self.logprob(piece) for piece in said["text"]],
            "refusal": [self.logprob(piece) for piece in said["refusal"]] or None,
        }

    def logprob(self, piece: str) -> Json:
        likely = -0.001 * (1 + len(piece))
        alternatives = [(piece, likely), *((f" {chr(word)}", -2.5 - rank) for rank, word in enumerate(PADDING))]
        tops = alternatives[: self.call.body.get("top_logprobs") or 0]
        return {**_scored(piece, likely), "top_logprobs": [_scored(*each) for each in tops]}

    # Chunks

    def events(self) -> Iterator[Event]:
        tokens = 0
        for turn in zip_longest(*(self.chunks(index, answer) for index, answer in enumerate(self.answers))):
            for chunk in turn:
                if chunk:
                    choice, generated = chunk
                    tokens += generated
                    yield self.event([choice], tokens)
        if self.with_usage:
            yield self.event([], tokens, self.usage_body())
        if self.call.body.get("moderation"):
            moderated: Json = {"id": self.id, "object": "chat.completion.chunk", **self.frame, "choices": []}
            yield Event(data({**moderated, "moderation": {"input": {"results": []}}}), tokens)
        yield Event(b"data: [DONE]\n\n", tokens, terminal=True)

    def event(self, choices: list[Json], tokens: int, usage: Json | None = None) -> Event:
        chunk = self.head + b',"choices":' + orjson.dumps(choices)
        if self.with_usage:
            chunk += b',"usage":' + orjson.dumps(usage)
        if self.obfuscated:
            chunk += b',"obfuscation":"' + PADDING[: (self.call.digest + tokens * 7) % 16] + b'"'
        return Event(chunk + b"}\n\n", tokens)

    def chunks(self, index: int, answer: Answer) -> Iterator[tuple[Json, int]]:
        hidden = answer.thinking_tokens
        scoring = bool(self.call.body.get("logprobs"))
        calls = answer.calls
        opening: Json = {"role": "assistant", "content": None if calls else "", "refusal": None}
        said = [part for part in answer.parts if part.kind in ("text", "refusal")]
        if len(calls) != 1 or said or self.legacy:
            yield self.chunk(index, opening), hidden
            opening, hidden = {}, 0
        for part in said:
            for piece in part.pieces:
                delta = {"refusal": piece} if part.kind == "refusal" else {"content": piece}
                scored = self.logprobs([Part(part.kind, [piece])]) if scoring else None
                yield self.chunk(index, delta, scored), 1
        for number, part in enumerate(calls):
            start = self.call_start(index, number, part)
            yield self.chunk(index, {**opening, **start}), hidden + part.tokens - len(part.pieces)
            for piece in part.pieces:
                yield self.chunk(index, self.call_piece(number, part, piece)), 1
        yield self.chunk(index, {}, finish=self.finish(answer)), 0

    def call_start(self, index: int, number: int, part: Part) -> Json:
        if self.legacy and part.tool:
            return {"function_call": {"name": part.tool.name, "arguments": ""}}
        return {"tool_calls": [{"index": number, **self.tool_call(index, number, part, "")}]}

    def call_piece(self, number: int, part: Part, piece: str) -> Json:
        if self.legacy:
            return {"function_call": {"arguments": piece}}
        custom = part.tool is not None and part.tool.custom
        inner = {"custom": {"input": piece}} if custom else {"function": {"arguments": piece}}
        return {"tool_calls": [{"index": number, **inner}]}

    def chunk(self, index: int, delta: Json, logprobs: Json | None = None, finish: str | None = None) -> Json:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _scored(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
