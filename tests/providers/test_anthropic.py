from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from providers import errors, load
from providers.anthropic import Decoder, Provider, Reading, decode, decode_error, decode_usage, encode
from providers.anthropic_answer import Fence
from providers.anthropic_schema import constrain
from providers.base import Endpoint, Stream
from providers.http_httpx import HttpxTransport
from providers.types import Call, Card, Hints, Model, Tally, Timeouts, Usage

ALL = frozenset(
    {
        *("tools", "image", "image_url", "file", "json_object", "json_schema", "prefill", "strict_tools", "reasoning"),
        "system_anywhere",
    }
)
CARD = Card(
    id="claude-x",
    kind="anthropic",
    max_output=8192,
    abilities=ALL - {"system_anywhere"},
    unknown="drop",
    temperature=(0.0, 1.0),
    one_sampling=True,
    reasoning={"none": None, "low": 1024, "high": 4096},
)
MODEL = Model("claude", "anthropic", "claude-x", CARD)
ANYWHERE = Model(
    "claude", "anthropic", "claude-x", Card(**{f: getattr(CARD, f) for f in CARD.__slots__} | {"abilities": ALL})
)


def call_of(body: dict[str, Any], **more: Any) -> Call:
    known = {
        "id": "call-1",
        "operation": "chat",
        "raw": b"",
        "body": body,
        "model": "claude",
        "stream": bool(body.get("stream")),
        "include_usage": True,
        "needs": {},
        "hints": Hints(),
        "started": 0.0,
        "deadline": 600.0,
        "snapshot": "s",
    }
    return Call(**known | more)


HELLO = {"messages": [{"role": "user", "content": "Hi"}]}


# --- requests ---

texts = st.text(max_size=12)
names = st.text(alphabet="ab._-é ", min_size=1, max_size=5)
images = st.sampled_from(["https://example.com/a.png", "data:image/png;base64,QUJD", "data:image/jpg;base64,QUJD"])
parts = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, texts),
        st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, images),
    ),
    max_size=3,
)
contents = st.one_of(texts, parts)
arguments = st.one_of(st.just(""), st.dictionaries(texts, st.integers(-9, 9), max_size=2).map(json.dumps))
thoughts = st.lists(
    st.one_of(
        st.just({"type": "thinking", "thinking": "Hm.", "signature": "s"}),
        st.just({"type": "thinking", "thinking": "Hm."}),
        st.just({"type": "redacted_thinking", "data": "r"}),
    ),
    max_size=2,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Lists of messages as OpenAI takes them: every call answered before anybody speaks on."""
    messages: list[dict[str, Any]] = []
    ids = itertools.count()
    for kind in draw(st.lists(st.sampled_from(["system", "developer", "user", "assistant", "calls"]), max_size=8)):
        if kind in ("system", "developer"):
            messages.append({"role": kind, "content": draw(texts)})
        elif kind == "user":
            messages.append({"role": "user", "content": draw(contents)})
        elif kind == "assistant":
            messages.append({"role": "assistant", "content": draw(texts), "reasoning_details": draw(thoughts)})
        else:
            calls = [
                {
                    "id": draw(st.sampled_from(["call", "a:b", "a.b", "é"])) + str(next(ids)),
                    "type": "function",
                    "function": {"name": name, "arguments": draw(arguments)},
                }
                for name in draw(st.lists(names, min_size=1, max_size=3))
            ]
            content = draw(st.one_of(st.none(), texts))
            messages.append(
                {"role": "assistant", "content": content, "tool_calls": calls, "reasoning_details": draw(thoughts)}
            )
            for call in draw(st.permutations(calls)):
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": draw(contents)})
                if draw(st.integers(0, 5)) == 0:
                    messages.append({"role": "system", "content": draw(texts)})
    messages.append({"role": "user", "content": draw(st.text(alphabet="abc", min_size=1, max_size=5))})
    return messages


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": draw(conversations())}
    declared = draw(st.lists(names, max_size=3, unique=True))
    if declared:
        body["tools"] = [{"type": "function", "function": {"name": name}} for name in declared]
        if choice := draw(st.sampled_from([None, "auto", "none", "required", declared[0]])):
            named = {"type": "function", "function": {"name": choice}}
            body["tool_choice"] = named if choice in declared else choice
    for param, values in (
        ("max_tokens", [1, 1024, 1025, 5000, 9000]),
        ("temperature", [0, 0.5, 1, 2]),
        ("top_p", [0.5, 1]),
        ("reasoning_effort", ["none", "low", "high"]),
        ("parallel_tool_calls", [True, False]),
        (
            "response_format",
            [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}],
        ),
    ):
        if draw(st.booleans()):
            body[param] = draw(st.sampled_from(values))
    return body


def check(body: dict[str, Any]) -> None:
    """Anthropic's rules, from its documentation."""
    assert 1 <= body["max_tokens"] <= 8192
    assert not {"temperature", "top_p"} <= set(body)
    turns = body["messages"]
    tools = {tool["name"] for tool in body.get("tools", ())}
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in tools)
    assert len(tools) == len(body.get("tools", ()))
    choice = body.get("tool_choice", {"type": "auto"})
    assert choice == {"type": "auto"} or tools
    assert choice["type"] != "tool" or choice["name"] in tools
    thinking = body.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        assert 1024 <= thinking["budget_tokens"] < body["max_tokens"]
        assert body.get("temperature", 1) == 1
        assert choice["type"] in ("auto", "none")
    roles = [turn["role"] for turn in turns if turn["role"] != "system"]
    assert roles[0] == "user"
    assert all(one != other for one, other in itertools.pairwise(roles))
    for index, turn in enumerate(turns):
        if turn["role"] == "system":
            assert turns[index - 1]["role"] == "user"
            assert index + 1 == len(turns) or turns[index + 1]["role"] == "assistant"
    wanted: list[str] = []
    for turn in turns:
        kinds = [block["type"] for block in turn["content"]]
        assert kinds
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        assert kinds[: len(results)] == ["tool_result"] * len(results), "results come first"
        if turn["role"] != "system":
            assert results == wanted
        wanted = [block["id"] for block in turn["content"] if block["type"] == "tool_use"] or (
            wanted if turn["role"] == "system" else []
        )
        assert len(set(wanted)) == len(wanted)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", id) for id in wanted)
        assert not wanted or tools
        if "thinking" in kinds or "redacted_thinking" in kinds:
            assert kinds[-1] not in ("thinking", "redacted_thinking")
        inner = [
            part for block in turn["content"] if isinstance(block.get("content"), list) for part in block["content"]
        ]
        for block in [*turn["content"], *inner]:
            assert block["type"] != "text" or block["text"].strip()
            assert block["type"] != "tool_use" or isinstance(block["input"], dict)
    if isinstance(body.get("system"), str):
        assert body["system"].strip()
    if thinking["type"] == "enabled":
        last = [turn for turn in turns if turn["role"] == "assistant"][-1:]
        if turns[-1]["content"][0]["type"] == "tool_result" and last:
            assert last[0]["content"][0]["type"] in ("thinking", "redacted_thinking")


@settings(max_examples=400, deadline=None)
@given(requests(), st.sampled_from([MODEL, ANYWHERE]))
def test_every_conversation_becomes_one_that_anthropic_takes(body: dict[str, Any], model: Model) -> None:
    check(orjson.loads(orjson.dumps(encode(call_of(body), model).body)))


words = st.sampled_from(
    [
        *("messages", "role", "content", "type", "text", "user", "assistant", "tool", "system", "tool_calls", "id"),
        *(
            "function",
            "name",
            "arguments",
            "tool_call_id",
            "image_url",
            "url",
            "file",
            "file_data",
            "tools",
            "tool_choice",
        ),
        *("parameters", "response_format", "json_schema", "schema", "properties", "anyOf", "$ref", "stop", "user", "n"),
        *("temperature", "max_tokens", "reasoning_effort", "thinking", "metadata", "cache_control", "allowed_tools"),
        *("data:image/png;base64,QUJD", "https://x", "enabled", "required", "json_object", "refusal", "mode", "top_k"),
    ]
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), words, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
PARAMS = (
    *(
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "n",
        "stream_options",
    ),
    *(
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "thinking",
        "cache_control",
    ),
    *(
        "user",
        "safety_identifier",
        "service_tier",
        "modalities",
        "metadata",
        "audio",
        "functions",
        "logit_bias",
        "seed",
    ),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional=dict.fromkeys(("content", "tool_calls", "tool_call_id", "reasoning_details", "refusal"), junk),
    ),
    max_size=4,
)


def refused(body: dict[str, Any], model: Model) -> str | None:
    """The place that is wrong, if there is one."""
    try:
        encode(call_of(body), model)
    except errors.InvalidRequest as error:
        return str(error.param)
    return None


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries({"messages": st.one_of(messages, junk)}, optional=dict.fromkeys(PARAMS[1:], junk)),
    st.sampled_from([None, "drop", "error"]),
)
def test_junk_is_refused_and_breaks_nothing(body: dict[str, Any], on_unsupported: Any) -> None:
    model = Model("claude", "anthropic", "claude-x", CARD, on_unsupported)
    assert refused(body, model) != "None"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PARAMS), junk)
def test_one_strange_parameter_is_refused_by_its_name(param: str, value: Any) -> None:
    assert re.split(r"[.\[]", refused({**HELLO, param: value}, MODEL) or param)[0] == param


def test_a_schema_that_is_too_deep_goes_by_a_tool() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(900):
        schema = {"anyOf": [schema]}
    assert constrain(schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/a"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(25)}},
        {"type": "object", "properties": {f"p{n}": {"type": ["string", "null"]} for n in range(17)}},
        {"type": "object", "properties": {"a": {"enum": [{}]}}},
        {"type": "object", "properties": {"a": {"not": {}}}},
        {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "type": "object", "properties": {"a": {}}},
    ],
)
def test_schemas_beyond_the_limits_do_not_fit(schema: Any) -> None:
    assert constrain(schema) is None


def test_references_among_definitions_fit() -> None:
    schema = {
        "$defs": {"A": {"type": "string", "enum": ["x"]}, "B": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
        "type": "object",
        "properties": {"b": {"$ref": "#/$defs/B"}},
        "required": ["b"],
        "additionalProperties": False,
    }
    assert constrain(schema) == (schema, False)


# --- streams ---


def sse(*events: Any) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) if isinstance(e, dict) else e for e in events
    )


def start(**usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": usage or {"input_tokens": 5}}}


def block(index: int, content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, field: str, value: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: value}}


def text(value: str, index: int = 0) -> dict[str, Any]:
    return delta(index, "text_delta", "text", value)


def stop(reason: str | None = "end_turn", **usage: int) -> list[dict[str, Any]]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


OPENING = [start(), block(0, {"type": "text", "text": ""})]


def run(*events: Any, include_usage: bool = True) -> tuple[list[Any], Tally, Decoder]:
    tally = Tally()
    decoder = Decoder(MODEL, Reading(), tally, include_usage=include_usage)
    chunks = decoder.read(sse(*events))
    chunks += decoder.end()
    return [orjson.loads(chunk) for chunk in chunks], tally, decoder


def deltas(chunks: list[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]


def accumulate(chunks: list[Any]) -> Any:
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.get_final_completion()


WORLD = sse(
    start(input_tokens=3, output_tokens=1),
    {"type": "ping"},
    block(0, {"type": "thinking", "thinking": "", "signature": ""}),
    delta(0, "thinking_delta", "thinking", "思い🪽"),
    delta(0, "signature_delta", "signature", "s"),
    {"type": "content_block_stop", "index": 0},
    block(1, {"type": "text", "text": ""}),
    text("Grüße, 世界", 1),
    text(' 🌍\u2028"\\\n', 1),
    {"type": "content_block_stop", "index": 1},
    block(2, {"type": "tool_use", "id": "toolu_1", "name": "öffne", "input": {}}),
    delta(2, "input_json_delta", "partial_json", '{"q": "né'),
    delta(2, "input_json_delta", "partial_json", 'e"}'),
    {"type": "content_block_stop", "index": 2},
    *stop("tool_use", output_tokens=9),
)


def pieces(raw: bytes, cuts: list[int]) -> tuple[list[bytes], Tally]:
    tally = Tally()
    decoder = Decoder(MODEL, Reading(), tally, include_usage=True)
    decoder._created = 1
    chunks: list[bytes] = []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(raw)]):
        chunks += decoder.read(raw[begin:end])
    return chunks + decoder.end(), tally


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(WORLD)), max_size=12), st.booleans())
def test_however_the_bytes_are_cut_the_chunks_are_the_same(cuts: list[int], crlf: bool) -> None:
    raw = WORLD.replace(b"\n", b"\r\n") if crlf else WORLD
    assert pieces(raw, cuts) == pieces(WORLD, [])


def test_every_single_cut_leaves_the_characters_whole() -> None:
    whole = pieces(WORLD, [])
    assert all(pieces(WORLD, [at]) == whole for at in range(len(WORLD)))
    assert "\ufffd" not in b"".join(whole[0]).decode()
    assert pieces(WORLD, list(range(len(WORLD)))) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), st.integers(), max_size=3), min_size=1, max_size=5), st.randoms())
def test_interleaved_tools_add_up_for_the_official_client(inputs: list[dict[str, int]], chance: random.Random) -> None:
    waiting = []
    for index, given_input in enumerate(inputs):
        raw = json.dumps(given_input) if given_input else ""
        at = chance.randrange(len(raw) + 1)
        waiting.append(
            [
                block(index + 1, {"type": "tool_use", "id": f"toolu_{index}", "name": f"tool{index}", "input": {}}),
                *(delta(index + 1, "input_json_delta", "partial_json", part) for part in (raw[:at], raw[at:])),
                {"type": "content_block_stop", "index": index + 1},
            ]
        )
    events: list[Any] = [*OPENING, text("Both."), {"type": "content_block_stop", "index": 0}]
    events += [queue.pop(0) for queue in waiting]
    while any(waiting):
        events.append(chance.choice([queue for queue in waiting if queue]).pop(0))
    chunks, tally, _ = run(*events, *stop("tool_use", output_tokens=2))
    message = accumulate(chunks).choices[0].message
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls] == [
        (f"toolu_{index}", f"tool{index}", given_input) for index, given_input in enumerate(inputs)
    ]
    assert message.content == "Both."
    assert tally.finish == "tool_calls"


def test_a_client_that_asked_for_no_usage_sees_none() -> None:
    chunks, tally, _ = run(*OPENING, text("Hi"), *stop(output_tokens=3), include_usage=False)
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert tally.usage == Usage(input=5, output=3)


def test_all_chunks_share_id_creation_and_the_configured_name() -> None:
    chunks, _, _ = run(*OPENING, text("Hi"), *stop())
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("msg_1", chunks[0]["created"], "claude")
    }
    assert sum(chunk["choices"] != [] and chunk["choices"][0]["finish_reason"] is not None for chunk in chunks) == 1


def test_an_answer_begins_with_its_first_content() -> None:
    tally = Tally()
    decoder = Decoder(MODEL, Reading(), tally, include_usage=False)
    decoder.read(sse(*OPENING, {"type": "ping"}, text("")))
    assert not tally.begun
    decoder.read(sse(text("H")))
    assert tally.begun
    assert tally.chars == 1


def test_counts_are_set_never_added() -> None:
    _, tally, _ = run(
        start(input_tokens=10, cache_read_input_tokens=100, cache_creation_input_tokens=0, output_tokens=88),
        *stop(None, output_tokens=1),
    )
    assert tally.usage == Usage(input=10, cache_read=100, output=1)
    _, tally, _ = run(
        start(input_tokens=10, cache_read_input_tokens=100, output_tokens=1),
        *stop(input_tokens=10, cache_read_input_tokens=0, output_tokens=7),
    )
    assert tally.usage == Usage(input=10, cache_read=0, output=7)


@pytest.mark.parametrize(
    ("reason", "finish", "unknown"),
    [
        ("end_turn", "stop", None),
        ("stop_sequence", "stop", None),
        ("max_tokens", "length", None),
        ("tool_use", "tool_calls", None),
        ("refusal", "content_filter", None),
        ("model_context_window_exceeded", "length", None),
        ("compaction", "length", None),
        ("pause_turn", "stop", "pause_turn"),
        ("moonrise", "stop", "moonrise"),
        (None, "stop", "None"),
    ],
)
def test_stop_reasons_mean_the_same_whole_and_in_streams(reason: str | None, finish: str, unknown: str | None) -> None:
    tool = {"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}
    chunks, tally, _ = run(start(), block(0, tool), *stop(reason))
    assert (tally.finish, tally.unknown_finish) == (finish, unknown)
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == finish
    whole = {"id": "msg_1", "type": "message", "content": [tool], "stop_reason": reason, "usage": {}}
    body, tally = decode(orjson.dumps(whole), MODEL)
    assert (tally.finish, tally.unknown_finish) == (finish, unknown)
    assert orjson.loads(body)["choices"][0]["finish_reason"] == finish


def test_broken_events_are_skipped_and_counted() -> None:
    broken = [b"data: {broken\n\n", b"data: []\n\n", b'data: {"type":"content_block_delta","index":0,"delta":{}}\n\n']
    broken += [b'data: {"type":"content_block_start","index":[],"content_block":{"type":"thinking"}}\n\n']
    chunks, tally, decoder = run(*OPENING, *broken, text("Hi"), {"type": "unheard_of"}, *stop())
    assert tally.malformed == 4
    assert decoder.trouble is None
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {}]


def test_an_error_in_the_stream_comes_after_what_was_said_before_it() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    chunks, tally, decoder = run(*OPENING, text("Hi"), error, text("unheard"), *stop())
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {"content": "Hi"}]
    assert isinstance(decoder.trouble, errors.Overwhelmed)
    assert tally.finish is None


def test_a_stream_that_closes_early_is_a_bad_reply() -> None:
    _, _, decoder = run(*OPENING, text("Hi"))
    assert isinstance(decoder.trouble, errors.BadReply)
    assert "closed the stream early" in decoder.trouble.message


def test_a_stream_without_its_last_event_is_whole_once_the_reason_is_known() -> None:
    chunks, _, decoder = run(*OPENING, text("Hi"), stop()[0])
    assert decoder.trouble is None
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["", " ", "\n", "```json\n", "```\n", " ```JSON \r\n", "``", "```"]),
    st.text(alphabet='{}":`\n a', max_size=20),
    st.sampled_from(["", "\n```", "```", "\n```\n\n", " \n"]),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_a_fence_comes_off_in_parts_as_it_does_at_once(opening: str, inner: str, closing: str, cuts: list[int]) -> None:
    whole = opening + inner + closing
    once, parts = Fence(), Fence()
    at_once = once.feed(whole) + once.flush()
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    in_parts = "".join(parts.feed(whole[a:b]) for a, b in itertools.pairwise(places)) + parts.flush()
    assert in_parts == at_once
    assert at_once in whole


# --- the vendor's face ---


class Body(httpx.AsyncByteStream):
    def __init__(self, parts: list[bytes], then: Exception | None = None) -> None:
        self.parts = parts
        self.then = then
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        if self.then is not None:
            raise self.then

    async def aclose(self) -> None:
        self.closed = True


SEEN = list[httpx.Request]


def provider_of(
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    base_url: str = "https://api.anthropic.com",
    keys: Any = ("k1",),
) -> tuple[Endpoint, SEEN]:
    seen: SEEN = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    provider = Provider("claude-api", base_url, keys, HttpxTransport(httpx.MockTransport(handle), "claude-api"))
    return provider.endpoints["chat"], seen


def streaming(
    *parts: bytes, then: Exception | None = None, **headers: str
) -> Callable[[httpx.Request], httpx.Response]:
    headers = {"content-type": "text/event-stream; charset=utf-8", **headers}
    return lambda _: httpx.Response(200, headers=headers, stream=Body(list(parts), then))


async def collect(stream: Stream) -> list[list[bytes]]:
    return [batch async for batch in stream]


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


def test_the_word_in_the_configuration_finds_the_vendor() -> None:
    assert load("anthropic") is Provider


@pytest.mark.parametrize("base_url", ["https://x.test", "https://x.test/", "https://x.test/v1", "https://x.test/v1/"])
def test_the_base_url_is_what_the_sdk_takes(base_url: str) -> None:
    provider, seen = provider_of(lambda _: httpx.Response(200, json=ANSWER), base_url=base_url, keys=["k1", "k2"])
    call = call_of({**HELLO, "seed": 1})
    replies = [asyncio.run(provider.complete(call, MODEL, Timeouts())) for _ in range(3)]
    assert {str(request.url) for request in seen} == {"https://x.test/v1/messages"}
    assert [request.headers["x-api-key"] for request in seen] == ["k1", "k2", "k1"]
    assert seen[0].headers["anthropic-version"] == "2023-06-01"
    assert json.loads(seen[0].content)["model"] == "claude-x"
    assert replies[0].dropped == ("seed",)
    assert orjson.loads(replies[0].body)["choices"][0]["message"]["content"] == "Hello"
    assert replies[0].tally.usage == Usage(input=3, output=2)


def test_a_stream_is_one_batch_a_read() -> None:
    first, rest = sse(*OPENING, text("Hel"), text("lo")), sse(*stop(output_tokens=2))
    provider, seen = provider_of(streaming(first, b": comment\n\n", rest, **{"request-id": "req_1"}))

    async def go() -> tuple[Stream, list[list[bytes]]]:
        stream = await provider.stream(call_of(HELLO), MODEL, Timeouts())
        await stream.begin()
        return stream, await collect(stream)

    stream, batches = asyncio.run(go())
    assert [len(batch) for batch in batches] == [3, 2]
    assert json.loads(seen[0].content)["stream"] is True
    assert stream.headers["request-id"] == "req_1"
    assert stream.tally.finish == "stop"


def test_an_answer_that_ends_does_not_wait_for_its_connection() -> None:
    class Open(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield sse(*OPENING, text("Hi"), *stop())
            await asyncio.sleep(60)

    body = Open([])
    headers = {"content-type": "text/event-stream"}
    provider, _ = provider_of(lambda _: httpx.Response(200, headers=headers, stream=body))

    async def go() -> list[list[bytes]]:
        batches = await collect(await provider.stream(call_of(HELLO), MODEL, Timeouts()))
        await asyncio.sleep(0)
        return batches

    begun = time.monotonic()
    assert len(asyncio.run(go())) == 1
    assert time.monotonic() - begun < 5
    assert body.closed


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (streaming(sse(*OPENING, text("Hi"))), errors.BadReply),
        (streaming(sse(*OPENING, text("Hi")), then=httpx.ReadError("reset")), errors.Unavailable),
        (streaming(sse(*OPENING, text("Hi")), then=httpx.ReadTimeout("silent")), errors.TimedOut),
        (
            streaming(sse({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}})),
            errors.RateLimited,
        ),
        (lambda _: httpx.Response(200, html="<html>"), errors.BadReply),
        (lambda _: httpx.Response(200, json=ANSWER), errors.BadReply),
        (
            lambda _: httpx.Response(200, json={"type": "error", "error": {"type": "overloaded_error"}}),
            errors.Overwhelmed,
        ),
        (
            lambda _: httpx.Response(529, json={"type": "error", "error": {"type": "overloaded_error"}}),
            errors.Overwhelmed,
        ),
        (lambda _: httpx.Response(302, headers={"location": "https://evil.test"}), errors.BadReply),
    ],
)
def test_what_breaks_a_stream(answer: Callable[[httpx.Request], httpx.Response], error: type[Exception]) -> None:
    provider, _ = provider_of(answer)

    async def go() -> None:
        await collect(await provider.stream(call_of(HELLO), MODEL, Timeouts()))

    with pytest.raises(error) as caught:
        asyncio.run(go())
    assert str(caught.value).startswith("claude-api")
    assert caught.value.provider == "claude-api"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200, text="<html>"), errors.BadReply),
        (httpx.Response(200, text='{"id":"msg_1","cont'), errors.BadReply),
        (httpx.Response(200, json=[]), errors.BadReply),
        (httpx.Response(200, json={"id": "msg_1"}), errors.BadReply),
        (httpx.Response(200, json={"id": "msg_1", "content": [{"type": "text"}]}), errors.BadReply),
        (httpx.Response(200, json={"id": "msg_1", "content": [7]}), errors.BadReply),
        (
            httpx.Response(200, json={"type": "error", "error": {"type": "api_error", "message": "Oh"}}),
            errors.Unavailable,
        ),
        (httpx.Response(200, json={"error": {"message": "Oh"}}), errors.Unavailable),
        (httpx.Response(404, json={"type": "error", "error": {"type": "not_found_error"}}), errors.ModelGone),
    ],
)
def test_what_is_no_answer(answer: httpx.Response, error: type[Exception]) -> None:
    provider, _ = provider_of(lambda _: answer)
    with pytest.raises(error, match="claude-api"):
        asyncio.run(provider.complete(call_of(HELLO), MODEL, Timeouts()))


# --- errors and usage ---


def error_body(kind: str, message: str = "Oh", code: str | None = None) -> bytes:
    details = {"details": {"error_code": code}} if code else {}
    return orjson.dumps(
        {"type": "error", "error": {"type": kind, "message": message, **details}, "request_id": "req_1"}
    )


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, error_body("invalid_request_error"), errors.InvalidRequest),
        (400, error_body("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), errors.ContextTooLong),
        (
            400,
            error_body("invalid_request_error", "You have reached your specified API usage limits."),
            errors.QuotaExhausted,
        ),
        (400, error_body("invalid_request_error", "prompt mentions rate_limit_error 429"), errors.InvalidRequest),
        (401, error_body("authentication_error", "invalid x-api-key"), errors.CredentialsRejected),
        (402, error_body("billing_error"), errors.QuotaExhausted),
        (403, error_body("permission_error"), errors.CredentialsRejected),
        (404, error_body("not_found_error", "model: claude-0"), errors.ModelGone),
        (409, error_body("conflict_error"), errors.InvalidRequest),
        (413, error_body("request_too_large"), errors.RequestTooLarge),
        (413, b"<html>413</html>", errors.RequestTooLarge),
        (429, error_body("rate_limit_error"), errors.RateLimited),
        (429, error_body("rate_limit_error", code="enforced_spend_limit_reached"), errors.QuotaExhausted),
        (429, error_body("rate_limit_error", code="ramp_limit_exceeded"), errors.RateLimited),
        (500, error_body("api_error"), errors.Unavailable),
        (504, error_body("timeout_error"), errors.TimedOut),
        (529, error_body("overloaded_error"), errors.Overwhelmed),
        (502, b"<html>Bad gateway</html>", errors.Unavailable),
        (503, error_body("novel_error"), errors.Unavailable),
        (418, error_body("novel_error"), errors.BadReply),
        (400, b"", errors.BadReply),
        (403, b"<html>blocked</html>", errors.BadReply),
        (404, b"not found", errors.BadReply),
        (200, error_body("overloaded_error"), errors.Overwhelmed),
        (400, b'{"error": "text"}', errors.BadReply),
        (400, b'{"error": {"type": [], "message": {}, "details": 3}}', errors.InvalidRequest),
    ],
)
def test_errors_are_known_by_the_vendors_own_codes(status: int, body: bytes, error: type[Exception]) -> None:
    found = decode_error("anthropic", status, {}, body)
    assert type(found) is error
    assert found.message.startswith("anthropic")


def test_a_prompt_that_is_too_long_names_the_messages() -> None:
    found = decode_error(
        "anthropic", 400, {}, error_body("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")
    )
    assert (found.param, found.code) == ("messages", "context_length_exceeded")


def test_the_vendors_choice_of_status_is_kept() -> None:
    found = decode_error("anthropic", 409, {}, error_body("conflict_error"))
    assert isinstance(found, errors.InvalidRequest)
    assert found.status == 409
    assert errors.InvalidRequest.status == 400


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25, 0.25),
        ({"retry-after": formatdate(time.time() + 30, usegmt=True)}, 0, 31),
        ({"retry-after": formatdate(0, usegmt=True)}, 0, 0),
        ({"retry-after": "-3"}, 0, 0),
    ],
)
def test_the_rest_that_the_vendor_asks_for(headers: dict[str, str], least: float, most: float) -> None:
    found = decode_error("anthropic", 429, headers, error_body("rate_limit_error"))
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after is not None
    assert least <= found.retry_after <= most


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "inf"}])
def test_no_rest_that_makes_sense(headers: dict[str, str]) -> None:
    found = decode_error("anthropic", 529, headers, error_body("overloaded_error"))
    assert isinstance(found, errors.Overwhelmed)
    assert found.retry_after is None


def test_a_spent_account_is_not_waited_for() -> None:
    found = decode_error(
        "anthropic", 429, {"retry-after": "7"}, error_body("rate_limit_error", code="contract_spend_limit_reached")
    )
    assert isinstance(found, errors.QuotaExhausted)
    assert found.retry_after is None


def test_messages_bear_no_keys_and_no_organisations() -> None:
    secret = "key sk-ant-api03-abc_DEF, org 5a8f3c0e-1111-2222-3333-444455556666, org_01ABCDEF"
    message = decode_error("main", 400, {}, error_body("invalid_request_error", secret)).message
    assert message == "main: key ***, org ***, ***"


def test_usage_keeps_the_parts_apart() -> None:
    raw = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 40,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    usage = decode_usage(raw)
    assert usage == Usage(input=10, cache_read=40, cache_write=10, cache_write_1h=20, output=7, reasoning=3)
    assert usage.prompt == 80
    assert decode_usage({"output_tokens": 9, "cache_creation_input_tokens": 30}, usage).cache_write == 10


@settings(max_examples=200, deadline=None)
@given(junk)
def test_usage_and_events_of_any_shape_break_nothing(value: Any) -> None:
    if isinstance(value, dict):
        decode_usage(value)
    for kind in ("message_start", "message_delta", "content_block_start", "content_block_delta", "content_block_stop"):
        for field in ("message", "delta", "content_block", "usage", "index"):
            event = {"type": kind, "index": 0, "delta": {}, field: value}
            run(*OPENING, b"data: " + orjson.dumps(event) + b"\n\n", *stop())
