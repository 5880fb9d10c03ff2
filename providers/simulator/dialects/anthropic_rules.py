"""What Anthropic refuses in a Messages request, and in which words."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from providers.simulator.dialects import Refusal, is_integer, is_number, misshapen
from providers.simulator.models import Model
from providers.simulator.schema import is_schema

Json = dict[str, Any]
Sealed = Callable[[Json], bool]
"""Whether a block of thought carries the seal that this simulator gave it."""

OLD, NEW = "2023-06-01", "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")
PARAMETERS = frozenset(
    {
        "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "metadata", "tools", "tool_choice",
        "thinking", "output_config", "cache_control", "service_tier", "speed", "container", "inference_geo",
        "diagnostics", "user_profile_id", "workspace_id",
    }
)  # fmt: skip
BETA_PARAMETERS = frozenset({"output_format", "mcp_servers", "context_management", "betas"})
COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"}
)
TOOL_KEYS = frozenset(
    {
        "name", "description", "input_schema", "strict", "cache_control", "input_examples", "eager_input_streaming",
        "defer_loading", "allowed_callers", "type",
    }
)  # fmt: skip
BLOCKS: dict[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "search_result": frozenset({"type", "source", "title", "content", "citations", "cache_control"}),
}
SHAPES: dict[str, type | tuple[type, ...]] = {
    "thinking": dict,
    "tool_choice": dict,
    "output_config": dict,
    "output_format": dict,
    "cache_control": dict,
}
USER_BLOCKS = ("text", "image", "document", "tool_result", "search_result", "container_upload")
ASSISTANT_BLOCKS = ("text", "tool_use", "thinking", "redacted_thinking", "document")
RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference")
SERVER_BLOCKS = re.compile(r"server_tool_use|mcp_tool_use|\w+_tool_result|compaction|fallback")
"""What the vendor's own tools leave in a history: taken as it is."""
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
IMAGE_BYTES = 10 * 2**20
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ID = re.compile(r"[a-zA-Z0-9_-]+")
EFFORTS = ("low", "medium", "high", "xhigh", "max")
UNSUPPORTED_KEYWORDS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
MOST_OPTIONAL, MOST_UNIONS = 24, 16


def invalid(message: str) -> Refusal:
    return Refusal(400, message, "invalid_request_error")


def check(body: Json, model: Model, version: str, beta: str, sealed: Sealed) -> None:
    check_parameters(body, version, beta)
    check_shapes(body)
    if "max_tokens" not in body:
        raise invalid("max_tokens: Field required")
    if not is_integer(body["max_tokens"]) or body["max_tokens"] < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    if body["max_tokens"] > model.max_output:
        raise invalid(
            f"max_tokens: {body['max_tokens']} > {model.max_output}, which is the maximum allowed number of output "
            f"tokens for {model.id}"
        )
    check_sampling(body, model)
    check_stop_sequences(body.get("stop_sequences"))
    check_small_things(body)
    check_thinking(body, model)
    check_output_config(body, model)
    check_prompt(body, model, version, sealed)


def check_prompt(body: Json, model: Model, version: str, sealed: Sealed) -> None:
    """The part that counting tokens checks as well."""
    check_shapes(body)
    check_system(body.get("system"))
    check_tools(body, model)
    check_messages(body, model, version, sealed)
    check_breakpoints(body)


def check_shapes(body: Json) -> None:
    if name := misshapen(body, SHAPES):
        raise invalid(f"{name}: Input should be a valid dictionary")


def check_parameters(body: Json, version: str, beta: str) -> None:
    allowed = PARAMETERS | (BETA_PARAMETERS if beta else frozenset())
    if version == OLD:
        allowed |= frozenset(SAMPLING)
    for name in body:
        if name not in allowed:
            raise invalid(f"{name}: Extra inputs are not permitted")


def check_sampling(body: Json, model: Model) -> None:
    for name in ("temperature", "top_p"):
        if name in body:
            if not is_number(body[name]):
                raise invalid(f"{name}: Input should be a valid number")
            if not 0 <= body[name] <= 1:
                bound = "less than or equal to 1" if body[name] > 1 else "greater than or equal to 0"
                raise invalid(f"{name}: Input should be {bound}")
    if "top_k" in body and (not is_integer(body["top_k"]) or body["top_k"] < 0):
        raise invalid("top_k: Input should be greater than or equal to 0")
    if model.can("one_sampling") and "temperature" in body and "top_p" in body:
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if model.can("fixed_sampling"):
        for name, default in (("temperature", 1), ("top_p", 1), ("top_k", None)):
            if name in body and body[name] != default:
                raise invalid(f"{name}: this model only supports the default value of `{name}`")


def check_stop_sequences(stops: Any) -> None:
    if stops is None:
        return
    if not isinstance(stops, list):
        raise invalid("stop_sequences: Input should be a valid list")
    for position, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise invalid(f"stop_sequences.{position}: Input should be a valid string")
        if not stop.strip():
            raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def check_small_things(body: Json) -> None:
    metadata = body.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict):
            raise invalid("metadata: Input should be a valid dictionary")
        for name, value in metadata.items():
            if name != "user_id":
                raise invalid(f"metadata.{name}: Extra inputs are not permitted")
            if value is not None and (not isinstance(value, str) or len(value) > 256):
                raise invalid("metadata.user_id: String should have at most 256 characters")
    if not isinstance(body.get("stream", False), bool):
        raise invalid("stream: Input should be a valid boolean")
    if body.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise invalid("service_tier: Input should be 'auto' or 'standard_only'")


def check_thinking(body: Json, model: Model) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive", "disabled"):
        raise invalid("thinking: Input tag should be one of 'enabled', 'adaptive', 'disabled'")
    if kind == "adaptive" and not model.can("adaptive"):
        raise invalid("adaptive thinking is not supported on this model")
    if kind != "enabled":
        return
    if not model.can("budget"):
        instead = ' Use "thinking.type.adaptive" and "output_config.effort" instead.' if model.can("adaptive") else ""
        raise invalid(f'"thinking.type.enabled" is not supported for this model.{instead}')
    budget = thinking.get("budget_tokens")
    if not is_integer(budget):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < 1024:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= body["max_tokens"]:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")
    if "top_k" in body:
        raise invalid("`top_k` must be unset when thinking is enabled.")
    if body.get("top_p", 1) < 0.95:
        raise invalid("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def check_output_config(body: Json, model: Model) -> None:
    config = body.get("output_config")
    if config is not None:
        if not isinstance(config, dict):
            raise invalid("output_config: Input should be a valid dictionary")
        for name in config:
            if name not in ("effort", "format", "task_budget"):
                raise invalid(f"output_config.{name}: Extra inputs are not permitted")
        effort = config.get("effort")
        if effort is not None and effort not in EFFORTS:
            raise invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
        if effort is not None and not model.can("effort"):
            raise invalid("This model does not support the effort parameter.")
    wanted = format_of(body)
    if wanted is None:
        return
    if not model.can("structured"):
        raise invalid("output_config.format: this model does not support structured outputs")
    if (
        not isinstance(wanted, dict)
        or wanted.get("type") != "json_schema"
        or not isinstance(wanted.get("schema"), dict)
    ):
        raise invalid("output_config.format: Input should be a json_schema format with a schema")
    check_schema("output_config.format.schema", wanted["schema"])


def format_of(body: Json) -> Any:
    return (body.get("output_config") or {}).get("format") or body.get("output_format")


def check_schema(where: str, schema: Json) -> None:
    if not is_schema(schema):
        raise invalid(f"{where}: JSON schema is invalid")
    optional = unions = 0
    for node in nodes_of(schema):
        kind = node.get("type")
        if "$ref" in node and not str(node["$ref"]).startswith("#"):
            raise invalid(f"{where}: External $ref '{node['$ref']}' is not supported")
        if (kind == "object" or "properties" in node) and node.get("additionalProperties") is not False:
            raise invalid(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        for keyword in UNSUPPORTED_KEYWORDS:
            if keyword in node:
                raise invalid(f"{where}: For '{kind}' type, property '{keyword}' is not supported")
        if node.get("minItems", 0) not in (0, 1):
            raise invalid(f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        if any(isinstance(value, dict | list) for value in node.get("enum") or ()):
            raise invalid(f"{where}: enum values must be primitives")
        if "format" in node and node["format"] not in FORMATS:
            raise invalid(f"{where}: For 'string' type, format '{node['format']}' is not supported")
        optional += len(set(node.get("properties") or ()) - set(node.get("required") or ()))
        unions += isinstance(kind, list) or "anyOf" in node
    if recursive(schema):
        raise invalid(f"{where}: Recursive schemas are not supported")
    if optional > MOST_OPTIONAL:
        raise invalid(f"{where}: Schemas may have at most {MOST_OPTIONAL} optional parameters, found {optional}")
    if unions > MOST_UNIONS:
        raise invalid(f"{where}: Schemas may have at most {MOST_UNIONS} union types, found {unions}")


def nodes_of(schema: Any) -> Iterable[Json]:
    if isinstance(schema, list):
        for inner in schema:
            yield from nodes_of(inner)
    elif isinstance(schema, dict):
        yield schema
        for key in ("properties", "$defs", "definitions"):
            yield from nodes_of(list((schema.get(key) or {}).values()))
        for key in ("items", "prefixItems", "anyOf", "oneOf", "allOf"):
            yield from nodes_of(schema.get(key))


def recursive(schema: Json) -> bool:
    definitions = {
        f"#/{key}/{name}": inner for key in ("$defs", "definitions") for name, inner in (schema.get(key) or {}).items()
    }
    definitions["#"] = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    refers = {name: {node["$ref"] for node in nodes_of(inner) if "$ref" in node} for name, inner in definitions.items()}

    def returns(name: str, seen: frozenset[str]) -> bool:
        return name in seen or any(returns(each, seen | {name}) for each in refers.get(name, ()))

    return any(returns(name, frozenset()) for name in definitions)


def check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    for position, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{position}.type: Input should be 'text'")
        check_block(f"system.{position}", block, ("text",))


def check_tools(body: Json, model: Model) -> None:
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names = [check_tool(position, tool, model) for position, tool in enumerate(tools or ())]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise invalid("tool_choice: Input tag should be one of 'auto', 'any', 'tool', 'none'")
    for key in choice:
        if key not in ("type", "disable_parallel_tool_use", "name") or (key == "name" and kind != "tool"):
            raise invalid(f"tool_choice.{kind}.{key}: Extra inputs are not permitted")
    if not names:
        raise invalid("tool_choice: may only be specified while providing `tools`.")
    if kind == "tool" and choice.get("name") not in names:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def check_tool(position: int, tool: Any, model: Model) -> str:
    if not isinstance(tool, dict):
        raise invalid(f"tools.{position}: Input should be a valid dictionary")
    name = tool.get("name")
    if tool.get("type", "custom") not in ("custom", None):
        return str(name)
    where = f"tools.{position}.custom"
    for key in tool:
        if key not in TOOL_KEYS:
            raise invalid(f"{where}.{key}: Extra inputs are not permitted")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise invalid(f"{where}.name: String should match pattern '^{NAME.pattern}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise invalid(f"{where}.input_schema: Field required")
    if schema.get("type") != "object":
        wrong = "Input should be 'object'" if "type" in schema else "Field required"
        raise invalid(f"{where}.input_schema.type: {wrong}")
    if not is_schema(schema):
        raise invalid(f"{where}.input_schema: JSON schema is invalid")
    if tool.get("strict"):
        if not model.can("structured"):
            raise invalid(f"{where}.strict: this model does not support strict tools")
        check_schema(f"{where}.input_schema", schema)
    return name


def check_messages(body: Json, model: Model, version: str, sealed: Sealed) -> None:
    messages = body.get("messages")
    if messages is None:
        raise invalid("messages: Field required")
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for position, message in enumerate(messages):
        check_message(position, message, model, version, sealed, last=position == len(messages) - 1)
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    check_system_messages(messages)
    check_tool_order(messages)
    if not body.get("tools") and any(
        block["type"] in ("tool_use", "tool_result") for each in messages for block in blocks(each)
    ):
        raise invalid("Requests which include `tool_use` or `tool_result` blocks must define `tools`.")
    if messages[-1]["role"] == "assistant":
        check_prefill(messages[-1], body, model)


def check_message(position: int, message: Any, model: Model, version: str, sealed: Sealed, *, last: bool) -> None:
    where = f"messages.{position}"
    if not isinstance(message, dict):
        raise invalid(f"{where}: Input should be a valid dictionary")
    for key in message:
        if key not in ("role", "content"):
            raise invalid(f"{where}.{key}: Extra inputs are not permitted")
    role = message.get("role")
    if role not in ("user", "assistant") and not (role == "system" and model.can("mid_system")):
        raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if not isinstance(content, str | list):
        raise invalid(f"{where}.content: {'Field required' if content is None else 'Input should be a valid list'}")
    if not content and not (last and role == "assistant"):
        raise invalid(
            f"{where}: all messages must have non-empty content except for the optional final assistant message"
        )
    if isinstance(content, str):
        if content and not content.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        return
    allowed = {"user": USER_BLOCKS, "system": ("text",)}.get(role, ASSISTANT_BLOCKS)
    for number, block in enumerate(content):
        at = f"{where}.content.{number}"
        check_block(at, block, allowed)
        if block["type"] in ("thinking", "redacted_thinking") and not sealed(block):
            field = "signature" if block["type"] == "thinking" else "data"
            raise invalid(f"{at}: Invalid `{field}` in `{block['type']}` block")
        if version == NEW and role == "assistant" and block["type"] == "document":
            raise invalid(f"{at}: `document` blocks are not permitted in assistant messages")
        if version == NEW and role == "user" and block["type"] == "text" and block.get("citations"):
            raise invalid(f"{at}.citations: not permitted in user messages")


def check_block(where: str, block: Any, allowed: Sequence[str]) -> None:
    kind: Any = block.get("type") if isinstance(block, dict) else None
    if isinstance(kind, str) and SERVER_BLOCKS.fullmatch(kind):
        return
    if kind not in allowed:
        raise invalid(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
            f"{', '.join(allowed)}"
        )
    for key in block:
        if kind in BLOCKS and key not in BLOCKS[kind]:
            raise invalid(f"{where}.{kind}.{key}: Extra inputs are not permitted")
    match kind:
        case "text":
            if not isinstance(block.get("text"), str):
                raise invalid(f"{where}.text.text: Field required")
            if not block["text"]:
                raise invalid("messages: text content blocks must be non-empty")
            if not block["text"].strip():
                raise invalid("messages: text content blocks must contain non-whitespace text")
        case "image":
            check_image(f"{where}.image.source", block.get("source"))
        case "document":
            check_document(f"{where}.document.source", block.get("source"))
        case "tool_use":
            if not isinstance(block.get("id"), str) or not ID.fullmatch(block["id"]):
                raise invalid(f"{where}.tool_use.id: String should match pattern '^{ID.pattern}$'")
            if not isinstance(block.get("name"), str) or not block["name"]:
                raise invalid(f"{where}.tool_use.name: Field required")
            if not isinstance(block.get("input"), dict):
                raise invalid(f"{where}.tool_use.input: Input should be a valid dictionary")
        case "tool_result":
            check_tool_result(where, block)
        case "thinking":
            for key in ("thinking", "signature"):
                if not isinstance(block.get(key), str):
                    raise invalid(f"{where}.thinking.{key}: Field required")


def check_tool_result(where: str, block: Json) -> None:
    if not isinstance(block.get("tool_use_id"), str) or not ID.fullmatch(block["tool_use_id"]):
        raise invalid(f"{where}.tool_result.tool_use_id: String should match pattern '^{ID.pattern}$'")
    content = block.get("content")
    if content is not None and not isinstance(content, str | list):
        raise invalid(f"{where}.tool_result.content: Input should be a valid string or list")
    for number, inner in enumerate(content if isinstance(content, list) else ()):
        check_block(f"{where}.tool_result.content.{number}", inner, RESULT_BLOCKS)


def check_image(where: str, source: Any) -> None:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "file":
        return
    if kind == "url":
        if not re.match(r"https?://", str(source.get("url"))):
            raise invalid(f"{where}.url.url: Only HTTP(S) URLs are supported.")
        return
    if kind != "base64":
        raise invalid(f"{where}: Input tag '{kind}' does not match any of the expected tags: 'base64', 'url', 'file'")
    if source.get("media_type") not in IMAGE_TYPES:
        raise invalid(f"{where}.base64.media_type: Input should be {', '.join(map(repr, IMAGE_TYPES))}")
    check_base64(where, source.get("data"))


def check_document(where: str, source: Any) -> None:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "base64":
        if source.get("media_type") != "application/pdf":
            raise invalid(f"{where}.base64.media_type: Input should be 'application/pdf'")
        check_base64(where, source.get("data"))
    elif kind not in ("text", "url", "content", "file"):
        raise invalid(f"{where}: Input tag '{kind}' does not match any of the expected tags")


def check_base64(where: str, data: Any) -> None:
    try:
        decoded = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise invalid(f"{where}.base64.data: invalid base64 data")
    if len(data) > IMAGE_BYTES:
        raise invalid(f"{where}.base64: image exceeds 10 MB maximum: {len(data)} bytes > {IMAGE_BYTES} bytes")


def blocks(message: Mapping[str, Any]) -> list[Json]:
    content = message["content"]
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def check_system_messages(messages: Sequence[Json]) -> None:
    for position, message in enumerate(messages):
        if message["role"] == "system":
            after = messages[position + 1]["role"] if position + 1 < len(messages) else "assistant"
            if messages[position - 1]["role"] != "user" or after != "assistant":
                raise invalid(
                    f"messages.{position}: a system message must follow a user turn and precede an assistant turn"
                )


def check_tool_order(messages: Sequence[Json]) -> None:
    used: set[str] = set()
    offered: list[str] = []
    for position, message in enumerate(messages):
        if message["role"] == "user":
            check_results(position, message, offered)
        ids = [block["id"] for block in blocks(message) if block["type"] == "tool_use"]
        if used.intersection(ids) or len(set(ids)) < len(ids):
            raise invalid("messages: `tool_use` ids must be unique")
        used.update(ids)
        # Assistant turns in a row are one turn to the vendor, so their calls are answered together.
        continued = position > 0 and messages[position - 1]["role"] == message["role"] == "assistant"
        offered = [*offered, *ids] if continued else ids
        following = messages[position + 1] if position + 1 < len(messages) else None
        if following and following["role"] == message["role"] == "assistant":
            continue
        answered = leading_results(following) if following and following["role"] == "user" else []
        missing = [id for id in offered if id not in answered]
        if missing:
            raise invalid(
                f"messages.{position}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def check_results(position: int, message: Json, offered: Sequence[str]) -> None:
    for number, block in enumerate(blocks(message)):
        if block["type"] == "tool_result" and block["tool_use_id"] not in offered:
            raise invalid(
                f"messages.{position}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block in "
                "the previous message."
            )


def leading_results(message: Json) -> list[str]:
    found = []
    for block in blocks(message):
        if block["type"] != "tool_result":
            break
        found.append(block["tool_use_id"])
    return found


def check_prefill(message: Json, body: Json, model: Model) -> None:
    if not model.can("prefill"):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if (body.get("thinking") or {}).get("type") == "enabled":
        raise invalid("messages: the final message may not be from the assistant when thinking is enabled.")
    if format_of(body):
        raise invalid("messages: prefill is not supported together with `output_config.format`.")
    final = blocks(message)[-1:] or [{"type": "text", "text": ""}]
    if final[0]["type"] == "text" and final[0]["text"] != final[0]["text"].rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")


def check_breakpoints(body: Json) -> None:
    marked = [body] if body.get("cache_control") else []
    marked += [block for block in cacheable(body) if block.get("cache_control")]
    if len(marked) > 4:
        raise invalid(f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}.")
    for block in marked:
        control = block["cache_control"]
        if (
            not isinstance(control, dict)
            or control.get("type") != "ephemeral"
            or control.get("ttl", "5m") not in ("5m", "1h")
        ):
            raise invalid("cache_control: Input should be of type 'ephemeral' with a ttl of '5m' or '1h'")


def cacheable(body: Json) -> list[Json]:
    """Everything that can carry a cache breakpoint, in the order in which it is cached."""
    system = body.get("system")
    system_blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system or []
    spoken = [{"role": message["role"], **block} for message in body["messages"] for block in blocks(message)]
    return [*(body.get("tools") or ()), *system_blocks, *spoken]
