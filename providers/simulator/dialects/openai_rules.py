"""What OpenAI refuses in a chat completion request, and in which words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.simulator.dialects import Refusal, is_integer, is_number, misshapen
from providers.simulator.models import Model
from providers.simulator.schema import is_schema

PARAMETERS = frozenset(
    {
        "model", "messages", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n", "parallel_tool_calls",
        "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
        "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
INTEGERS: dict[str, tuple[int, int | None]] = {
    "n": (1, 128),
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "top_logprobs": (0, 20),
}
BOOLEANS = ("stream", "logprobs", "parallel_tool_calls", "store")
CHOICES: dict[str, tuple[str, ...]] = {
    "service_tier": ("auto", "default", "flex", "scale", "priority", "fast"),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": ("low", "medium", "high"),
}
SHAPES: dict[str, type | tuple[type, ...]] = {
    "stream_options": dict,
    "tool_choice": (str, dict),
    "function_call": (str, dict),
    "functions": list,
    "modalities": list,
    "response_format": dict,
    "service_tier": str,
    "reasoning_effort": str,
    "verbosity": str,
}
ROLES = ("system", "developer", "assistant", "user", "function", "tool")
NAME = re.compile(r"^[a-zA-Z0-9_-]+$")
UNSUPPORTED_WHEN_REASONING = (
    "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "stop",
)  # fmt: skip


def invalid(message: str, param: str | None, code: str | None = "invalid_value") -> Refusal:
    return Refusal(400, message, "invalid_request_error", param=param, code=code)


def check(body: Mapping[str, Any], model: Model) -> None:
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name not in PARAMETERS:
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if misplaced := misshapen(given, SHAPES):
        raise mistyped(misplaced, "another type", given[misplaced])
    check_values(given)
    check_model_abilities(given, model)
    check_messages(given.get("messages"), model)
    check_tools(given)
    check_format(given)


def check_values(given: Mapping[str, Any]) -> None:
    for name, (low, high) in NUMBERS.items():
        if name in given:
            check_range(name, given[name], low, high, "decimal", is_number(given[name]))
    for name, (least, most) in INTEGERS.items():
        if name in given:
            check_range(name, given[name], least, most, "integer", is_integer(given[name]))
    for name in BOOLEANS:
        if name in given and not isinstance(given[name], bool):
            raise mistyped(name, "a boolean", given[name])
    for name, allowed in CHOICES.items():
        if name in given and given[name] not in allowed:
            raise invalid(
                f"Invalid value: '{given[name]}'. Supported values are: {_listed(allowed)}.",
                name,
                None if name == "service_tier" else "invalid_value",
            )
    check_stop(given.get("stop"))
    if "stream_options" in given and not given.get("stream"):
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", None
        )
    if given.get("top_logprobs") is not None and not given.get("logprobs"):
        raise invalid("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs", None)
    if "seed" in given and not is_integer(given["seed"]):
        raise mistyped("seed", "an integer", given["seed"])
    check_metadata(given.get("metadata"))


def check_range(name: str, value: Any, low: float, high: float | None, kind: str, right_type: bool) -> None:
    if not right_type:
        raise mistyped(name, "an integer" if kind == "integer" else "a decimal", value)
    if value < low:
        raise invalid(
            f"Invalid '{name}': {kind} below minimum value. Expected a value >= {low}, but got {value} instead.",
            name,
            f"{kind}_below_min_value",
        )
    if high is not None and value > high:
        raise invalid(
            f"Invalid '{name}': {kind} above maximum value. Expected a value <= {high}, but got {value} instead.",
            name,
            f"{kind}_above_max_value",
        )


def mistyped(name: str, expected: str, value: Any) -> Refusal:
    kinds = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        list: "an array",
        dict: "an object",
    }
    got = kinds.get(type(value), "null")
    return invalid(f"Invalid type for '{name}': expected {expected}, but got {got} instead.", name, "invalid_type")


def check_stop(stop: Any) -> None:
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(each, str) for each in stop):
        raise mistyped("stop", "a string or an array of strings", stop)
    if len(stop) > 4:
        raise invalid(
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(stop)} instead.",
            "stop",
            "array_above_max_length",
        )


def check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise mistyped("metadata", "an object", metadata)
    if len(metadata) > 16:
        raise invalid(
            "Invalid 'metadata': too many properties. Expected at most 16.", "metadata", "object_above_max_properties"
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise mistyped(f"metadata.{key}", "a string", value)
        if len(key) > 64 or len(value) > 512:
            raise invalid(f"Invalid 'metadata.{key}': string too long.", "metadata", "string_above_max_length")


def check_model_abilities(given: Mapping[str, Any], model: Model) -> None:
    if model.can("reasoning"):
        for name in UNSUPPORTED_WHEN_REASONING:
            if given.get(name):
                instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                raise invalid(
                    f"Unsupported parameter: '{name}' is not supported with this model.{instead}",
                    name,
                    "unsupported_parameter",
                )
        if given.get("temperature", 1) != 1:
            raise invalid(
                f"Unsupported value: 'temperature' does not support {given['temperature']} with this model. "
                "Only the default (1) value is supported.",
                "temperature",
                "unsupported_value",
            )
    else:
        for name in ("reasoning_effort", "verbosity"):
            if name in given:
                raise invalid(
                    f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter"
                )
    if "web_search_options" in given:
        raise invalid("Web search options not supported with this model.", "web_search_options", None)
    if "audio" in given or "audio" in given.get("modalities", ()):
        raise invalid("This model does not produce audio.", "modalities", "unsupported_value")
    for name in ("max_completion_tokens", "max_tokens"):
        if given.get(name, 0) > model.max_output:
            raise invalid(
                f"{name} is too large: {given[name]}. This model supports at most {model.max_output} completion "
                f"tokens, whereas you provided {given[name]}.",
                name,
            )


def check_messages(messages: Any, model: Model) -> None:
    if messages is None:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        raise mistyped("messages", "an array of objects", messages)
    if not messages:
        raise invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    for position, message in enumerate(messages):
        check_message(f"messages[{position}]", message, model)
    check_tool_order(messages)


def check_message(where: str, message: Any, model: Model) -> None:
    if not isinstance(message, dict):
        raise mistyped(where, "an object", message)
    role = message.get("role")
    if role not in ROLES:
        raise invalid(f"Invalid value: '{role}'. Supported values are: {_listed(ROLES)}.", f"{where}.role")
    calls = message.get("tool_calls")
    if calls and not (isinstance(calls, list) and all(_is_call(call) for call in calls)):
        raise mistyped(f"{where}.tool_calls", "an array of tool calls", calls)
    if calls == []:
        raise invalid(
            f"Invalid '{where}.tool_calls': empty array. Expected an array with minimum length 1.",
            f"{where}.tool_calls",
            "empty_array",
        )
    content = message.get("content")
    if content is None:
        if role == "assistant" and (
            message.get("tool_calls") or message.get("function_call") or message.get("refusal")
        ):
            return
        raise invalid("Invalid value for 'content': expected a string, got null.", f"{where}.content", "invalid_type")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise invalid(
            f"Missing required parameter: '{where}.tool_call_id'.",
            f"{where}.tool_call_id",
            "missing_required_parameter",
        )
    if isinstance(content, list):
        for number, part in enumerate(content):
            check_part(where, number, part, role, model)
    elif not isinstance(content, str):
        raise mistyped(f"{where}.content", "a string or an array of parts", content)


def _is_call(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("id"), str) and call.get("type") in ("function", "custom")


def check_part(where: str, number: int, part: Any, role: str, model: Model) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    at = f"{where}.content[{number}]"
    if role == "tool" and kind not in ("text", "image_url"):
        raise invalid(f"Invalid '{where}'. Content blocks are expected to be either text or image_url type.", where)
    allowed = {
        "user": ("text", "image_url", "input_audio", "file"),
        "assistant": ("text", "refusal"),
        "tool": ("text", "image_url"),
    }.get(role, ("text",))
    if kind not in allowed:
        raise invalid(f"Invalid value: '{kind}'. Supported values are: {_listed(allowed)}.", f"{at}.type")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise invalid(f"Missing required parameter: '{at}.text'.", f"{at}.text", "missing_required_parameter")
    if kind == "image_url":
        check_image(at, part.get("image_url"), model)
    if kind == "input_audio":
        raise invalid("This model does not support audio input.", at, "unsupported_value")


def check_image(at: str, image: Any, model: Model) -> None:
    if not model.can("images"):
        raise invalid("Invalid content type. image_url is only supported by certain models.", at, None)
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise invalid(
            f"Missing required parameter: '{at}.image_url.url'.", f"{at}.image_url.url", "missing_required_parameter"
        )
    if not re.match(r"https?://|data:image/(png|jpeg|jpg|gif|webp);base64,[A-Za-z0-9+/]", url):
        raise invalid(
            f"Invalid '{at}.image_url.url': expected an http(s) URL or base64 image data.",
            f"{at}.image_url.url",
            "invalid_image_url",
        )


def check_tool_order(messages: Sequence[Mapping[str, Any]]) -> None:
    open_ids: set[str] = set()
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                raise invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    f"messages.[{position}].role",
                    None,
                )
            open_ids.discard(message["tool_call_id"])
            continue
        _check_answered(open_ids, position)
        open_ids = {call["id"] for call in message.get("tool_calls") or ()}
    _check_answered(open_ids, len(messages))


def _check_answered(open_ids: set[str], position: int) -> None:
    if open_ids:
        raise invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(sorted(open_ids))}",
            f"messages.[{position}].role",
            None,
        )


def check_tools(given: Mapping[str, Any]) -> None:
    for position, function in enumerate(given.get("functions") or ()):
        check_tool(f"functions[{position}]", {"type": "function", "function": function})
    tools = given.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in given and given[name] != "none":
                raise invalid(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name, None
                )
        return
    if not isinstance(tools, list):
        raise mistyped("tools", "an array of objects", tools)
    if not 1 <= len(tools) <= 128:
        few = not tools
        raise invalid(
            f"Invalid 'tools': {'empty array' if few else 'array too long'}. Expected an array with "
            f"{'minimum length 1' if few else 'maximum length 128'}, but got {len(tools)} instead.",
            "tools",
            "empty_array" if few else "array_above_max_length",
        )
    names = [check_tool(f"tools[{position}]", tool) for position, tool in enumerate(tools)]
    check_tool_choice(given.get("tool_choice"), names)


def check_tool(where: str, tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in ("function", "custom"):
        raise invalid(f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.", f"{where}.type")
    inner = tool.get(kind)
    name = inner.get("name") if isinstance(inner, dict) else None
    check_name(f"{where}.{kind}.name", name)
    parameters = inner.get("parameters")
    if kind == "function" and parameters is not None:
        check_schema(
            str(name), parameters, f"{where}.function.parameters", "invalid_function_parameters", inner.get("strict")
        )
    return str(name)


def check_name(where: str, name: Any) -> None:
    if not isinstance(name, str):
        raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if not NAME.match(name):
        raise invalid(
            f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
            f"'{NAME.pattern}'.",
            where,
        )
    if len(name) > 64:
        raise invalid(
            f"Invalid '{where}': string too long. Expected a string with maximum length 64, but got {len(name)} "
            "instead.",
            where,
            "string_above_max_length",
        )


def check_tool_choice(choice: Any, names: Sequence[str]) -> None:
    if choice is None or choice in ("none", "auto", "required"):
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools":
        allowed = choice.get("allowed_tools")
        listed = allowed.get("tools") if isinstance(allowed, dict) else None
        wanted = [_named(tool) for tool in listed] if isinstance(listed, list) else [None]
    elif kind in ("function", "custom"):
        inner = choice.get(kind)
        wanted = [inner.get("name") if isinstance(inner, dict) else None]
    else:
        raise invalid(
            f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.", "tool_choice"
        )
    for name in wanted:
        if name not in names:
            raise invalid(f"Invalid value for 'tool_choice': tool '{name}' was not found in 'tools'.", "tool_choice")


def _named(tool: Any) -> Any:
    inner = tool.get(tool.get("type")) if isinstance(tool, dict) else None
    return inner.get("name") if isinstance(inner, dict) else None


def check_format(given: Mapping[str, Any]) -> None:
    wanted = given.get("response_format")
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise invalid(
            f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'.",
            "response_format.type",
        )
    if kind == "json_object" and b"json" not in orjson.dumps(given["messages"]).lower():
        raise invalid(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
            None,
        )
    if kind == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict):
            raise invalid(
                "Missing required parameter: 'response_format.json_schema'.",
                "response_format.json_schema",
                "missing_required_parameter",
            )
        check_name("response_format.json_schema.name", described.get("name"))
        if described.get("schema") is not None:
            strict = described.get("strict")
            check_schema(described["name"], described["schema"], "response_format", "invalid_json_schema", strict)


def check_schema(name: str, schema: Any, param: str, code: str, strict: Any) -> None:
    what = "response_format" if code == "invalid_json_schema" else "function"
    if not isinstance(schema, dict) or not is_schema(schema):
        raise invalid(f"Invalid schema for {what} '{name}': it is not a valid JSON Schema.", param, code)
    if not strict:
        if schema and schema.get("type", "object") != "object":
            raise invalid(
                f"Invalid schema for {what} '{name}': schema must be a JSON Schema of type \"object\".", param, code
            )
        return
    for at, node in objects_of(schema):
        if node.get("additionalProperties") is not False:
            raise invalid(
                f"Invalid schema for {what} '{name}': In context={at}, 'additionalProperties' is required to be "
                "supplied and to be false.",
                param,
                code,
            )
        missing = set(node.get("properties") or ()) - set(node.get("required") or ())
        if missing:
            raise invalid(
                f"Invalid schema for {what} '{name}': In context={at}, 'required' is required to be supplied and to "
                f"be an array including every key in properties. Missing '{min(missing)}'.",
                param,
                code,
            )


def objects_of(schema: Any, at: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every object schema in a schema, with its place."""
    if isinstance(schema, list):
        return [found for inner in schema for found in objects_of(inner, at)]
    if not isinstance(schema, dict):
        return []
    found: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
    found += [(at, schema)] if schema.get("type") == "object" or "properties" in schema else []
    for key in ("properties", "$defs", "definitions"):
        for name, inner in (schema.get(key) or {}).items():
            found += objects_of(inner, (*at, key, name))
    for key in ("items", "prefixItems", "anyOf", "oneOf", "allOf"):
        found += objects_of(schema.get(key), (*at, key))
    return found


def _listed(values: Sequence[str]) -> str:
    quoted = [f"'{value}'" for value in values]
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
