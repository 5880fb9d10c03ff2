"""Small pretend vendors for the formats that the simulator has not: Gemini's, and two varieties of OpenAI's dialect.

They look at requests as the vendors do, strictly, and answer with a call where tools are on offer and nothing was called
yet, else with `Oslo.` Whoever is in `down` answers with that status.
"""

from __future__ import annotations

import json
from typing import Any

SCHEMA_ANSWER = '{"city":"Oslo"}'
KNOWN = {
    *("model", "messages", "max_tokens", "temperature", "top_p", "stop", "stream", "random_seed", "n", "tools"),
    *("tool_choice", "response_format", "presence_penalty", "frequency_penalty", "parallel_tool_calls"),
}
"""What Mistral takes."""


class Pretenders:
    """An ASGI application with a vendor under each of `/gemini`, `/groq` and `/mistral`."""

    def __init__(self) -> None:
        self.down: dict[str, int] = {}
        self.seen: list[tuple[str, dict[str, str], Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        raw = b""
        more = True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        _, vendor, *rest = scope["path"].split("/")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = json.loads(raw)
        self.seen.append((scope["path"], headers, body))
        status, kind, parts = self.answer(vendor, rest[-1], headers, body)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def answer(self, vendor: str, last: str, headers: dict[str, str], body: Any) -> tuple[int, bytes, list[bytes]]:
        if status := self.down.get(vendor):
            errors = {
                "gemini": {"error": {"code": status, "message": "Not now.", "status": "UNAVAILABLE"}},
                "groq": {"error": {"message": "Not now.", "type": "internal_server_error"}},
                "mistral": {"object": "error", "message": "Not now.", "type": "x", "code": 3505},
            }
            return whole(status, errors[vendor])
        if vendor == "gemini":
            assert headers["x-goog-api-key"] == "test"
            return self.gemini(body, stream="streamGenerateContent" in last)
        assert headers["authorization"] == "Bearer test"
        if last == "embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
            return whole(200, {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 2}})
        if vendor == "mistral":
            for name in body.keys() - KNOWN:
                detail = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
                return whole(422, {"object": "error", "message": {"detail": [detail]}, "code": None})
        return self.openai(vendor, body)

    def gemini(self, body: Any, stream: bool) -> tuple[int, bytes, list[bytes]]:
        assert body.keys() <= {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
        asked = body["contents"][-1]["parts"]
        config = body.get("generationConfig", {})
        parts: list[Any] = [{"text": "Hm. ", "thought": True}] if "thinkingConfig" in config else []
        if "tools" in body and "functionResponse" not in asked[-1]:
            name = body["tools"][0]["functionDeclarations"][0]["name"]
            parts += [{"functionCall": {"id": "f1", "name": name, "args": {"city": "Oslo"}}, "thoughtSignature": "sig"}]
        elif "functionResponse" in asked[-1]:
            assert body["contents"][-2]["parts"][-1]["thoughtSignature"] == "sig"
            parts += [{"text": "It is "}, {"text": asked[-1]["functionResponse"]["response"]["result"]}]
        elif "responseJsonSchema" in config:
            parts += [{"text": SCHEMA_ANSWER}]
        elif "inlineData" in asked[-1]:
            parts += [{"text": asked[-1]["inlineData"]["mimeType"]}]
        else:
            parts += [{"text": "Os"}, {"text": "lo."}]
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 12}
        if not stream:
            candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
            return whole(200, {"responseId": "g1", "candidates": [candidate], "usageMetadata": usage})
        events: list[Any] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
        events[-1]["candidates"][0]["finishReason"] = "STOP"
        return sse([{**event, "responseId": "g1", "usageMetadata": usage} for event in events], b"\r\n\r\n", end=b"")

    def openai(self, vendor: str, body: Any) -> tuple[int, bytes, list[bytes]]:
        last = body["messages"][-1]
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        message: dict[str, Any] = {"role": "assistant", "content": "Oslo."}
        if vendor == "groq" and "reasoning_effort" in body:
            message["reasoning"] = "Hm. "
        if last["role"] == "tool":
            message["content"] = f"It is {last['content']}"
        elif "tools" in body:
            function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city":"Oslo"}'}
            message |= {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        elif body.get("response_format", {}).get("type") == "json_schema":
            message["content"] = SCHEMA_ANSWER
        elif isinstance(last["content"], list) and last["content"][-1]["type"] == "image_url":
            message["content"] = last["content"][-1]["image_url"]["url"][5:14]
        finish = "tool_calls" if "tool_calls" in message else "stop"
        top = {"id": "o1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            choices = [{"index": 0, "message": message, "finish_reason": finish}]
            return whole(200, {**top, "object": "chat.completion", "choices": choices, "usage": usage})
        if calls := message.pop("tool_calls", None):
            message["tool_calls"] = [{"index": 0, **call} for call in calls]
        deltas = [{key: value} for key, value in message.items() if value is not None]
        chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        # Groq has its usage in a place of its own, Mistral beside the last choice.
        place: dict[str, Any] = {"x_groq": {"usage": usage}} if vendor == "groq" else {"usage": usage}
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **place})
        return sse([{**top, "object": "chat.completion.chunk", **chunk} for chunk in chunks], b"\n\n")


def whole(status: int, body: Any) -> tuple[int, bytes, list[bytes]]:
    return status, b"application/json", [json.dumps(body).encode()]


def sse(events: list[Any], gap: bytes, end: bytes = b"data: [DONE]\n\n") -> tuple[int, bytes, list[bytes]]:
    return 200, b"text/event-stream", [b"data: " + json.dumps(event).encode() + gap for event in events] + [end]
