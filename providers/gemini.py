"""Google's Gemini API: https://ai.google.dev/api/generate-content

The signatures of thoughts travel with tool calls in `extra_content`, where Google's own OpenAI layer has them:
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import ClassVar

from providers import openai, openai_chat, openai_errors
from providers.abilities import fit, leave_out, name_dropped, refuse_dropped
from providers.errors import BadReply, TalariaError, Unsupported
from providers.lenient import dumps, loads
from providers.openai import Form
from providers.openai_chat import tokens
from providers.openai_tools import arguments, new_id
from providers.types import Call, Json, Model, Reply, Tally

FINISH = {"STOP": "stop", "MAX_TOKENS": "length"} | dict.fromkeys(
    ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY"), "content_filter"
)
BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"})
"""Ends of an answer that is none."""
UNSIGNED = "skip_thought_signature_validator"
"""Google's word for a call whose signature nobody has, as when another model made it."""

MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
CONFIG = {"temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed", "stop": "stopSequences"} | {
    "max_tokens": "maxOutputTokens",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
CODES = {"FAILED_PRECONDITION": "insufficient_quota", "API_KEY_INVALID": "invalid_api_key"}
TOO_LONG = "The input token count"
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,]*)?;base64,(.*)", re.DOTALL)
_MODEL, _STREAM = "/models/{upstream}", "streamGenerateContent?alt=sse"
_NO_ANSWER = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


def encode(call: Call, model: Model, stream: bool | None = None) -> tuple[bytes, list[str]]:
    """The request's body, and the parameters that were left out or bent. Where it goes says whether it streams."""
    body, dropped = fit(call, model)
    effort = body.pop("reasoning_effort", None)
    openai_chat.bound(body, model.card, dropped)
    for param in sorted(body.keys() - model.card.accepts):
        leave_out(body, param, dropped)
    system, contents = _conversation(body["messages"], model, dropped)
    request: Json = {"contents": contents} | ({"systemInstruction": {"parts": system}} if system else {})
    if tools := [_tool(tool, dropped) for tool in body.get("tools") or ()]:
        request["tools"] = [{"functionDeclarations": tools}]
        choice = body.get("tool_choice") or "auto"
        named = {} if isinstance(choice, str) else {"allowedFunctionNames": [choice["function"]["name"]]}
        request["toolConfig"] = {"functionCallingConfig": {"mode": "ANY" if named else MODES[choice], **named}}
    config = {theirs: body[ours] for ours, theirs in CONFIG.items() if body.get(ours) is not None}
    if isinstance(stop := config.get("stopSequences"), str):
        config["stopSequences"] = [stop]
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_object", "json_schema"):
        schema = (wanted.get("json_schema") or {}).get("schema")
        config |= {"responseMimeType": "application/json"} | ({"responseJsonSchema": schema} if schema else {})
    if effort in model.card.reasoning:
        told = model.card.reasoning[effort]
        level = {"thinkingLevel": told} if isinstance(told, str) else {"thinkingBudget": told or 0}
        config["thinkingConfig"] = level | ({"includeThoughts": True} if effort != "none" else {})
    elif effort is not None:
        name_dropped("reasoning_effort", dropped)
    refuse_dropped(model, dropped)
    return dumps(request | ({"generationConfig": config} if config else {})), dropped


def _conversation(messages: list[Json], model: Model, dropped: list[str]) -> tuple[list[Json], list[Json]]:
    """The instructions, and the turns: messages of one side that follow each other are one."""
    signs = any(isinstance(told, str) for told in model.card.reasoning.values())
    names: dict[str, str] = {}
    system: list[Json] = []
    turns: list[Json] = []
    for message in messages:
        role, content = message["role"], message.get("content") or message.get("refusal") or ()
        parts = [{"text": content}] if isinstance(content, str) else [_part(part) for part in content]
        if message.get("name"):
            name_dropped("messages.name", dropped)
        if role in ("system", "developer"):
            system += parts
            continue
        if role == "tool":
            id = message.get("tool_call_id") or ""
            result = {"result": "".join(part.get("text", "") for part in parts)}
            parts = [{"functionResponse": {"id": id, "name": names.get(id, id), "response": result}}]
        for index, called in enumerate(message.get("tool_calls") or ()):
            names[called.get("id")] = called["function"]["name"]
            parts.append(_called(called, signs and index == 0))
        side = "model" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == side:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": side, "parts": parts})
    return system, turns


def _part(part: Json) -> Json:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return {"text": text}
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "file", "file": {"file_data": str(url)}}:
            if data := _DATA.fullmatch(url):
                return {"inlineData": {"mimeType": data[1], "data": data[2]}}
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(kind)}}:
            return {"inlineData": {"mimeType": f"audio/{kind}", "data": data}}
    raise Unsupported("only text and inline data are supported", param="messages")


def _called(called: Json, must_sign: bool) -> Json:
    call = {"id": called.get("id"), "name": called["function"]["name"], "args": arguments(called)}
    signature = ((called.get("extra_content") or {}).get("google") or {}).get("thought_signature")
    signature = signature or (UNSIGNED if must_sign else None)
    return {"functionCall": call} | ({"thoughtSignature": signature} if signature else {})


def _tool(tool: Json, dropped: list[str]) -> Json:
    function = tool["function"]
    if function.get("strict"):
        name_dropped("tools.function.strict", dropped)
    names = {"name": "name", "description": "description", "parameters": "parametersJsonSchema"}
    return {theirs: function[ours] for ours, theirs in names.items() if function.get(ours)}


def decode(provider: str, model: Model, headers: Mapping[str, str], body: bytes) -> Reply:
    """The answer as a `chat.completion`. Raises what an error in place of an answer stands for."""
    tally = Tally()
    try:
        answer = _completion(loads(body), model.name, tally, "message", {})
        if "error" not in answer and not answer["choices"]:
            raise KeyError("candidates")
    except _NO_ANSWER:
        raise BadReply(f"{provider}: the answer is no answer of Gemini's", provider=provider) from None
    if "error" in answer:
        raise decode_error(provider, 200, headers, dumps(answer))
    openai_chat.observe(tally, answer)
    return Reply(dumps(answer), tally, headers)


class Reader(openai_chat.Reader):
    """Turns each event into a chunk of OpenAI's; the rest is as there."""

    def __init__(self, provider: str, model: Model, include_usage: bool, tally: Tally) -> None:
        super().__init__(provider, model, include_usage, tally)
        self._calls: dict[int, int] = {}
        self._created = int(time.time())

    def amend(self, chunk: Json) -> bool:
        try:
            told = _completion(chunk, self._name, self._tally, "delta", self._calls)
        except _NO_ANSWER:
            told = {}
        chunk.clear()
        chunk.update({**told, "created": self._created} if told else {})
        return True


def _completion(answer: Json, name: str, tally: Tally, part: str, calls: dict[int, int]) -> Json:
    """An answer or an event in OpenAI's form, or an `error`; `calls` counts the tool calls of each choice so far."""
    blocked = (answer.get("promptFeedback") or {}).get("blockReason")
    if "error" in answer or (blocked and not answer.get("candidates")):
        return {"error": answer.get("error") or {"message": f"prompt blocked: {blocked}", "code": "content_filter"}}
    choices: list[Json] = []
    for candidate in answer.get("candidates") or ():
        index, finish = candidate.get("index", 0), candidate.get("finishReason")
        if finish in BROKEN:
            return {"error": {"message": f"the answer broke off: {finish}", "code": 500}}
        said = _said(candidate, None if part == "message" else calls.get(index, 0))
        # Accumulators add roles up, so that only the first delta may have one.
        said = said if index in calls else {"role": "assistant", "refusal": None, **said}
        calls[index] = calls.get(index, 0) + len(said.get("tool_calls", ()))
        if finish and finish not in FINISH:
            tally.unknown_finish = str(finish)
        told = FINISH.get(finish, "stop") if finish else None
        told = "tool_calls" if told == "stop" and calls[index] else told
        choices.append({"index": index, part: said, "logprobs": None, "finish_reason": told})
    tally.id = tally.id or str(answer.get("responseId") or new_id())
    kind = "chat.completion.chunk" if part == "delta" else "chat.completion"
    envelope = {"id": tally.id, "object": kind, "created": int(time.time()), "model": name, "choices": choices}
    usage = answer.get("usageMetadata")
    return envelope | ({"usage": _usage(usage)} if usage else {})


def _said(candidate: Json, before: int | None) -> Json:
    """What was said: in a message, or in a delta after `before` tool calls."""
    content, thoughts = "", ""
    calls: list[Json] = []
    for each in (candidate.get("content") or {}).get("parts") or ():
        if call := each.get("functionCall"):
            function = {"name": call["name"], "arguments": dumps(call.get("args") or {}).decode()}
            told = {"id": call.get("id") or new_id(), "type": "function", "function": function}
            if signature := each.get("thoughtSignature"):
                told["extra_content"] = {"google": {"thought_signature": signature}}
            calls.append(told if before is None else {"index": before + len(calls), **told})
        elif each.get("thought"):
            thoughts += each.get("text") or ""
        else:
            content += each.get("text") or ""
    said: Json = {"content": content if content or not calls else None}
    return said | ({"reasoning_content": thoughts} if thoughts else {}) | ({"tool_calls": calls} if calls else {})


def _usage(counts: Json) -> Json:
    """OpenAI's shape: thoughts are output, which Gemini counts apart."""
    names = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    asked, tools, said, thought = (tokens(counts, name) for name in names)
    prompt, completion = asked + tools, said + thought
    return {
        **{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
        "prompt_tokens_details": {"cached_tokens": tokens(counts, "cachedContentTokenCount")},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def decode_error(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> TalariaError:
    """The vendor's error, told by its status and its details in OpenAI's words."""
    try:
        told = loads(body)
        error = (told[0] if isinstance(told, list) else told)["error"]
        details = [detail for detail in error.get("details") or () if isinstance(detail, dict)]
        words = (error.get("status"), *(detail.get("reason") for detail in details))
        code = next((CODES[word] for word in words if word in CODES), error.get("code"))
    except _NO_ANSWER:
        return openai_errors.decode_error(provider, status, headers, b"")
    text = str(error.get("message") or "")
    for detail in details:
        if re.fullmatch(r"[0-9.]+s", str(detail.get("retryDelay"))):
            headers = {"retry-after": detail["retryDelay"][:-1], **headers}
    code = "context_length_exceeded" if text.startswith(TOO_LONG) else code
    return openai_errors.decode_error(provider, status, headers, dumps({"error": {"message": text, "code": code}}))


class Provider(openai.Provider):
    """Google's API under `base_url`."""

    auth: ClassVar[tuple[str, str]] = ("x-goog-api-key", "")
    forms: ClassVar[Mapping[str, Form]] = {
        "chat": Form(f"{_MODEL}:generateContent", encode, decode, Reader, decode_error, f"{_MODEL}:{_STREAM}")
    }
