"""The endpoints beside chat, as OpenAI's and Inception's own SDKs see them."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import inceptionai
import openai
import pytest

from tests import fleet
from tests.fleet import Serving, Simulator

NATIVE, THROUGH_CHAT = "instruct", ("mercury", "gpt-4.1-nano", "claude-haiku")
EVERY = pytest.mark.parametrize("model", [NATIVE, *THROUGH_CHAT])
VENDORS = {
    "instruct": "openai",
    "mercury": "inception",
    "mercury-edit-2": "inception",
    "gpt-4.1-nano": "openai",
    "claude-haiku": "anthropic",
}
PROMPT = "say exactly: wings, and a hat"
EMBED = "text-embedding-3-small"


@pytest.fixture(scope="session")
def _filler(_gateway: Serving) -> Iterator[inceptionai.Inception]:
    with inceptionai.Inception(base_url=_gateway.url, api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def filler(gateway: Serving, _filler: inceptionai.Inception) -> inceptionai.Inception:
    return _filler


def billed(simulator: Simulator) -> tuple[int, int]:
    (row,) = simulator.bill()
    assert row["completed"]
    return row["input_tokens"], row["output_tokens"]


def closeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --- Completions ---


@pytest.mark.ability("completions")
@EVERY
def test_a_text_is_completed(sdk: openai.OpenAI, simulator: Simulator, model: str) -> None:
    answer = sdk.completions.create(model=model, prompt=PROMPT)
    assert (answer.object, answer.model) == ("text_completion", model)
    (choice,) = answer.choices
    assert (choice.text, choice.index, choice.finish_reason, choice.logprobs) == ("wings, and a hat", 0, "stop", None)
    assert answer.usage is not None
    assert billed(simulator) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


@EVERY
def test_a_stream_of_text_says_what_the_whole_says(sdk: openai.OpenAI, simulator: Simulator, model: str) -> None:
    whole = sdk.completions.create(model=model, prompt="Tell me of wings", max_tokens=200)
    simulator.reset()
    chunks = list(
        sdk.completions.create(
            model=model,
            prompt="Tell me of wings",
            max_tokens=200,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert {chunk.model for chunk in chunks} == {model}
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert with_usage == [chunks[-1]]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert billed(simulator) == (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    plain = list(sdk.completions.create(model=model, prompt=PROMPT, stream=True))
    assert not any(chunk.usage for chunk in plain)


@EVERY
def test_a_text_is_sixteen_tokens_long_unless_more_is_asked_for(sdk: openai.OpenAI, model: str) -> None:
    answer = sdk.completions.create(model=model, prompt="in 100 words")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@EVERY
def test_a_text_ends_before_a_stop_sequence(sdk: openai.OpenAI, model: str) -> None:
    answer = sdk.completions.create(model=model, prompt=PROMPT, stop=[", and"], user="u", temperature=0.7)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("wings", "stop")


def test_several_answers_come_from_models_that_give_them(sdk: openai.OpenAI) -> None:
    for model in (NATIVE, "gpt-4.1-nano"):
        answer = sdk.completions.create(model=model, prompt="Tell me of wings", n=2)
        assert [choice.index for choice in answer.choices] == [0, 1]
        chunks = list(sdk.completions.create(model=model, prompt="Tell me of wings", n=2, stream=True))
        for index in (0, 1):
            pieces = [choice.text for chunk in chunks for choice in chunk.choices if choice.index == index]
            assert "".join(pieces) == answer.choices[index].text
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.completions.create(model="mercury", prompt=PROMPT, n=2)
    assert refused.value.param == "n"


def test_what_openai_serves_itself_goes_there_as_it_came(sdk: openai.OpenAI, simulator: Simulator) -> None:
    asked: dict[str, Any] = {"prompt": ["one", "two"], "echo": True, "logprobs": 2, "best_of": 2, "seed": 7}
    answer = sdk.completions.create(model=NATIVE, **asked, extra_body={"metadata": {"use_case": "tests"}})
    assert [choice.text[:3] for choice in answer.choices] == ["one", "two"]
    assert answer.choices[0].logprobs.tokens
    (request,) = simulator.requests()
    assert request["body"] == {"model": "gpt-3.5-turbo-instruct", **asked}
    sdk.completions.create(model=NATIVE, prompt="a = ", suffix="\n")
    assert simulator.requests()[-1]["body"]["suffix"] == "\n"
    sdk.completions.create(model=NATIVE, prompt=[1, 2, 3])
    assert simulator.bill()[-1]["input_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ["one", "two"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"suffix": "."}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_chat_cannot_express_is_refused_by_name(
    sdk: openai.OpenAI, simulator: Simulator, more: dict[str, Any], param: str, stream: bool
) -> None:
    for model in THROUGH_CHAT:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.completions.create(**{"model": model, "prompt": PROMPT, "stream": stream, **more})
        assert refused.value.param == param
    assert simulator.requests() == []


def test_one_text_in_a_list_is_one_text(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="mercury", prompt=[PROMPT])
    assert answer.choices[0].text == "wings, and a hat"


def test_what_chat_has_no_word_for_is_left_out_and_named(sdk: openai.OpenAI, simulator: Simulator) -> None:
    extra = {"tools": 7, "messages": "none", "response_format": []}
    raw = sdk.completions.with_raw_response.create(model="gpt-4.1-nano", prompt=PROMPT, seed=3, extra_body=extra)
    assert set(raw.headers["x-talaria-dropped"].split(",")) == extra.keys()
    (request,) = simulator.requests()
    assert request["body"] == {
        "model": "gpt-4.1-nano",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 16,
        "seed": 3,
    }


def test_thoughts_are_no_part_of_a_text(sdk: openai.OpenAI, simulator: Simulator) -> None:
    asked: dict[str, Any] = {"model": "claude-haiku", "prompt": PROMPT, "max_tokens": 4000}
    thinking = {"reasoning_effort": "low"}
    whole = sdk.completions.create(**asked, extra_body=thinking)
    chunks = list(sdk.completions.create(**asked, stream=True, extra_body=thinking))
    assert simulator.requests()[-1]["body"]["thinking"]
    assert whole.choices[0].text == "wings, and a hat"
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "wings, and a hat"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_refusal_ends_as_filtered(sdk: openai.OpenAI, stream: bool) -> None:
    answer = sdk.completions.create(model="gpt-4.1-nano", prompt="refuse", max_tokens=99, stream=stream)
    choices = [choice for chunk in answer for choice in chunk.choices] if stream else answer.choices
    assert "".join(choice.text for choice in choices).startswith("I can't help")
    assert choices[-1].finish_reason == "content_filter"


# --- Embeddings ---


@pytest.mark.ability("embeddings", vendor="openai")
def test_vectors_come_in_both_encodings(sdk: openai.OpenAI, simulator: Simulator) -> None:
    floats = sdk.embeddings.create(model=EMBED, input="winged sandals", encoding_format="float")
    decoded = sdk.embeddings.create(model=EMBED, input="winged sandals")
    assert (floats.object, floats.model) == ("list", EMBED)
    vector = floats.data[0].embedding
    assert len(vector) == 1536
    assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-5)
    assert decoded.data[0].embedding == pytest.approx(vector, abs=1e-7)
    raw = sdk.embeddings.with_raw_response.create(model=EMBED, input="winged sandals", encoding_format="base64")
    packed = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    assert list(struct.unpack("<1536f", packed)) == pytest.approx(vector, abs=1e-7)
    assert [row["body"].get("encoding_format") for row in simulator.requests()] == ["float", "base64", "base64"]


def test_a_batch_of_inputs_gives_a_vector_each(sdk: openai.OpenAI, simulator: Simulator) -> None:
    answer = sdk.embeddings.create(model=EMBED, input=["a cat", "a cat sat", "stocks fell"], dimensions=64)
    assert [each.index for each in answer.data] == [0, 1, 2]
    cat, sat, stocks = (each.embedding for each in answer.data)
    assert {len(cat), len(sat), len(stocks)} == {64}
    assert closeness(cat, sat) > 0.5 > closeness(cat, stocks)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens
    assert billed(simulator) == (answer.usage.prompt_tokens, 0)


def test_tokens_have_vectors_too(sdk: openai.OpenAI, simulator: Simulator) -> None:
    one = sdk.embeddings.create(model=EMBED, input=[4438, 656, 358], dimensions=8)
    several = sdk.embeddings.create(model=EMBED, input=[[4438, 656, 358], [7]], dimensions=8)
    assert one.data[0].embedding == several.data[0].embedding
    assert [row["input_tokens"] for row in simulator.bill()] == [3, 4]


def test_a_vector_costs_what_its_prompt_does(sdk: openai.OpenAI, gateway: Serving) -> None:
    before = gateway.metric("talaria_tokens_total", model=EMBED, type="output")
    raw = sdk.embeddings.with_raw_response.create(model=EMBED, input=list(range(5000)), dimensions=4)
    assert float(raw.headers["x-talaria-cost-usd"]) == pytest.approx(5000 * 0.02 / 1e6)
    assert gateway.metric("talaria_tokens_total", model=EMBED, type="output") == before


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["x", 1]}, "input[1]"),
        ({"input": [[1, "x"]]}, "input[0][1]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"stream": True}, "stream"),
    ],
)
def test_what_has_no_vector_is_refused_by_name(gateway: Serving, more: dict[str, Any], param: str) -> None:
    body = {"model": EMBED, "input": "x", **more}
    answer = httpx.post(f"{gateway.url}/v1/embeddings", json=body, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_the_vendors_own_limits_are_told(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model=EMBED, input=list(range(9000)))
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model=EMBED, input="x", dimensions=5000)
    assert refused.value.param == "dimensions"


# --- Fill-in-the-middle ---


@pytest.mark.ability("fill-in-the-middle")
@pytest.mark.parametrize("model", ["mercury-edit-2", "instruct"])
def test_a_gap_is_filled(filler: inceptionai.Inception, simulator: Simulator, model: str) -> None:
    answer = filler.fim.completions.create(model=model, prompt="say exactly: n - 1", suffix="\n)", max_tokens=64)
    assert (answer.object, answer.model) == ("text_completion", model)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("n - 1", "stop")
    assert billed(simulator) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    (request,) = simulator.requests()
    assert (request["body"]["prompt"], request["body"]["suffix"]) == ("say exactly: n - 1", "\n)")


@pytest.mark.parametrize("model", ["mercury-edit-2", "instruct"])
def test_a_gap_is_filled_in_parts(filler: inceptionai.Inception, simulator: Simulator, model: str) -> None:
    stream = filler.fim.completions.create(
        model=model, prompt="in 30 words", suffix="!", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(choice.text or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 30
    assert {chunk.model for chunk in chunks} == {model}
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    told: Any = chunks[-1]
    assert told.choices == []
    assert billed(simulator)[1] == told.usage["completion_tokens"]


def test_a_gap_ends_where_inception_says(filler: inceptionai.Inception, simulator: Simulator) -> None:
    for model in ("mercury-edit-2", "instruct"):
        answer = filler.fim.completions.create(model=model, prompt="say exactly: one\n\ntwo", suffix="x")
        assert answer.choices[0].text == "one"
    native, through = (row["body"] for row in simulator.requests())
    assert native.keys() == {"model", "prompt", "suffix"}
    assert (through["max_tokens"], through["stop"]) == (512, ["\n\n", "\n \n"])


def test_only_what_inception_documents_is_sent_there(gateway: Serving, simulator: Simulator) -> None:
    asked = {"model": "mercury-edit-2", "prompt": "x", "stop": "y", "top_k": 5, "max_tokens": 9000}
    answer = httpx.post(f"{gateway.url}/v1/fim/completions", json={**asked, "temperature": 0.2, "seed": 3}, timeout=20)
    assert answer.status_code == 200
    assert set(answer.headers["x-talaria-dropped"].split(",")) == {"temperature", "seed", "max_tokens"}
    (request,) = simulator.requests()
    assert request["body"] == {
        **asked,
        "stop": ["y"],
        "max_tokens": 8192,
    }


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ["x"]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": 7}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1001}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_cannot_be_filled_is_refused_by_name(gateway: Serving, more: dict[str, Any], param: str) -> None:
    body = {"model": "mercury-edit-2", "prompt": "x", **more}
    answer = httpx.post(f"{gateway.url}/v1/fim/completions", json=body, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


TEMPLATE = "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_template_says_both_sides_in_one_prompt(simulator: Simulator, stream: bool) -> None:
    text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace(
        "upstream: gpt-3.5-turbo-instruct", f'upstream: gpt-3.5-turbo-instruct, fim_template: "{TEMPLATE}"'
    )
    body = {"model": "instruct", "prompt": "a {suffix} b", "suffix": "{prefix}", "top_k": 3, "stream": stream}
    with fleet.serving(text) as gateway:
        answer = httpx.post(f"{gateway.url}/v1/fim/completions", json=body, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["x-talaria-dropped"] == "top_k"
    (request,) = simulator.requests()
    assert request["body"]["prompt"] == "<|fim_prefix|>a {suffix} b<|fim_suffix|>{prefix}<|fim_middle|>"
    assert request["body"].keys() & {"suffix", "top_k"} == set()


def test_a_model_serves_what_the_configuration_says(simulator: Simulator) -> None:
    text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace(
        "upstream: gpt-4.1-nano", "upstream: gpt-4.1-nano, serves: [completions]"
    )
    with fleet.serving(text) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": "x"}])
        assert refused.value.param == "model"
        assert simulator.requests() == []
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="gpt-4.1-nano", prompt="x")
        assert [row["path"] for row in simulator.requests()] == ["/openai/v1/completions"]


# --- All of them ---


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("embeddings", "mercury"),
        ("embeddings", "auto"),
        ("embeddings", "claude-haiku"),
        ("embeddings", "instruct"),
        ("fim/completions", "claude-haiku"),
        ("fim/completions", "gpt-4.1-nano"),
        ("fim/completions", "auto"),
        ("completions", EMBED),
        ("chat/completions", EMBED),
        ("chat/completions", "instruct"),
    ],
)
def test_a_model_that_does_not_serve_an_endpoint_says_so(
    sdk: openai.OpenAI, simulator: Simulator, path: str, model: str
) -> None:
    body = {"model": model, "prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.post(f"/{path}", body=body, cast_to=object)
    assert (refused.value.param, refused.value.code) == ("model", "unsupported_value")
    assert "serve" in refused.value.message
    assert simulator.requests() == []


def test_a_gap_is_filled_by_the_next_when_mercury_is_down(filler: inceptionai.Inception, simulator: Simulator) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 503})
    answer = filler.fim.completions.create(model="mercury-edit-2", prompt="say exactly: y", suffix=")")
    assert (answer.model, answer.choices[0].text) == ("instruct", "y")
    streamed = list(filler.fim.completions.create(model="mercury-edit-2", prompt="say exactly: y", stream=True))
    assert "".join(choice.text or "" for chunk in streamed for choice in chunk.choices) == "y"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_route_completes_with_whoever_can(sdk: openai.OpenAI, simulator: Simulator, stream: bool) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 500})
    answer = sdk.completions.create(model="auto", prompt=PROMPT, stream=stream)
    chunks = list(answer) if stream else [answer]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "wings, and a hat"
    assert chunks[0].model == "gpt-4.1-nano"
    several = sdk.completions.create(model="auto", prompt=PROMPT, n=2)
    assert several.model == "gpt-4.1-nano"


@pytest.mark.parametrize("model", ["instruct", "mercury", "claude-haiku"])
def test_a_text_that_breaks_off_ends_with_one_typed_error(gateway: Serving, simulator: Simulator, model: str) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "cut", "after_events": 4})
    body = {"model": model, "prompt": "in 80 words", "max_tokens": 300, "stream": True}
    answer = httpx.post(f"{gateway.url}/v1/completions", json=body, timeout=20)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert "[DONE]" not in events
    assert '"error"' in events[-1]
    assert all('"text_completion"' in event for event in events[:-1])


def test_a_vector_that_fails_is_asked_for_again(sdk: openai.OpenAI, simulator: Simulator) -> None:
    simulator.faults({"vendor": "openai", "model": "*", "kind": "truncated_json", "count": 1})
    assert sdk.embeddings.create(model=EMBED, input="x", dimensions=4).data
    simulator.faults({"vendor": "openai", "model": "*", "kind": "status", "status": 429, "retry_after": 60})
    with pytest.raises(openai.RateLimitError) as limited:
        sdk.embeddings.create(model=EMBED, input="x")
    assert limited.value.response.headers["retry-after"] == "60"
