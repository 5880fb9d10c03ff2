from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import catalog
from providers.base import Batch, Endpoint, Stream
from providers.lenient import dumps
from providers.prompt import Prompt, Prompted, prompted
from providers.prompt_output import Output
from providers.prompt_template import Template
from providers.types import Call, Hints, Json, Model, Reply, Tally, Timeouts

MODEL = Model("nano", "openai", "gpt-4.1-nano", catalog.lookup("openai", "gpt-4.1-nano"))
USER = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be kind."}


def a_call(**fields: Any) -> Call:
    body = {"model": "nano", "messages": [USER], **fields}
    return Call("1", "chat", b"", body, "nano", bool(fields.get("stream")), False, {}, Hints(), 0.0, 60.0, "")


def chunk(delta: Json, finish: str | None = None, index: int = 0) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "nano", "choices": choices})


class Said:
    """An endpoint that gives the same answer to all, and remembers what it was asked."""

    def __init__(self, text: str = "Hello.", chunks: list[bytes] | None = None, replaces: bool = False) -> None:
        self.asked: list[Call] = []
        self.text = text
        self.chunks = chunks or []
        self.replaces = replaces

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        self.asked.append(call)
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": "stop"}
        body = dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "nano", "choices": [choice]})
        return Reply(body, Tally(), {}, ("seed",))

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        self.asked.append(call)

        async def events() -> AsyncIterator[Batch]:
            for each in self.chunks:
                yield [each]

        return Stream(events(), lambda: None, Tally(), {}, ("seed",), self.replaces)


def completed(endpoint: Endpoint, call: Call) -> Reply:
    return asyncio.run(endpoint.complete(call, MODEL, Timeouts()))


def streamed(endpoint: Endpoint, call: Call) -> tuple[Stream, list[bytes]]:
    async def read() -> tuple[Stream, list[bytes]]:
        stream = await endpoint.stream(call, MODEL, Timeouts())
        return stream, [data async for batch in stream for data in batch]

    return asyncio.run(read())


def accumulated(chunks: list[bytes]) -> ChatCompletion:
    state = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(json.loads(each)))
    return state.get_final_completion()


PARTS = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]


@pytest.mark.parametrize(
    ("rules", "messages", "sent"),
    [
        ({}, [SYSTEM, USER], [SYSTEM, USER]),
        ({"system_prefix": "P"}, [USER], [{"role": "system", "content": "P"}, USER]),
        ({"system_prefix": "P", "system_suffix": "S"}, [USER], [{"role": "system", "content": "P\n\nS"}, USER]),
        ({"system_prefix": "P", "system_suffix": "S"}, [SYSTEM, USER], [{"role": "system", "content": "P\n\nBe kind.\n\nS"}, USER]),
        ({"system_suffix": "S"}, [SYSTEM, SYSTEM, USER, SYSTEM], [SYSTEM, {"role": "system", "content": "Be kind.\n\nS"}, USER, SYSTEM]),
        (
            {"system_prefix": "P", "system_suffix": "S"},
            [{"role": "system", "content": PARTS}, USER],
            [{"role": "system", "content": [{"type": "text", "text": "P\n\n"}, *PARTS, {"type": "text", "text": "\n\nS"}]}, USER],
        ),
        ({"roles": {"developer": "system"}}, [{"role": "developer", "content": "x"}, USER], [{"role": "system", "content": "x"}, USER]),
        ({"system_prefix": "P", "roles": {"system": "user"}}, [USER], [{"role": "user", "content": "P"}, USER]),
    ],
)  # fmt: skip
def test_messages_are_framed_and_roles_mapped(rules: Json, messages: list[Json], sent: list[Json]) -> None:
    body, _ = Prompt("house", "1", **rules).apply({"model": "m", "messages": messages})
    assert body["messages"] == sent


@pytest.mark.parametrize(
    ("rules", "asked", "sent", "clamped"),
    [
        ({"defaults": {"temperature": 0.2}}, {}, {"temperature": 0.2}, []),
        ({"defaults": {"temperature": 0.2}}, {"temperature": 1}, {"temperature": 1}, []),
        ({"defaults": {"temperature": 0.2}}, {"temperature": None}, {"temperature": 0.2}, []),
        ({"defaults": {"max_completion_tokens": 9}}, {"max_tokens": 5}, {"max_tokens": 5}, []),
        ({"clamps": {"temperature": (0, 1)}}, {}, {}, []),
        ({"clamps": {"temperature": (0, 1)}}, {"temperature": 1}, {"temperature": 1}, []),
        ({"clamps": {"temperature": (0, 1)}}, {"temperature": 1.5}, {"temperature": 1}, ["temperature"]),
        ({"clamps": {"max_completion_tokens": (1, 20)}}, {"max_tokens": 50}, {"max_tokens": 20}, ["max_tokens"]),
        ({"stop_map": {"END": "<e>"}}, {"stop": "END"}, {"stop": ["<e>"]}, []),
        ({"stop_map": {"END": "<e>"}}, {}, {}, []),
        ({"stop_add": ("<e>",)}, {}, {"stop": ["<e>"]}, []),
        ({"stop_map": {"END": "<e>"}, "stop_add": ("<e>", "<f>")}, {"stop": ["x", "END"]}, {"stop": ["x", "<e>", "<f>"]}, []),
    ],
)  # fmt: skip
def test_parameters_are_filled_in_and_clamped(rules: Json, asked: Json, sent: Json, clamped: list[str]) -> None:
    before = {"model": "m", "messages": [USER], **asked}
    kept = json.dumps(before)
    body, named = Prompt("house", "1", **rules).apply(before)
    assert {name: body[name] for name in body if name not in ("model", "messages")} == sent
    assert named == clamped
    assert json.dumps(before) == kept


def test_an_answer_bears_its_prompt_and_names_what_was_clamped() -> None:
    said = Said()
    reply = completed(Prompted(said, Prompt("house", "3", clamps={"temperature": (0, 1)})), a_call(temperature=2))
    assert (reply.tally.prompt, reply.dropped) == ("house@3", ("seed", "temperature"))
    assert said.asked[0].body["temperature"] == 1


def test_answers_without_an_output_rule_pass_as_the_same_bytes() -> None:
    chunks = [chunk({"role": "assistant", "content": " ```"}), chunk({}, "stop")]
    inner = Said(" x ", chunks)
    endpoint = Prompted(inner, Prompt("house", "3", output=Output(strip_fences="json")))
    plain = completed(inner, a_call())
    assert completed(endpoint, a_call()).body == plain.body
    stream, passed = streamed(endpoint, a_call(stream=True))
    assert (passed, stream.tally.prompt, stream.dropped) == (chunks, "house@3", ("seed",))


def test_snapshots_pass_as_they_are() -> None:
    chunks = [chunk({"content": " ```"}), chunk({"content": " ok "}), chunk({}, "stop")]
    endpoint = Prompted(Said(chunks=chunks, replaces=True), Prompt("house", "3", output=Output(trim=True)))
    assert streamed(endpoint, a_call(stream=True))[1] == chunks


EDITED = Output(strip_fences="json", trim=True, remove_stop=True)
FENCED = ' ```json\n{"a": 1}\n```\nThere you are.'


def test_a_whole_answer_is_edited() -> None:
    endpoint = Prompted(Said(FENCED), Prompt("house", "3", output=EDITED))
    asked = a_call(response_format={"type": "json_object"})
    assert json.loads(completed(endpoint, asked).body)["choices"][0]["message"]["content"] == '{"a": 1}'


def test_a_stop_word_that_the_server_left_is_taken_off() -> None:
    rules = Prompt("house", "3", stop_map={"END": "<|end|>"}, output=Output(remove_stop=True))
    reply = completed(Prompted(Said("Hi.<|end|> And"), rules), a_call(stop="END"))
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "Hi."


@given(cuts=st.lists(st.integers(0, len(FENCED)), max_size=len(FENCED)), beside=st.booleans(), finished=st.booleans())
def test_a_stream_is_edited_wherever_it_was_cut(cuts: list[int], beside: bool, finished: bool) -> None:
    pieces = [FENCED[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(FENCED)])]
    chunks = [chunk({"content": piece}) for piece in pieces[:-1]]
    chunks.append(chunk({"content": pieces[-1]}, "stop" if beside else None))
    if finished and not beside:
        chunks.append(chunk({}, "stop"))
    endpoint = Prompted(Said(chunks=chunks), Prompt("house", "3", output=EDITED))
    _, edited = streamed(endpoint, a_call(stream=True, response_format={"type": "json_object"}))

    message = accumulated(edited).choices[0]
    assert message.message.content == '{"a": 1}'
    assert (message.finish_reason == "stop") == (finished or beside)


def test_choices_are_edited_apart() -> None:
    chunks = [
        chunk({"content": "  on"}),
        chunk({"content": " tw"}, index=1),
        chunk({"content": "e "}),
        chunk({"content": "o\n"}, index=1),
        chunk({}, "stop"),
        chunk({}, "stop", index=1),
    ]
    _, edited = streamed(
        Prompted(Said(chunks=chunks), Prompt("house", "3", output=Output(trim=True))), a_call(stream=True)
    )
    assert [choice.message.content for choice in accumulated(edited).choices] == ["one", "two"]


def test_only_what_is_set_is_a_rule() -> None:
    assert Prompt("house", "1").rules == ()
    full = Prompt("house", "1", "P", "S", {"a": "b"}, {"a": "b"}, ("c",), {"seed": 1}, {"seed": (1, 2)}, EDITED)
    assert full.rules == (
        "system_prefix",
        "system_suffix",
        "roles",
        "stop.map",
        "stop.add",
        "defaults",
        "clamps",
        "output.strip_fences",
        "output.trim",
        "output.remove_stop",
    )


def test_nothing_goes_past_a_prompt() -> None:
    said = Said()
    found = prompted({"chat": said, "messages": said, "embeddings": said}, Prompt("house", "1"))
    assert list(found) == ["chat", "embeddings"]
    assert isinstance(found["chat"], Prompted)
    through = prompted({"completions": said}, Prompt("house", "1", template=Template("{{ messages[-1].content }}")))
    assert list(through) == ["completions", "chat"]
