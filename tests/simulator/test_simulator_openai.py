"""OpenAI's own SDK against the pretend OpenAI."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Any

import openai
import pydantic
import pytest

MODEL = "gpt-4.1-nano"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def ask(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def test_an_answer_has_every_recorded_field(gpt):
    answer = gpt.chat.completions.create(**ask())
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "gpt-4.1-nano-2025-04-14"
    message = answer.choices[0].message
    assert (message.role, message.refusal, message.annotations) == ("assistant", None, [])
    assert 30 < len(message.content.split()) < 140
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details.reasoning_tokens == 0
    assert answer.system_fingerprint.startswith("fp_")
    assert answer.service_tier == "default"
    assert answer._request_id.startswith("req_")


def test_a_stream_says_what_the_whole_answer_says(gpt):
    whole = gpt.chat.completions.create(**ask("Tell me about wings"))
    chunks = list(
        gpt.chat.completions.create(**ask("Tell me about wings"), stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_is_null_on_chunks_when_asked_for_and_absent_when_not(simulator):
    asked = events(simulator.post("openai", stream=True, stream_options={"include_usage": True}))
    assert all(event["usage"] is None for event in asked[:-1])
    plain = events(simulator.post("openai", stream=True))
    assert not any("usage" in event for event in plain)
    assert all("obfuscation" in event for event in plain)
    bare = events(simulator.post("openai", stream=True, stream_options={"include_obfuscation": False}))
    assert not any("obfuscation" in event for event in bare)


def events(response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_async_client_streams_too(simulator):
    async def said() -> str:
        async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key="key") as sdk:
            stream = await sdk.chat.completions.create(**ask("say exactly: héllo 🙂 世界"), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(said()) == "héllo 🙂 世界"


def test_a_tool_is_called_with_arguments_that_fit_and_its_result_is_quoted(gpt):
    first = gpt.chat.completions.create(**ask("What is it like in Oslo?", tools=[WEATHER]))
    assert first.choices[0].finish_reason == "tool_calls"
    call = first.choices[0].message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] in ("C", "F")
    second = gpt.chat.completions.create(
        model=MODEL,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "What is it like in Oslo?"},
            first.choices[0].message.to_dict(),
            {"role": "tool", "tool_call_id": call.id, "content": "11 degrees and drizzle"},
        ],
    )
    assert second.choices[0].finish_reason == "stop"
    assert "11 degrees and drizzle" in second.choices[0].message.content


def test_tools_can_be_called_in_parallel_and_need_no_parameters(gpt):
    answer = gpt.chat.completions.create(**ask("use weather and clock", tools=[WEATHER, CLOCK]))
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert calls[1].function.arguments == "{}"
    one = gpt.chat.completions.create(**ask("use weather and clock", tools=[WEATHER, CLOCK], parallel_tool_calls=False))
    assert len(one.choices[0].message.tool_calls) == 1


def test_tool_calls_stream_in_fragments(gpt):
    with gpt.chat.completions.stream(**ask("parallel please", tools=[WEATHER, CLOCK])) as stream:
        final = stream.get_final_completion()
    whole = gpt.chat.completions.create(**ask("parallel please", tools=[WEATHER, CLOCK]))
    names = [(call.function.name, call.function.arguments) for call in final.choices[0].message.tool_calls]
    assert names == [(call.function.name, call.function.arguments) for call in whole.choices[0].message.tool_calls]
    assert len(names) == 2


def test_a_tool_choice_is_obeyed(gpt):
    named = {"type": "function", "function": {"name": "clock"}}
    forced = gpt.chat.completions.create(**ask("no tools", tools=[WEATHER, CLOCK], tool_choice=named))
    assert forced.choices[0].message.tool_calls[0].function.name == "clock"
    never = gpt.chat.completions.create(**ask("use weather", tools=[WEATHER], tool_choice="none"))
    assert never.choices[0].message.tool_calls is None


def test_several_choices_interleave(gpt):
    whole = gpt.chat.completions.create(**ask(n=3))
    assert len({choice.message.content for choice in whole.choices}) == 3
    chunks = list(gpt.chat.completions.create(**ask(n=3), stream=True))
    assert [chunk.choices[0].index for chunk in chunks[:6]] == [0, 1, 2, 0, 1, 2]
    assert sum(chunk.choices[0].finish_reason == "stop" for chunk in chunks) == 3


class Colour(Enum):
    red = "red"
    blue = "blue"


class Shade(pydantic.BaseModel):
    colour: Colour
    depth: int | None


class Painting(pydantic.BaseModel):
    title: str
    shades: list[Shade]
    best: Shade | None
    framed: bool


def test_structured_output_parses(gpt):
    parsed = gpt.chat.completions.parse(**ask("Describe a painting"), response_format=Painting)
    assert isinstance(parsed.choices[0].message.parsed, Painting)


def test_json_mode_needs_the_word_and_gives_an_object(gpt):
    with pytest.raises(openai.BadRequestError, match="json"):
        gpt.chat.completions.create(**ask("Hello"), response_format={"type": "json_object"})
    answer = gpt.chat.completions.create(**ask("Hello as JSON"), response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_length_stop_and_refusal_end_an_answer(gpt):
    short = gpt.chat.completions.create(**ask(max_tokens=5))
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 5)
    stopped = gpt.chat.completions.create(**ask("say exactly: one two three"), stop=" two")
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one", "stop")
    refused = gpt.chat.completions.create(**ask("please refuse"))
    assert refused.choices[0].message.content is None
    assert refused.choices[0].message.refusal
    cut = gpt.chat.completions.create(**ask("use weather", tools=[WEATHER], max_tokens=9))
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 9


def test_a_number_of_words_is_kept(gpt):
    answer = gpt.chat.completions.create(**ask("Write 2000 words"))
    assert len(answer.choices[0].message.content.split()) == 2000


def test_logprobs_come_for_every_token(gpt):
    answer = gpt.chat.completions.create(**ask("say exactly: one two"), logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == "one two"
    assert len(tokens[0].top_logprobs) == 2
    chunks = list(gpt.chat.completions.create(**ask("say exactly: one two"), logprobs=True, stream=True))
    assert chunks[1].choices[0].logprobs.content[0].token == "one"


def test_reasoning_is_counted_and_can_eat_the_answer(gpt):
    answer = gpt.chat.completions.create(**ask() | {"model": "gpt-5-nano"})
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    eaten = gpt.chat.completions.create(
        **ask() | {"model": "gpt-5-nano"}, reasoning_effort="high", max_completion_tokens=50
    )
    assert (eaten.choices[0].message.content, eaten.choices[0].finish_reason) == ("", "length")


def test_long_prompts_are_cached(gpt):
    long = ask("A letter that was never sent. " * 400)
    first, second = (gpt.chat.completions.create(**long).usage for _ in range(2))
    assert first.prompt_tokens_details.cached_tokens == 0
    assert second.prompt_tokens_details.cached_tokens >= 1024
    assert second.prompt_tokens_details.cached_tokens % 128 == 0


def test_models_are_listed_with_their_shutdown_dates(gpt):
    models = {model.id: model for model in gpt.models.list()}
    assert models["gpt-4.1-nano"].shutdown_date == "2026-10-23"
    assert gpt.models.retrieve("gpt-6-luna").owned_by == "system"
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("gpt-nought")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": [{"role": "pope", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"max_tokens": 32769}, "max_tokens", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"top_logprobs": 3}, "top_logprobs", None),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
        ({"tool_choice": "auto"}, "tool_choice", None),
        ({"tools": []}, "tools", "empty_array"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"wings": 2}, "wings", "unknown_parameter"),
        ({"service_tier": "gold"}, "service_tier", None),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
        ({"web_search_options": {}}, "web_search_options", None),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name", "missing_required_parameter"),
        ({"model": "gpt-5-nano", "max_tokens": 9}, "max_tokens", "unsupported_parameter"),
        ({"model": "gpt-5-nano", "temperature": 0.2}, "temperature", "unsupported_value"),
    ],
)  # fmt: skip
def test_what_openai_refuses_is_refused(gpt, change, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.chat.completions.create(**ask(), extra_body=change)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"


def test_images_and_contexts_have_limits(gpt):
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = gpt.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [picture]}])
    assert seen.usage.prompt_tokens > 200
    with pytest.raises(openai.BadRequestError, match="image_url"):
        gpt.chat.completions.create(model="gpt-3.5-turbo", messages=[{"role": "user", "content": [picture]}])
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.chat.completions.create(**ask("word " * 20_000) | {"model": "gpt-3.5-turbo"})
    assert refused.value.code == "context_length_exceeded"


def test_tool_messages_must_answer_tool_calls(gpt):
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    question = {"role": "user", "content": "time?"}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "noon"}
    for messages in ([question, called], [question, called, question], [question, result]):
        with pytest.raises(openai.BadRequestError, match="tool"):
            gpt.chat.completions.create(model=MODEL, messages=messages, tools=[CLOCK])
    gpt.chat.completions.create(model=MODEL, messages=[question, called, result, question], tools=[CLOCK])


def test_keys_and_models_must_exist(simulator, gpt):
    with pytest.raises(openai.AuthenticationError) as refused:
        gpt.with_options(api_key="bad").chat.completions.create(**ask())
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        gpt.chat.completions.create(**ask() | {"model": "gpt-nought"})
    assert missing.value.code == "model_not_found"
    assert "`gpt-nought`" in missing.value.message
    assert simulator.bill() == []


def test_legacy_functions_and_custom_tools_are_answered_in_kind(gpt):
    legacy = gpt.chat.completions.create(**ask("time?"), functions=[{"name": "clock", "parameters": {}}])
    assert legacy.choices[0].finish_reason == "function_call"
    assert legacy.choices[0].message.function_call.name == "clock"
    custom = gpt.chat.completions.create(**ask("run"), tools=[{"type": "custom", "custom": {"name": "shell"}}])
    assert custom.choices[0].message.tool_calls[0].custom.name == "shell"
