"""Anthropic's own SDK against the gateway, whichever vendor's model answers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from gateway.keys import LocalKeys
from tests import fleet

VENDORS = {"mercury": "inception", "gpt-4.1-nano": "openai", "claude-haiku": "anthropic"}
MODELS = pytest.mark.parametrize("model", VENDORS)
OLDER = Path(__file__).parents[2] / ".tools" / "anthropic-0"
SCRIPT = Path(__file__).parent / "older_anthropic.py"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
PDF = base64.b64encode(b"%PDF-1.4 pretend").decode()
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="session")
def _sdk(_gateway: fleet.Serving) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=_gateway.url, api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def sdk(gateway: fleet.Serving, _sdk: anthropic.Anthropic) -> anthropic.Anthropic:
    return _sdk


@pytest.fixture(scope="module")
def plain(_simulator: fleet.Simulator) -> Iterator[anthropic.Anthropic]:
    """A gateway that tries once and has no other model to go to: what the vendor did is what is told."""
    text = fleet.THREE_VENDORS.format(simulator=_simulator.url)
    text = text.replace(
        "interactive: {target_ms: null}",
        "interactive: {target_ms: null, retries: 0, first_token_ms: 5000, idle_ms: 300}",
    )
    with (
        fleet.serving(text) as gateway,
        anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0, timeout=20) as client,
    ):
        yield client


def ask(model: str, content: Any = "What do winged sandals do?", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 400, "messages": [{"role": "user", "content": content}], **more}


def fault(model: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"vendor": VENDORS[model], "model": "*", "kind": kind, **more}


def results(message: Any) -> list[Any]:
    """Answers to all calls of a message, as the next turn."""
    return [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"11 degrees by {block.name}"}
        for block in message.content
        if block.type == "tool_use"
    ]


# --- what works ---


@pytest.mark.ability("Anthropic's dialect")
@MODELS
def test_a_plain_question_is_answered(sdk, simulator, model):
    answer = sdk.messages.create(**ask(model, "say exactly: good day", system="Be brief."))
    assert [block.text for block in answer.content] == ["good day"]
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", model, "end_turn")
    (row,) = simulator.bill()
    assert answer.id == row["id"]
    assert answer.usage.input_tokens == row["input_tokens"]
    assert answer.usage.output_tokens == row["output_tokens"]
    assert answer._request_id.startswith("req_")


@MODELS
def test_headers_tell_who_served(sdk, model):
    answer = sdk.messages.with_raw_response.create(**ask(model))
    assert answer.headers["x-talaria-model"] == model
    assert answer.headers["x-talaria-provider"] == VENDORS[model]
    assert answer.headers["x-talaria-attempts"] == "1"
    assert float(answer.headers["x-talaria-cost-usd"]) > 0
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.ability("Anthropic's dialect")
@MODELS
def test_a_streamed_answer_adds_up(sdk, simulator, model):
    with sdk.messages.stream(**ask(model, "write 60 words")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[-1].text
    assert len(text.split()) == 60
    assert (final.model, final.stop_reason) == (model, "end_turn")
    (row,) = simulator.bill()
    assert (final.id, final.usage.input_tokens, final.usage.output_tokens) == (
        row["id"],
        row["input_tokens"],
        row["output_tokens"],
    )


@MODELS
def test_a_raw_stream_has_every_event_in_its_place(sdk, model):
    events = list(sdk.messages.create(**ask(model, "write 9 words"), stream=True))
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds[-2] == "message_delta"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") >= 1


@pytest.mark.ability("Anthropic's dialect")
@MODELS
@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_there_and_back(sdk, model, stream):
    asked = ask(model, "weather and clock in Oslo, two tools", tools=[WEATHER, CLOCK])

    def create() -> Any:
        if not stream:
            return sdk.messages.create(**asked)
        with sdk.messages.stream(**asked) as events:
            return events.get_final_message()

    called = create()
    calls = [block for block in called.content if block.type == "tool_use"]
    assert called.stop_reason == "tool_use"
    assert {call.name for call in calls} == {"weather", "clock"}
    assert all(isinstance(call.input, dict) for call in calls)
    assert [set(call.input) for call in calls if call.name == "weather"] == [{"city"}]
    asked["messages"] += [
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": results(called)},
    ]
    told = create()
    assert told.stop_reason == "end_turn"
    assert "11 degrees by weather" in told.content[-1].text


@MODELS
def test_a_choice_among_tools_is_kept(sdk, simulator, model):
    forced = sdk.messages.create(
        **ask(model, "Hello", tools=[WEATHER, CLOCK], tool_choice={"type": "tool", "name": "clock"})
    )
    assert [block.name for block in forced.content if block.type == "tool_use"] == ["clock"]
    free = sdk.messages.create(**ask(model, "weather?", tools=[WEATHER], tool_choice={"type": "none"}))
    assert [block.type for block in free.content if block.type == "tool_use"] == []


@MODELS
def test_an_image_is_seen_or_refused_by_its_place(sdk, simulator, model):
    content = [{"type": "text", "text": "say exactly: a pixel"}, IMAGE]
    if model == "mercury":
        with pytest.raises(anthropic.BadRequestError) as refused:
            sdk.messages.create(**ask(model, content))
        assert "messages.0.content.1.source" in refused.value.message
        assert simulator.requests() == []
    else:
        assert sdk.messages.create(**ask(model, content)).content[-1].text.strip() == "a pixel"


@pytest.mark.parametrize("model", ["gpt-4.1-nano", "claude-haiku"])
def test_a_document_is_read(sdk, model):
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    answer = sdk.messages.create(**ask(model, [document, {"type": "text", "text": "say exactly: read"}]))
    assert answer.content[-1].text == "read"


@MODELS
def test_an_answer_by_a_schema(sdk, model):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "warm": {"type": "boolean"}},
        "required": ["city", "warm"],
        "additionalProperties": False,
    }
    form: Any = {"format": {"type": "json_schema", "schema": schema}}
    answer = sdk.messages.create(**ask(model, "Is it warm in Oslo?", output_config=form))
    assert set(json.loads(answer.content[-1].text)) == {"city", "warm"}


@MODELS
def test_the_limit_is_told(sdk, model):
    answer = sdk.messages.create(**ask(model, "write 300 words") | {"max_tokens": 12})
    assert answer.stop_reason == "max_tokens"


@MODELS
def test_a_refusal_is_told(sdk, model):
    assert sdk.messages.create(**ask(model, "refuse")).stop_reason == "refusal"
    with sdk.messages.stream(**ask(model, "refuse")) as stream:
        assert stream.get_final_message().stop_reason == "refusal"


def test_what_a_model_cannot_express_is_named(sdk):
    marked = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    answer = sdk.messages.with_raw_response.create(
        **ask("gpt-4.1-nano", system=marked, extra_body={"top_k": 5, "temperature": 0.5})
    )
    assert sorted(answer.headers["x-talaria-dropped"].split(",")) == ["cache_control", "top_k"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "mcp_servers"),
        ({"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}, "messages.0"),
    ],
)
def test_what_runs_at_anthropics_is_refused_for_others(sdk, simulator, change, place):
    with pytest.raises(anthropic.BadRequestError) as refused:
        sdk.messages.create(**ask("mercury"), extra_body=change)
    assert "server tools" in refused.value.message
    assert place in refused.value.message
    assert simulator.requests() == []


@MODELS
def test_the_async_client_streams_too(gateway, model):
    async def run() -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
            client.messages.stream(**ask(model, "say exactly: good day")) as stream,
        ):
            assert "".join([text async for text in stream.text_stream]) == "good day"

    asyncio.run(run())


@MODELS
def test_tokens_are_counted(sdk, simulator, model):
    short = sdk.messages.count_tokens(model=model, messages=[{"role": "user", "content": "Hi"}])
    long = sdk.messages.count_tokens(
        model=model, system="Be brief.", tools=[WEATHER], messages=[{"role": "user", "content": "word " * 200}]
    )
    assert 0 < short.input_tokens < 20
    assert long.input_tokens > 200
    assert simulator.bill() == []
    assert len(simulator.requests()) == (2 if model == "claude-haiku" else 0)


def test_an_image_counts_by_no_letters_of_its_data(sdk):
    large = {**IMAGE, "source": {**IMAGE["source"], "data": PIXEL * 500}}
    counted = sdk.messages.count_tokens(model="gpt-4.1-nano", messages=[{"role": "user", "content": [large]}])
    assert counted.input_tokens < 20


def test_models_are_listed_in_their_shape(sdk):
    models = list(sdk.models.list())
    assert {"mercury", "gpt-4.1-nano", "claude-haiku", "auto"} <= {model.id for model in models}
    assert list(sdk.models.list(limit=2)) == models
    haiku = sdk.models.retrieve("claude-haiku")
    assert (haiku.id, haiku.type, haiku.max_tokens) == ("claude-haiku", "model", 64_000)
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("claude-nought")


@MODELS
def test_pings_disturb_nobody(simulator, model):
    text = fleet.THREE_VENDORS.format(simulator=simulator.url)
    text = text.replace("auth: none", "auth: none, sse_keepalive_seconds: 0.02")
    simulator.faults(fault(model, "latency", seconds=0.2))
    with (
        fleet.serving(text) as gateway,
        anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
    ):
        raw = client.messages.with_raw_response.create(**ask(model, "say exactly: good day"), stream=True).http_response
        assert raw.read().startswith(b'event: ping\ndata: {"type": "ping"}\n\n')
        with client.messages.stream(**ask(model, "say exactly: good day")) as stream:
            assert stream.get_final_text() == "good day"


@MODELS
def test_streams_are_billed_as_the_vendor_counts(gateway, sdk, simulator, model):
    before = gateway.metric("talaria_tokens_total", model=model)
    with sdk.messages.stream(**ask(model, "write 30 words")) as stream:
        stream.until_done()
    (row,) = simulator.bill()
    counted = row["input_tokens"] + row["output_tokens"] + row["reasoning_tokens"]
    fleet.wait_for(lambda: gateway.metric("talaria_tokens_total", model=model) > before)
    assert gateway.metric("talaria_tokens_total", model=model) - before == counted


# --- what only Anthropic's own models do ---


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_go_back_with_their_signatures(sdk, simulator, stream):
    asked = ask("claude-haiku", "Think, then tell the weather in Oslo", tools=[WEATHER])
    asked |= {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    if stream:
        with sdk.messages.stream(**asked) as events:
            called = events.get_final_message()
    else:
        called = sdk.messages.create(**asked)
    thought = called.content[0]
    assert (thought.type, bool(thought.signature)) == ("thinking", True)
    asked["messages"] += [
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": results(called)},
    ]
    assert sdk.messages.create(**asked).stop_reason == "end_turn"
    assert simulator.requests()[-1]["body"]["messages"][1]["content"][0]["signature"] == thought.signature

    thought.signature = "x" + thought.signature[1:]
    with pytest.raises(anthropic.BadRequestError) as refused:
        sdk.messages.create(**asked)
    assert "signature" in refused.value.message


def test_hidden_thoughts_go_back_too(sdk):
    asked = ask("claude-haiku", "[[redacted]] Think, then tell the weather in Oslo", tools=[WEATHER])
    asked |= {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2048}}
    called = sdk.messages.create(**asked)
    assert "redacted_thinking" in {block.type for block in called.content}
    asked["messages"] += [
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": results(called)},
    ]
    assert sdk.messages.create(**asked).stop_reason == "end_turn"


def test_a_conversation_may_move_from_another_vendor_to_claude(sdk):
    asked = ask("mercury", "Think about the weather in Oslo", tools=[WEATHER])
    called = sdk.messages.create(**asked)
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    asked["messages"] += [
        {"role": "assistant", "content": [thought, *called.to_dict()["content"]]},
        {"role": "user", "content": results(called)},
    ]
    moved = sdk.messages.with_raw_response.create(**asked | {"model": "claude-haiku"})
    assert moved.headers["x-talaria-dropped"] == "messages.content.thinking"
    assert "11 degrees" in moved.parse().content[-1].text


@pytest.mark.parametrize("stream", [False, True])
def test_a_cached_prompt_is_counted_as_such(sdk, simulator, gateway, stream):
    words = f"A long rule for {'streams' if stream else 'wholes'}. " * 2000
    system: Any = [{"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}]

    def usage() -> Any:
        asked = ask("claude-haiku", "Hi", system=system)
        if not stream:
            return sdk.messages.create(**asked).usage
        with sdk.messages.stream(**asked) as events:
            return events.get_final_message().usage

    first, second = usage(), usage()
    assert first.cache_creation_input_tokens > 4096
    assert first.cache_read_input_tokens == 0
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.cache_creation_input_tokens == 0
    rows = simulator.bill()
    assert [row["cache_write_tokens"] for row in rows] == [first.cache_creation_input_tokens, 0]
    assert simulator.requests()[-1]["body"]["system"] == system


def test_what_is_said_to_claude_arrives_as_it_was_said(sdk, simulator):
    asked = ask(
        "claude-haiku",
        [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        tools=[WEATHER | {"eager_input_streaming": True}],
        metadata={"user_id": "u-7"},
    )
    hints = {"use_case": "tests", "tags": {"team": "a"}}
    sdk.beta.messages.create(**asked | {"metadata": {"user_id": "u-7", **hints}}, betas=["some-beta-2026-01-01"])
    (request,) = simulator.requests()
    assert request["body"] == {**asked, "model": "claude-haiku-4-5-20251001"}
    assert request["headers"]["anthropic-beta"] == "some-beta-2026-01-01"
    assert request["headers"]["anthropic-version"] == "2026-10-21"


def test_more_than_the_model_can_write_is_brought_within_its_limit(sdk, simulator):
    answer = sdk.messages.with_raw_response.create(**ask("claude-haiku") | {"max_tokens": 100_000}, timeout=30)
    assert answer.headers["x-talaria-dropped"] == "max_tokens"
    assert simulator.requests()[0]["body"]["max_tokens"] == 64_000


@pytest.mark.parametrize(("mark", "reason"), [("[[pause]]", "pause_turn"), ("[[unknown-stop]]", "tired")])
def test_reasons_to_stop_that_others_have_no_word_for_pass(sdk, mark, reason):
    assert sdk.messages.create(**ask("claude-haiku", f"{mark} Hello")).stop_reason == reason


# --- fallback ---


@pytest.mark.parametrize(
    ("kind", "stream"),
    [("status", False), ("status", True), ("reset_before", False), ("reset_before", True), ("error_event", True)],
)
def test_a_route_that_begins_with_claude_goes_on_to_others(simulator, kind, stream):
    text = fleet.THREE_VENDORS.format(simulator=simulator.url)
    text += "  - {name: claude-first, candidates: [claude-haiku, mercury], choose: {by: ordered}}\n"
    simulator.faults(fault("claude-haiku", kind, status=529))
    with (
        fleet.serving(text) as gateway,
        anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
    ):
        asked = ask("claude-first", "say exactly: still here")
        if stream:
            with client.messages.stream(**asked) as events:
                final = events.get_final_message()
                headers = events.response.headers
        else:
            raw = client.messages.with_raw_response.create(**asked)
            final, headers = raw.parse(), raw.headers
    assert (final.content[-1].text, final.model) == ("still here", "mercury")
    assert headers["x-talaria-model"] == "mercury"
    assert int(headers["x-talaria-attempts"]) > 1


# --- what goes wrong ---


@MODELS
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"name": "two words", "input_schema": {}}]}, "tools.0.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "clock"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"stop_sequences": [" "]}, "stop_sequences"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"api_key": "sk-mine"}, "api_key"),
        ({"metadata": {"latency_class": "yesterday"}}, "metadata.latency_class"),
    ],
)
def test_a_mistake_is_a_bad_request_that_names_the_place(sdk, simulator, model, change, place):
    with pytest.raises(anthropic.BadRequestError) as refused:
        sdk.messages.create(**ask(model), extra_body=change)
    assert place in refused.value.message
    assert refused.value.body["type"] == "error"
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert refused.value.body["request_id"] == refused.value.request_id
    assert simulator.requests() == []


def test_an_unknown_model_or_path_is_not_found(sdk):
    with pytest.raises(anthropic.NotFoundError) as missing:
        sdk.messages.create(**ask("claude-nought"))
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.count_tokens(model="claude-nought", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(anthropic.NotFoundError) as nowhere:
        sdk.messages.batches.list()
    assert nowhere.value.body["error"]["type"] == "not_found_error"


def test_keys_open_the_gateway_and_nothing_else_does(simulator):
    keys = LocalKeys()
    _, text = keys.create("tests")
    config = fleet.THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: keys")
    asked: Any = {"model": "mercury", "messages": [{"role": "user", "content": "x"}]}
    with fleet.serving(config, keys=keys) as gateway:
        with anthropic.Anthropic(base_url=gateway.url, api_key=text, max_retries=0) as client:
            assert client.messages.create(**ask("mercury")).content
            assert client.messages.count_tokens(**asked).input_tokens
            assert list(client.models.list())
            for wrong in ("none", text[:-1]):
                other = client.with_options(api_key=wrong)
                for refuse, given in (
                    (other.messages.create, ask("mercury")),
                    (other.messages.count_tokens, asked),
                    (other.models.list, {}),
                ):
                    with pytest.raises(anthropic.AuthenticationError) as refused:
                        refuse(**given)
                    assert refused.value.body["error"]["type"] == "authentication_error"
                    assert wrong not in refused.value.message
        with anthropic.Anthropic(base_url=gateway.url, auth_token=text, api_key=None, max_retries=0) as client:
            assert client.messages.create(**ask("mercury")).content


@MODELS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (504, anthropic.InternalServerError, "timeout_error"),
        (401, anthropic.InternalServerError, "api_error"),
    ],
)
def test_a_vendor_in_trouble_is_a_typed_error(plain, simulator, model, stream, status, raised, kind):
    simulator.faults(fault(model, "status", status=status))
    with pytest.raises(raised) as failed:
        plain.messages.create(**ask(model), stream=stream)
    assert failed.value.body["error"]["type"] == kind
    assert failed.value.request_id


@pytest.mark.parametrize("stream", [False, True])
def test_a_vendor_that_is_overloaded_is_told_in_its_own_word(plain, simulator, stream):
    simulator.faults(fault("claude-haiku", "status", status=529))
    with pytest.raises(anthropic.InternalServerError) as failed:
        plain.messages.create(**ask("claude-haiku"), stream=stream)
    assert failed.value.status_code == 503
    assert failed.value.body["error"]["type"] == "overloaded_error"


@MODELS
@pytest.mark.parametrize("kind", ["error_event", "cut", "reset_after", "stall"])
def test_a_stream_that_breaks_after_its_first_words_raises(plain, simulator, model, kind):
    simulator.faults(fault(model, kind, after_events=6, seconds=5))
    events: list[Any] = []
    with pytest.raises(anthropic.APIStatusError) as failed:
        events.extend(plain.messages.create(**ask(model, "write 300 words"), stream=True))
    assert "content_block_delta" in {event.type for event in events}
    assert not {"message_delta", "message_stop"} & {event.type for event in events}
    assert failed.value.body["type"] == "error"
    assert failed.value.body["error"]["type"] in ("api_error", "overloaded_error", "timeout_error")


@MODELS
def test_a_stream_that_errs_in_its_first_event_never_begins(plain, simulator, model):
    simulator.faults(fault(model, "error_event"))
    with pytest.raises(anthropic.InternalServerError):
        plain.messages.create(**ask(model), stream=True)


def test_counting_tokens_fails_as_the_vendor_does(plain, simulator):
    simulator.faults(fault("claude-haiku", "status", status=529))
    with pytest.raises(anthropic.InternalServerError) as failed:
        plain.messages.count_tokens(model="claude-haiku", messages=[{"role": "user", "content": "x"}])
    assert failed.value.body["error"]["type"] == "overloaded_error"


# --- the SDK of the API version before ---


def test_the_older_sdk_takes_the_gateway_for_anthropic(simulator):
    if not (OLDER / ".installed").exists():
        pytest.skip("the older SDK is not installed: `make test` does it")
    keys = LocalKeys()
    _, key = keys.create("tests")
    text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: keys")
    model = "claude-haiku-4-5-20251001"
    text = text.replace("models:\n", f"models:\n  {model}: {{provider: anthropic, upstream: {model}}}\n", 1)
    with fleet.serving(text, keys=keys) as gateway:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), gateway.url, key],
            env={**os.environ, "PYTHONPATH": str(OLDER)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sdk"] == "0.125.0"
    assert told["plain"] == ["good day", "end_turn", "assistant", "message"]
    assert told["streamed"]
    assert told["called"] == ["tool_use", "weather", ["city"], "tool_use"]
    assert told["answered"]
    assert told["thought"] == ["thinking", True, "text"]
    assert told["counted"] > 0
    assert told["models"]
    assert told["errors"] == [
        ["BadRequestError", 400, "invalid_request_error"],
        ["NotFoundError", 404, "not_found_error"],
        ["AuthenticationError", 401, "authentication_error"],
    ]
    assert {request["headers"]["anthropic-version"] for request in simulator.requests()} == {"2023-06-01"}
