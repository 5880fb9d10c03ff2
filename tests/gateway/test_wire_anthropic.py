"""Anthropic's dialect as callers speak it: what is checked, what is asked for, and how answers and errors are framed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.wire import anthropic, openai
from gateway.wire.anthropic_chat import answer, translate
from gateway.wire.anthropic_events import Writer
from providers import catalog, errors
from providers.types import Call, Hints, Model, Tally, Usage

HI: list[Any] = [{"role": "user", "content": "Hi"}]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def decode(**fields: Any) -> Any:
    return anthropic.decode(json.dumps({"model": "m", "max_tokens": 9, "messages": HI, **fields}).encode())


def content(*blocks: Any) -> Any:
    return decode(messages=[{"role": "user", "content": list(blocks)}])


def source(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "source": fields}


# --- what a request asks for ---


def test_a_request_says_what_it_asks_for():
    asked = decode(stream=True, metadata={"user_id": "u", "use_case": "tests", "deadline_ms": 70})
    assert (asked.model, asked.stream, asked.include_usage, asked.needs) == ("m", True, True, {})
    assert (asked.hints.use_case, asked.hints.deadline_ms) == ("tests", 70)
    assert asked.body["metadata"]["user_id"] == "u"


@pytest.mark.parametrize(
    ("block", "ability"),
    [
        (source("image", type="base64", media_type="image/png", data="AAAA"), "image"),
        (source("image", type="url", url="https://example.com/a.png"), "image_url"),
        (source("image", type="file", file_id="file_1"), "file_id"),
        (source("document", type="base64", media_type="application/pdf", data="AAAA"), "file"),
        (source("document", type="url", url="https://example.com/a.pdf"), "file_url"),
        (source("document", type="file", file_id="file_1"), "file_id"),
        (source("document", type="text", media_type="text/plain", data="x"), None),
        (source("document", type="content", content="x"), None),
        ({"type": "search_result", "source": "s", "title": "t", "content": []}, None),
        ({"type": "hologram", "x": 1}, "server_tools"),
    ],
)
def test_blocks_ask_for_abilities(block, ability):
    assert list(content({"type": "text", "text": "See"}, block).needs) == ([ability] if ability else [])


def test_what_is_within_a_result_counts_too():
    image = source("image", type="base64", media_type="image/png", data="AAAA")
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    assert content(result).needs == {
        "tools": "messages.0.content.0",
        "image": "messages.0.content.0.content.0.source",
    }


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [{"name": "x", "input_schema": {}}]}, {"tools": "tools"}),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, {"server_tools": "tools.0"}),
        ({"mcp_servers": [{"url": "u"}]}, {"server_tools": "mcp_servers"}),
        ({"mcp_servers": []}, {}),
        ({"container": "c"}, {"server_tools": "container"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
            {"json_schema": "output_config.format"},
        ),
        ({"output_format": {"type": "json_schema", "schema": {}}}, {"json_schema": "output_config.format"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {}),
    ],
)
def test_parameters_ask_for_abilities(fields, needs):
    assert decode(**fields).needs == needs


# --- what is wrong with it ---


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "x\n"}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages.0.content"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image"}]}, "system.0"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stream": "yes"}, "stream"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [7]}, "stop_sequences.0"),
        ({"stop_sequences": ["\n"]}, "stop_sequences"),
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools.0"),
        ({"tools": [{"name": 7}]}, "tools.0.name"),
        ({"tools": [{"type": 7}]}, "tools.0.type"),
        ({"tools": [{"input_schema": {}}]}, "tools.0"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "x", "input_schema": {"type": "string"}}]}, "tools.0"),
        ({"tools": [{"name": "x", "input_schema": {}, "description": 7}]}, "tools.0.description"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"tools": [], "tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "tool_choice.disable_parallel_tool_use"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.budget_tokens"),
        ({"output_config": []}, "output_config"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"metadata": "u"}, "metadata"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
        ({"metadata": {"deadline_ms": 0}}, "metadata.deadline_ms"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"mcp_servers": {}}, "mcp_servers"),
    ],
)
def test_what_is_wrong_is_named(fields, place):
    with pytest.raises(errors.InvalidRequest) as refused:
        decode(**fields)
    assert refused.value.param == place


@pytest.mark.parametrize(
    ("block", "place"),
    [
        (7, ""),
        ({}, ".type"),
        ({"type": 7}, ".type"),
        ({"type": "text", "text": None}, ".text"),
        ({"type": "image"}, ".source"),
        (source("image", type="text", data="x"), ".source.type"),
        (source("image", type="base64", data="AAAA"), ".source.media_type"),
        (source("image", type="base64", media_type="image/png", data=""), ".source.data"),
        (source("image", type="url"), ".source.url"),
        (source("document", type="content", content=7), ".source.content"),
        (source("document", type="content", content=[7]), ".source.content.0"),
        ({"type": "search_result"}, ".content"),
        ({"type": "tool_use", "id": "t", "name": "x", "input": {}}, ""),
        ({"type": "tool_use", "id": "t", "name": "x", "input": "{}"}, ".input"),
        ({"type": "tool_result"}, ".tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "t", "content": 7}, ".content"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_result"}]}, ".content"),
        ({"type": "tool_result", "tool_use_id": "t", "is_error": "no"}, ".is_error"),
        ({"type": "thinking", "signature": "s"}, ".thinking"),
        ({"type": "redacted_thinking"}, ".data"),
    ],
)
def test_a_block_that_is_wrong_is_named(block, place):
    with pytest.raises(errors.InvalidRequest) as refused:
        content(block)
    assert refused.value.param == f"messages.0.content.0{place}"


def test_results_are_the_users_alone():
    with pytest.raises(errors.InvalidRequest):
        decode(messages=[{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "t"}]}])


def test_a_count_needs_no_output_limit():
    raw = json.dumps({"model": "m", "messages": HI}).encode()
    assert anthropic.decode_count(raw).model == "m"
    with pytest.raises(errors.InvalidRequest):
        anthropic.decode(raw)


def test_connection_words_are_refused_but_in_what_tools_take():
    use = {"type": "tool_use", "id": "t", "name": "x", "input": {"base_url": "u", "deep": [{"api_key": "k"}]}}
    tool = {"name": "x", "input_schema": {"properties": {"base_url": {}}}, "input_examples": [{"base_url": "u"}]}
    decode(messages=[*HI, {"role": "assistant", "content": [use]}], tools=[tool])
    for wrong in ({"base_url": "u"}, {"metadata": {"api_key": "k"}}, {"tools": [tool | {"extra_headers": {}}]}):
        with pytest.raises(errors.InvalidRequest):
            decode(**wrong)
    deep: Any = 1
    for _ in range(100):
        deep = {"x": deep}
    with pytest.raises(errors.InvalidRequest):
        decode(messages=[*HI, {"role": "assistant", "content": [use | {"input": deep}]}])


# --- how errors are told ---


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidRequest("wrong"), "invalid_request_error"),
        (errors.Unauthorized("who"), "authentication_error"),
        (errors.ModelNotFound("where"), "not_found_error"),
        (errors.ModelGone("gone"), "not_found_error"),
        (errors.RequestTooLarge("big"), "request_too_large"),
        (errors.RateLimited("busy"), "rate_limit_error"),
        (errors.LimitExceeded("enough"), "rate_limit_error"),
        (errors.QuotaExhausted("poor"), "rate_limit_error"),
        (errors.Overwhelmed("busy"), "overloaded_error"),
        (errors.Overloaded("full"), "overloaded_error"),
        (errors.Unavailable("down"), "api_error"),
        (errors.TimedOut("late"), "timeout_error"),
        (errors.DeadlineExceeded("late"), "timeout_error"),
        (errors.BadReply("what"), "api_error"),
        (RuntimeError("secret"), "api_error"),
    ],
)
def test_an_error_has_anthropics_shape(error, kind):
    told = json.loads(anthropic.refusal(error, "req_1"))
    assert told["type"] == "error"
    assert told["request_id"] == "req_1"
    assert told["error"]["type"] == kind
    assert "secret" not in told["error"]["message"]


def test_an_error_names_its_place_once():
    named = errors.InvalidRequest("Invalid 'top_k'", param="top_k")
    assert json.loads(anthropic.refusal(named, "r"))["error"]["message"] == "Invalid 'top_k'"
    unnamed = errors.InvalidRequest("is wrong", param="top_k")
    assert json.loads(anthropic.refusal(unnamed, "r"))["error"]["message"] == "top_k: is wrong"


def test_a_failure_is_one_event():
    event = anthropic.failure(errors.BadReply("cut"), "req_1")
    assert event.startswith(b"event: error\ndata: {")
    assert event.endswith(b"}\n\n")


# --- any conversation, any stream ---

words = st.text(max_size=12)
texts = st.builds(lambda text: {"type": "text", "text": text}, words)
images = st.builds(
    lambda data: source("image", type="base64", media_type="image/png", data=data), st.sampled_from(["AAAA", "BBBB"])
)
documents = st.builds(lambda text: {"title": text, **source("document", type="text", data=text or "x")}, words)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
inputs = st.dictionaries(words, st.one_of(words, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3)
thoughts = st.sampled_from(
    [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "redacted_thinking", "data": "d"},
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns in which every call is answered in the next one, results first."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Begin"}]
    open_calls: list[str] = []
    count = 0
    for _ in range(draw(st.integers(0, 5))):
        calls = draw(st.lists(st.tuples(names, inputs), max_size=3))
        uses = [
            {"type": "tool_use", "id": f"toolu_{count + i}", "name": name, "input": input}
            for i, (name, input) in enumerate(calls)
        ]
        count += len(uses)
        open_calls = [use["id"] for use in uses]
        spoken = [*draw(st.lists(thoughts, max_size=1)), *draw(st.lists(texts, max_size=2)), *uses]
        messages.append({"role": "assistant", "content": spoken})
        results = [
            {
                "type": "tool_result",
                "tool_use_id": id,
                "content": draw(st.one_of(words, st.lists(st.one_of(texts, images), max_size=2))),
                "is_error": draw(st.booleans()),
            }
            for id in open_calls
        ]
        rest = draw(st.one_of(st.lists(st.one_of(texts, images, documents), max_size=3)))
        messages.append({"role": "user", "content": [*results, *rest]})
    return messages


@given(conversations(), st.sampled_from(["some-model", "gpt-4.1-nano"]))
@settings(max_examples=100)
def test_any_conversation_is_a_chat_that_can_be_asked(messages, upstream):
    asked = decode(messages=messages)
    call = Call("1", "messages", b"", asked.body, "m", False, True, asked.needs, Hints(), 0.0, 60.0, "")
    chat, _ = translate(call, Model("m", "openai", upstream, catalog.lookup("openai", upstream)))
    openai.decode(json.dumps(chat.body).encode())
    told = chat.body["messages"]
    # Every call has its answer right behind it, in the order of the calls.
    for i, message in enumerate(told):
        ids = [each["id"] for each in message.get("tool_calls", ())]
        assert [each.get("tool_call_id") for each in told[i + 1 : i + 1 + len(ids)]] == ids
    used = [
        block["id"] for turn in messages if turn["role"] == "assistant" for block in turn["content"] if "id" in block
    ]
    assert [each["id"] for message in told for each in message.get("tool_calls", ())] == used
    said = "".join(
        block["text"]
        for turn in messages
        if turn["role"] == "assistant"
        for block in turn["content"]
        if block["type"] == "text"
    )
    assert said == "".join(_text(message) for message in told if message["role"] == "assistant")


def _text(message: dict[str, Any]) -> str:
    found = message["content"] or ""
    return found if isinstance(found, str) else "".join(part["text"] for part in found)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "model",
                    "choices",
                    "delta",
                    "finish_reason",
                    "content",
                    "tool_calls",
                    "index",
                    "function",
                    "name",
                    "arguments",
                    "reasoning_content",
                    "refusal",
                    "message",
                    "stop_sequence",
                    "text",
                ]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@given(st.lists(junk, max_size=5), junk)
@settings(max_examples=200)
def test_chunks_that_are_none_disturb_nobody(chunks, choice):
    tally = Tally()
    writer = Writer(tally, "m")
    raw = [json.dumps(chunk).encode() for chunk in [*chunks, {"choices": [choice]}, {"choices": [{"delta": choice}]}]]
    blocks = writer.write([*raw, b"{half"]) + writer.end()
    assert tally.malformed >= 1
    assert blocks[0].startswith(b"event: message_start\n")
    assert blocks[-1].startswith(b"event: message_stop\n")
    for body in ({"choices": [choice]}, {"choices": [{"message": choice}]}, choice):
        with contextlib.suppress(errors.BadReply):
            assert answer(json.dumps(body).encode(), tally, "m")["type"] == "message"


@pytest.mark.parametrize("head", [{}, {"id": None, "model": None}, {"id": "", "model": ""}, {"id": 7, "model": 7}])
def test_a_message_has_an_id_and_a_model_whatever_the_vendor_leaves_out(head):
    whole = answer(json.dumps({**head, "choices": [{"message": {"content": "Hi"}}]}).encode(), Tally(), "configured")
    chunk = json.dumps({**head, "choices": [{"delta": {"content": "Hi"}}]}).encode()
    start = Writer(Tally(), "configured").write([chunk])[0]
    for message in (whole, json.loads(start.partition(b"data: ")[2])["message"]):
        assert message["id"].startswith("msg_")
        assert message["model"] == "configured"


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """A chat message, its finish reason, and deltas that add up to it; calls may take turns."""
    thought, said = draw(words), draw(words)
    calls = draw(st.lists(st.tuples(names, inputs), max_size=3))
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": part} for part in pieces(draw, thought)]
    deltas += [{"content": part} for part in pieces(draw, said)]
    rows: list[list[dict[str, Any]]] = []
    told: list[dict[str, Any]] = []
    for index, (name, input) in enumerate(calls):
        arguments = json.dumps(input) if input else draw(st.sampled_from(["", "{}"]))
        told.append({"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}})
        first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        rows.append([first, *({"index": index, "function": {"arguments": part}} for part in pieces(draw, arguments))])
    if draw(st.booleans()):
        order = [row.pop(0) for row in rows]
        while any(rows):
            row = draw(st.sampled_from([row for row in rows if row]))
            order.append(row.pop(0))
    else:
        order = [fragment for row in rows for fragment in row]
    deltas += [{"tool_calls": [fragment]} for fragment in order]
    message: dict[str, Any] = {"role": "assistant", "content": said or None}
    if thought:
        message["reasoning_content"] = thought
    if told:
        message["tool_calls"] = told
    return message, "tool_calls" if told else draw(st.sampled_from(["stop", "length"])), deltas


@given(streams(), st.data())
@settings(max_examples=100)
def test_any_stream_adds_up_to_the_message_of_the_whole_answer(stream, data):
    message, finish, deltas = stream
    usage = Usage(input=7, cache_read=3, output=5)
    head = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m"}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    expected = answer(json.dumps({**head, "choices": [choice]}).encode(), Tally(usage=usage), "m")

    chunks = [{"delta": delta, "finish_reason": None} for delta in deltas] + [{"delta": {}, "finish_reason": finish}]
    raw = [json.dumps({**head, "choices": [{"index": 0, **each}]}).encode() for each in chunks]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=4)))
    tally = Tally()
    writer = Writer(tally, "m")
    blocks: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        blocks += writer.write(raw[start:end])
    tally.usage = usage
    blocks += writer.end()

    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    open_block: int | None = None
    for block in blocks:
        event = EVENT.validate_json(block.split(b"\ndata: ")[1])
        if event.type == "content_block_start":
            assert open_block is None
            open_block = event.index
        elif event.type == "content_block_delta":
            assert open_block == event.index
        elif event.type == "content_block_stop":
            open_block = None
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    assert open_block is None
    added = snapshot.to_dict()
    assert added["content"] == expected["content"]
    assert (added["id"], added["model"], added["stop_reason"]) == ("chatcmpl-1", "m", expected["stop_reason"])
    assert {name: added["usage"][name] for name in expected["usage"]} == expected["usage"]
