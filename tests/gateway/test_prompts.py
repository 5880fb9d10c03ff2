"""Each key of a model's prompt, and what it does to requests and answers of a whole gateway."""

from __future__ import annotations

import json
import logging
from typing import Any

import openai
import pytest

from gateway import config
from gateway.config import ConfigError, parse
from gateway.explain import explain
from tests.fleet import Simulator, http, serving

CHATML = (
    "{% for message in messages %}\n<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\n"
    "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}\n"
)
VENDORS = """\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  inception: {{kind: inception, base_url: "{url}/inception/v1", keys: [{{id: main, value: test}}]}}
  openai:    {{kind: openai, base_url: "{url}/openai/v1", keys: [{{id: main, value: test}}]}}
  anthropic: {{kind: anthropic, base_url: "{url}/anthropic", keys: [{{id: main, value: test}}]}}
models:
  plain:  {{provider: openai, upstream: gpt-4.1-nano}}
  asked:  {{provider: openai, upstream: gpt-4.1-nano, prompt: {prompt}}}
"""


def configured(prompt: dict[str, Any], url: str = "http://127.0.0.1:1", more: str = "") -> str:
    return VENDORS.format(url=url, prompt=json.dumps({"name": "house", "version": "3", **prompt})) + more


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"say exactly: {text}"}]


CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "system_prefix",
        {"system_prefix": "Be kind."},
        {},
        {"messages": [{"role": "system", "content": "Be kind."}, *say("Hi")]},
    ),
    (
        "system_suffix",
        {"system_suffix": "Be brief."},
        {"messages": [{"role": "system", "content": "You."}, *say("Hi")]},
        {"messages": [{"role": "system", "content": "You.\n\nBe brief."}, *say("Hi")]},
    ),
    (
        "roles",
        {"roles": {"developer": "system"}},
        {"messages": [{"role": "developer", "content": "You."}, *say("Hi")]},
        {"messages": [{"role": "system", "content": "You."}, *say("Hi")]},
    ),
    ("stop.map", {"stop": {"map": {"END": "<|end|>"}}}, {"stop": "END"}, {"stop": ["<|end|>"]}),
    ("stop.add", {"stop": {"add": ["<|end|>"]}}, {"stop": ["x"]}, {"stop": ["x", "<|end|>"]}),
    (
        "defaults",
        {"defaults": {"temperature": 0.2, "max_completion_tokens": 9}},
        {},
        {"temperature": 0.2, "max_completion_tokens": 9},
    ),
    ("clamps", {"clamps": {"temperature": [0, 1]}}, {"temperature": 1.5}, {"temperature": 1}),
]


@pytest.mark.parametrize(("prompt", "fields", "sent"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_request_is_sent_as_the_prompt_says(
    simulator: Simulator, prompt: dict[str, Any], fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    with serving(configured(prompt, simulator.url)) as gateway:
        for model in ("plain", "asked"):
            body = {"model": model, "messages": say("Hi"), **fields}
            http.post(f"{gateway.url}/v1/chat/completions", json=body).raise_for_status()
    plain, asked = (request["body"] for request in simulator.requests())
    assert {name: asked[name] for name in sent} == sent
    assert {name: plain.get(name) for name in sent} != sent


OUTPUTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("strip_fences", {"output": {"strip_fences": "always"}}, "```json\n{}\n```", "{}"),
    ("trim", {"output": {"trim": True}}, "  Hi.\n\n", "Hi."),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("prompt", "said", "left"), [case[1:] for case in OUTPUTS], ids=[case[0] for case in OUTPUTS])
def test_an_answer_is_edited_as_the_prompt_says(
    simulator: Simulator, prompt: dict[str, Any], said: str, left: str, stream: bool
) -> None:
    with serving(configured(prompt, simulator.url)) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)
        texts = []
        for model in ("plain", "asked"):
            messages: Any = say(said)
            if stream:
                with client.chat.completions.stream(model=model, messages=messages) as events:
                    texts.append(events.get_final_completion().choices[0].message.content)
            else:
                texts.append(client.chat.completions.create(model=model, messages=messages).choices[0].message.content)
    assert texts == [said, left]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_model_of_completions_chats_by_its_template(simulator: Simulator, stream: bool) -> None:
    model = f"""\
  local: {{provider: openai, upstream: gpt-3.5-turbo-instruct, prompt: {{name: chatml, version: 1, template: {json.dumps(CHATML)}, stop: {{add: ["<|im_end|>"]}}}}}}
"""
    with serving(configured({}, simulator.url, model)) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=30)
        messages: Any = [{"role": "system", "content": "Be kind."}, *say("the tide turns")]
        if stream:
            with client.chat.completions.stream(model="local", messages=messages) as events:
                answer: Any = events.get_final_completion()
        else:
            answer = client.chat.completions.create(model="local", messages=messages)
        tools: Any = [{"type": "function", "function": {"name": "look"}}]
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="local", messages=messages, tools=tools)
        text = client.completions.create(model="local", prompt="say exactly: as ever").choices[0].text
    asked, _ = simulator.requests()
    assert asked["path"].endswith("/completions")
    assert "chat" not in asked["path"]
    assert asked["body"]["prompt"] == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nsay exactly: the tide turns<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (answer.object, answer.model) == ("chat.completion", "local")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("the tide turns", "stop")
    assert refused.value.param == "tools"
    assert text == "as ever"


def test_an_answer_its_record_and_its_line_name_the_prompt(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Any] = []
    with (
        caplog.at_level(logging.INFO, "talaria"),
        serving(configured({"clamps": {"temperature": [0, 1]}}, simulator.url)) as gateway,
    ):
        gateway.gateway.listeners = [*gateway.gateway.listeners, records.append]
        for model in ("plain", "asked"):
            for stream in (False, True):
                body = {"model": model, "messages": say("Hi"), "stream": stream, "temperature": 2}
                answer = http.post(f"{gateway.url}/v1/chat/completions", json=body)
                assert answer.headers.get("x-talaria-prompt") == ("house@3" if model == "asked" else None)
                assert answer.headers.get("x-talaria-dropped") == ("temperature" if model == "asked" else None)
    assert [record.prompt for record in records] == [None, None, "house@3", "house@3"]
    lines = [line for line in caplog.messages if "model=asked" in line or "model=plain" in line]
    assert ["prompt=house@3" in line for line in lines] == [False, False, True, True]


def test_a_prompt_holds_for_every_dialect_that_chats(simulator: Simulator) -> None:
    claude = """\
  claude: {provider: anthropic, upstream: claude-haiku-4-5-20251001, prompt: {name: claude, version: 7, system_prefix: Be kind.}}
"""
    with serving(configured({}, simulator.url, claude)) as gateway:
        body = {"model": "claude", "max_tokens": 20, "messages": say("Hi")}
        answer = http.post(f"{gateway.url}/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 200
    assert answer.headers["x-talaria-prompt"] == "claude@7"
    system = simulator.requests()[-1]["body"]["system"]
    assert "Be kind." in json.dumps(system)


def test_explain_shows_what_would_be_applied_and_nothing_that_is_said() -> None:
    tree = parse(
        configured({"system_prefix": "Be kind.", "defaults": {"seed": 7}, "clamps": {"temperature": [0, 1]}}), "t"
    )
    asked = {"model": "asked", "messages": [{"role": "user", "content": "A secret."}], "temperature": 2}
    found = explain(tree, json.dumps(asked).encode())
    assert found["prompts"] == [
        {
            "model": "asked",
            "prompt": "house@3",
            "rules": ["system_prefix", "defaults", "clamps"],
            "messages": ["system: 8 characters", "user: 9 characters"],
            "parameters": {"seed": 7, "temperature": 1},
            "clamped": ["temperature"],
        }
    ]
    assert "secret" not in str(found)
    assert explain(tree, json.dumps({**asked, "model": "plain"}).encode())["prompts"] == []


@pytest.mark.parametrize(
    ("prompt", "place", "words"),
    [
        ({"version": None}, "prompt.version", "text"),
        ({"version": "a@b"}, "prompt.version", "name"),
        ({"system": "x"}, "prompt.system", "did you mean"),
        ({"roles": {"dev": "system"}}, "prompt.roles.dev", "unknown role 'dev'"),
        ({"roles": {"developer": "sys"}}, "prompt.roles.developer", "did you mean 'system'"),
        ({"roles": ["x"]}, "prompt.roles", "mapping"),
        ({"stop": {"add": ["a", "b", "c", "d", "e"]}}, "prompt.stop.add", "at most 4"),
        ({"stop": {"map": {"x": ""}}}, "prompt.stop.map.x", "empty"),
        ({"template": "{% if 1 %}" * 200 + "{% endif %}" * 200}, "prompt.template", "is no template that can be used"),
        ({"defaults": {"temprature": 1}}, "prompt.defaults.temprature", "did you mean 'temperature'"),
        ({"defaults": {"max_tokens": 5, "max_completion_tokens": 9}}, "prompt.defaults.max_tokens", "one of them"),
        ({"defaults": {"temperature": "warm"}}, "prompt.defaults.temperature", "no value"),
        ({"defaults": {"temperature": 3}}, "prompt.defaults.temperature", "between 0 and 2"),
        ({"defaults": {"seed": 1.5}}, "prompt.defaults.seed", "no value"),
        ({"defaults": {"seed": None}}, "prompt.defaults.seed", ""),
        ({"defaults": {"top_k": [1]}}, "prompt.defaults.top_k", ""),
        ({"defaults": {"realtime": "maybe"}}, "prompt.defaults.realtime", "no value"),
        ({"defaults": {"tools": []}}, "prompt.defaults.tools", "unknown parameter"),
        ({"defaults": []}, "prompt.defaults", "mapping"),
        ({"clamps": {"temperature": 1}}, "prompt.clamps.temperature", "[least, most]"),
        ({"clamps": {"temperature": [1]}}, "prompt.clamps.temperature", "[least, most]"),
        ({"clamps": {"temperature": [1, 0]}}, "prompt.clamps.temperature", "1 is more than 0"),
        ({"clamps": {"temperature": [0, "inf"]}}, "prompt.clamps.temperature", ""),
        ({"clamps": {"reasoning_effort": ["low", "high"]}}, "prompt.clamps.reasoning_effort", "unknown parameter with a range"),
        ({"clamps": {"temperature": [0, 1]}, "defaults": {"temperature": 1.5}}, "prompt.defaults.temperature", "outside"),
        ({"clamps": {"max_tokens": [1, 5]}, "defaults": {"max_completion_tokens": 9}}, "prompt.defaults.max_completion_tokens", "outside"),
        ({"template": "{% for %}"}, "prompt.template", "line 1"),
        ({"template": "Hello."}, "prompt.template", "does not write the messages"),
        ({"output": {"strip_fences": "yes"}}, "prompt.output.strip_fences", "'json' or 'always'"),
        ({"output": {"trim": "perhaps"}}, "prompt.output.trim", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_prompt_is_said_with_its_place(prompt: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(configured(prompt), "t")
    [problem] = refused.value.problems
    assert problem.path == f"models.asked.{place}"
    assert words in problem.message


def test_a_template_is_for_a_vendor_that_has_completions() -> None:
    model = f"  local: {{provider: inception, prompt: {{name: a, version: 1, template: {json.dumps(CHATML)}}}}}\n"
    with pytest.raises(ConfigError, match="completions, which kind inception does not have"):
        parse(configured({}, more=model), "t")


def test_a_prompt_for_no_chat_is_warned_about() -> None:
    model = "  vectors: {provider: openai, upstream: text-embedding-3-small, prompt: {name: a, version: 1}}\n"
    assert any("has no effect" in problem.message for problem in config.check(configured({}, more=model)))


def test_a_changed_prompt_is_another_configuration() -> None:
    hashes = {parse(configured(prompt), "t").hash for prompt in ({}, {"version": "4"}, {"roles": {"user": "system"}})}
    assert len(hashes) == 3
