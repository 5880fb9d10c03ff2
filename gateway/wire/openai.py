"""OpenAI's chat completions as callers speak it: https://platform.openai.com/docs/api-reference/chat

The body is checked by hand and once: what is wrong is a 400 that names the place, what is unknown goes on to the vendor
as it came. Nothing is copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway import errors
from gateway.wire import Request
from gateway.wire.checks import Check, described, integer, is_a, listed, mistyped, number, one_of, schema, show
from providers.base import Batch, Endpoint
from providers.errors import InvalidRequest
from providers.snapshots import MODES
from providers.types import Hints, Json, Model

OPERATION = "chat"

CONNECTION_WORDS = frozenset(
    {
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "api_type",
        "extra_headers",
        "extra_query",
        "organization",
        "custom_llm_provider",
        "user_config",
        "mock_response",
        "fallbacks",
    }
)
"""Words that would say where a request goes or with which key: the configuration's business alone."""

MAX_DEPTH = 64

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Maps whose keys are names of the caller's own, inside a JSON Schema.
_SCHEMA_NAMES = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_SCHEMA_DATA = frozenset({"default", "examples", "enum", "const"})
_CALLED = ("tool_use", "server_tool_use", "mcp_tool_use")
_PLAIN, _SCHEMA, _DATA = range(3)


def decode(raw: bytes) -> Request:
    """A request body. Raises InvalidRequest, naming the parameter."""
    body = checked(raw, CHECKS, "messages")
    needs = _message_needs(body["messages"])
    _request_needs(body, needs)
    return request(body, needs)


def checked(raw: bytes, checks: Mapping[str, Check], required: str) -> Json:
    """A body that has a model and `required`, each parameter held against its check. Raises InvalidRequest."""
    body = parse(raw)
    for name, value in body.items():
        check = checks.get(name)
        if check is not None and value is not None:
            check(name, value)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise InvalidRequest("you must provide a model parameter", param="model")
    if body.get(required) is None:
        raise InvalidRequest(
            f"Missing required parameter: '{required}'.", param=required, code="missing_required_parameter"
        )
    return body


def request(body: Json, needs: Mapping[str, str]) -> Request:
    """What the gateway reads of a checked body. Raises InvalidRequest where its parts do not go together."""
    stream = body.get("stream") is True
    options = body.get("stream_options")
    if options is not None and not stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return Request(
        body=body,
        model=body["model"],
        stream=stream,
        include_usage=bool(options and options.get("include_usage")),
        needs=needs,
        hints=hints(body.get("metadata")),
    )


def parse(raw: bytes) -> Json:
    """The JSON object of a body, free of connection words and of bottomless nesting. Raises InvalidRequest."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body of your request is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body of your request must be a JSON object.", code="invalid_json")
    _guard(body)
    return body


def hints(metadata: Any) -> Hints:
    """Talaria's own words among OpenAI's `metadata`. Raises InvalidRequest."""
    if not metadata:
        return _NO_HINTS
    deadline = metadata.get("deadline_ms")
    tags = metadata.get("tags")
    return Hints(
        use_case=_text(metadata, "use_case"),
        latency_class=_text(metadata, "latency_class"),
        task=_text(metadata, "task"),
        deadline_ms=None if deadline is None else milliseconds(deadline, "metadata.deadline_ms"),
        tags={} if tags is None else pairs(tags, "metadata.tags"),
        diffusing=None if metadata.get("diffusing") is None else snapshots(metadata["diffusing"], "metadata.diffusing"),
    )


def milliseconds(value: object, place: str) -> int:
    """A whole number of milliseconds above 0, as a number or in digits. Raises InvalidRequest."""
    text = str(value) if not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text) > 0):
        raise InvalidRequest(
            f"Invalid value for '{place}': expected a whole number of milliseconds above 0.", param=place
        )
    return int(text)


def snapshots(value: object, place: str) -> str:
    """One of the modes for snapshots. Raises InvalidRequest."""
    one_of(*MODES)(place, value)
    return str(value)


def pairs(value: object, place: str) -> dict[str, str]:
    """`team=a,feature=b`, or an object of strings. Raises InvalidRequest."""
    if isinstance(value, dict):
        found = {str(name): text for name, text in value.items() if isinstance(text, str)}
        whole = len(found) == len(value)
    elif isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",") if part.strip()]
        found = {name.strip(): text.strip() for name, _, text in parts}
        whole = all(equals and name.strip() for name, equals, _ in parts)
    else:
        found, whole = {}, False
    if not whole:
        raise InvalidRequest(f"Invalid value for '{place}': expected tags such as 'team=a,feature=b'.", param=place)
    return found


def frame(batch: Batch) -> bytes:
    """The events of one batch, ready for one write."""
    return b"data: " + b"\n\ndata: ".join(batch) + b"\n\n"


def refusal(error: BaseException, request_id: str) -> bytes:
    """OpenAI's error object; the request's id is in a header."""
    return errors.body(error)


def failure(error: BaseException, request_id: str) -> bytes:
    """After the commit point: one typed error event, and no `[DONE]`."""
    return frame([errors.body(error)])


def through(endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
    """Every vendor speaks it itself or not at all."""
    return None


HEADERS: frozenset[bytes] = frozenset()
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


_NO_HINTS = Hints()


def _text(metadata: Json, name: str) -> str | None:
    value = metadata.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"Invalid type for 'metadata.{name}': expected a string.", param=f"metadata.{name}")


def _guard(body: Json) -> None:
    """Refuses connection words at any depth, and nesting deeper than MAX_DEPTH.

    The names under `properties` of a JSON Schema, its examples, and what a tool is called with are the caller's data: a
    tool may well have a parameter called `base_url`.
    """
    level: list[tuple[Any, int]] = [(body, _PLAIN)]
    for _ in range(MAX_DEPTH):
        deeper: list[tuple[Any, int]] = []
        for node, manner in level:
            if type(node) is dict:
                if manner != _DATA and not CONNECTION_WORDS.isdisjoint(node):
                    word = next(name for name in node if name in CONNECTION_WORDS)
                    raise InvalidRequest(
                        f"'{word}' is not allowed: where requests go and with which key is set by the gateway alone.",
                        param=word,
                        code="unknown_parameter",
                    )
                for name, value in node.items():
                    kind = type(value)
                    if kind is not dict and kind is not list:
                        continue
                    if manner == _DATA:
                        deeper.append((value, _DATA))
                    elif name == "parameters" or name == "schema" or name == "input_schema":
                        deeper.append((value, _SCHEMA))
                    elif manner == _SCHEMA and name in _SCHEMA_NAMES and kind is dict:
                        deeper.extend((each, _SCHEMA) for each in value.values() if isinstance(each, (dict, list)))
                    elif (
                        (manner == _SCHEMA and name in _SCHEMA_DATA)
                        or name == "input_examples"
                        or (name == "input" and node.get("type") in _CALLED)
                    ):
                        deeper.append((value, _DATA))
                    else:
                        deeper.append((value, manner))
            else:
                deeper.extend((each, manner) for each in node if type(each) is dict or type(each) is list)
        if not deeper:
            return
        level = deeper
    raise InvalidRequest(f"The body of your request is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")


def _message_needs(messages: list[Json]) -> dict[str, str]:
    """Checks each message's form, and collects the abilities that its content asks for."""
    needs: dict[str, str] = {}
    for i, message in enumerate(messages):
        if type(message) is not dict:
            raise mistyped(f"messages[{i}]", "an object", message)
        role = message.get("role")
        if role is None:
            raise InvalidRequest(
                f"Missing required parameter: 'messages[{i}].role'.",
                param=f"messages[{i}].role",
                code="missing_required_parameter",
            )
        if not isinstance(role, str) or role not in _ROLES:
            raise InvalidRequest(
                f"Invalid value: {show(role)}. Supported values are: {listed(_ROLES)}.",
                param=f"messages[{i}].role",
                code="invalid_value",
            )
        content = message.get("content")
        if type(content) is list:
            _part_needs(content, f"messages[{i}].content", needs)
        elif content is None:
            if role != "assistant":
                raise InvalidRequest(
                    "Invalid value for 'content': expected a string, got null.", param=f"messages[{i}].content"
                )
        elif type(content) is not str:
            raise mistyped(f"messages[{i}].content", "a string or an array of parts", content)
        if role == "assistant":
            if message.get("tool_calls") is not None:
                _tool_calls(message["tool_calls"], f"messages[{i}].tool_calls", needs)
            if message.get("function_call") is not None:
                needs.setdefault("functions", f"messages[{i}].function_call")
            if message.get("audio") is not None:
                needs.setdefault("audio", f"messages[{i}].audio")
        elif role == "tool":
            if not isinstance(message.get("tool_call_id"), str):
                raise InvalidRequest(
                    f"Missing required parameter: 'messages[{i}].tool_call_id'.",
                    param=f"messages[{i}].tool_call_id",
                    code="missing_required_parameter",
                )
            needs.setdefault("tools", f"messages[{i}]")
        elif role == "function":
            needs.setdefault("functions", f"messages[{i}]")
    return needs


def _part_needs(parts: list[Any], place: str, needs: dict[str, str]) -> None:
    for j, part in enumerate(parts):
        if type(part) is not dict:
            raise mistyped(f"{place}[{j}]", "an object", part)
        kind = part.get("type")
        if kind == "text" or kind == "refusal":
            if not isinstance(part.get(kind), str):
                raise mistyped(f"{place}[{j}].{kind}", "a string", part.get(kind))
        elif kind == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else None
            if not isinstance(url, str) or not url:
                raise InvalidRequest(
                    f"Invalid type for '{place}[{j}].image_url': expected an object with a 'url'.",
                    param=f"{place}[{j}].image_url",
                    code="invalid_type",
                )
            needs.setdefault("image" if url[:5].lower() == "data:" else "image_url", f"{place}[{j}].image_url.url")
        elif kind == "input_audio" or kind == "file":
            if not isinstance(part.get(kind), dict):
                raise mistyped(f"{place}[{j}].{kind}", "an object", part.get(kind))
            needs.setdefault("audio" if kind == "input_audio" else "file", f"{place}[{j}]")
        elif not isinstance(kind, str):
            raise InvalidRequest(
                f"Missing required parameter: '{place}[{j}].type'.",
                param=f"{place}[{j}].type",
                code="missing_required_parameter",
            )
        elif kind not in ("thinking", "redacted_thinking"):
            raise InvalidRequest(
                f"Invalid value: {show(kind)}. Supported values are: 'text', 'image_url', 'input_audio', 'file' and "
                "'refusal'.",
                param=f"{place}[{j}].type",
                code="invalid_value",
            )


def _tool_calls(calls: Any, place: str, needs: dict[str, str]) -> None:
    if type(calls) is not list:
        raise mistyped(place, "an array", calls)
    for j, call in enumerate(calls):
        if type(call) is not dict:
            raise mistyped(f"{place}[{j}]", "an object", call)
        if call.get("type") == "custom":
            needs.setdefault("custom_tools", f"{place}[{j}]")
            continue
        function = call.get("function")
        if type(function) is not dict or not isinstance(function.get("name"), str):
            raise mistyped(f"{place}[{j}].function", "an object with a 'name'", function)
        if not isinstance(function.get("arguments", ""), str):
            raise mistyped(f"{place}[{j}].function.arguments", "a string", function["arguments"])
        if not isinstance(call.get("id"), str):
            raise InvalidRequest(
                f"Missing required parameter: '{place}[{j}].id'.",
                param=f"{place}[{j}].id",
                code="missing_required_parameter",
            )
        needs.setdefault("tools", place)


def _request_needs(body: Json, needs: dict[str, str]) -> None:
    for i, tool in enumerate(body.get("tools") or ()):
        needs.setdefault("custom_tools" if tool["type"] == "custom" else "tools", "tools")
        if tool["type"] == "custom":
            needs["custom_tools"] = f"tools[{i}].type"
    if body.get("functions"):
        needs.setdefault("functions", "functions")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        needs["allowed_tools"] = "tool_choice"
    form = body.get("response_format")
    if form is not None and form["type"] != "text":
        needs[form["type"]] = "response_format"
    if (body.get("n") or 1) > 1:
        needs["n"] = "n"
    if body.get("logprobs"):
        needs["logprobs"] = "logprobs"
    if body.get("audio") is not None or "audio" in (body.get("modalities") or ()):
        needs["audio_output"] = "modalities" if body.get("audio") is None else "audio"
    if body.get("web_search_options") is not None:
        needs["web_search"] = "web_search_options"
    if body.get("prediction") is not None:
        needs["prediction"] = "prediction"
    if body.get("diffusing"):
        needs["diffusing"] = "diffusing"


@described({"type": "array", "items": {"type": "object", "required": ["role"]}, "minItems": 1})
def _messages(name: str, value: Any) -> None:
    if type(value) is not list:
        raise mistyped(name, "an array of objects", value)
    if not value:
        raise InvalidRequest(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param=name,
            code="empty_array",
        )


@described({"type": "string", "minLength": 1, "maxLength": 256})
def _model(name: str, value: Any) -> None:
    if type(value) is not str:
        raise mistyped(name, "a string", value)
    if len(value) > 256 or not value.isprintable():
        raise InvalidRequest("Invalid 'model': expected a name of at most 256 printable characters.", param=name)


@described({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}]})
def _stop(name: str, value: Any) -> None:
    if type(value) is str:
        return
    if type(value) is not list or not all(type(each) is str for each in value):
        raise mistyped(name, "a string or an array of strings", value)
    if len(value) > 4:
        raise InvalidRequest(
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(value)} instead.",
            param=name,
            code="array_above_max_length",
        )


@described({"type": "object", "properties": {"include_usage": {"type": "boolean"}}})
def _stream_options(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    for option in ("include_usage", "include_obfuscation"):
        if value.get(option) is not None and type(value[option]) is not bool:
            raise mistyped(f"{name}.{option}", "a boolean", value[option])


@described({"type": "object", "maxProperties": 24})
def _metadata(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    if len(value) > 24:
        raise InvalidRequest(f"Invalid '{name}': too many properties.", param=name, code="object_above_max_properties")


@described({"type": "array", "items": {"type": "object", "required": ["type"]}})
def _tools(name: str, value: Any) -> None:
    if type(value) is not list:
        raise mistyped(name, "an array of objects", value)
    for i, tool in enumerate(value):
        if type(tool) is not dict:
            raise mistyped(f"{name}[{i}]", "an object", tool)
        if tool.get("type") == "custom":
            continue
        if tool.get("type") != "function":
            raise InvalidRequest(
                f"Invalid value: {show(tool.get('type'))}. Supported values are: 'custom', 'function'.",
                param=f"{name}[{i}].type",
                code="invalid_value",
            )
        function = tool.get("function")
        if type(function) is not dict:
            raise mistyped(f"{name}[{i}].function", "an object", function)
        label = function.get("name")
        if not isinstance(label, str) or not _NAME.fullmatch(label):
            raise InvalidRequest(
                f"Invalid '{name}[{i}].function.name': expected 1 to 64 characters of a-z, A-Z, 0-9, _ and -.",
                param=f"{name}[{i}].function.name",
                code="invalid_value",
            )
        if function.get("parameters") is not None and type(function["parameters"]) is not dict:
            raise mistyped(f"{name}[{i}].function.parameters", "an object", function["parameters"])


def _tool_choice(name: str, value: Any) -> None:
    if isinstance(value, str):
        one_of("none", "auto", "required")(name, value)
    elif type(value) is not dict:
        raise mistyped(name, "a string or an object", value)
    elif value.get("type") == "function":
        function = value.get("function")
        if type(function) is not dict or not isinstance(function.get("name"), str):
            raise mistyped(f"{name}.function", "an object with a 'name'", function)
    elif value.get("type") == "custom":
        custom = value.get("custom")
        if type(custom) is not dict or not isinstance(custom.get("name"), str):
            raise mistyped(f"{name}.custom", "an object with a 'name'", custom)
    elif value.get("type") == "allowed_tools":
        _allowed_tools(f"{name}.allowed_tools", value.get("allowed_tools"))
    else:
        raise InvalidRequest(
            f"Invalid value: {show(value.get('type'))}. Supported values are: 'allowed_tools', 'custom', 'function'.",
            param=f"{name}.type",
            code="invalid_value",
        )


def _allowed_tools(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    one_of("auto", "required")(f"{name}.mode", value.get("mode"))
    tools = value.get("tools")
    if type(tools) is not list:
        raise mistyped(f"{name}.tools", "an array of objects", tools)
    for i, tool in enumerate(tools):
        if type(tool) is not dict:
            raise mistyped(f"{name}.tools[{i}]", "an object", tool)
        one_of("function", "custom")(f"{name}.tools[{i}].type", tool.get("type"))
        named = tool.get(tool["type"])
        if type(named) is not dict or not isinstance(named.get("name"), str):
            raise mistyped(f"{name}.tools[{i}].{tool['type']}", "an object with a 'name'", named)


def _function_call(name: str, value: Any) -> None:
    if isinstance(value, str):
        one_of("none", "auto")(name, value)
    elif type(value) is not dict or not isinstance(value.get("name"), str):
        raise mistyped(name, "a string or an object with a 'name'", value)


@described({"type": "object", "required": ["type"]})
def _response_format(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    one_of("text", "json_object", "json_schema")(f"{name}.type", value.get("type"))
    if value["type"] == "json_schema":
        form = value.get("json_schema")
        if type(form) is not dict:
            raise mistyped(f"{name}.json_schema", "an object", form)
        if form.get("schema") is not None and type(form["schema"]) is not dict:
            raise mistyped(f"{name}.json_schema.schema", "an object", form["schema"])
        if not isinstance(form.get("name"), str) or not _NAME.fullmatch(form["name"]):
            raise InvalidRequest(
                f"Missing or invalid '{name}.json_schema.name': expected 1 to 64 characters of a-z, A-Z, 0-9, _ and -.",
                param=f"{name}.json_schema.name",
                code="missing_required_parameter",
            )


CHECKS: dict[str, Check] = {
    "model": _model,
    "messages": _messages,
    "stream": is_a(bool, "a boolean"),
    "stream_options": _stream_options,
    "max_tokens": integer(1, 2**31),
    "max_completion_tokens": integer(1, 2**31),
    "temperature": number(0.0, 2.0),
    "top_p": number(0.0, 1.0),
    "n": integer(1, 128),
    "stop": _stop,
    "presence_penalty": number(-2.0, 2.0),
    "frequency_penalty": number(-2.0, 2.0),
    "logit_bias": is_a(dict, "an object"),
    "logprobs": is_a(bool, "a boolean"),
    "top_logprobs": integer(0, 20),
    "seed": is_a(int, "an integer"),
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": is_a(bool, "a boolean"),
    "functions": is_a(list, "an array"),
    "function_call": _function_call,
    "response_format": _response_format,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max", "instant"),
    "modalities": is_a(list, "an array"),
    "metadata": _metadata,
    "user": is_a(str, "a string"),
    "store": is_a(bool, "a boolean"),
    "diffusing": is_a(bool, "a boolean"),
}
SCHEMA = schema(CHECKS, "model", "messages")
