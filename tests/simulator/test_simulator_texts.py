"""What the pretend vendors do beside chat: completions, embeddings, and gaps that are filled."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import inceptionai
import openai
import pytest

INSTRUCT, EMBED, EDIT = "gpt-3.5-turbo-instruct", "text-embedding-3-small", "mercury-edit-2"


def complete(simulator: Any, **body: Any) -> Any:
    return simulator.http.post("/openai/v1/completions", json={"model": INSTRUCT, "prompt": "x", **body})


def fill(simulator: Any, **body: Any) -> Any:
    return simulator.http.post("/inception/v1/fim/completions", json={"model": EDIT, "prompt": "x", **body})


def test_prompts_are_completed_each_by_itself(simulator, gpt):
    answer = gpt.completions.create(model=INSTRUCT, prompt=["say exactly: a", "say exactly: b"], n=2, max_tokens=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["a", "a", "b", "b"]
    (row,) = simulator.bill()
    assert (row["input_tokens"], row["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_prompts_are_streamed_together(simulator, gpt):
    prompts = ["say exactly: one two", "say exactly: three four"]
    chunks = list(gpt.completions.create(model=INSTRUCT, prompt=prompts, stream=True))
    texts = ["".join(c.choices[0].text for c in chunks if c.choices[0].index == index) for index in (0, 1)]
    assert texts == ["one two", "three four"]
    assert not any(chunk.usage for chunk in chunks)
    (row,) = simulator.bill()
    assert row["completed"]


def test_an_echo_and_its_probabilities_are_parts_of_the_text(gpt):
    asked = {"model": INSTRUCT, "prompt": "say exactly: go", "echo": True, "logprobs": 1}
    whole = gpt.completions.create(**asked).choices[0]
    assert whole.text == "say exactly: gogo"
    assert "".join(whole.logprobs.tokens) == whole.text
    assert len(whole.logprobs.text_offset) == len(whole.logprobs.token_logprobs) == len(whole.logprobs.tokens)
    chunks = list(gpt.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"suffix": ""}, "suffix"),
        ({"suffix": "x", "echo": True}, "suffix"),
        ({"stream_options": {}}, "stream_options"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"echo": "yes"}, "echo"),
        ({"messages": []}, None),
        ({"prompt": [1] * 4090}, None),
    ],
)
def test_what_openai_refuses_in_a_completion(simulator, more, param):
    answer = complete(simulator, **more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert simulator.bill() == []


def test_models_answer_on_their_own_endpoints_only(simulator, gpt, mercury):
    chat = {"messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(openai.NotFoundError):
        gpt.completions.create(model="gpt-4.1-nano", prompt="x")
    with pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(model=INSTRUCT, **chat)
    with pytest.raises(openai.PermissionDeniedError):
        gpt.embeddings.create(model="gpt-4.1-nano", input="x")
    with pytest.raises(inceptionai.NotFoundError):
        mercury.chat.completions.create(model=EDIT, **chat)
    with pytest.raises(inceptionai.NotFoundError):
        mercury.fim.completions.create(model="mercury-2", prompt="x")
    assert simulator.bill() == []


def test_the_same_input_has_the_same_vector_of_length_one(simulator, gpt):
    one, other, third = gpt.embeddings.create(
        model=EMBED, input=["a cat", "a cat", "dogs"], encoding_format="float"
    ).data
    assert one.embedding == other.embedding != third.embedding
    assert sum(each * each for each in one.embedding) == pytest.approx(1)
    assert len(gpt.embeddings.create(model="text-embedding-3-large", input="x").data[0].embedding) == 3072
    assert [row["output_tokens"] for row in simulator.bill()] == [0, 0]


def test_vectors_in_base64_are_little_endian_floats(simulator):
    asked = {"model": EMBED, "input": "a cat", "dimensions": 16}
    plain = simulator.http.post("/openai/v1/embeddings", json=asked).json()["data"][0]["embedding"]
    packed = simulator.http.post("/openai/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    assert struct.unpack("<16f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx(plain)


@pytest.mark.parametrize(
    "more",
    [
        {"input": ""},
        {"input": []},
        {"input": ["x", ""]},
        {"input": ["x"] * 2049},
        {"input": ["a b c d " * 4000] * 50},
        {"input": [1] * 8192},
        {"dimensions": 1537},
        {"dimensions": 0},
        {"dimensions": "8"},
        {"encoding_format": "hex"},
        {"stream": True},
    ],
    ids=lambda more: json.dumps(more)[:40],
)
def test_what_openai_refuses_to_embed(simulator, more):
    answer = simulator.http.post("/openai/v1/embeddings", json={"model": EMBED, "input": "x", **more})
    assert answer.status_code == 400
    assert simulator.bill() == []


def test_a_gap_is_filled_whole_and_in_blocks(simulator, mercury):
    asked = {"model": EDIT, "prompt": "in 40 words", "suffix": "end"}
    whole = mercury.fim.completions.create(**asked)
    chunks = list(mercury.fim.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == whole.choices[0].text
    assert len(whole.choices[0].text.split()) == 40
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"
    first, second = simulator.bill()
    assert first["output_tokens"] == second["output_tokens"] == whole.usage.completion_tokens


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.5},
        {"prompt": None},
        {"prompt": ["x"]},
        {"max_tokens": 8193},
        {"top_k": 0},
        {"top_p": 2},
        {"repetition_penalty": 0},
        {"stop": "x"},
        {"stop": [1]},
        {"stream": 1},
    ],
)
def test_what_inception_refuses_to_fill(simulator, more):
    answer = fill(simulator, **more)
    assert answer.status_code == 422
    assert isinstance(answer.json()["error"]["message"], list)


@pytest.mark.parametrize("kind", ["status", "cut", "error_event", "no_usage", "latency", "truncated_json"])
def test_faults_meet_every_endpoint(simulator, kind):
    simulator.break_(kind, status=503, after_events=1, seconds=0) if kind in (
        "status",
        "latency",
    ) else simulator.break_(kind, after_events=1)
    for send in (complete, fill):
        answer = send(simulator, stream=kind in ("cut", "error_event", "no_usage", "truncated_json"))
        assert (answer.status_code == 503) == (kind == "status")
        if kind == "error_event":
            assert '"error"' in answer.text
        if kind in ("cut", "truncated_json"):
            assert "[DONE]" not in answer.text
        assert '"usage"' not in answer.text or kind != "no_usage"


AS_THE_SDK_HAS_IT = {
    *("$.usage.prompt_tokens_details is unknown", "$.usage.completion_tokens_details is unknown"),
    *("$.usage.reasoning_tokens is missing", "$.usage.cached_input_tokens is missing"),
}
"""Usage comes in two shapes, of which Inception's document has one and its SDK the other."""


class Specification:
    """Inception's OpenAPI document, as far as an answer's fields go."""

    def __init__(self, path: Path) -> None:
        self.schemas = json.loads(path.read_text(encoding="utf-8"))["components"]["schemas"]

    def wrong(self, value: Any, schema: Any, at: str = "$") -> list[str]:
        """What in `value` the schema does not allow."""
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            found = [self.wrong(value, each, at) for each in schema["anyOf"]]
            return [] if [] in found else found[0]
        allowed = schema.get("type")
        allowed = allowed if isinstance(allowed, list) else [allowed]
        if allowed != [None] and not any(is_a(value, kind) for kind in allowed):
            return [f"{at}: {value!r} is no {allowed}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{at}: {value!r} is none of {schema['enum']}"]
        if "const" in schema and value != schema["const"]:
            return [f"{at}: {value!r} is not {schema['const']}"]
        found = []
        if isinstance(value, dict):
            fields = schema.get("properties", {})
            found += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
            found += [f"{at}.{name} is unknown" for name in value if fields and name not in fields]
            for name, inner in fields.items():
                if name in value:
                    found += self.wrong(value[name], inner, f"{at}.{name}")
        for index, inner in enumerate(value if isinstance(value, list) else ()):
            found += self.wrong(inner, schema.get("items", {}), f"{at}[{index}]")
        return found


def is_a(value: Any, kind: str) -> bool:
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": (int, float),
    }
    return isinstance(value, kinds[kind]) and not (isinstance(value, bool) and kind in ("integer", "number"))


@pytest.fixture
def specification(pytestconfig):
    path = pytestconfig.getoption("--inception-openapi")
    if not path:
        pytest.skip("no OpenAPI document of Inception's: give its path with --inception-openapi")
    return Specification(Path(path))


def chunks_of(response: Any) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_gaps_are_filled_as_inception_documents(specification, simulator):
    whole = fill(simulator, prompt="in 40 words", suffix="x").json()
    assert specification.wrong(whole, {"$ref": "#/components/schemas/FIMCompletionResponse"}) == []
    for chunk in chunks_of(fill(simulator, prompt="in 40 words", stream=True)):
        assert specification.wrong(chunk, {"$ref": "#/components/schemas/TextCompletionChunk"}) == []


@pytest.mark.parametrize("model", ["mercury-2", "mercury-2.5", "mercury-3"])
def test_chats_are_answered_as_inception_documents(specification, simulator, model):
    wrong = []
    for number in range(12):
        text = f"question {number}"
        whole = simulator.post("inception", text, model=model, reasoning_summary=number % 2 == 0).json()
        wrong += specification.wrong(whole, {"$ref": "#/components/schemas/ChatCompletionResponse"})
        for chunk in chunks_of(simulator.post("inception", text, model=model, stream=True)):
            wrong += specification.wrong(chunk, {"$ref": "#/components/schemas/ChatCompletionChunk"})
    assert set(wrong) <= AS_THE_SDK_HAS_IT


def test_errors_and_models_are_told_as_inception_documents(specification, simulator):
    missing = fill(simulator, model="nobody").json()
    assert specification.wrong(missing, {"$ref": "#/components/schemas/ErrorResponse"}) == []
    listed = simulator.http.get("/inception/v1/fim/completions/models").json()
    del listed["data"][0]["supported_endpoints"]  # only the SDK has it
    assert specification.wrong(listed, {"$ref": "#/components/schemas/ModelsResponse"}) == []
