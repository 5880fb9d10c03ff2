"""Anthropic's messages, served by a vendor that speaks OpenAI's chat completions.

What is chosen where the two differ:

- A tool's result that is an error says so in its first word; images in it follow in the user's message.
- A budget for thinking becomes an effort; an effort that is given wins.
- Thoughts in the history are left out: no other vendor can take them back. Reasoning in an answer becomes a thinking
  block without a signature.
- Blocks of an answer never overlap: a second call whose parts come before the first is complete waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from gateway.wire.anthropic_events import STOPS, Writer, opening, reasoning_of, usage_json
from providers.abilities import refuse_dropped
from providers.base import Batch, Endpoint, Stream
from providers.errors import BadReply, InvalidRequest, Unsupported
from providers.lenient import dumps, loads
from providers.types import Call, Json, Model, Reply, Tally, Timeouts

MAX_STOPS = 4
ERROR = "Error: "

_SPELLED = {
    "stop": "stop_sequences",
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format": "output_config.format",
    "user": "metadata.user_id",
}
"""What the chat adapter calls a parameter, and what the caller does."""

_HANDLED = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "temperature", "top_p", "stop_sequences", "tools"),
        *("tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier"),
    }
)
_TOOL_KEYS = frozenset({"type", "name", "description", "input_schema", "strict"})


class Translated:
    """The messages operation on top of a vendor's chat."""

    def __init__(self, chat: Endpoint) -> None:
        self._chat = chat

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        asked, dropped = translate(call, model)
        reply = await self._chat.complete(asked, model, timeouts)
        reply.body = dumps(answer(reply.body, reply.tally, model.name))
        reply.dropped = (*dropped, *_respelled(reply.dropped, call.body))
        return reply

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        asked, dropped = translate(call, model)
        stream = await self._chat.stream(asked, model, timeouts)
        dropped = (*dropped, *_respelled(stream.dropped, call.body))
        events = _events(stream, Writer(stream.tally, model.name))
        return Stream(events, stream.close, stream.tally, stream.headers, dropped)


async def _events(chunks: Stream, writer: Writer) -> AsyncIterator[Batch]:
    async for batch in chunks:
        if events := writer.write(batch):
            yield events
    yield writer.end()


def _respelled(dropped: tuple[str, ...], body: Json) -> tuple[str, ...]:
    effort = "thinking" if body.get("thinking") else "output_config.effort"
    return tuple(effort if name == "reasoning_effort" else _SPELLED.get(name, name) for name in dropped)


# --- the request ---


def translate(call: Call, model: Model) -> tuple[Call, tuple[str, ...]]:
    """The call as one for chat, and the parameters that were left out.

    Raises Unsupported for what would change the answer.
    """
    dropped: dict[str, None] = {}
    body = _request(call.body, model, dropped)
    refuse_dropped(model, list(dropped))
    return replace(call, operation="chat", body=body, include_usage=True, headers={}), tuple(dropped)


def _request(asked: Json, model: Model, dropped: dict[str, None]) -> Json:
    body: Json = {"model": asked["model"], "messages": _messages(asked, dropped)}
    body["max_completion_tokens"] = asked["max_tokens"]
    for param in ("temperature", "top_p"):
        if asked.get(param) is not None:
            body[param] = asked[param]
    stops = asked.get("stop_sequences")
    if stops:
        if len(stops) > MAX_STOPS:
            raise Unsupported(f"{model.name} takes at most {MAX_STOPS} stop sequences", param="stop_sequences")
        body["stop"] = stops
    if asked.get("tools"):
        body["tools"] = [_tool(tool, dropped) for tool in asked["tools"]]
        _choose(asked.get("tool_choice"), body)
    _effort(asked, model, body, dropped)
    form = (asked.get("output_config") or {}).get("format") or asked.get("output_format")
    if form:
        body["response_format"] = _format(form["schema"])
    user = (asked.get("metadata") or {}).get("user_id")
    if user:
        body["user"] = user
    if asked.get("service_tier") == "standard_only":
        body["service_tier"] = "default"
    for param, value in asked.items():
        if param not in _HANDLED and value is not None:
            dropped[param] = None
    if asked.get("stream"):
        body["stream"] = True
    return body


def _tool(tool: Json, dropped: dict[str, None]) -> Json:
    function: Json = {"name": tool["name"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    function["parameters"] = tool["input_schema"]
    if tool.get("strict"):
        function["strict"] = True
    for key, value in tool.items():
        if key not in _TOOL_KEYS and value is not None:
            dropped[key if key == "cache_control" else f"tools.{key}"] = None
    return {"type": "function", "function": function}


def _choose(choice: Json | None, body: Json) -> None:
    if not choice:
        return
    match choice["type"]:
        case "any":
            body["tool_choice"] = "required"
        case "tool":
            body["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
        case word:
            body["tool_choice"] = word
    if choice.get("disable_parallel_tool_use") and choice["type"] != "none":
        body["parallel_tool_calls"] = False


def _effort(asked: Json, model: Model, body: Json, dropped: dict[str, None]) -> None:
    thinking = asked.get("thinking") or {}
    config = asked.get("output_config") or {}
    effort: str | None = config.get("effort")
    if thinking.get("type") == "disabled":
        effort = "none" if "none" in model.card.reasoning else None
    elif effort is None and thinking.get("type") == "enabled":
        budget = thinking["budget_tokens"]
        effort = "low" if budget < 2048 else "medium" if budget < 4096 else "high"
    if effort is not None:
        body["reasoning_effort"] = effort
    for key, value in config.items():
        if key not in ("effort", "format") and value is not None:
            dropped[f"output_config.{key}"] = None


def _format(schema: Json) -> Json:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": _all_required(schema)},
    }


def _all_required(node: Any) -> bool:
    """Whether a schema has no optional property: OpenAI's strict mode takes no others."""
    if isinstance(node, list):
        return all(map(_all_required, node))
    if not isinstance(node, dict):
        return True
    properties = node.get("properties")
    if isinstance(properties, dict):
        required = node.get("required")
        if node.get("additionalProperties") is not False:
            return False
        if not isinstance(required, list) or any(name not in required for name in properties):
            return False
        if not _all_required(list(properties.values())):
            return False
    return all(_all_required(value) for name, value in node.items() if name != "properties")


# --- messages ---


def _messages(asked: Json, dropped: dict[str, None]) -> list[Json]:
    messages: list[Json] = []
    if text := _joined(asked.get("system"), dropped):
        messages.append({"role": "system", "content": text})
    for message in asked["messages"]:
        content = message["content"]
        match message["role"]:
            case "system":
                if text := _joined(content, dropped):
                    messages.append({"role": "system", "content": text})
            case "assistant":
                _assistant(messages, content, dropped)
            case _:
                _user(messages, content, dropped)
    if not any(message["role"] != "system" for message in messages):
        raise InvalidRequest("at least one message must have content.", param="messages")
    return messages


def _joined(content: Any, dropped: dict[str, None]) -> str:
    if not isinstance(content, list):
        return content or ""
    _marks(content, dropped)
    return "\n".join(block["text"] for block in content if block.get("text"))


def _marks(blocks: list[Json], dropped: dict[str, None]) -> None:
    for block in blocks:
        if block.get("cache_control") is not None:
            dropped["cache_control"] = None


def _assistant(messages: list[Json], content: Any, dropped: dict[str, None]) -> None:
    if isinstance(content, str):
        if content:
            messages.append({"role": "assistant", "content": content})
        return
    _marks(content, dropped)
    texts: list[Json] = []
    calls: list[Json] = []
    for block in content:
        match block["type"]:
            case "text" if block["text"]:
                texts.append({"type": "text", "text": block["text"]})
            case "tool_use":
                function = {"name": block["name"], "arguments": dumps(block["input"]).decode()}
                calls.append({"id": block["id"], "type": "function", "function": function})
            case "thinking" if not block.get("signature"):
                pass  # a translated answer's own reasoning: whoever wrote it would not take it back
            case "thinking" | "redacted_thinking":
                dropped["messages.content.thinking"] = None
            case "document" | "search_result":
                texts += _parts(block, dropped)
    if not texts and not calls:
        return
    message: Json = {"role": "assistant", "content": _plain(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    messages.append(message)


def _user(messages: list[Json], content: Any, dropped: dict[str, None]) -> None:
    if isinstance(content, str):
        if content:
            messages.append({"role": "user", "content": content})
        return
    _marks(content, dropped)
    parts: list[Json] = []
    for block in content:
        if block["type"] == "tool_result":
            text, shown = _result(block, dropped)
            messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": text})
            parts += shown
        else:
            parts += _parts(block, dropped)
    if parts:
        messages.append({"role": "user", "content": _plain(parts)})


def _result(block: Json, dropped: dict[str, None]) -> tuple[str, list[Json]]:
    """A tool's result as text, and the parts of it that are none."""
    content = block.get("content")
    shown: list[Json] = []
    if isinstance(content, list):
        _marks(content, dropped)
        parts = [part for inner in content for part in _parts(inner, dropped)]
        shown = [part for part in parts if part["type"] != "text"]
        content = "\n".join(part["text"] for part in parts if part["type"] == "text")
    text = content or ""
    return (ERROR + text if block.get("is_error") else text), shown


def _plain(parts: list[Json]) -> str | list[Json]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _parts(block: Json, dropped: dict[str, None]) -> list[Json]:
    """A block of a user's as OpenAI's parts of content."""
    if block.get("citations"):
        dropped["messages.content.citations"] = None
    match block["type"]:
        case "text":
            return [{"type": "text", "text": block["text"]}] if block["text"] else []
        case "image":
            source = block["source"]
            url = source["url"] if source["type"] == "url" else _data(source)
            return [{"type": "image_url", "image_url": {"url": url}}]
        case "document":
            return _document(block, dropped)
        case "search_result":
            found = [part for inner in block["content"] for part in _parts(inner, dropped)]
            return [*_titles(block.get("title"), block.get("source")), *found]
        case kind:
            raise Unsupported(f"{kind} blocks are only for Anthropic's own models", param="messages")


def _document(block: Json, dropped: dict[str, None]) -> list[Json]:
    source = block["source"]
    title, context = block.get("title"), block.get("context")
    match source["type"]:
        case "base64":
            name = title if isinstance(title, str) and title else "document.pdf"
            part: Json = {"type": "file", "file": {"filename": name, "file_data": _data(source)}}
            return [*_titles(context), part]
        case "text":
            return [*_titles(title, context), {"type": "text", "text": source["data"]}]
        case _:
            content = source["content"]
            if isinstance(content, str):
                inner = [{"type": "text", "text": content}] if content else []
            else:
                inner = [part for each in content for part in _parts(each, dropped)]
            return [*_titles(title, context), *inner]


def _titles(*words: Any) -> list[Json]:
    return [{"type": "text", "text": word} for word in words if isinstance(word, str) and word]


def _data(source: Json) -> str:
    return f"data:{source['media_type']};base64,{source['data']}"


# --- the whole answer ---


def answer(raw: bytes, tally: Tally, name: str) -> Json:
    """A `chat.completion` as a message of the model `name`. Raises BadReply where it is none."""
    try:
        completion = loads(raw)
        choice = completion["choices"][0]
        message = choice["message"]
        content = _content(message)
        stop = STOPS.get(choice.get("finish_reason"), "end_turn")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise BadReply("the answer is not a chat completion") from None
    called = content[-1:] and content[-1]["type"] == "tool_use"
    sequence = choice.get("stop_sequence")
    if isinstance(sequence, str):
        stop = "stop_sequence"
    if message.get("refusal"):
        stop = "refusal"
    elif called and stop in ("end_turn", "stop_sequence"):
        stop = "tool_use"
    elif stop == "tool_use" and not called:
        stop = "end_turn"
    return {
        **opening(completion, name),
        "content": content,
        "stop_reason": stop,
        "stop_sequence": sequence if stop == "stop_sequence" else None,
        "usage": usage_json(tally.usage),
    }


def _content(message: Json) -> list[Json]:
    content: list[Json] = []
    if thought := reasoning_of(message):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    said = message.get("content")
    if isinstance(said, list):
        said = "".join(part.get("text") or "" for part in said)
    texts = [text for text in (said, message.get("refusal")) if isinstance(text, str) and text]
    content += [{"type": "text", "text": text} for text in texts]
    for i, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        block: Json = {"type": "tool_use", "id": call.get("id") or f"call_{i}", "name": function["name"]}
        content.append({**block, "input": _input(function.get("arguments"))})
    return content


def _input(arguments: Any) -> Json:
    """What a tool is called with. What is no JSON object stays readable, under Anthropic's own word for such a case.

    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    if not arguments:
        return {}
    try:
        given = loads(arguments.encode())
    except ValueError:
        given = None
    return given if isinstance(given, dict) else {"INVALID_JSON": arguments}
