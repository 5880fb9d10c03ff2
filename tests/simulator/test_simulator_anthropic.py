"""Anthropic's own SDK against the pretend Anthropic, in both versions of its API."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

HAIKU = "claude-haiku-4-5-20251001"
LOOKUP = {
    "name": "lookup",
    "input_schema": {"type": "object", "properties": {"key": {"type": "integer"}}, "required": ["key"]},
}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}


def ask(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": HAIKU, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **more}


def events_of(response) -> list[dict[str, Any]]:
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def stream(simulator, **body: Any) -> list[dict[str, Any]]:
    response = simulator.send("anthropic", body | {"stream": True})
    assert response.status_code == 200, response.text
    return events_of(response)


def test_an_answer_has_every_recorded_field(simulator, claude):
    answer = claude.messages.create(**ask())
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", HAIKU, "end_turn")
    assert 30 < len(answer.content[0].text.split()) < 140
    assert answer._request_id.startswith("req_")
    raw = simulator.post("anthropic")
    assert set(raw.json()) == {
        "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage",
    }  # fmt: skip
    assert set(raw.json()["usage"]) == {
        "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens",
        "service_tier", "inference_geo",
    }  # fmt: skip
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


def test_a_stream_accumulates_to_the_whole_answer(claude):
    with claude.messages.stream(**ask("Tell me about wings")) as stream:
        streamed = stream.get_final_message()
    whole = claude.messages.create(**ask("Tell me about wings"))
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.stop_reason == whole.stop_reason


def test_streams_have_a_ping_padding_and_cumulative_usage(simulator):
    twice = 0
    for number in range(24):
        response = simulator.post("anthropic", f"Hello {number}", stream=True)
        events = events_of(response)
        kinds = [event["type"] for event in events]
        assert (kinds[0], kinds[-1], kinds.count("ping")) == ("message_start", "message_stop", 1)
        deltas = [event for event in events if event["type"] == "message_delta"]
        twice += len(deltas) == 2
        assert deltas[-1]["delta"]["stop_reason"] == "end_turn"
        assert events[0]["message"]["usage"]["output_tokens"] < deltas[-1]["usage"]["output_tokens"]
        assert " }\n" in response.text
    assert twice > 0


def test_a_retry_after_on_a_200_means_nothing(simulator):
    answers = [simulator.post("anthropic", f"Hello {number}") for number in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert 0 < sum("retry-after" in answer.headers for answer in answers) < 20


def test_a_tool_is_used_and_its_result_quoted(claude):
    first = claude.messages.create(**ask("What is behind the key?", tools=[LOOKUP]))
    assert first.stop_reason == "tool_use"
    use = first.content[-1]
    assert isinstance(use.input["key"], int)
    second = claude.messages.create(
        model=HAIKU,
        max_tokens=500,
        tools=[LOOKUP],
        messages=[
            {"role": "user", "content": "What is behind the key?"},
            {"role": "assistant", "content": [block.to_dict() for block in first.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "a brass door"}]},
        ],
    )
    assert "a brass door" in second.content[0].text


def test_tools_may_be_announced_called_together_and_go_without_input(simulator, claude):
    answers = [claude.messages.create(**ask(f"Try {n} lookup, clock", tools=[LOOKUP, CLOCK])) for n in range(12)]
    assert {answer.content[0].type for answer in answers} == {"text", "tool_use"}
    assert all([b.name for b in answer.content if b.type == "tool_use"] == ["lookup", "clock"] for answer in answers)
    assert all(answer.content[-1].input == {} for answer in answers)
    alone = claude.messages.create(
        **ask("lookup, clock", tools=[LOOKUP, CLOCK], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    )
    assert sum(block.type == "tool_use" for block in alone.content) == 1
    assert simulator.post("anthropic", tools=[CLOCK]).json()["content"][-1]["caller"] == {"type": "direct"}


def test_tool_input_streams_as_json_fragments(simulator, claude):
    with claude.messages.stream(**ask("lookup, clock", tools=[LOOKUP, CLOCK])) as stream_:
        final = stream_.get_final_message()
    whole = claude.messages.create(**ask("lookup, clock", tools=[LOOKUP, CLOCK]))
    assert [block.to_dict() for block in final.content if block.type == "text"] == [
        block.to_dict() for block in whole.content if block.type == "text"
    ]
    assert [block.input for block in final.content if block.type == "tool_use"] == [
        block.input for block in whole.content if block.type == "tool_use"
    ]
    fragments = [
        [event["delta"]["partial_json"] for event in stream(simulator, **ask(f"{n}", tools=[CLOCK])) if "delta" in event and "partial_json" in event["delta"]]
        for n in range(12)
    ]  # fmt: skip
    assert all(part in ([], [""]) for part in fragments)
    assert [] in fragments
    assert [""] in fragments


def test_a_tool_input_cut_by_max_tokens_may_stay_open(simulator):
    ends = set()
    for number in range(12):
        body = ask(f"lookup {number}", tools=[LOOKUP], max_tokens=8, tool_choice={"type": "tool", "name": "lookup"})
        events = stream(simulator, **body)
        assert events[-2]["delta"]["stop_reason"] == "max_tokens"
        ends.add(sum(event["type"] == "content_block_stop" for event in events))
    assert ends == {0, 1}


def test_thoughts_are_signed_and_only_real_ones_come_back(older_claude):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = older_claude.messages.create(**ask("[[redacted]] think", thinking=thinking))
    assert [block.type for block in first.content] == ["thinking", "redacted_thinking", "text"]
    assert first.usage.output_tokens_details.thinking_tokens > 0
    history = [block.to_dict() for block in first.content]

    def again(content: list[dict[str, Any]]) -> anthropic.types.Message:
        messages = [*ask()["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": "go on"}]
        return older_claude.messages.create(**ask(thinking=thinking) | {"messages": messages})

    again(history)
    with pytest.raises(anthropic.BadRequestError, match="signature"):
        again([{**history[0], "thinking": "something else"}, *history[1:]])
    with pytest.raises(anthropic.BadRequestError, match="redacted_thinking"):
        again([history[0], {"type": "redacted_thinking", "data": "bm90IG91cnM="}])


def test_thoughts_stream_with_their_signature_last(older_claude):
    asked = ask("think", thinking={"type": "enabled", "budget_tokens": 1024})
    with older_claude.messages.stream(**asked) as stream_:
        streamed = stream_.get_final_message()
    whole = older_claude.messages.create(**asked)
    assert streamed.content[0].thinking == whole.content[0].thinking
    assert streamed.content[0].signature == whole.content[0].signature


def test_the_new_haiku_thinks_unless_told_not_to(claude):
    asked = ask() | {"model": "claude-haiku-5-5"}
    assert claude.messages.create(**asked).content[0].type == "thinking"
    silent = claude.messages.create(**asked, thinking={"type": "disabled"})
    assert [block.type for block in silent.content] == ["text"]
    assert claude.messages.create(**asked, output_config={"effort": "low"}).content[-1].type == "text"


def test_structured_output_fits_its_schema(claude):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}},
        "required": ["name", "tags"],
        "additionalProperties": False,
    }  # fmt: skip
    answer = claude.messages.create(**ask(output_config={"format": {"type": "json_schema", "schema": schema}}))
    value = json.loads(answer.content[0].text)
    assert set(value) == {"name", "tags"}
    assert set(value["tags"]) <= {"a", "b"}


def test_an_answer_ends_for_many_reasons(simulator, claude):
    refused = claude.messages.create(**ask("please refuse"))
    assert (refused.stop_reason, refused.stop_details.type) == ("refusal", "refusal")
    stopped = claude.messages.create(**ask("say exactly: one two three", stop_sequences=[" two"]))
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == ("one", "stop_sequence", " two")
    short = claude.messages.create(**ask() | {"max_tokens": 5})
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 5)
    for marker, reason in (("[[pause]]", "pause_turn"), ("[[unknown-stop]]", "tired"), ("[[silence]]", "end_turn")):
        assert simulator.post("anthropic", marker).json()["stop_reason"] == reason
    assert simulator.post("anthropic", "[[silence]]").json()["content"] == []


def test_a_prefill_is_continued(claude):
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "Once upon"}]
    answer = claude.messages.create(**ask() | {"messages": messages})
    assert answer.content[0].text.startswith(" ")


def test_the_cache_is_written_once_and_read_after(simulator, claude):
    system = [{"type": "text", "text": "A long rule. " * 1500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    first, second = (claude.messages.create(**ask(f"{n}", system=system)).usage for n in range(2))
    assert first.cache_creation_input_tokens > 4096
    assert first.cache_creation.ephemeral_1h_input_tokens == first.cache_creation_input_tokens
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.cache_creation_input_tokens == 0
    row = simulator.bill()[1]
    assert row["cache_read_tokens"] == second.cache_read_input_tokens
    assert row["input_tokens"] == second.cache_read_input_tokens + second.input_tokens
    small = claude.messages.create(**ask(cache_control={"type": "ephemeral"})).usage
    assert small.cache_creation_input_tokens == 0


def test_tokens_are_counted_as_they_are_billed(simulator, claude):
    counted = claude.messages.count_tokens(model=HAIKU, messages=ask("How many?")["messages"], tools=[CLOCK])
    assert counted.input_tokens == claude.messages.create(**ask("How many?", tools=[CLOCK])).usage.input_tokens
    assert len(simulator.bill()) == 1


def test_models_are_paged(simulator, claude):
    listed = {model.id: model for model in claude.models.list(limit=2)}
    assert listed["claude-haiku-5-5"].max_input_tokens == 1_000_000
    assert claude.models.retrieve("claude-haiku-4-5").id == HAIKU
    first = simulator.http.get("/anthropic/v1/models", params={"limit": 2}).json()
    assert (len(first["data"]), first["has_more"], first["last_id"]) == (2, True, first["data"][-1]["id"])


def image(media_type: str = "image/png", data: str = "iVBORw0KGgo=") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def said(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages], "tools": [LOOKUP]}


def use(id: str = "t1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "lookup", "input": {}}


def result(id: str = "t1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "x"}


def shaped(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


TEXT = {"type": "text", "text": "and?"}
THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 64_001}, "64001 > 64000"),
        ({"temperature": 1.2}, "temperature"),
        ({"temperature": 0.5, "top_p": 0.9}, "cannot both"),
        ({"model": "claude-haiku-5-5", "temperature": 0.5}, "default value"),
        ({"wings": 2}, "wings: Extra inputs are not permitted"),
        ({"metadata": {"team": "a"}}, "Extra inputs"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
        (said(("user", "")), "non-empty content"),
        (said(("user", [{"type": "text", "text": ""}])), "text content blocks must be non-empty"),
        (said(("user", " ")), "non-whitespace"),
        (said(("assistant", "hi"), ("user", "hi")), "first message"),
        (said(("user", "hi"), ("system", "rule"), ("assistant", "ok")), "role"),
        (said(("user", "hi"), ("assistant", [use()]), ("user", "well?")), "without `tool_result` blocks immediately after: t1"),
        (said(("user", "hi"), ("assistant", [use()]), ("user", [TEXT, result()])), "without `tool_result` blocks"),
        (said(("user", "hi"), ("assistant", [use(), use("t2")]), ("user", [result()]), ("user", [result("t2")])), "t2"),
        (said(("user", [result()])), "unexpected `tool_use_id`"),
        (said(("user", "hi"), ("assistant", [use("a b")]), ("user", [result("a b")])), "pattern"),
        (said(("user", "hi"), ("assistant", [use()]), ("user", [result()])) | {"tools": []}, "must define `tools`"),
        (said(("user", "hi"), ("assistant", "so ")), "trailing whitespace"),
        ({"model": "claude-haiku-5-5"} | said(("user", "hi"), ("assistant", "so")), "prefill"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "greater than `thinking.budget_tokens`"),
        ({"thinking": THINK, "temperature": 0.5}, "temperature"),
        ({"thinking": THINK, "tools": [LOOKUP], "tool_choice": {"type": "any"}}, "forces tool use"),
        ({"thinking": {"type": "adaptive"}}, "adaptive"),
        ({"model": "claude-haiku-5-5", "thinking": THINK}, "not supported for this model"),
        ({"model": "claude-3-5-haiku-20241022", "thinking": THINK}, "not supported for this model"),
        ({"output_config": {"effort": "low"}}, "effort"),
        (shaped({"type": "object"}), "additionalProperties"),
        (shaped({"type": "object", "additionalProperties": False, "properties": {"a": {"type": "integer", "minimum": 1}}}), "minimum"),
        (shaped({"type": "object", "additionalProperties": False, "properties": {"a": {"$ref": "#"}}}), "Recursive"),
        ({"model": "claude-3-5-haiku-20241022"} | shaped({"type": "string"}), "structured"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "pattern"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "input_schema.type"),
        ({"tools": [{"name": "a", "input_schema": {"type": "object"}, "parameters": {}}]}, "Extra inputs"),
        ({"tools": [LOOKUP, LOOKUP]}, "unique"),
        ({"tools": [LOOKUP], "tool_choice": {"type": "tool", "name": "other"}}, "not found"),
        ({"tool_choice": {"type": "auto"}}, "tools"),
        (said(("user", [image("image/tiff")])), "media_type"),
        (said(("user", [image(data="not base64!")])), "base64"),
        ({"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}] * 5}, "maximum of 4"),
        (said(("user", "word " * 170_000)), "prompt is too long: .* tokens > 200000 maximum"),
    ],
)  # fmt: skip
def test_what_anthropic_refuses_is_refused(older_claude, change, message):
    body = {name: value for name, value in (ask() | change).items() if value is not None}
    with pytest.raises(anthropic.BadRequestError, match=message) as refused:
        older_claude.post("/v1/messages", body=body, cast_to=dict[str, Any])
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert refused.value.body["request_id"].startswith("req_")


def test_the_new_version_takes_no_sampling_parameters(claude, older_claude):
    assert older_claude.messages.create(**ask(), extra_body={"temperature": 0.2}).content
    for name in ("temperature", "top_p", "top_k"):
        with pytest.raises(anthropic.BadRequestError, match="Extra inputs"):
            claude.messages.create(**ask(), extra_body={name: 1})


def test_a_version_and_a_key_are_required(simulator, claude):
    headers = {"x-api-key": "key"}
    bare = simulator.http.build_request("POST", "/anthropic/v1/messages", json=ask(), headers=headers)
    del bare.headers["anthropic-version"]
    assert "anthropic-version" in simulator.http.send(bare).json()["error"]["message"]
    assert simulator.send("anthropic", ask(), anthropic_version="1999-01-01").status_code == 400
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        claude.with_options(api_key="bad").messages.create(**ask())
    with pytest.raises(anthropic.NotFoundError, match="model: claude-nought"):
        claude.messages.create(**ask() | {"model": "claude-nought"})


def test_a_system_message_may_come_late_on_the_new_haiku(older_claude):
    body = said(("user", "hi"), ("system", "be brief")) | {"model": "claude-haiku-5-5", "max_tokens": 500}
    answer = older_claude.post("/v1/messages", body=body, cast_to=dict[str, Any])
    assert answer["content"]


def test_assistant_turns_in_a_row_are_answered_together(older_claude):
    asked = said(("user", "hi"), ("assistant", [use()]), ("assistant", [use("t2")]), ("user", [result(), result("t2")]))
    assert older_claude.post("/v1/messages", body=ask() | asked, cast_to=dict[str, Any])["content"]
