"""Every case under `golden/messages`: Anthropic's dialect told in OpenAI's, and the answer told back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import anthropic, openai
from gateway.wire.anthropic_chat import answer, translate
from gateway.wire.anthropic_events import Writer
from providers import catalog
from providers.errors import BadReply, InvalidRequest
from providers.types import Call, Hints, Model, Tally, Usage

FOLDER = Path(__file__).parent / "messages"
NO_COUNTS = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}


def cases(name: str) -> Any:
    found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in found])


def a_call(body: dict[str, Any]) -> Call:
    asked = anthropic.decode(json.dumps(body).encode())
    return Call(
        id="1",
        operation="messages",
        raw=b"",
        body=asked.body,
        model=asked.model,
        stream=asked.stream,
        include_usage=True,
        needs=asked.needs,
        hints=Hints(),
        started=0.0,
        deadline=60.0,
        snapshot="",
    )


@cases("requests")
def test_request_is_told_in_the_other_dialect(case: dict[str, Any]) -> None:
    upstream = case.get("upstream_model", "some-model")
    model = Model("m", "openai", upstream, catalog.lookup("openai", upstream), case.get("on_unsupported"))
    body = {"model": "m", "max_tokens": 100, **case["request"]}
    call, before = a_call(body), json.dumps(body)
    if "refused" in case:
        with pytest.raises(InvalidRequest) as refused:
            translate(call, model)
        assert refused.value.param == case["refused"]
    else:
        asked, dropped = translate(call, model)
        assert asked.body == {"model": "m", "max_completion_tokens": 100, **case["chat"]}
        assert sorted(dropped) == sorted(case.get("dropped", []))
        assert (asked.operation, asked.include_usage, asked.stream) == ("chat", True, body.get("stream", False))
        openai.decode(json.dumps(asked.body).encode())
    assert json.dumps(call.body) == before


@cases("answers")
def test_answer_is_told_back(case: dict[str, Any]) -> None:
    choice = {"index": 0, "message": case["message"], "finish_reason": case["finish"]}
    if "sequence" in case:
        choice["stop_sequence"] = case["sequence"]
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice]}
    tally = Tally(usage=Usage(**case["usage"]) if "usage" in case else None)
    assert answer(json.dumps(completion).encode(), tally, "m") == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": case["content"],
        "stop_reason": case["stop_reason"],
        "stop_sequence": case.get("sequence"),
        "usage": case.get("counts", NO_COUNTS),
    }


@pytest.mark.parametrize(
    "reply",
    ["", "[]", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": {"tool_calls": [{"id": 7}]}}]}'],
)
def test_an_answer_that_is_none_is_a_bad_reply(reply: str) -> None:
    with pytest.raises(BadReply):
        answer(reply.encode(), Tally(), "m")


@cases("streams")
def test_chunks_become_events(case: dict[str, Any]) -> None:
    tally = Tally(usage=Usage(**case["usage"]) if "usage" in case else None)
    writer = Writer(tally, "m")
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    deltas = [*({"delta": delta, "finish_reason": None} for delta in case["deltas"])]
    choices = [*deltas, {"delta": {}, "finish_reason": case["finish"]}]
    batches = [[json.dumps({**head, "choices": [{"index": 0, **choice}]}).encode()] for choice in choices]
    batches.append([json.dumps({**head, "choices": [], "usage": {"total_tokens": 7}}).encode()])

    blocks = [block for batch in batches for block in writer.write(batch)] + writer.end()

    events = [read(block) for block in blocks]
    first, *middle, last, stop = events
    assert first["type"] == "message_start"
    started = first["message"]
    assert (started["id"], started["model"], started["content"]) == ("chatcmpl-1", "m", [])
    assert (started["stop_reason"], started["usage"]) == (None, NO_COUNTS)
    assert [brief(event) for event in middle] == case["events"]
    assert last["delta"] == {"stop_reason": case["stop_reason"], "stop_sequence": None}
    assert last["usage"] == case.get("counts", NO_COUNTS)
    assert stop == {"type": "message_stop"}


def read(block: bytes) -> dict[str, Any]:
    name, data = block.split(b"\n")
    event: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: " + event["type"].encode()
    return event


def brief(event: dict[str, Any]) -> list[Any]:
    word = event["type"].removeprefix("content_block_")
    rest = [event[key] for key in ("content_block", "delta") if key in event]
    return [word, event["index"], *rest]
