"""An application that uses OpenAI's SDK works with every model behind the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pydantic
import pytest

VENDORS = {"mercury": "inception", "gpt-4.1-nano": "openai", "claude-haiku": "anthropic"}
MODELS = pytest.mark.parametrize("model", VENDORS)

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Sandal(pydantic.BaseModel):
    owner: str
    wings: int
    colours: list[str]


def ask(model: str, text: str = "What do winged sandals do?", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def picture(model: str, url: str = PIXEL) -> dict[str, Any]:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": model, "messages": [{"role": "user", "content": parts}]}


def said(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@pytest.mark.ability("chat")
@MODELS
def test_a_plain_answer(sdk, simulator, model):
    answer = sdk.chat.completions.create(**ask(model))
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert answer.created > 0
    message = answer.choices[0].message
    assert message.role == "assistant"
    assert message.content
    assert message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    (row,) = simulator.bill()
    assert row["vendor"] == VENDORS[model]
    assert row["completed"]
    billed = (row["input_tokens"], row["output_tokens"])
    assert billed == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


@MODELS
def test_a_stream_with_usage_says_what_the_whole_answer_says(sdk, model):
    whole = sdk.chat.completions.create(**ask(model))
    chunks = list(sdk.chat.completions.create(**ask(model), stream=True, stream_options={"include_usage": True}))
    assert said(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert sum(1 for chunk in chunks for choice in chunk.choices if choice.finish_reason) == 1
    assert {(chunk.id, chunk.model, chunk.created, chunk.object) for chunk in chunks} == {
        (chunks[0].id, model, chunks[0].created, "chat.completion.chunk")
    }
    assert [chunk for chunk in chunks if chunk.usage] == chunks[-1:]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


@MODELS
@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
def test_a_stream_without_usage_has_none(sdk, gateway, model, options):
    before = gateway.metric("talaria_tokens_total", model=model, type="output")
    chunks = list(sdk.chat.completions.create(**ask(model), stream=True, **options))
    assert said(chunks)
    assert all(chunk.choices for chunk in chunks)
    assert not any(chunk.usage for chunk in chunks)
    assert gateway.metric("talaria_tokens_total", model=model, type="output") > before


@pytest.mark.ability("streams")
@MODELS
def test_the_accumulator_of_the_sdk_has_the_whole_answer(sdk, model):
    whole = sdk.chat.completions.create(**ask(model))
    with sdk.chat.completions.stream(**ask(model), stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
    assert final.usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.ability("tools")
@MODELS
def test_a_tool_is_called_and_its_result_answered(sdk, model):
    question = {"role": "user", "content": "What is the weather in Oslo?"}
    first = sdk.chat.completions.create(model=model, messages=[question], tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city", "unit"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "11 degrees and drizzle"}
    history = [question, first.choices[0].message.to_dict(), result]
    second = sdk.chat.completions.create(model=model, messages=history, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert "11 degrees and drizzle" in second.choices[0].message.content


@MODELS
def test_two_tools_are_called_at_once_and_both_results_answered(sdk, model):
    question = {"role": "user", "content": "Use weather and clock in parallel"}
    first = sdk.chat.completions.create(model=model, messages=[question], tools=[WEATHER, CLOCK])
    calls = first.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert json.loads(calls[1].function.arguments) == {}
    assert len({call.id for call in calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, text in zip(calls, ("drizzle", "noon"), strict=True)
    ]
    # Any order of the results will do, and a user may speak right after them.
    history = [question, first.choices[0].message.to_dict(), *reversed(results)]
    for messages in (history, [*history, {"role": "user", "content": "no tools, what did they say?"}]):
        answer = sdk.chat.completions.create(model=model, messages=messages, tools=[WEATHER, CLOCK])
        assert answer.choices[0].finish_reason == "stop"


@MODELS
def test_parallel_calls_can_be_forbidden_or_the_wish_is_named_as_dropped(sdk, model):
    answer = sdk.chat.completions.with_raw_response.create(
        **ask(model, "Use weather and clock"), tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    if model == "mercury":
        assert answer.headers["x-talaria-dropped"] == "parallel_tool_calls"
    else:
        assert len(answer.parse().choices[0].message.tool_calls) == 1


@pytest.mark.ability("streamed tools")
@MODELS
def test_streamed_tool_calls_add_up_to_the_whole_ones(sdk, model):
    asked = ask(model, "Use weather and clock in parallel", tools=[WEATHER, CLOCK])
    whole = sdk.chat.completions.create(**asked)
    with sdk.chat.completions.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    expected = [(call.function.name, call.function.arguments) for call in whole.choices[0].message.tool_calls]
    assert [call.function.name for call in calls] == [name for name, _ in expected]
    assert [json.loads(call.function.arguments) for call in calls] == [json.loads(text) for _, text in expected]
    assert final.choices[0].finish_reason == "tool_calls"
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.name for event in done] == ["weather", "clock"]
    chunks = [event.chunk for event in events if event.type == "chunk"]
    fragments = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert sorted({call.index for call in fragments}) == [0, 1]
    assert [call.function.name for call in fragments if call.id] == ["weather", "clock"]


@MODELS
@pytest.mark.parametrize(
    ("choice", "text", "called"),
    [
        (None, "Use weather", ["weather"]),
        ("auto", "Use weather", ["weather"]),
        ("auto", "no tools please", None),
        ("none", "Use weather", None),
        ("required", "no tools please", "any"),
        ({"type": "function", "function": {"name": "clock"}}, "Use weather", ["clock"]),
    ],
)
def test_tool_choice_is_obeyed(sdk, model, choice, text, called):
    asked = ask(model, text, tools=[WEATHER, CLOCK])
    if choice is not None:
        asked["tool_choice"] = choice
    message = sdk.chat.completions.create(**asked).choices[0].message
    names = [call.function.name for call in message.tool_calls] if message.tool_calls else None
    assert names == called if called != "any" else names


@MODELS
def test_a_choice_among_allowed_tools_is_obeyed_or_refused_in_the_open(sdk, model):
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]}
    asked = ask(
        model,
        "Use weather and clock",
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    if model == "mercury":
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(**asked)
        assert refused.value.param == "tool_choice"
    else:
        calls = sdk.chat.completions.create(**asked).choices[0].message.tool_calls
        assert {call.function.name for call in calls} == {"clock"}


@pytest.mark.ability("JSON schema")
@MODELS
def test_an_answer_parses_into_a_pydantic_model(sdk, model):
    asked = ask(model, "Describe the sandals of Hermes")
    parsed = sdk.chat.completions.parse(**asked, response_format=Sandal)
    assert isinstance(parsed.choices[0].message.parsed, Sandal)
    with sdk.chat.completions.stream(**asked, response_format=Sandal) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed.choices[0].message.parsed


@MODELS
def test_tool_arguments_parse_into_a_pydantic_model(sdk, model):
    tool = openai.pydantic_function_tool(Sandal, name="sandal")
    parsed = sdk.chat.completions.parse(**ask(model, "Use sandal"), tools=[tool])
    (call,) = parsed.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Sandal)


@MODELS
def test_json_mode_answers_with_an_object(sdk, model):
    # Claude has no such mode: it is asked for JSON in words.
    asked = ask(model, "Describe the sandals as JSON", response_format={"type": "json_object"})
    answer = sdk.chat.completions.create(**asked)
    assert isinstance(json.loads(answer.choices[0].message.content), dict)
    chunks = list(sdk.chat.completions.create(**asked, stream=True))
    assert json.loads(said(chunks)) == json.loads(answer.choices[0].message.content)


@pytest.mark.ability("images", only=("openai", "anthropic"))
@MODELS
def test_an_image_is_seen_or_refused_in_the_open(sdk, simulator, model):
    if model == "mercury":
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(**picture(model))
        assert "image" in refused.value.message
        assert refused.value.param == "messages[0].content[1].image_url.url"
        assert simulator.requests() == []
    else:
        answer = sdk.chat.completions.create(**picture(model))
        assert answer.choices[0].message.content
        assert answer.usage.prompt_tokens > 20
        sdk.chat.completions.create(**picture(model, "https://example.com/sandal.png"))
        assert len(simulator.requests()) == 2


@MODELS
def test_words_from_the_system_may_stand_anywhere(sdk, model):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello to you."},
        {"role": "system", "content": "From here on, be formal."},
        {"role": "user", "content": [{"type": "text", "text": "say exactly: good day"}]},
    ]
    answer = sdk.chat.completions.create(model=model, messages=messages)
    assert answer.choices[0].message.content == "good day"


@MODELS
@pytest.mark.parametrize("stop", ["three", ["nine", "three"]])
def test_a_stop_word_ends_the_answer_before_it(sdk, model, stop):
    asked = ask(model, "say exactly: one two three four", stop=stop)
    whole = sdk.chat.completions.create(**asked)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two ", "stop")
    assert said(list(sdk.chat.completions.create(**asked, stream=True))) == "one two "


@MODELS
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_holds_under_either_name(sdk, model, name):
    effort = {"reasoning_effort": "none"} if model == "mercury" else {}
    asked = ask(model, "write 400 words", **{name: 12}, **effort)
    whole = sdk.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    chunks = list(sdk.chat.completions.create(**asked, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


@MODELS
def test_a_cut_answer_does_not_parse(sdk, model):
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.chat.completions.parse(**ask(model, "Describe it", max_tokens=3), response_format=Sandal)


@MODELS
def test_a_refusal_is_told_as_one(sdk, model):
    answer = sdk.chat.completions.create(**ask(model, "refuse"))
    choice = answer.choices[0]
    if model == "claude-haiku":
        assert choice.finish_reason == "content_filter"
        assert choice.message.refusal
    else:
        assert choice.message.refusal or choice.message.content
    chunks = list(sdk.chat.completions.create(**ask(model, "refuse"), stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == choice.finish_reason


def test_a_refusal_of_a_format_is_in_the_parsed_message(sdk):
    parsed = sdk.chat.completions.parse(**ask("gpt-4.1-nano", "refuse"), response_format=Sandal)
    assert parsed.choices[0].message.parsed is None
    assert parsed.choices[0].message.refusal


@pytest.mark.ability("reasoning", vendor="anthropic")
def test_effort_makes_claude_reason_and_the_reasoning_can_be_read(sdk):
    plain = sdk.chat.completions.create(**ask("claude-haiku"))
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0
    thought = sdk.chat.completions.create(**ask("claude-haiku"), reasoning_effort="medium")
    assert thought.usage.completion_tokens_details.reasoning_tokens > 0
    assert thought.choices[0].message.reasoning_content
    chunks = list(sdk.chat.completions.create(**ask("claude-haiku"), reasoning_effort="medium", stream=True))
    streamed = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    assert streamed == thought.choices[0].message.reasoning_content


def test_effort_is_heeded_with_a_tool_history_that_bears_no_thoughts(sdk):
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    for model in VENDORS:
        answer = sdk.chat.completions.create(
            model=model,
            messages=messages,
            tools=[CLOCK],
            extra_body={"reasoning_effort": "high"} if model != "gpt-4.1-nano" else None,
        )
        assert "noon" in answer.choices[0].message.content


@MODELS
def test_several_answers_or_a_typed_error(sdk, model):
    if model == "gpt-4.1-nano":
        answer = sdk.chat.completions.create(**ask(model), n=2)
        assert [choice.index for choice in answer.choices] == [0, 1]
        chunks = list(sdk.chat.completions.create(**ask(model), n=2, stream=True))
        assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    else:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(**ask(model), n=2)
        assert (refused.value.param, refused.value.code) == ("n", "unsupported_value")


@MODELS
def test_the_async_client_works_whole_and_streamed(gateway, model):
    async def run() -> tuple[str, str, str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            asked = ask(model, "say exactly: héllo 🙂 世界")
            whole, chunks = await asyncio.gather(
                client.chat.completions.create(**asked), client.chat.completions.create(**asked, stream=True)
            )
            streamed = said([chunk async for chunk in chunks])
            async with client.chat.completions.stream(**asked) as stream:
                final = await stream.get_final_completion()
            return whole.choices[0].message.content, streamed, final.choices[0].message.content

    assert asyncio.run(run()) == ("héllo 🙂 世界",) * 3


@MODELS
def test_many_calls_at_once_keep_their_answers_apart(gateway, model):
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:

            async def one(i: int) -> str:
                stream = await client.chat.completions.create(**ask(model, f"say exactly: {i} {i} {i}"), stream=True)
                return said([chunk async for chunk in stream])

            return await asyncio.gather(*(one(i) for i in range(24)))

    assert asyncio.run(run()) == [f"{i} {i} {i}" for i in range(24)]


def test_hints_cost_nothing_to_the_vendor(sdk, simulator):
    metadata = {"use_case": "tests", "latency_class": "interactive", "task": "chat", "deadline_ms": "9000"}
    for model in VENDORS:
        sdk.chat.completions.create(**ask(model), metadata=metadata)
    assert not any("use_case" in json.dumps(request["body"]) for request in simulator.requests())


@MODELS
def test_headers_say_who_answered_and_at_which_cost(sdk, model):
    answer = sdk.chat.completions.with_raw_response.create(**ask(model))
    headers = answer.headers
    assert headers["x-request-id"] == answer.parse()._request_id
    assert headers["x-talaria-model"] == model
    assert headers["x-talaria-provider"] == VENDORS[model]
    assert headers["x-talaria-upstream-model"]
    assert headers["x-talaria-route"] == "direct"
    assert headers["x-talaria-attempts"] == "1"
    assert headers["x-talaria-cache"] == "off"
    assert float(headers["x-talaria-overhead-ms"]) >= 0
    assert float(headers["x-talaria-cost-usd"]) > 0
    assert "x-talaria-dropped" not in headers
    streamed = sdk.chat.completions.with_raw_response.create(**ask(model), stream=True)
    assert streamed.headers["x-talaria-model"] == model
    assert said(list(streamed.parse()))


def test_what_was_left_out_is_named(sdk):
    answer = sdk.chat.completions.with_raw_response.create(**ask("claude-haiku"), seed=7, logit_bias={"50256": -100})
    assert set(answer.headers["x-talaria-dropped"].split(",")) == {"seed", "logit_bias"}


def test_a_route_is_a_model_to_applications(sdk):
    answer = sdk.chat.completions.with_raw_response.create(**ask("auto"))
    assert answer.headers["x-talaria-route"] == "auto"
    assert answer.parse().model == answer.headers["x-talaria-model"] == "mercury"
    seen = sdk.chat.completions.with_raw_response.create(**picture("auto"))
    assert seen.headers["x-talaria-model"] == "gpt-4.1-nano"


def test_models_are_listed_and_found(sdk):
    listed = {model.id: model for model in sdk.models.list()}
    assert {*VENDORS, "claude-sonnet", "text-embedding-3-small", "auto", "auto-cheap"} <= set(listed)
    assert listed["mercury"].owned_by == "inception"
    for name, model in listed.items():
        assert sdk.models.retrieve(name) == model
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.models.retrieve("gpt-nought")
    assert missing.value.code == "model_not_found"
