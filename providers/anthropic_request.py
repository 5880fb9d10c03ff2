"""OpenAI's chat request as Anthropic's Messages request (API version 2023-06-01).

What is chosen where the two differ:

- Instructions in the middle of a conversation go to the end of `system`, unless the model takes them where they are.
- A conversation that the assistant begins gets a user's turn of one point before it; instructions alone become the
  user's words.
- Names and ids that Anthropic does not take are spelled differently, and spelled back in the answer.
- JSON by a schema: natively where the model can constrain its output and the schema is inside the limits. Otherwise by
  a tool that the model must call, whose input becomes the answer's content. Beside tools of the caller's the model must
  call one or the other (`any`); where the caller himself demands a call, the schema has to wait for a later turn.
- Manual thinking gives way to what Anthropic refuses beside it: a forced tool, a continued message, tools that were
  called in the running turn without thinking. Adaptive thinking gets along with all but the second.
  https://platform.claude.com/docs/build-with-claude/thinking-tool-workflows
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from providers.abilities import fit, neutral, refuse_dropped
from providers.anthropic_answer import PLAIN, Reading
from providers.anthropic_messages import (
    Conversation,
    Names,
    Omissions,
    a_list,
    a_string,
    an_object,
    cache_control,
    wrong,
)
from providers.anthropic_schema import constrain, fits
from providers.errors import Unsupported
from providers.types import Call, Json, Model

DEFAULT_MAX_TOKENS = 4096
CHARS_PER_TOKEN = 4
LEAST_BUDGET = 1024
MAX_STRICT_TOOLS = 20
MAX_STOPS = 4
LONGEST_NAME = 64
LONGEST_USER = 256
ANY_OBJECT: Json = {"type": "object", "properties": {}}
JSON_PLEASE = "Answer with one JSON object and nothing else: no text before or after it, no markdown fence around it."
JSON_TOOL = "json_output"
JSON_TOOL_PURPOSE = "Gives the final answer to the user."

_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_REFUSED = ("functions", "function_call", "audio", "web_search_options")
_HANDLED = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "n"),
        *("stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("reasoning_effort", "thinking", "cache_control", "user", "safety_identifier", "service_tier", "modalities"),
        *_REFUSED,
    }
)
# Anthropic wants no personal data in `user_id`.
_PERSONAL = re.compile(r".*@.*|[+(]?\d[\d\s()./-]{5,}\d", re.DOTALL)


class Encoded(NamedTuple):
    body: Json
    dropped: tuple[str, ...]
    reading: Reading


def encode(call: Call, model: Model) -> Encoded:
    """The vendor's request, the parameters that were left out or bent, and how the answer is to be read.

    Raises InvalidRequest for what is wrong with the request, Unsupported for what the model cannot do.
    """
    request, dropped = fit(call, model)
    omissions = Omissions(model, dropped)
    _refuse(request, omissions)

    names = Names(LONGEST_NAME)
    tools = _tools(request, model, names, omissions)
    conversation = Conversation(model, names, omissions)
    conversation.read(request.get("messages"))
    choice, tools = _choice(request, tools, names)
    output, choice, tools, reading = _format(request, model, conversation, tools, choice, names, omissions)
    if not tools and conversation.called:
        # Tool blocks in the history are only taken beside tools.
        tools = [{"name": name, "input_schema": ANY_OBJECT} for name in conversation.called]
        choice = {"type": "none"}

    limit = _max_tokens(request, model, omissions)
    thinking, effort, limit = _thinking(request, model, conversation, choice, limit, omissions)
    if effort is not None:
        output["effort"] = effort
    thinks = model.card.reasons_by_default if thinking is None else thinking["type"] != "disabled"
    if not thinks:
        conversation.forget_thinking()

    body: Json = {"model": model.upstream, "max_tokens": limit}
    if conversation.system:
        body["system"] = _system(conversation.system)
    body["messages"] = conversation.turns
    if tools:
        body["tools"] = tools
    if choice is not None:
        body["tool_choice"] = choice
    if thinking is not None:
        body["thinking"] = thinking
    if output:
        body["output_config"] = output
    _sampling(request, body, model, thinks, omissions)
    _rest(request, body, model, omissions)
    if _worth_caching(call, model):
        body["cache_control"] = {"type": "ephemeral"}
    if call.stream:
        body["stream"] = True
    refuse_dropped(model, omissions.names)
    return Encoded(body, tuple(omissions.names), reading._replace(names=names.changed))


def _worth_caching(call: Call, model: Model) -> bool:
    """Whether the vendor shall cache the prompt: where a conversation goes on, and the caller marks nothing himself.

    What is cached costs a quarter more once and nine tenths less each time it is read. A first message may be the last
    one, so that it would only cost more; whoever comes back once will most likely come back again. The one mark at the
    top moves along with the conversation: https://platform.claude.com/docs/build-with-claude/prompt-caching
    """
    least = model.card.cache_from
    if not model.caches or least is None or call.chars < least * CHARS_PER_TOKEN or b"cache_control" in call.raw:
        return False
    return any(isinstance(each, dict) and each.get("role") == "assistant" for each in call.body["messages"])


def _refuse(request: Json, omissions: Omissions) -> None:
    """What Anthropic has no counterpart for and changes the answer."""
    count = request.get("n")
    if count is not None and _integer(count, "n", least=1) > 1:
        omissions.refuse("n", reason="only one choice")
    for param in _REFUSED:
        if not neutral(param, request.get(param)):
            omissions.refuse(param)
    modalities = request.get("modalities")
    if modalities is not None and "text" not in a_list(modalities, "modalities"):
        raise Unsupported("only text is supported", param="modalities", code="unsupported_value")
    if not neutral("modalities", modalities):
        omissions.refuse("modalities", reason="only text")
    if request.get("stream_options") is not None:
        an_object(request["stream_options"], "stream_options")
        if not request.get("stream"):
            raise wrong("only allowed with stream: true", param="stream_options")


def _system(blocks: list[Json]) -> str | list[Json]:
    if any("cache_control" in block for block in blocks):
        return blocks
    return "\n".join(block["text"] for block in blocks)


# --- tools ---


def _tools(request: Json, model: Model, names: Names, omissions: Omissions) -> list[Json]:
    if request.get("tools") is None:
        return []
    items = a_list(request["tools"], "tools")
    if items and "tools" not in model.card.abilities:
        omissions.refuse("tools")
        return []
    tools: list[Json] = []
    seen: set[str] = set()
    strict = 0
    for index, item in enumerate(items):
        place = f"tools[{index}]"
        tool = an_object(item, place)
        if tool.get("type", "function") != "function":
            omissions.refuse("custom_tools", f"{place}.type", "only function tools")
            continue
        function = an_object(tool.get("function"), f"{place}.function")
        name = a_string(function.get("name"), f"{place}.function.name")
        if not name or name in seen:
            raise wrong("a tool needs a name of its own", param=f"{place}.function.name")
        seen.add(name)
        out: Json = {"name": names(name)}
        if function.get("description") is not None:
            out["description"] = a_string(function["description"], f"{place}.function.description")
        out["input_schema"] = schema = _object_schema(function.get("parameters"), f"{place}.function.parameters")
        if function.get("strict"):
            strict += 1
            if "strict_tools" in model.card.abilities and strict <= MAX_STRICT_TOOLS and fits(schema):
                out["strict"] = True
            else:
                omissions.note("tools.function.strict")
        if tool.get("cache_control") is not None:
            out["cache_control"] = cache_control(tool["cache_control"], f"{place}.cache_control")
        tools.append(out)
    return tools


def _object_schema(value: Any, place: str) -> Json:
    if value is None:
        return ANY_OBJECT
    schema = an_object(value, place)
    if schema.get("type", "object") != "object":
        raise wrong("must be a schema of an object", param=place)
    return schema if "type" in schema else {"type": "object", **schema}


def _choice(request: Json, tools: list[Json], names: Names) -> tuple[Json | None, list[Json]]:
    """`tool_choice`, and the tools that it leaves."""
    wanted = request.get("tool_choice")
    parallel = request.get("parallel_tool_calls")
    if not tools and request.get("tools"):
        return None, []  # tools that were left out take the choice among them along
    if parallel is not None and not isinstance(parallel, bool):
        raise wrong("must be a boolean", param="parallel_tool_calls")
    choice: Json | None
    match wanted:
        case None:
            choice = None
        case "auto" | "none":
            choice = {"type": wanted}
        case "required":
            choice = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            choice = {"type": "tool", "name": _declared(name, tools, names)["name"]}
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            choice = {"type": "any" if mode == "required" else "auto"}
            tools = [_allowed(item, tools, names) for item in allowed]
        case {"type": "custom"}:
            raise Unsupported("only function tools are supported", param="tool_choice")
        case _:
            raise wrong("is none of the choices there are", param="tool_choice", code="invalid_value")
    if not tools:
        if choice is not None and choice["type"] == "any":
            raise wrong("only allowed with tools", param="tool_choice")
        return None, []
    if parallel is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    return choice, tools


def _declared(name: str, tools: list[Json], names: Names) -> Json:
    spelled = names(name)
    for tool in tools:
        if tool["name"] == spelled:
            return tool
    raise wrong("names a tool that is not among the tools", param="tool_choice")


def _allowed(item: Any, tools: list[Json], names: Names) -> Json:
    match item:
        case {"type": "function", "function": {"name": str(name)}}:
            return _declared(name, tools, names)
    raise wrong("only function tools can be allowed", param="tool_choice.allowed_tools.tools")


# --- JSON ---


def _format(
    request: Json,
    model: Model,
    conversation: Conversation,
    tools: list[Json],
    choice: Json | None,
    names: Names,
    omissions: Omissions,
) -> tuple[Json, Json | None, list[Json], Reading]:
    """`output_config`, and what the wish for JSON makes of the choice, the tools and the reading of the answer."""
    as_it_is: tuple[Json, Json | None, list[Json], Reading] = ({}, choice, tools, PLAIN)
    wanted = request.get("response_format")
    if wanted is None:
        return as_it_is
    kind = an_object(wanted, "response_format").get("type")
    if kind == "text":
        return as_it_is
    if kind == "json_object":
        if "json_object" not in model.card.abilities:
            omissions.note("response_format")
        conversation.system.append({"type": "text", "text": JSON_PLEASE})
        return {}, choice, tools, Reading(unfence=True)
    if kind != "json_schema":
        raise wrong("is no known format", param="response_format.type", code="invalid_value")

    place = "response_format.json_schema"
    given = an_object(wanted.get("json_schema"), place)
    schema = an_object(given.get("schema", ANY_OBJECT), f"{place}.schema")
    if conversation.prefilled:
        raise Unsupported("an assistant's message cannot be continued by a schema", param="response_format")
    # Strict tools and native formats are one ability: decoding that a grammar constrains.
    if {"json_schema", "strict_tools"} <= model.card.abilities and given.get("strict") is not False:
        fitted = constrain(schema)
        if fitted is not None:
            if fitted[1]:
                omissions.note("response_format")
            return {"format": {"type": "json_schema", "schema": fitted[0]}}, choice, tools, PLAIN

    if "tools" not in model.card.abilities:
        omissions.refuse("response_format")
        return as_it_is
    if choice is not None and choice["type"] in ("any", "tool"):
        return as_it_is
    tool: Json = {"name": names.fresh(JSON_TOOL), "description": JSON_TOOL_PURPOSE}
    if isinstance(given.get("description"), str):
        tool["description"] += f" {given['description']}"
    tool["input_schema"] = _object_schema(schema, f"{place}.schema")
    if tools and (choice is None or choice["type"] == "auto"):
        choice = {**(choice or {}), "type": "any"}
    else:
        choice = {"type": "tool", "name": tool["name"], "disable_parallel_tool_use": True}
    return {}, choice, [*tools, tool], Reading(json_tool=tool["name"])


# --- limits, thinking, sampling ---


def _max_tokens(request: Json, model: Model, omissions: Omissions) -> int | None:
    """The output limit that the caller set; None where he set none."""
    most = model.card.max_output
    limit: int | None = None
    for param in ("max_tokens", "max_completion_tokens"):
        if request.get(param) is not None:
            limit = _integer(request[param], param, least=1)
            named = param
    if limit is not None and most is not None and limit > most:
        omissions.note(named)
        return most
    return limit


def _thinking(
    request: Json,
    model: Model,
    conversation: Conversation,
    choice: Json | None,
    limit: int | None,
    omissions: Omissions,
) -> tuple[Json | None, str | None, int]:
    """`thinking`, the effort, and the output limit, which has room for the thinking where the caller set none."""
    card = model.card
    most = limit or card.max_output or DEFAULT_MAX_TOKENS
    effort = request.get("reasoning_effort")
    native = request.get("thinking")
    off: Json | None = {"type": "disabled"} if card.reasons_by_default else None
    if effort is not None:
        a_string(effort, "reasoning_effort")
    if native is not None and card.reasoning:
        if an_object(native, "thinking").get("type") not in ("enabled", "adaptive", "disabled"):
            raise wrong("type must be enabled, adaptive or disabled", param="thinking.type")
        if effort is not None:
            omissions.note("reasoning_effort")
        thinking, word, asked = native, None, "thinking"
    else:
        if native is not None:
            omissions.note("thinking")
        asked = "reasoning_effort" if effort is not None else ""
        if not card.reasoning:
            if effort not in (None, "none"):
                omissions.note("reasoning_effort")
            return None, None, most
        if effort is not None and effort not in card.reasoning:
            omissions.refuse("reasoning_effort", reason=f"one of {', '.join(card.reasoning)} is expected")
            effort = None
        told = card.reasoning[effort] if effort is not None else None
        thinking, word = None, None
        if isinstance(told, str):
            thinking, word = None if card.reasons_by_default else {"type": "adaptive"}, told
        elif told is not None:
            if limit is None:
                raised = most + told
                most = min(raised, card.max_output) if card.max_output is not None else raised
            if most <= LEAST_BUDGET:
                omissions.note("reasoning_effort")
            else:
                thinking = {"type": "enabled", "budget_tokens": min(told, most - 1)}
        elif effort is not None:
            thinking = off

    manual = thinking is not None and thinking["type"] == "enabled"
    thinks = card.reasons_by_default if thinking is None else thinking["type"] != "disabled"
    forced = choice is not None and choice["type"] in ("any", "tool")
    if thinks and (conversation.prefilled or (manual and (forced or conversation.unsigned))):
        if asked:
            omissions.note(asked)
        return off, None, most
    return thinking, word, most


def _sampling(request: Json, body: Json, model: Model, thinks: bool, omissions: Omissions) -> None:
    card = model.card
    for param, most, taken in (("temperature", 2, card.temperature), ("top_p", 1, card.top_p)):
        value = request.get(param)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise wrong(f"must be a number from 0 to {most}", param=param, code="invalid_value")
        unwelcome = (
            taken is None
            or (thinks and (value != 1 if param == "temperature" else value < 0.95))
            or (param == "top_p" and card.one_sampling and "temperature" in body)
        )
        if unwelcome or taken is None:
            omissions.leave(param, value)
            continue
        least, top = taken
        body[param] = min(max(value, least), top)
        if body[param] != value:
            omissions.note(param)
    if request.get("top_k") is not None:
        top_k = _integer(request["top_k"], "top_k", least=0)
        if thinks or card.temperature is None:
            omissions.note("top_k")
        else:
            body["top_k"] = top_k


# --- all else ---


def _rest(request: Json, body: Json, model: Model, omissions: Omissions) -> None:
    if stops := _stops(request.get("stop"), omissions):
        body["stop_sequences"] = stops
    if user := _user(request):
        body["metadata"] = {"user_id": user}
    tier = request.get("service_tier")
    if tier is not None:
        if a_string(tier, "service_tier") in _TIERS:
            body["service_tier"] = _TIERS[tier]
        else:
            omissions.note("service_tier")
    if request.get("cache_control") is not None:
        body["cache_control"] = cache_control(request["cache_control"], "cache_control")
    for param, value in request.items():
        if param in _HANDLED or value is None:
            continue
        if param == "metadata":
            an_object(value, "metadata")
        if param in model.card.accepts and param not in body:
            body[param] = value
        else:
            omissions.leave(param, value)


def _stops(value: Any, omissions: Omissions) -> list[str]:
    if value is None:
        return []
    given = [value] if isinstance(value, str) else a_list(value, "stop")
    if len(given) > MAX_STOPS:
        raise wrong(f"at most {MAX_STOPS} are allowed", param="stop")
    stops = [stop for index, stop in enumerate(given) if a_string(stop, f"stop[{index}]").strip()]
    if len(stops) < len(given):
        omissions.note("stop")
    return stops


def _user(request: Json) -> str | None:
    user: str | None = None
    for param in ("user", "safety_identifier"):
        if request.get(param) is not None:
            user = a_string(request[param], param)
    if user and (len(user) > LONGEST_USER or _PERSONAL.fullmatch(user)):
        return hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()
    return user


def _integer(value: Any, place: str, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong("must be an integer", param=place)
    if value < least:
        raise wrong(f"must be at least {least}", param=place, code="integer_below_min_value")
    return value
