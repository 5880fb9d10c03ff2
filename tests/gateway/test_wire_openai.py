"""What callers may send, and what they are told when it is wrong."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import Request
from gateway.wire import openai as wire
from providers.errors import InvalidRequest
from providers.types import Hints

USER = {"role": "user", "content": "hello"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def decode(**fields: Any) -> Request:
    return wire.decode(json.dumps({"model": "m", "messages": [USER], **fields}).encode())


def test_a_plain_request_needs_nothing() -> None:
    chat = decode()
    assert (chat.model, chat.stream, chat.include_usage, dict(chat.needs)) == ("m", False, False, {})


def test_a_stream_may_ask_for_usage() -> None:
    assert decode(stream=True, stream_options={"include_usage": True}).include_usage
    assert not decode(stream=True, stream_options={"include_usage": False}).include_usage
    assert not decode(stream=True).include_usage


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind, **fields}]}]}


CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [TOOL]}, {"tools": "tools"}),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}]}, {"tools": "tools", "custom_tools": "tools[1].type"}),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            {"allowed_tools": "tool_choice"},
        ),
        ({"messages": [USER, CALLED, {"role": "tool", "tool_call_id": "c", "content": "1"}]}, {"tools": "messages[1].tool_calls"}),
        ({"messages": [{"role": "function", "name": "f", "content": "1"}]}, {"functions": "messages[0]"}),
        ({"functions": [{}]}, {"functions": "functions"}),
        (part("image_url", image_url={"url": PIXEL}), {"image": "messages[0].content[1].image_url.url"}),
        (part("image_url", image_url={"url": "https://x/y.png"}), {"image_url": "messages[0].content[1].image_url.url"}),
        (part("input_audio", input_audio={"data": "", "format": "wav"}), {"audio": "messages[0].content[1]"}),
        (part("file", file={"file_id": "f"}), {"file": "messages[0].content[1]"}),
        ({"response_format": {"type": "json_object"}}, {"json_object": "response_format"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}, {"json_schema": "response_format"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"n": 2}, {"n": "n"}),
        ({"n": 1}, {}),
        ({"logprobs": True}, {"logprobs": "logprobs"}),
        ({"modalities": ["text", "audio"]}, {"audio_output": "modalities"}),
        ({"audio": {}}, {"audio_output": "audio"}),
        ({"web_search_options": {}}, {"web_search": "web_search_options"}),
        ({"prediction": {"type": "content", "content": ""}}, {"prediction": "prediction"}),
        ({"diffusing": True}, {"diffusing": "diffusing"}),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_request_needs_is_named_with_its_parameter(fields: dict[str, Any], needs: dict[str, str]) -> None:
    assert dict(decode(**fields).needs) == needs


def test_hints_under_metadata_are_read() -> None:
    metadata = {
        "use_case": "ide",
        "latency_class": "realtime",
        "task": "code",
        "deadline_ms": "1500",
        "tags": "team=a, feature=b",
    }
    hints = decode(metadata={**metadata, "other": "kept"}).hints
    assert hints == Hints("ide", "realtime", "code", 1500, {"team": "a", "feature": "b"})
    assert decode(metadata={"deadline_ms": 5}).hints.deadline_ms == 5


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"model": "a\r\nb"}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (part("image_url", image_url="https://x"), "messages[0].content[1].image_url"),
        (part("input_audio", input_audio="x"), "messages[0].content[1].input_audio"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages[0].tool_calls[0].id"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [{"type": "magic"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format.json_schema.name"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"task": 5}}, "metadata.task"),
        ({"metadata": {"deadline_ms": "soon"}}, "metadata.deadline_ms"),
        ({"metadata": {"deadline_ms": True}}, "metadata.deadline_ms"),
        ({"metadata": {"deadline_ms": -5}}, "metadata.deadline_ms"),
        ({"metadata": {"deadline_ms": "٣"}}, "metadata.deadline_ms"),
        ({"metadata": {"tags": "team"}}, "metadata.tags"),
        ({"metadata": {"tags": 5}}, "metadata.tags"),
        ({"seed": 1.5}, "seed"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"parallel_tool_calls": 0}, "parallel_tool_calls"),
        ({"logit_bias": []}, "logit_bias"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"modalities": "text"}, "modalities"),
        ({"functions": {}}, "functions"),
        ({"user": 5}, "user"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"messages":[' + b"[" * 200 + b"]" * 200 + b"]}",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(raw)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("word", sorted(wire.CONNECTION_WORDS))
@pytest.mark.parametrize(
    "place",
    [
        lambda word: {word: "x"},
        lambda word: {"metadata": {word: "x"}},
        lambda word: {"extra_body": {"deeper": [{word: "x"}]}},
        lambda word: {"messages": [{**USER, word: "x"}]},
        lambda word: {"tools": [{"type": "function", "function": {"name": "f", "parameters": {word: "x"}}}]},
    ],
)
def test_connection_words_are_refused_at_any_depth(word: str, place: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**place(word))
    assert caught.value.param == word


def test_connection_words_are_found_in_whatever_escape() -> None:
    with pytest.raises(InvalidRequest):
        wire.decode(b'{"model":"m","messages":[{"role":"user","content":"x"}],"api\\u005fbase":"x"}')


def test_a_tool_may_call_its_own_parameters_what_it_likes() -> None:
    schema = {
        "type": "object",
        "properties": {"base_url": {"type": "string", "default": {"api_key": "x"}}, "api_key": {"type": "string"}},
        "$defs": {"organization": {"type": "object", "properties": {"fallbacks": {"type": "array"}}}},
    }
    decode(tools=[{"type": "function", "function": {"name": "fetch", "parameters": schema}}])
    decode(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from([*wire.CHECKS, "functions", "audio", "web_search_options", "prediction"]), json_values, max_size=6
)


@given(fields, st.booleans())
def test_any_values_anywhere_are_read_or_refused(values: dict[str, Any], whole: bool) -> None:
    body = {"model": "m", "messages": [USER], **values} if whole else values
    with contextlib.suppress(InvalidRequest):
        wire.decode(json.dumps(body).encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        wire.decode(raw)


def test_a_batch_leaves_in_one_piece() -> None:
    assert wire.frame([b'{"a":1}', b'{"b":2}']) == b'data: {"a":1}\n\ndata: {"b":2}\n\n'
