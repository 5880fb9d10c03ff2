"""What Anthropic really answered, translated: the official OpenAI client reads the same out of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers.anthropic import Decoder, Reading, decode
from providers.types import Card, Model, Tally

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}
MODEL = Model("claude", "anthropic", "claude", Card(id="claude", kind="anthropic"))


@pytest.fixture(scope="module")
def interactions(recorded: Path) -> list[dict[str, Any]]:
    lines = (recorded / "anthropic_messages.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["response"] for line in lines]


def test_every_recorded_answer_is_read_in_full(interactions: list[dict[str, Any]]) -> None:
    messages = [answer["body"] for answer in interactions if answer["kind"] == "json" and answer["status"] == 200]
    assert messages
    for message in messages:
        body, tally = decode(orjson.dumps(message), MODEL)
        completion = ChatCompletion.model_validate_json(body, strict=True)
        assert_same(completion, message)
        assert tally.finish == FINISH[message["stop_reason"]]


@pytest.mark.parametrize("seed", range(5))
def test_every_recorded_stream_adds_up_to_its_message(interactions: list[dict[str, Any]], seed: int) -> None:
    streams = [answer["sse_text"] for answer in interactions if answer["kind"] == "sse"]
    assert streams
    cuts = random.Random(seed)
    for text in streams:
        raw = text.encode()
        at = sorted(cuts.sample(range(len(raw)), min(len(raw), 50))) if seed else range(len(raw))
        tally = Tally()
        decoder = Decoder(MODEL, Reading(), tally, include_usage=True)
        chunks = [
            chunk
            for start, end in zip([0, *at], [*at, len(raw)], strict=True)
            for chunk in decoder.read(raw[start:end])
        ]
        chunks += decoder.end()
        assert decoder.trouble is None
        assert tally.malformed == 0
        assert tally.begun
        state = ChatCompletionStreamState()
        for chunk in chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate_json(chunk, strict=True))
        assert_same(state.get_final_completion(), added_up(text))


def added_up(text: str) -> dict[str, Any]:
    """The message that the events make, by the vendor's own rules."""
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                blocks[event["index"]] = event["content_block"] | {"json": ""}
            case "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                for kind, field, into in (
                    ("text_delta", "text", "text"),
                    ("thinking_delta", "thinking", "thinking"),
                    ("signature_delta", "signature", "signature"),
                    ("input_json_delta", "partial_json", "json"),
                ):
                    if delta["type"] == kind:
                        block[into] += delta[field]
            case "message_delta":
                message |= {key: value for key, value in event["delta"].items() if value is not None}
                message["usage"] |= event["usage"]
    for block in blocks.values():
        if block["json"]:
            block["input"] = json.loads(block["json"])
    message["content"] = list(blocks.values())
    return message


def assert_same(completion: Any, message: dict[str, Any]) -> None:
    [choice] = completion.choices
    content = message["content"]
    assert completion.id == message["id"]
    assert completion.model == "claude"
    assert (choice.message.content or "") == "".join(block["text"] for block in content if block["type"] == "text")
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []
    ]
    assert calls == [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    assert choice.finish_reason == FINISH[message["stop_reason"]]
    thoughts = [block for block in content if block["type"] in ("thinking", "redacted_thinking")]
    extra = choice.message.model_extra
    assert extra.get("reasoning_content", "") == "".join(block.get("thinking", "") for block in thoughts)
    assert [
        {key: value for key, value in detail.items() if key != "index"} for detail in extra.get("reasoning_details", [])
    ] == [{key: block[key] for key in ("type", "thinking", "signature", "data") if key in block} for block in thoughts]
    usage = message["usage"]
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    assert completion.usage.prompt_tokens == usage["input_tokens"] + read + written
    assert completion.usage.prompt_tokens_details.cached_tokens == read
    assert completion.usage.completion_tokens == usage["output_tokens"]
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
