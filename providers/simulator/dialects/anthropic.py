"""Anthropic's dialect: messages, token counts and models, in the API versions of 2023 and 2026."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from providers.simulator.bill import Usage
from providers.simulator.compose import Answer, Finish, Part, Tool, Wish
from providers.simulator.dialects import Call, Endpoint, Event, Headers, Refusal, Reply, World
from providers.simulator.dialects.anthropic_rules import (
    COUNTED,
    NEW,
    OLD,
    blocks,
    cacheable,
    check,
    check_prompt,
    format_of,
    invalid,
)
from providers.simulator.models import Model, served_by
from providers.simulator.prompt_cache import prefixes
from providers.simulator.tokens import estimate

Json = dict[str, Any]
FINISH: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
}
MARKED_ENDS = {"[[pause]]": "pause_turn", "[[window]]": "model_context_window_exceeded", "[[unknown-stop]]": "tired"}
EFFORT = {"low": 40, "medium": 100, "high": 250, "xhigh": 400, "max": 600}
TOOL_PROMPT = {"auto": 346, "none": 346, "any": 313, "tool": 313}
IMAGE_TOKENS = 1_100
LOOK_BACK = 20
"""Blocks before a mark where the beginning of a prompt is looked for in the cache."""
ANY_OBJECT = {"type": "object", "additionalProperties": {"type": "string"}}
ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    409: ("conflict_error", "The request conflicts with the current state of the resource."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}
LIMITS = {"requests": 20_000, "input-tokens": 2_000_000, "output-tokens": 400_000, "tokens": 2_400_000}


class Anthropic:
    vendor = "anthropic"
    broken_event = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"te\n\n'

    def __init__(self) -> None:
        self.models: Mapping[str, Model] = served_by(self.vendor)
        self.endpoints: Mapping[str, Endpoint] = {
            "/messages": self.messages,
            "/messages/count_tokens": self.count_tokens,
        }

    def authenticate(self, headers: Mapping[str, str]) -> None:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
        if not key:
            raise Refusal(401, "x-api-key header is required", "authentication_error")
        if key in ("bad", "invalid"):
            raise self.failure(401, None)
        version = headers.get("anthropic-version")
        if not version:
            raise invalid("anthropic-version: header is required")
        if version not in (OLD, NEW):
            raise invalid(f'anthropic-version: "{version}" is not a valid version')

    def look_up(self, path: str, query: Mapping[str, str]) -> Any:
        if path == "/models":
            return page([model for name, model in self.models.items() if name == model.id], query)
        name = path.removeprefix("/models/")
        if name == path:
            raise self.failure(404, None)
        if name not in self.models:
            raise self.unknown(name)
        return describe(self.models[name])

    def find(self, body: Json) -> Model:
        name = body.get("model")
        if not isinstance(name, str):
            raise invalid("model: Field required" if name is None else "model: Input should be a valid string")
        if name not in self.models:
            raise self.unknown(name)
        return self.models[name]

    def unknown(self, name: str) -> Refusal:
        return Refusal(404, f"model: {name}", "not_found_error")

    def failure(self, status: int, code: str | None) -> Refusal:
        kind, message = ERRORS.get(status, ERRORS[500] if status >= 500 else ERRORS[400])
        refusal = Refusal(status, message, kind, code=code)
        if status == 429 and code is None:
            refusal.headers += rate_headers(dict(LIMITS))
        return refusal

    def unreadable(self) -> Refusal:
        return invalid("The request body is not valid JSON")

    def render_error(self, refusal: Refusal, request_id: str) -> Json:
        return {**error_body(refusal), "request_id": request_id}

    def stream_error(self, code: str | None) -> bytes:
        return event(error_body(self.failure(529, code)))

    def headers(self, call: Call | None, request_id: str, usage: Usage | None) -> Headers:
        headers = [("request-id", request_id), ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")]
        if usage and call:
            headers += rate_headers({"requests": 1, "input-tokens": usage.input_tokens, "tokens": usage.input_tokens})
            if call.one_in(5, "retry-after"):
                headers.append(("retry-after", str(12 + call.digest % 50)))
        return headers

    def messages(self, call: Call) -> Reply:
        body, model = call.body, call.model
        version, beta = call.headers["anthropic-version"], call.headers.get("anthropic-beta", "")
        check(body, model, version, beta, lambda block: is_sealed(call.world, block))
        prompt = count_prompt(body)
        if prompt > model.context:
            raise invalid(f"prompt is too long: {prompt} tokens > {model.context} maximum")
        room = model.context - prompt
        answer = call.compose(wish_of(call, min(body["max_tokens"], max(room, 1))))
        usage, written = use_cache(call, prompt, answer)
        rendering = Rendering(call, answer, usage, written)
        if room < body["max_tokens"] and answer.finish == "length":
            rendering.stop_reason = "model_context_window_exceeded"
        if body.get("stream"):
            return Reply(rendering.id, rendering.usage, events=list(rendering.events()))
        return Reply(rendering.id, rendering.usage, body=rendering.whole())

    def count_tokens(self, call: Call) -> Reply:
        for name in call.body:
            if name not in COUNTED:
                raise invalid(f"{name}: Extra inputs are not permitted")
        version = call.headers["anthropic-version"]
        check_prompt(call.body, call.model, version, lambda block: is_sealed(call.world, block))
        return Reply("", None, body={"input_tokens": count_prompt(call.body)})


def rate_headers(spent: Mapping[str, int]) -> Headers:
    reset = datetime.fromtimestamp(int(time.time()) + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers: Headers = []
    for name, limit in LIMITS.items():
        left = limit - spent.get(name, 0)
        left = left if name == "requests" else left // 1000 * 1000
        headers += [
            (f"anthropic-ratelimit-{name}-limit", str(limit)),
            (f"anthropic-ratelimit-{name}-remaining", str(left)),
            (f"anthropic-ratelimit-{name}-reset", reset),
        ]
    return headers


def page(models: list[Model], query: Mapping[str, str]) -> Json:
    ids = [model.id for model in models]
    if query.get("after_id") in ids:
        models = models[ids.index(query["after_id"]) + 1 :]
    if query.get("before_id") in ids:
        models = [model for model in models if ids.index(model.id) < ids.index(query["before_id"])]
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise invalid("limit: Input should be between 1 and 1000")
    shown = [describe(model) for model in models[: int(limit)]]
    return {
        "data": shown,
        "has_more": len(shown) < len(models),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def describe(model: Model) -> Json:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id.replace("-", " ").title(),
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "retired" if model.id.startswith("claude-3-5") else "active",
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
    }


def error_body(refusal: Refusal) -> Json:
    error: Json = {"type": refusal.type, "message": refusal.message}
    if refusal.code:
        error["details"] = {"error_code": refusal.code}
    return {"type": "error", "error": error}


# Tokens


def count_prompt(body: Json) -> int:
    fixed = TOOL_PROMPT[(body.get("tool_choice") or {}).get("type", "auto")] if body.get("tools") else 0
    return 3 + fixed + sum(count_block(block) for block in cacheable(body))


def count_block(block: Json) -> int:
    kind = block.get("type")
    if kind == "text" and "text" in block:
        return 3 + estimate(block["text"])
    if kind in ("image", "document") and "data" in (block.get("source") or {}):
        return IMAGE_TOKENS
    if kind == "tool_result" and isinstance(block.get("content"), list):
        return 6 + sum(count_block(inner) for inner in block["content"])
    return 4 + (len(orjson.dumps(block)) + 3) // 4


def use_cache(call: Call, prompt: int, answer: Answer) -> tuple[Usage, int]:
    """Reads and writes the prompt cache at the breakpoints; the usage, and how much is kept for an hour."""
    parts = cacheable(call.body)
    controls = [part.get("cache_control") for part in parts]
    if call.body.get("cache_control"):
        controls[-1] = call.body["cache_control"]
    usage = Usage(prompt, answer.tokens, reasoning_tokens=answer.thinking_tokens)
    if not any(controls):
        return usage, 0
    bare = [{key: value for key, value in part.items() if key != "cache_control"} for part in parts]
    beginnings = prefixes(call.model.id, ((orjson.dumps(part), count_block(part)) for part in bare))
    marked = [(prefix, control) for prefix, control in zip(beginnings, controls, strict=True) if control]
    long_enough = [(prefix, control) for prefix, control in marked if prefix.tokens >= call.model.min_cacheable]
    if not long_enough:
        return usage, 0
    # What an earlier request wrote is also found some blocks before the mark.
    near = {i for mark, control in enumerate(controls) if control for i in range(max(0, mark - LOOK_BACK), mark + 1)}
    read = call.world.cache.read((beginnings[i] for i in near), call.model.min_cacheable)
    last, control = long_enough[-1]
    written = max(0, last.tokens - read)
    call.world.cache.write(prefix for prefix, _ in long_enough)
    usage = Usage(prompt, answer.tokens, read, written, answer.thinking_tokens)
    return usage, written if control.get("ttl") == "1h" else 0


# What was asked


def wish_of(call: Call, limit: int) -> Wish:
    body, model = call.body, call.model
    spoken = [message for message in body["messages"] if message["role"] != "system"]
    last = spoken[-1]
    users = [message for message in spoken if message["role"] == "user"]
    prompt = next((text for each in reversed(users) if (text := text_of(blocks(each)))), "")
    results = [text_of(block) for block in blocks(last) if block["type"] == "tool_result"]
    choice = body.get("tool_choice") or {"type": "auto"}
    tools = [Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools") or () if "input_schema" in tool]
    wanted = format_of(body)
    return Wish(
        prompt=prompt,
        from_user=last["role"] == "user" and not results,
        tools=tools,
        tool_choice="=" + choice["name"] if choice["type"] == "tool" else choice["type"],
        parallel=not choice.get("disable_parallel_tool_use"),
        tool_results=results,
        json_schema=wanted["schema"] if wanted else ANY_OBJECT if asks_for_json(body.get("system")) else None,
        max_tokens=limit,
        stop=body.get("stop_sequences") or (),
        reasoning=reasoning_of(body, model),
        redacted="[[redacted]]" in prompt,
        prefilled=last["role"] == "assistant",
        preamble=True,
    )


def asks_for_json(system: Any) -> bool:
    """Whether the instructions ask for an answer in JSON: there is no parameter that does without a schema."""
    return "json object" in text_of(system or "").lower()


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return content["text"] if content.get("type") == "text" else text_of(content.get("content") or "")
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def reasoning_of(body: Json, model: Model) -> int:
    thinking = body.get("thinking") or {"type": "adaptive" if model.can("adaptive") else "disabled"}
    if thinking["type"] == "adaptive":
        return min(EFFORT[(body.get("output_config") or {}).get("effort") or "medium"], int(body["max_tokens"]) // 2)
    return min(int(thinking["budget_tokens"]) // 20, 300) if thinking["type"] == "enabled" else 0


# Seals on thoughts


def seal(world: World, thought: str) -> str:
    digest = hmac.new(world.secret, thought.encode(), hashlib.sha256).digest()
    return base64.b64encode(b"\x12simulator" + digest).decode()


def seal_hidden(world: World, thought: str) -> str:
    hidden = base64.b64encode(thought.encode()).decode()
    return base64.b64encode(orjson.dumps([hidden, seal(world, hidden)])).decode()


def is_sealed(world: World, block: Json) -> bool:
    if block["type"] == "thinking":
        # An omitted thought comes back empty, with a seal of what it was.
        kept = [seal(world, block["thinking"])] if block["thinking"] else []
        return block["signature"] in kept or (not block["thinking"] and block["signature"].startswith("EnNpbXVsYXRvc"))
    try:
        hidden, signature = orjson.loads(base64.b64decode(block.get("data") or "", validate=True))
    except (ValueError, TypeError):
        return False
    return isinstance(hidden, str) and seal(world, hidden) == signature


# What is said


class Rendering:
    """One message in Anthropic's shapes, whole or as events."""

    def __init__(self, call: Call, answer: Answer, usage: Usage, written_for_an_hour: int) -> None:
        self.call = call
        self.answer = answer
        self.usage = usage
        self.written_for_an_hour = written_for_an_hour
        self.random = call.random(1)
        self.id = call.identifier("msg_01", 22)
        self.modern = not call.model.id.startswith("claude-3-5")
        self.stop_reason = FINISH[answer.finish]
        self.parts = answer.parts
        self.apply_markers()

    def apply_markers(self) -> None:
        prompt = next(
            (text_of(blocks(each)) for each in reversed(self.call.body["messages"]) if each["role"] == "user"), ""
        )
        for marker, reason in MARKED_ENDS.items():
            if marker in prompt:
                self.stop_reason = reason
        if self.answer.finish == "refusal" and self.call.one_in(2, "wordless refusal"):
            self.parts = [part for part in self.parts if part.kind != "refusal"]
        if "[[silence]]" in prompt:
            self.parts, self.stop_reason = [], "end_turn"
        if self.parts is not self.answer.parts:
            tokens = max(2, sum(part.tokens for part in self.parts))
            self.usage = Usage(
                self.usage.input_tokens, tokens, self.usage.cache_read_tokens, self.usage.cache_write_tokens
            )  # fmt: skip

    @property
    def stop_details(self) -> Json | None:
        if self.stop_reason != "refusal":
            return None
        categories = ("cyber", "bio", "general_harms", None)
        explanation = "The request was declined by a safety classifier."
        return {"type": "refusal", "category": categories[self.call.digest % 4], "explanation": explanation}

    def whole(self) -> Json:
        message = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.call.model.id,
            "content": [self.block(number, part) for number, part in enumerate(self.parts)],
            "stop_reason": self.stop_reason,
            "stop_sequence": self.answer.stop,
            **({"stop_details": self.stop_details} if self.modern else {}),
            "usage": self.usage_body(self.usage.output_tokens),
        }
        if self.call.withhold_usage:
            del message["usage"]
        return message

    def block(self, number: int, part: Part) -> Json:
        match part.kind:
            case "thinking":
                shown = "" if self.omitted else part.text
                return {"type": "thinking", "thinking": shown, "signature": seal(self.call.world, part.text)}
            case "redacted":
                return {"type": "redacted_thinking", "data": seal_hidden(self.call.world, part.text)}
            case "call":
                return self.tool_use(number, part, _parsed(part.text))
            case _:
                return {"type": "text", "text": part.text}

    @property
    def omitted(self) -> bool:
        return (self.call.body.get("thinking") or {}).get("display") == "omitted"

    def tool_use(self, number: int, part: Part, given: Json) -> Json:
        assert part.tool
        block = {
            "type": "tool_use",
            "id": self.call.identifier("toolu_01", 22, 1 + number),
            "name": part.tool.name,
            "input": given,
        }
        return {**block, "caller": {"type": "direct"}} if self.modern else block

    def usage_body(self, output: int) -> Json:
        usage = self.usage
        body: Json = {
            **self.input_counts(),
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_tokens - self.written_for_an_hour,
                "ephemeral_1h_input_tokens": self.written_for_an_hour,
            },
            "output_tokens": output,
            "service_tier": "standard",
        }
        if self.modern:
            body["inference_geo"] = "global" if self.call.model.can("adaptive") else "not_available"
        if usage.reasoning_tokens and output == usage.output_tokens:
            body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
        return body

    def input_counts(self) -> Json:
        usage = self.usage
        return {
            "input_tokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
        }

    # Events

    def events(self) -> Iterator[Event]:
        yield self.event(self.start(), 0)
        tokens = 0
        pinged = False
        for number, part in enumerate(self.parts):
            for payload, generated in self.block_events(number, part):
                tokens += generated
                yield self.event(payload, tokens)
                if not pinged and payload["type"] == "content_block_start":
                    pinged = True
                    yield Event(b'event: ping\ndata: {"type": "ping"}\n\n', tokens)
        total = self.usage.output_tokens
        if self.call.one_in(8, "two message_delta"):
            yield self.event(self.delta(None, max(1, total - 1)), tokens)
        yield self.event(self.delta(self.stop_reason, total), total)
        yield Event(self.event({"type": "message_stop"}, total).data, total, terminal=True)

    def event(self, payload: Json, tokens: int) -> Event:
        return Event(event(payload, self.random.randint(0, 15)), tokens)

    def start(self) -> Json:
        message = {**self.whole(), "content": [], "stop_reason": None, "stop_sequence": None}
        if "stop_details" in message:
            message["stop_details"] = None
        if not self.call.withhold_usage:
            usage = self.usage_body(min(1 + self.call.digest % 4, self.usage.output_tokens))
            usage.pop("output_tokens_details", None)
            message["usage"] = usage
        return {"type": "message_start", "message": message}

    def delta(self, reason: str | None, output: int) -> Json:
        change: Json = {"stop_reason": reason, "stop_sequence": self.answer.stop if reason else None}
        if self.modern:
            change["stop_details"] = self.stop_details if reason else None
        payload: Json = {"type": "message_delta", "delta": change}
        if not self.call.withhold_usage:
            payload["usage"] = {**self.input_counts(), "output_tokens": output}
            if self.usage.reasoning_tokens:
                payload["usage"]["output_tokens_details"] = {"thinking_tokens": self.usage.reasoning_tokens}
        return payload

    def block_events(self, number: int, part: Part) -> Iterator[tuple[Json, int]]:
        empty = self.block(number, part)
        overhead = part.tokens - len(part.pieces)
        match part.kind:
            case "thinking":
                empty = {"type": "thinking", "thinking": "", "signature": ""}
            case "redacted":
                overhead = part.tokens
            case "call":
                empty = {**empty, "input": {}}
            case _:
                empty = {"type": "text", "text": ""}
        yield {"type": "content_block_start", "index": number, "content_block": empty}, overhead
        for delta, generated in self.deltas(part):
            yield {"type": "content_block_delta", "index": number, "delta": delta}, generated
        # A call that was cut for length is sometimes left open.
        if part.kind != "call" or part.whole or self.call.one_in(2, "unclosed"):
            yield {"type": "content_block_stop", "index": number}, 0

    def deltas(self, part: Part) -> Iterator[tuple[Json, int]]:
        match part.kind:
            case "thinking":
                if not self.omitted:
                    for text, generated in self.chunks(part.pieces):
                        yield {"type": "thinking_delta", "thinking": text}, generated
                signature = seal(self.call.world, part.text)
                yield {"type": "signature_delta", "signature": signature}, len(part.pieces) if self.omitted else 0
            case "call":
                silent = part.text == "{}"
                if not silent or self.call.one_in(2, "empty delta"):
                    yield {"type": "input_json_delta", "partial_json": ""}, len(part.pieces) if silent else 0
                if not silent:
                    for text, generated in self.chunks(part.pieces):
                        yield {"type": "input_json_delta", "partial_json": text}, generated
            case "text" | "refusal":
                for text, generated in self.chunks(part.pieces):
                    yield {"type": "text_delta", "text": text}, generated

    def chunks(self, pieces: list[str]) -> Iterator[tuple[str, int]]:
        least, most = self.call.model.block
        at = 0
        while at < len(pieces):
            size = min(self.random.randint(least, most), len(pieces) - at)
            yield "".join(pieces[at : at + size]), size
            at += size


def event(payload: Json, padding: int = 0) -> bytes:
    """One named event; real ones are padded with spaces to hide the lengths of tokens."""
    name: str = payload["type"]
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(payload)[:-1] + b" " * padding + b"}\n\n"


def _parsed(arguments: str) -> Json:
    """The input of a call; what was cut in the middle comes as far as it is whole, which is nothing."""
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
