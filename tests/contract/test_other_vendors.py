"""OpenAI's SDK in front of vendors that the simulator has not, through a real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pydantic
import pytest

from providers.simulator.server import running
from tests import fleet
from tests.contract.pretenders import Pretenders

CONFIGURATION = """\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  google:  {{kind: gemini, base_url: "{url}/gemini/v1beta", keys: [{{id: main, value: test}}]}}
  groq:    {{kind: compatible, vendor: groq, base_url: "{url}/groq/openai/v1", keys: [{{id: main, value: test}}]}}
  mistral: {{kind: compatible, vendor: mistral, base_url: "{url}/mistral/v1", keys: [{{id: main, value: test}}]}}
models:
  flash: {{provider: google, upstream: gemini-3.8-flash, fallback: others}}
  llama: {{provider: groq, upstream: llama-3.3-70b-versatile, fallback: others}}
  small: {{provider: mistral, upstream: mistral-small-latest, fallback: others}}
latency_classes:
  interactive: {{retries: 0}}
fallbacks:
  others: [flash, llama, small]
"""
VENDORS = {"flash": "gemini", "llama": "compatible", "small": "compatible"}
HOMES = {"flash": "gemini", "llama": "groq", "small": "mistral"}
MODELS = pytest.mark.parametrize("model", VENDORS)
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class City(pydantic.BaseModel):
    city: str


@pytest.fixture(scope="module")
def _behind() -> Iterator[tuple[Pretenders, fleet.Serving, openai.OpenAI]]:
    vendors = Pretenders()
    with (
        running(vendors) as url,
        fleet.serving(CONFIGURATION.format(url=url)) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=20) as client,
    ):
        yield vendors, gateway, client


@pytest.fixture
def behind(_behind: tuple[Pretenders, fleet.Serving, openai.OpenAI]) -> tuple[Pretenders, fleet.Serving]:
    vendors, gateway, _ = _behind
    vendors.down.clear()
    vendors.seen.clear()
    gateway.gateway.health.__init__()  # type: ignore[misc]
    return vendors, gateway


@pytest.fixture
def sdk(behind: Any, _behind: tuple[Pretenders, fleet.Serving, openai.OpenAI]) -> openai.OpenAI:
    return _behind[2]


def ask(model: str, **more: Any) -> Any:
    return {"model": model, "messages": [{"role": "user", "content": "Where?"}], **more}


@pytest.mark.ability("chat")
@MODELS
def test_a_plain_answer(sdk, behind, model):
    answer = sdk.chat.completions.create(**ask(model, seed=7, max_completion_tokens=50))
    assert (answer.model, answer.object) == (model, "chat.completion")
    assert answer.choices[0].message.content == "Oslo."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert behind[0].seen[-1][0].startswith(f"/{HOMES[model]}/")


@pytest.mark.ability("streams")
@MODELS
def test_a_stream_with_usage_adds_up(sdk, model):
    with sdk.chat.completions.stream(**ask(model), stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == "Oslo."
    assert (final.choices[0].finish_reason, final.choices[0].message.role, final.model) == ("stop", "assistant", model)
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (7, 5)


@MODELS
def test_a_stream_without_usage_has_none_and_is_counted_all_the_same(sdk, behind, model):
    before = behind[1].metric("talaria_tokens_total", model=model, type="output")
    chunks = list(sdk.chat.completions.create(**ask(model), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert behind[1].metric("talaria_tokens_total", model=model, type="output") == before + 5


@pytest.mark.ability("tools")
@MODELS
def test_a_tool_is_called_and_its_result_answered(sdk, behind, model):
    first = sdk.chat.completions.create(**ask(model, tools=[WEATHER], tool_choice="required"))
    message = first.choices[0].message
    [call] = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    assert first.choices[0].finish_reason == "tool_calls"
    history = [*ask(model)["messages"], message, {"role": "tool", "tool_call_id": call.id, "content": "mild"}]
    second = sdk.chat.completions.create(model=model, messages=history, tools=[WEATHER])
    assert second.choices[0].message.content == "It is mild"


@pytest.mark.ability("streamed tools")
@MODELS
def test_a_streamed_call_adds_up(sdk, model):
    with sdk.chat.completions.stream(**ask(model, tools=[WEATHER])) as stream:
        final = stream.get_final_completion().choices[0]
    [call] = final.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "weather",
        {"city": "Oslo"},
    )
    assert call.id in ("f1", "c1")
    assert final.finish_reason == "tool_calls"


@pytest.mark.ability("JSON schema")
@MODELS
def test_an_answer_parses_into_a_pydantic_model(sdk, model):
    answer = sdk.chat.completions.parse(**ask(model), response_format=City)
    assert answer.choices[0].message.parsed == City(city="Oslo")


@pytest.mark.ability("completions")
@MODELS
def test_a_text_is_completed_through_chat(sdk, model):
    answer = sdk.completions.create(model=model, prompt="Where?")
    assert (answer.object, answer.choices[0].text, answer.usage.total_tokens) == ("text_completion", "Oslo.", 12)
    parts = list(sdk.completions.create(model=model, prompt="Where?", stream=True))
    assert "".join(part.choices[0].text for part in parts if part.choices) == "Oslo."


@pytest.mark.ability("embeddings", vendor="compatible")
def test_a_text_has_a_vector(sdk, behind):
    found = sdk.embeddings.create(model="small", input="Where?", encoding_format="float")
    assert found.data[0].embedding == [0.5, -0.25]
    assert behind[0].seen[-1][0] == "/mistral/v1/embeddings"


@pytest.mark.ability("Anthropic's dialect")
@MODELS
def test_anthropics_sdk_asks_and_calls_tools(behind, model):
    asked: Any = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Where?"}]}
    tool: Any = {"name": "weather", "input_schema": WEATHER["function"]["parameters"]}
    with anthropic.Anthropic(base_url=behind[1].url, api_key="none", max_retries=0, timeout=20) as client:
        answer = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        called = client.messages.create(**asked, tools=[tool])
    assert [message.content[0].text for message in (answer, streamed)] == ["Oslo.", "Oslo."]
    assert (called.content[0].name, called.content[0].input, called.stop_reason) == (
        "weather",
        {"city": "Oslo"},
        "tool_use",
    )


@pytest.mark.ability("images")
@pytest.mark.parametrize("model", ["flash", "llama"])
def test_an_image_arrives(sdk, model):
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "image/png"


@pytest.mark.ability("reasoning")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["flash", "llama"])
def test_reasoning_can_be_read(sdk, model, stream):
    if stream:
        with sdk.chat.completions.stream(**ask(model, reasoning_effort="high")) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = sdk.chat.completions.create(**ask(model, reasoning_effort="high")).choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm. ", "Oslo.")


@pytest.mark.ability("fallback")
@pytest.mark.parametrize("stream", [False, True])
@MODELS
def test_a_vendor_that_is_down_is_answered_by_the_next(sdk, behind, model, stream):
    behind[0].down[HOMES[model]] = 503
    asked = sdk.chat.completions.with_raw_response.create(**ask(model), stream=stream)
    assert asked.headers["x-talaria-attempts"] == "2"
    assert asked.headers["x-talaria-model"] != model
    answer = asked.parse()
    told = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if stream
        else answer.choices[0].message.content
    )
    assert told == "Oslo."


@pytest.mark.ability("typed errors")
@pytest.mark.parametrize(
    ("status", "raised"),
    [(429, openai.RateLimitError), (503, openai.InternalServerError), (401, openai.InternalServerError)],
)
@MODELS
def test_vendors_in_trouble_are_typed_errors(sdk, behind, model, status, raised):
    behind[0].down = dict.fromkeys(HOMES.values(), status)
    with pytest.raises(raised):
        sdk.chat.completions.create(**ask(model))
    assert len(behind[0].seen) == 3


def test_what_mistral_does_not_know_is_left_out_and_named(sdk):
    asked = sdk.chat.completions.with_raw_response.create(**ask("small", store=True, user="u", logit_bias={"1": 2}))
    assert {"store", "user", "logit_bias"} <= set(asked.headers["x-talaria-dropped"].split(","))
