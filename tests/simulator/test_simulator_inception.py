"""Inception's own SDK against the pretend Inception."""

from __future__ import annotations

import json
from typing import Any

import inceptionai
import pytest

LOOKUP = {
    "type": "function",
    "function": {
        "name": "lookup",
        "parameters": {"type": "object", "properties": {"key": {"type": "integer"}}, "required": ["key"]},
    },
}


def ask(text: str = "Hello", model: str = "mercury-2", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def chunks_of(response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_answer_reads_with_the_sdk(mercury):
    answer = mercury.chat.completions.create(**ask())
    assert answer.model == "mercury-2"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_usage_comes_in_both_shapes_and_tool_calls_may_be_an_empty_list(simulator):
    answers = [simulator.post("inception", f"Hello {number}", model="mercury-2").json() for number in range(12)]
    usages = [answer["usage"] for answer in answers]
    assert {"reasoning_tokens" in usage for usage in usages} == {True, False}
    assert all(("reasoning_tokens" in usage) != ("prompt_tokens_details" in usage) for usage in usages)
    assert any(answer["choices"][0]["message"]["tool_calls"] == [] for answer in answers)
    assert any(answer["choices"][0]["message"]["tool_calls"] is None for answer in answers)


def test_a_stream_comes_in_blocks_of_several_words(mercury):
    whole = mercury.chat.completions.create(**ask("Write 100 words"))
    chunks = list(mercury.chat.completions.create(**ask("Write 100 words"), stream=True))
    blocks = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(blocks) == whole.choices[0].message.content
    assert len(blocks) < 30


def test_a_stream_has_neither_obfuscation_nor_request_ids(simulator):
    response = simulator.post("inception", stream=True, stream_options={"include_usage": True})
    assert not any(name.startswith(("x-", "request-id", "retry")) for name in response.headers)
    chunks = chunks_of(response)
    assert not any("obfuscation" in chunk for chunk in chunks)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] > 0
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_diffusing_rewrites_the_text_until_it_converges(simulator):
    text = simulator.post("inception", "Write 60 words").json()["choices"][0]["message"]["content"]
    chunks = chunks_of(simulator.post("inception", "Write 60 words", stream=True))
    assert not any(text == chunk["choices"][0]["delta"].get("content") for chunk in chunks)
    noisy = chunks_of(simulator.post("inception", "Write 60 words", stream=True, diffusing=True))
    shown = [chunk["choices"][0]["delta"]["content"] for chunk in noisy if "content" in chunk["choices"][0]["delta"]]
    assert len(shown) == 6
    assert len(shown[2]) < len(shown[1])
    assert not shown[3].startswith(shown[2])


def test_diffusing_ends_in_the_text_of_the_same_request(simulator):
    asked = {"text": "say exactly: The tide turns twice a day.", "stream": True, "diffusing": True}
    last = chunks_of(simulator.post("inception", **asked))[-2]
    assert last["choices"][0]["delta"]["content"] == "The tide turns twice a day."


def test_a_temperature_out_of_range_is_reset_with_a_warning(mercury):
    assert "0.75" in mercury.chat.completions.create(**ask(temperature=1.4)).warning
    assert mercury.chat.completions.create(**ask(temperature=0.7)).warning is None


def test_tools_and_schemas_are_answered(mercury):
    called = mercury.chat.completions.create(**ask("look it up", tools=[LOOKUP]))
    call = called.choices[0].message.tool_calls[0]
    assert isinstance(json.loads(call.function.arguments)["key"], int)
    shaped = mercury.chat.completions.create(
        **ask("shape"),
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "required": ["a"]}}},
    )  # fmt: skip
    assert "a" in json.loads(shaped.choices[0].message.content)


def test_tool_calls_stream_with_the_name_on_the_first_fragment_only(simulator):
    chunks = chunks_of(simulator.post("inception", "look it up", tools=[LOOKUP], stream=True))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "lookup"
    assert not any(call.get("id") or "name" in call["function"] for call in calls[1:])
    json.loads("".join(call["function"]["arguments"] for call in calls))


def test_reasoning_follows_effort_and_can_eat_the_answer(mercury):
    instant = mercury.chat.completions.create(**ask(), reasoning_effort="instant")
    assert instant.usage.completion_tokens < 250
    eaten = mercury.chat.completions.create(**ask(max_tokens=20), reasoning_effort="high")
    assert (eaten.choices[0].message.content, eaten.choices[0].finish_reason) == ("", "length")
    summed = mercury.chat.completions.create(**ask(), reasoning_summary=True)
    assert summed.reasoning_summary.status == "complete"
    chunks = list(
        mercury.chat.completions.create(**ask(), stream=True, reasoning_summary=True, reasoning_summary_wait=True)
    )
    parts = [chunk.reasoning_summary for chunk in chunks if chunk.reasoning_summary]
    assert "".join(part.content or "" for part in parts) == summed.reasoning_summary.content


def test_a_stream_may_end_without_content_or_finish(simulator):
    chunks = chunks_of(simulator.post("inception", "[[empty]]", model="mercury-2", stream=True))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None]


def test_models_are_listed_without_object_keys(simulator, mercury):
    raw = simulator.http.get("/inception/v1/models").json()
    assert list(raw) == ["data"]
    chatting = simulator.http.get("/inception/v1/chat/completions/models").json()["data"]
    filling = simulator.http.get("/inception/v1/fim/completions/models").json()["data"]
    assert {model["id"] for model in filling} == {"mercury-edit-2"}
    assert {model["id"] for model in raw["data"]} == {model["id"] for model in [*chatting, *filling]}
    listed = {model.id: model for model in mercury.models.list().data}
    assert listed["mercury-3"].context_length == 1_000_000
    assert listed["mercury-2"].pricing.prompt == "0.00000025"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"messages": [{"role": "developer", "content": "x"}]}, ["body", "messages", 0, "role"]),
        ({"stop": "end"}, ["body", "stop"]),
        ({"wings": 2}, ["body", "wings"]),
        ({"n": 2}, ["body", "n"]),
        ({"top_p": 0.9}, ["body", "top_p"]),
        ({"messages": []}, ["body", "messages"]),
        ({"max_tokens": 50_001}, ["body", "max_tokens"]),
        ({"reasoning_effort": "xhigh"}, ["body", "reasoning_effort"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}]},
            ["body", "messages", 0, "content", 0, "image_url", "url"],
        ),
    ],
)  # fmt: skip
def test_findings_come_as_a_list(simulator, change, place):
    response = simulator.http.post("/inception/v1/chat/completions", json=ask() | change)
    assert response.status_code in (400, 422)
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"][0]["loc"] == place


def test_images_are_taken_as_data(mercury):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    asked = {"messages": [{"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}]}
    assert mercury.chat.completions.create(model="mercury-2", **asked).usage.prompt_tokens > 256
    with pytest.raises(inceptionai.BadRequestError):
        mercury.chat.completions.create(model="mercury-coder-small", **asked)


def test_the_older_model_takes_the_older_parameters(mercury):
    assert mercury.chat.completions.create(**ask(model="mercury"), extra_body={"top_p": 0.9}).choices


def test_keys_models_and_contexts_are_refused_as_documented(mercury):
    with pytest.raises(inceptionai.AuthenticationError) as refused:
        mercury.with_options(api_key="bad").chat.completions.create(**ask())
    assert refused.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(inceptionai.NotFoundError) as missing:
        mercury.chat.completions.create(**ask(model="mercury-9"))
    assert missing.value.body["error"]["param"] == "model"
    with pytest.raises(inceptionai.BadRequestError) as long:
        mercury.chat.completions.create(**ask("word " * 30_000, model="mercury-coder-small"))
    assert long.value.body["error"]["code"] == "context_length_exceeded"
