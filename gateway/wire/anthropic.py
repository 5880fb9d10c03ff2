"""Anthropic's Messages API as callers speak it: https://platform.claude.com/docs/en/api/messages

The body is checked by hand and once, as far as the gateway or a translation relies on it: what is wrong is a 400 that
names the place. Blocks and parameters that are not known here go on to Anthropic as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson

from gateway import errors
from gateway.wire import Request
from gateway.wire.anthropic_chat import Translated
from gateway.wire.checks import Check, integer, is_a, mistyped, number, one_of, schema, show
from gateway.wire.openai import hints, parse
from providers.base import Batch, Endpoint
from providers.errors import InvalidRequest, Overloaded, Overwhelmed, TalariaError
from providers.types import Json, Model

OPERATION = "messages"
HEADERS = frozenset({b"anthropic-version", b"anthropic-beta"})
DONE = b""
PING = b'event: ping\ndata: {"type": "ping"}\n\n'

COUNT = "count_tokens"
"""The operation that counts a request's tokens."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
"""Anthropic's types of error by status. https://platform.claude.com/docs/en/api/errors"""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_BLOCKS: dict[str, tuple[tuple[str, type, str], ...]] = {
    "text": (("text", str, "a string"),),
    "image": (("source", dict, "an object"),),
    "document": (("source", dict, "an object"),),
    "search_result": (("content", list, "an array"),),
    "tool_use": (("id", str, "a string"), ("name", str, "a string"), ("input", dict, "an object")),
    "tool_result": (("tool_use_id", str, "a string"),),
    "thinking": (("thinking", str, "a string"),),
    "redacted_thinking": (("data", str, "a string"),),
}
_SOURCES: dict[str, tuple[str, ...]] = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "text": ("data",),
    "file": ("file_id",),
    "content": (),
}


def is_spoken(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request, of whatever path, comes from somebody who speaks Anthropic's dialect."""
    return scope["path"].startswith("/v1/messages") or any(name in HEADERS for name, _ in scope["headers"])


def decode(raw: bytes) -> Request:
    """A request body. Raises InvalidRequest, naming the parameter."""
    request = decode_count(raw)
    body = request.body
    if body.get("max_tokens") is None:
        raise _missing("max_tokens")
    return request


def decode_count(raw: bytes) -> Request:
    """The body of a request to count its tokens: the same, but for the output limit, which need not be there."""
    body = parse(raw)
    for name, value in body.items():
        check = _CHECKS.get(name)
        if check is not None and value is not None:
            check(name, value)
    if not body.get("model"):
        raise _missing("model")
    if body.get("messages") is None:
        raise _missing("messages")
    needs: dict[str, str] = {}
    _messages(body["messages"], needs)
    _tool_needs(body, needs)
    form = (body.get("output_config") or {}).get("format") or body.get("output_format")
    if form:
        needs["json_schema"] = "output_config.format"
    for param in ("mcp_servers", "container"):
        if body.get(param):
            needs.setdefault("server_tools", param)
    return Request(
        body=body,
        model=body["model"],
        stream=body.get("stream") is True,
        include_usage=True,
        needs=needs,
        hints=hints(body.get("metadata")),
    )


def frame(batch: Batch) -> bytes:
    """The events of one batch, ready for one write."""
    return b"\n\n".join(batch) + b"\n\n"


def refusal(error: BaseException, request_id: str) -> bytes:
    """Anthropic's error object."""
    face = errors.face(error)
    if isinstance(error, Overwhelmed | Overloaded):
        kind = "overloaded_error"
    else:
        kind = TYPES.get(face.status) or ("api_error" if face.status >= 500 else "invalid_request_error")
    message = errors.INTERNAL
    if isinstance(error, TalariaError):
        named = error.param is None or error.param in error.message
        message = error.message if named else f"{error.param}: {error.message}"
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def failure(error: BaseException, request_id: str) -> bytes:
    """After the commit point: one typed error event, and no `message_stop`."""
    return frame([b"event: error\ndata: " + refusal(error, request_id)])


def through(endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
    """A vendor that does not speak it is asked in OpenAI's dialect."""
    chat = endpoints.get("chat")
    return None if chat is None else Translated(chat)


# --- messages and their blocks ---


def _messages(messages: list[Any], needs: dict[str, str]) -> None:
    for i, message in enumerate(messages):
        place = f"messages.{i}"
        if type(message) is not dict:
            raise mistyped(place, "an object", message)
        role: Any = message.get("role")
        one_of("user", "assistant", "system")(f"{place}.role", role)
        content = message.get("content")
        if type(content) is list:
            _blocks(content, f"{place}.content", role, needs)
        elif type(content) is not str:
            raise mistyped(f"{place}.content", "a string or an array of blocks", content)


def _blocks(blocks: list[Any], place: str, role: str, needs: dict[str, str]) -> None:
    for i, block in enumerate(blocks):
        here = f"{place}.{i}"
        if type(block) is not dict:
            raise mistyped(here, "an object", block)
        kind = block.get("type")
        if type(kind) is not str or not kind:
            raise _missing(f"{here}.type")
        for name, wanted, words in _BLOCKS.get(kind, ()):
            if type(block.get(name)) is not wanted:
                raise mistyped(f"{here}.{name}", words, block.get(name))
        match kind:
            case "image" | "document":
                _source(kind, block["source"], f"{here}.source", role, needs)
            case "tool_use" | "tool_result":
                expected = "assistant" if kind == "tool_use" else "user"
                if role != expected:
                    raise InvalidRequest(f"'{kind}' blocks may only be in {expected} messages.", param=here)
                needs.setdefault("tools", here)
                if kind == "tool_result":
                    _result(block, here, role, needs)
            case "search_result":
                _blocks(block["content"], f"{here}.content", role, needs)
            case "text" | "thinking" | "redacted_thinking":
                pass
            case _:
                needs.setdefault("server_tools", here)


def _result(block: Json, place: str, role: str, needs: dict[str, str]) -> None:
    content = block.get("content")
    if type(content) is list:
        if any(type(each) is dict and each.get("type") in ("tool_use", "tool_result") for each in content):
            raise InvalidRequest("a tool's result holds no tool blocks.", param=f"{place}.content")
        _blocks(content, f"{place}.content", role, needs)
    elif content is not None and type(content) is not str:
        raise mistyped(f"{place}.content", "a string or an array of blocks", content)
    if block.get("is_error") is not None:
        is_a(bool, "a boolean")(f"{place}.is_error", block["is_error"])


def _source(kind: str, source: Json, place: str, role: str, needs: dict[str, str]) -> None:
    sort = source.get("type")
    one_of("base64", "url", "file", *(("text", "content") if kind == "document" else ()))(f"{place}.type", sort)
    assert isinstance(sort, str)
    for name in _SOURCES[sort]:
        if type(source.get(name)) is not str or not source[name]:
            raise mistyped(f"{place}.{name}", "a string that is not empty", source.get(name))
    match sort:
        case "file":
            needs.setdefault("file_id", place)
        case "base64":
            needs.setdefault("image" if kind == "image" else "file", place)
        case "url":
            needs.setdefault("image_url" if kind == "image" else "file_url", place)
        case "content":
            content = source.get("content")
            if type(content) is list:
                _blocks(content, f"{place}.content", role, needs)
            elif type(content) is not str:
                raise mistyped(f"{place}.content", "a string or an array of blocks", content)


def _tool_needs(body: Json, needs: dict[str, str]) -> None:
    names = set()
    for i, tool in enumerate(body.get("tools") or ()):
        names.add(tool.get("name"))
        if tool.get("type") in (None, "custom"):
            needs.setdefault("tools", "tools")
        else:
            needs["server_tools"] = f"tools.{i}"
    choice = body.get("tool_choice")
    if not choice:
        return
    if not body.get("tools"):
        raise InvalidRequest("may only be specified while providing `tools`.", param="tool_choice")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise InvalidRequest(f"Tool {show(choice['name'])} not found in provided tools.", param="tool_choice.name")


# --- parameters ---


def _missing(place: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: Field required", param=place, code="missing_required_parameter")


def _filled(name: str, value: Any) -> None:
    if type(value) is not list:
        raise mistyped(name, "an array of objects", value)
    if not value:
        raise InvalidRequest(f"{name}: at least one message is required", param=name)


def _model(name: str, value: Any) -> None:
    if type(value) is not str:
        raise mistyped(name, "a string", value)
    if len(value) > 256 or not value.isprintable():
        raise InvalidRequest("Invalid 'model': expected a name of at most 256 printable characters.", param=name)


def _system(name: str, value: Any) -> None:
    if type(value) is str:
        return
    if type(value) is not list:
        raise mistyped(name, "a string or an array of text blocks", value)
    for i, block in enumerate(value):
        if type(block) is not dict or block.get("type") != "text" or type(block.get("text")) is not str:
            raise mistyped(f"{name}.{i}", "a text block", block)


def _tools(name: str, value: Any) -> None:
    if type(value) is not list:
        raise mistyped(name, "an array of objects", value)
    for i, tool in enumerate(value):
        place = f"{name}.{i}"
        if type(tool) is not dict:
            raise mistyped(place, "an object", tool)
        kind = tool.get("type")
        if kind is not None and type(kind) is not str:
            raise mistyped(f"{place}.type", "a string", kind)
        label = tool.get("name")
        if label is not None and type(label) is not str:
            raise mistyped(f"{place}.name", "a string", label)
        if kind not in (None, "custom"):
            continue
        if label is None or not _NAME.fullmatch(label):
            raise InvalidRequest(f"{place}.name: expected 1 to 128 characters of a-z, A-Z, 0-9, _ and -.", param=place)
        if type(tool.get("input_schema")) is not dict:
            raise mistyped(f"{place}.input_schema", "an object", tool.get("input_schema"))
        if tool["input_schema"].get("type", "object") != "object":
            raise InvalidRequest(f"{place}.input_schema.type: Input should be 'object'", param=place)
        if type(tool.get("description", "")) not in (str, type(None)):
            raise mistyped(f"{place}.description", "a string", tool["description"])


def _tool_choice(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    one_of("auto", "any", "tool", "none")(f"{name}.type", value.get("type"))
    if value["type"] == "tool":
        is_a(str, "a string")(f"{name}.name", value.get("name"))
    if value.get("disable_parallel_tool_use") is not None:
        is_a(bool, "a boolean")(f"{name}.disable_parallel_tool_use", value["disable_parallel_tool_use"])


def _stops(name: str, value: Any) -> None:
    if type(value) is not list:
        raise mistyped(name, "an array of strings", value)
    for i, stop in enumerate(value):
        is_a(str, "a string")(f"{name}.{i}", stop)
        if not stop.strip():
            raise InvalidRequest(f"{name}: each stop sequence must contain non-whitespace", param=name)


def _thinking(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    one_of("enabled", "adaptive", "disabled")(f"{name}.type", value.get("type"))
    if value["type"] == "enabled":
        integer(1024, 2**31)(f"{name}.budget_tokens", value.get("budget_tokens"))


def _output_config(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    if value.get("effort") is not None:
        one_of("low", "medium", "high", "xhigh", "max")(f"{name}.effort", value["effort"])
    if value.get("format") is not None:
        _format(f"{name}.format", value["format"])


def _format(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    one_of("json_schema")(f"{name}.type", value.get("type"))
    if type(value.get("schema")) is not dict:
        raise mistyped(f"{name}.schema", "an object", value.get("schema"))


def _metadata(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise mistyped(name, "an object", value)
    if value.get("user_id") is not None:
        is_a(str, "a string")(f"{name}.user_id", value["user_id"])


_CHECKS: dict[str, Check] = {
    "model": _model,
    "messages": _filled,
    "system": _system,
    "max_tokens": integer(1, 2**31),
    "stream": is_a(bool, "a boolean"),
    "temperature": number(0.0, 1.0),
    "top_p": number(0.0, 1.0),
    "top_k": integer(0, 2**31),
    "stop_sequences": _stops,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "thinking": _thinking,
    "output_config": _output_config,
    "output_format": _format,
    "metadata": _metadata,
    "service_tier": one_of("auto", "standard_only"),
    "mcp_servers": is_a(list, "an array"),
}
SCHEMA = schema(_CHECKS, "model", "messages", "max_tokens")
