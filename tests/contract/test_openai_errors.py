"""What goes wrong reaches an application as the typed exceptions of OpenAI's SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.keys import LocalKeys
from tests import fleet

VENDORS = {"mercury": "inception", "gpt-4.1-nano": "openai", "claude-haiku": "anthropic"}
MODELS = pytest.mark.parametrize("model", VENDORS)


def ask(model: str, text: str = "What do winged sandals do?", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def fault(model: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"vendor": VENDORS[model], "model": "*", "kind": kind, **more}


@pytest.fixture(scope="module")
def plain(_simulator: fleet.Simulator) -> Iterator[openai.OpenAI]:
    """A gateway that tries once and has no other model to go to: what the vendor did is what is told."""
    text = fleet.THREE_VENDORS.format(simulator=_simulator.url)
    text += "  - {name: one, candidates: [mercury]}\n"
    text = text.replace(
        "interactive: {target_ms: null}\n",
        "interactive: {target_ms: null, retries: 0, first_token_ms: 5000, idle_ms: 300}\n"
        "  hasty: {deadline_ms: 400, first_token_ms: 200, idle_ms: 200, retries: 0}\n",
    )
    with (
        fleet.serving(text) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=20) as client,
    ):
        yield client


@MODELS
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools[0].function.name"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"api_key": "sk-mine"}, "api_key"),
        ({"metadata": {"latency_class": "yesterday"}}, "metadata.latency_class"),
    ],
)
def test_a_mistake_is_a_bad_request_that_names_the_place(sdk, simulator, model, change, param):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(**ask(model), extra_body=change)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id
    assert simulator.requests() == []


@pytest.mark.parametrize("model", ["gpt-nought", "mercury-2", "../etc/passwd", "gpt-4.1-nano "])
def test_an_unknown_model_is_not_found(sdk, model):
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(**ask(model))
    assert missing.value.code == "model_not_found"


def test_an_unknown_path_is_not_found(sdk):
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.images.generate(prompt="a sandal")
    assert missing.value.code == "unknown_url"


def test_keys_open_the_gateway_and_nothing_else_does(simulator):
    keys = LocalKeys()
    _, text = keys.create("tests")
    revoked, late = keys.create("revoked")
    keys.revoke(revoked.id)
    config = fleet.THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: keys")
    with fleet.serving(config, keys=keys) as gateway:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=text, max_retries=0) as client:
            assert client.chat.completions.create(**ask("mercury")).choices
            assert client.models.list().data
            for wrong in ("none", text[:-1], text + "x", late, "sk-tal-", "sk-tal-x-y"):
                other = client.with_options(api_key=wrong)
                with pytest.raises(openai.AuthenticationError) as refused:
                    other.chat.completions.create(**ask("mercury"))
                assert refused.value.code == "invalid_api_key"
                assert wrong not in refused.value.message
                with pytest.raises(openai.AuthenticationError):
                    other.models.list()
        assert gateway.metric("talaria_auth_failures_total", reason="invalid") == 12
    assert len(simulator.requests()) == 1


@pytest.mark.ability("typed errors")
@MODELS
@pytest.mark.parametrize("stream", [False, True])
def test_a_vendor_that_is_busy_is_a_rate_limit_with_its_pause(plain, simulator, model, stream):
    simulator.faults(fault(model, "status", status=429, retry_after=7))
    with pytest.raises(openai.RateLimitError) as refused:
        plain.chat.completions.create(**ask(model), stream=stream)
    assert refused.value.code == "rate_limit_exceeded"
    if model != "mercury":  # Inception does not say for how long
        assert refused.value.response.headers["retry-after"] == "7"
    # A vendor that asked for a rest is put last; where there is no other it is tried all the same.
    simulator.faults()
    assert plain.chat.completions.create(**ask(model)).choices


@pytest.mark.ability("typed errors")
@MODELS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_vendor_in_trouble_is_a_server_error(plain, simulator, model, stream, status):
    simulator.faults(fault(model, "status", status=status))
    with pytest.raises(openai.InternalServerError) as failed:
        plain.chat.completions.create(**ask(model), stream=stream)
    assert failed.value.status_code in (502, 503)
    assert failed.value.body["type"] == "server_error"


@MODELS
def test_our_key_turned_down_is_not_the_callers_fault(plain, simulator, model):
    simulator.faults(fault(model, "status", status=401))
    with pytest.raises(openai.InternalServerError) as failed:
        plain.chat.completions.create(**ask(model))
    assert failed.value.status_code == 502
    assert failed.value.code == "upstream_authentication"


@MODELS
@pytest.mark.parametrize("kind", ["reset_before", "truncated_json", "wrong_content_type", "error_body"])
def test_an_answer_that_is_none_is_a_server_error(plain, simulator, model, kind):
    simulator.faults(fault(model, kind))
    with pytest.raises(openai.APIStatusError) as failed:
        plain.chat.completions.create(**ask(model))
    assert failed.value.status_code in (500, 502, 503)


@MODELS
@pytest.mark.parametrize("kind", ["error_event", "cut", "reset_after", "stall"])
def test_a_stream_that_breaks_after_its_first_words_raises(plain, simulator, model, kind):
    simulator.faults(fault(model, kind, after_events=4, seconds=5))
    stream = plain.chat.completions.create(**ask(model, "write 300 words"), stream=True)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as failed:
        chunks.extend(stream)
    assert any(chunk.choices[0].delta.content for chunk in chunks)
    assert failed.value.type == "server_error"


@MODELS
def test_a_stream_that_errs_in_its_first_event_never_begins(plain, simulator, model):
    simulator.faults(fault(model, "error_event"))
    with pytest.raises(openai.APIStatusError) as failed:
        plain.chat.completions.create(**ask(model), stream=True)
    assert failed.value.status_code >= 500


@MODELS
@pytest.mark.parametrize("stream", [False, True])
def test_silence_beyond_the_deadline_is_a_gateway_timeout(plain, simulator, model, stream):
    simulator.faults(fault(model, "silent", seconds=30))
    with pytest.raises(openai.InternalServerError) as failed:
        plain.chat.completions.create(**ask(model), stream=stream, metadata={"latency_class": "hasty"})
    assert failed.value.status_code == 504
    assert failed.value.code == "timeout"


@MODELS
def test_an_application_may_lose_its_own_patience(gateway, simulator, model):
    simulator.faults(fault(model, "silent", seconds=30))
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=0.2) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(**ask(model))
    fleet.wait_for(lambda: all(request["peer_closed"] for request in simulator.requests()))


def test_a_gateway_that_is_not_there_is_a_connection_error():
    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{fleet.free_port()}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**ask("mercury"))


def test_the_sdk_tries_again_when_told_to_and_then_works(simulator, plain):
    simulator.faults(fault("mercury", "status", status=429, retry_after=0.01, count=1))
    answer = plain.with_options(max_retries=1).chat.completions.create(**ask("mercury"))
    assert answer.choices
    assert len(simulator.requests()) == 2


def test_errors_are_typed_for_the_async_client_too(gateway, simulator):
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(**ask("mercury", n=2))
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(**ask("gpt-nought"))

    asyncio.run(run())


@pytest.mark.parametrize("kind", [{"status": 429}, {"status": 500}, {"status": 503}, {"kind": "reset_before"}])
@pytest.mark.parametrize("down", [["inception"], ["inception", "openai"]])
def test_a_route_answers_as_long_as_one_vendor_does(sdk, simulator, down, kind):
    simulator.faults(*({"vendor": vendor, "model": "*", "kind": "status", **kind} for vendor in down))
    answer = sdk.chat.completions.with_raw_response.create(**ask("auto"))
    assert answer.headers["x-talaria-model"] == ["gpt-4.1-nano", "claude-haiku"][len(down) - 1]
    assert int(answer.headers["x-talaria-attempts"]) > 1
    assert answer.headers["x-talaria-fallback-reason"].startswith("provider_")
