"""Inception's dialect: chat completions in blocks, or as snapshots of a text that is still diffusing."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from providers.simulator import prose
from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Finish, Part, Tool, Wish
from providers.simulator.dialects import (
    Call,
    Endpoint,
    Event,
    Headers,
    Refusal,
    Reply,
    data,
    envelope,
    is_integer,
    is_number,
    misshapen,
    text_of,
)
from providers.simulator.dialects.inception_fim import fill
from providers.simulator.dialects.inception_rules import too_long, unfit, unknown_model
from providers.simulator.models import Model, served_by
from providers.simulator.prompt_cache import prefixes
from providers.simulator.schema import is_schema
from providers.simulator.tokens import estimate, estimate_json

Json = dict[str, Any]
PARAMETERS = frozenset(
    {
        "model", "messages", "max_completion_tokens", "max_tokens", "temperature", "stop", "tools", "tool_choice",
        "stream", "stream_options", "diffusing", "realtime", "response_format", "reasoning_effort", "reasoning_summary",
        "reasoning_summary_wait", "extra_body",
    }
)  # fmt: skip
OLDER_PARAMETERS = frozenset({"top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty"})
BOOLEANS = ("stream", "diffusing", "realtime", "reasoning_summary", "reasoning_summary_wait")
SHAPES: dict[str, type | tuple[type, ...]] = {
    "stream_options": dict,
    "tools": list,
    "tool_choice": (str, dict),
    "response_format": dict,
    "reasoning_effort": str,
}
ROLES = ("system", "user", "assistant", "tool", "function")
EFFORT = {"instant": 0, "low": 20, "medium": 60, "high": 180}
FINISH: dict[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
}
DEFAULT_MAX_TOKENS = 16_384
IMAGE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$")
IMAGE_BYTES, IMAGES_BYTES = 10 * 2**20, 15 * 2**20
IMAGE_TOKENS = 256
ERRORS: dict[int, tuple[str, str | None, str]] = {
    401: ("authentication_error", "invalid_api_key", "Incorrect API key provided"),
    402: ("account_error", "account_error", "Account is inactive"),
    429: ("rate_limit_error", "rate_limit_reached", "Rate limit exceeded. Please try again later."),
    500: ("server_error", "server_error", "The server had an error while processing your request."),
    503: ("server_error", "engine_overloaded", "The engine is currently overloaded, please try again later."),
}


class Inception:
    vendor = "inception"
    broken_event = b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"delta":{"conte\n\n'

    def __init__(self) -> None:
        self.models: Mapping[str, Model] = served_by(self.vendor)
        self.endpoints: Mapping[str, Endpoint] = {"/chat/completions": self.chat, "/fim/completions": fill}

    def authenticate(self, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key in ("", "bad", "invalid"):
            raise self.failure(401, None)

    def look_up(self, path: str, query: Mapping[str, str]) -> Any:
        if path in ("/models", "/chat/completions/models", "/fim/completions/models"):
            served = [
                model
                for model in self.models.values()
                if path == "/models" or model.can("fim") == path.startswith("/fim")
            ]
            return {"data": [describe(model) for model in served]}
        raise self.failure(404, None)

    def find(self, body: Json) -> Model:
        name = body.get("model")
        if not isinstance(name, str):
            raise unfit(("body", "model"), "Field required" if name is None else "Input should be a valid string", name)
        if name not in self.models:
            raise unknown_model(name)
        return self.models[name]

    def failure(self, status: int, code: str | None) -> Refusal:
        usual = ("invalid_request_error", None, "The request is invalid.") if status < 500 else ERRORS[500]
        kind, own, message = ERRORS.get(status, usual)
        return Refusal(status, message, kind, code=code or own)

    def unreadable(self) -> Refusal:
        return unfit(("body",), "JSON decode error", None, kind="json_invalid")

    def render_error(self, refusal: Refusal, request_id: str) -> Json:
        return envelope(refusal)

    def stream_error(self, code: str | None) -> bytes:
        return data(envelope(self.failure(500, code)))

    def headers(self, call: Call | None, request_id: str, usage: Usage | None) -> Headers:
        return []

    def chat(self, call: Call) -> Reply:
        if call.model.can("fim"):
            raise unknown_model(call.requested)
        check(call.body, call.model)
        prompt, cached = self.count_prompt(call)
        limit = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
        if prompt + (limit or 1) > call.model.context:
            raise too_long(call.model.context)
        limit = limit or min(DEFAULT_MAX_TOKENS, call.model.max_output, call.model.context - prompt)
        answer = call.compose(wish_of(call.body, call.model, limit))
        if call.body["messages"][-1].get("content") == "[[empty]]":
            answer = Answer()
        usage = Usage(prompt, answer.tokens, cached, 0, answer.thinking_tokens)
        rendering = Rendering(call, answer, usage)
        if call.body.get("stream"):
            return Reply(rendering.id, usage, events=list(rendering.events()))
        return Reply(rendering.id, usage, body=rendering.whole())

    def count_prompt(self, call: Call) -> tuple[int, int]:
        parts = [(b"tools", estimate_json(call.body.get("tools")))]
        parts += [(orjson.dumps(message), count_message(message)) for message in call.body["messages"]]
        total = 3 + sum(tokens for _, tokens in parts)
        if total < call.model.min_cacheable:
            return total, 0
        beginnings = prefixes(call.model.id, parts)
        cached = call.world.cache.read(beginnings, call.model.min_cacheable)
        call.world.cache.write(beginnings)
        return total, cached


def describe(model: Model) -> Json:
    price, cached, output = (f"{dollars / 1e6:.12f}".rstrip("0") for dollars in model.prices)
    features = [] if model.can("fim") else ["tools", "json_mode", "structured_outputs"]
    return {
        "id": model.id,
        "name": "Inception: " + model.id.replace("-", " ").title(),
        "created": model.created,
        "description": "A diffusion language model.",
        "input_modalities": ["text", "image"] if model.can("images") else ["text"],
        "output_modalities": ["text"],
        "context_length": model.context,
        "max_output_length": model.max_output,
        "pricing": {"prompt": price, "completion": output, "input_cache_reads": cached, "input_cache_writes": "0"},
        "supported_sampling_parameters": ["temperature", "stop"],
        "supported_features": [*features, "reasoning"] if model.can("reasoning") else features,
        "supported_endpoints": ["/v1/fim/completions" if model.can("fim") else "/v1/chat/completions"],
        "openrouter": {"slug": f"inception/{model.id}"},
        "datacenters": [{"country_code": "US"}],
    }


def count_message(message: Json) -> int:
    content = message.get("content")
    images = sum(part.get("type") == "image_url" for part in content) if isinstance(content, list) else 0
    return 4 + estimate(text_of(content)) + images * IMAGE_TOKENS + estimate_json(message.get("tool_calls"))


# What is refused


def check(body: Json, model: Model) -> None:
    known = PARAMETERS | OLDER_PARAMETERS if model.can("sampling") else PARAMETERS
    for name, value in body.items():
        if name not in known:
            raise unfit(("body", name), "Extra inputs are not permitted", value, kind="extra_forbidden")
    given = {name: value for name, value in body.items() if value is not None}
    if misplaced := misshapen(given, SHAPES):
        raise unfit(("body", misplaced), "Input should be of another type", given[misplaced])
    for name in BOOLEANS:
        if name in given and not isinstance(given[name], bool):
            raise unfit(("body", name), "Input should be a valid boolean", given[name], kind="bool_type")
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given and not (is_integer(given[name]) and 1 <= given[name] <= model.max_output):
            raise unfit(("body", name), f"Input should be between 1 and {model.max_output}", given[name])
    if "temperature" in given and not is_number(given["temperature"]):
        raise unfit(("body", "temperature"), "Input should be a valid number", given["temperature"], kind="float_type")
    stop = given.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(each, str) for each in stop):
        raise unfit(("body", "stop"), "Input should be a valid list", stop, kind="list_type")
    if given.get("reasoning_effort", "low") not in EFFORT:
        raise unfit(
            ("body", "reasoning_effort"),
            "Input should be 'instant', 'low', 'medium' or 'high'",
            given["reasoning_effort"],
            kind="literal_error",
        )
    check_messages(given.get("messages"), model)
    check_tools(given)
    check_format(given.get("response_format"))


def check_messages(messages: Any, model: Model) -> None:
    if not isinstance(messages, list) or not messages:
        wrong = "Field required" if messages is None else "List should have at least 1 item"
        raise unfit(("body", "messages"), wrong, messages)
    size = 0
    for position, message in enumerate(messages):
        place = ("body", "messages", position)
        if not isinstance(message, dict):
            raise unfit(place, "Input should be a valid dictionary", message)
        if message.get("role") not in ROLES:
            wrong = "Input should be 'system', 'user', 'assistant', 'tool' or 'function'"
            raise unfit((*place, "role"), wrong, message.get("role"), 400, "literal_error")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise unfit((*place, "content"), "Input should be a valid string", content)
        if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise unfit((*place, "tool_call_id"), "Field required", None, kind="missing")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            size += check_part((*place, "content", number), part, model)
    if size > IMAGES_BYTES:
        raise unfit(("body", "messages"), "Images are larger than 15 MiB together", None, 400)


def check_part(place: tuple[str | int, ...], part: Any, model: Model) -> int:
    """Refuses a part that the model does not take; the size of its image otherwise."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return 0
    if kind != "image_url" or not model.can("images"):
        raise unfit(place, "Input should be a text part", kind, 400)
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not IMAGE.match(url):
        raise unfit((*place, "image_url", "url"), "Images must be base64 data URLs (PNG, JPEG, WebP, GIF)", url, 400)
    size = len(url) * 3 // 4
    if size > IMAGE_BYTES:
        raise unfit((*place, "image_url", "url"), "Image is larger than 10 MiB", None, 400)
    return size


def check_tools(given: Json) -> None:
    names = []
    for position, tool in enumerate(given.get("tools") or ()):
        function: Any = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            raise unfit(("body", "tools", position, "function", "name"), "Input should be a valid function name", name)
        if not is_schema(function.get("parameters") or {}):
            raise unfit(("body", "tools", position, "function", "parameters"), "Input should be a valid schema", name)
        names.append(name)
    choice = given.get("tool_choice", "auto")
    inner = choice.get("function") if isinstance(choice, dict) else None
    chosen = inner.get("name") if isinstance(inner, dict) else None
    if choice not in ("auto", "required", "none") and chosen not in names:
        raise unfit(("body", "tool_choice"), "Input should be 'auto', 'required', 'none' or one of the tools", choice)


def check_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise unfit(("body", "response_format", "type"), "Input should be 'text', 'json_object' or 'json_schema'", kind)
    described = wanted.get("json_schema")
    if kind == "json_schema" and not (isinstance(described, dict) and isinstance(described.get("name"), str)):
        raise unfit(("body", "response_format", "json_schema", "name"), "Field required", None, kind="missing")
    if kind == "json_schema" and not is_schema((described or {}).get("schema") or {}):
        raise unfit(("body", "response_format", "json_schema", "schema"), "Input should be a valid schema", None)


# What is said


def wish_of(body: Json, model: Model, limit: int) -> Wish:
    messages = body["messages"]
    prompt = next((text_of(each.get("content")) for each in reversed(messages) if each["role"] == "user"), "")
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] not in ("tool", "function"):
            break
        results.insert(0, text_of(message.get("content")))
    effort = body.get("reasoning_effort") or "medium"
    # Only at high effort may thinking leave no tokens for an answer.
    reasoning = EFFORT[effort] if effort == "high" else min(EFFORT[effort], limit // 2)
    choice = body.get("tool_choice") or "auto"
    wanted = body.get("response_format") or {}
    schema = (
        {"type": "object", "additionalProperties": {"type": "string"}} if "json" in wanted.get("type", "") else None
    )
    if wanted.get("type") == "json_schema":
        schema = wanted["json_schema"].get("schema") or schema
    return Wish(
        prompt=prompt,
        from_user=messages[-1]["role"] == "user",
        tools=[
            Tool(tool["function"]["name"], tool["function"].get("parameters") or {}) for tool in body.get("tools") or ()
        ],
        tool_choice={"required": "any"}.get(choice, choice)
        if isinstance(choice, str)
        else "=" + choice["function"]["name"],
        tool_results=results,
        json_schema=schema,
        max_tokens=limit,
        stop=body.get("stop") or (),
        reasoning=reasoning if model.can("reasoning") else 0,
    )


class Rendering:
    """One completion in Inception's shapes, whole, in blocks or in snapshots."""

    def __init__(self, call: Call, answer: Answer, usage: Usage) -> None:
        self.call = call
        self.answer = answer
        self.usage = usage
        self.random = call.random(1)
        self.id = self.identify()
        self.created = int(time.time())
        temperature = call.body.get("temperature")
        self.warning = None
        if temperature is not None and not 0.5 <= temperature <= 1.0:
            self.warning = (
                f"temperature {temperature:g} is outside the allowed range of 0.5 to 1.0 and was reset to 0.75"
            )

    def identify(self) -> str:
        style = self.call.digest % 3
        if style == 2:
            return str(uuid.UUID(int=(self.call.digest << 64 | self.call.number), version=4))
        return self.call.identifier("chatcmpl-" if style else "cmpl-", 12)

    def whole(self) -> Json:
        answer = self.answer
        calls = [self.tool_call(number, part) for number, part in enumerate(answer.calls)]
        without_calls: list[Json] | None = [] if self.call.one_in(2, "empty tool_calls") else None
        text = answer.text() + answer.text("refusal")
        body = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.call.model.id,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": None if calls and not text else text,
                        "tool_calls": calls or without_calls,
                        "tool_call_id": None,
                    },
                    "finish_reason": FINISH[answer.finish],
                }
            ],
            "usage": self.usage_body(),
            "warning": self.warning,
            "reasoning_summary": self.summary() if self.call.body.get("reasoning_summary") else None,
        }
        if self.call.withhold_usage:
            del body["usage"]
        return body

    def tool_call(self, number: int, part: Part) -> Json:
        assert part.tool
        id = self.call.identifier("call_", 16, 1 + number)
        return {
            "index": number,
            "id": id,
            "type": "function",
            "function": {"name": part.tool.name, "arguments": part.text},
        }

    def usage_body(self) -> Json:
        usage = self.usage
        counted = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        if self.call.one_in(2, "flat usage"):
            return {
                **counted,
                "reasoning_tokens": usage.reasoning_tokens,
                "cached_input_tokens": usage.cache_read_tokens,
            }
        return {
            **counted,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }

    def summary(self) -> Json:
        if not self.usage.reasoning_tokens:
            return {"content": None, "status": "skipped"}
        return {"content": prose.thought(self.call.random(2), 3), "status": "complete"}

    # Chunks

    def events(self) -> Iterator[Event]:
        tokens = self.answer.thinking_tokens
        for choice, generated in self.choices():
            tokens += generated
            yield Event(data(self.chunk([choice])), tokens)
        for piece in self.summaries():
            yield Event(data({**self.chunk([]), "reasoning_summary": piece}), tokens)
        if (self.call.body.get("stream_options") or {}).get("include_usage") and not self.call.withhold_usage:
            yield Event(data({**self.chunk([]), "usage": self.usage_body()}), tokens)
        yield Event(b"data: [DONE]\n\n", tokens, terminal=True)

    def chunk(self, choices: list[Json]) -> Json:
        body: Json = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.call.model.id,
            "choices": choices,
        }
        return body | {"warning": self.warning} if self.warning else body

    def choices(self) -> Iterator[tuple[Json, int]]:
        if not self.answer.parts and self.answer.finish != "length":
            yield self.choice({"role": "assistant", "content": ""}), 0
            yield self.choice({"content": ""}), 0
            return
        role: Json = {"role": "assistant"}
        said = [piece for part in self.answer.parts if part.kind in ("text", "refusal") for piece in part.pieces]
        diffusing = self.call.body.get("diffusing") is True
        for content, generated in self.snapshots(said) if diffusing else self.blocks(said):
            yield self.choice({**role, "content": content}), generated
            role = {}
        for number, part in enumerate(self.answer.calls):
            call = self.tool_call(number, part)
            for position, (arguments, generated) in enumerate(
                [("", part.tokens - len(part.pieces)), *self.blocks(part.pieces)]
            ):
                call["function"] = {**call["function"], "arguments": arguments}
                yield self.choice({**role, "tool_calls": [call]}), generated
                role = {}
                if position == 0:
                    nulls = self.call.one_in(2, "null fragments")
                    call = {"index": number, **({"id": None, "type": None} if nulls else {}), "function": {}}
        yield self.choice(role, FINISH[self.answer.finish]), 0

    def choice(self, delta: Json, finish: str | None = None) -> Json:
        return {"index": 0, "delta": delta, "finish_reason": finish}

    def blocks(self, pieces: list[str]) -> Iterator[tuple[str, int]]:
        """The text in the order of reading, several words at a time."""
        least, most = self.call.model.block
        at = 0
        while at < len(pieces):
            size = min(self.random.randint(least, most), len(pieces) - at)
            yield "".join(pieces[at : at + size]), size
            at += size

    def snapshots(self, pieces: list[str]) -> Iterator[tuple[str, int]]:
        """The whole text again and again, with less noise each time, and once a little shorter."""
        if not pieces:
            return
        steps = 6
        # A text that was cut for length never converges.
        last = steps - 1 if self.answer.finish == "length" else steps
        counted = 0
        for step in range(1, last + 1):
            noisy = [
                piece if self.random.random() < step / steps else self.random.choice((" the", " ▒▒", " and", " of"))
                for piece in pieces
            ]
            shown = noisy if step == steps else noisy[: max(1, len(noisy) * (step + 3) // (steps + 3))]
            if step == 3:
                shown = shown[: max(1, len(shown) * 2 // 3)]
            generated = len(pieces) * step // last - counted
            counted += generated
            yield "".join(shown if step < steps else pieces), generated

    def summaries(self) -> Iterator[Json]:
        body = self.call.body
        if not body.get("reasoning_summary") or not self.answer.parts:
            return
        if not body.get("reasoning_summary_wait") and self.call.one_in(2, "summary too late"):
            return
        summary = self.summary()
        content = summary["content"] or ""
        half = len(content) // 2
        if content:
            yield {**summary, "content": content[:half]}
        yield {**summary, "content": content[half:] or None}
