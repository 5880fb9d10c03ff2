"""Whatever a body in Anthropic's dialect holds: no 5xx, and each 4xx an Anthropic error that says what is wrong."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import fleet
from tests.contract.test_hostile_bodies import CONNECTION_WORDS, ODD, SEED, places

MANY = 300
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
BOTH = pytest.mark.parametrize("path", [MESSAGES, COUNT])
MODELS = ("mercury", "gpt-4.1-nano", "claude-haiku", "auto")
TYPES = {"invalid_request_error", "not_found_error", "request_too_large"}
FIELDS = [
    "model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences", "tools",
    "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier", "cache_control",
    "mcp_servers", "container", "context_management", "betas", "extra", "",
]  # fmt: skip
BLOCKS: list[Any] = [
    {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
    {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
    {"type": "thinking", "thinking": "x", "signature": "y"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "tool_use", "id": "t9", "name": "clock", "input": {"a": [{"b": None}]}},
    {"type": "tool_result", "tool_use_id": "t9", "content": [{"type": "text", "text": "x"}], "is_error": True},
    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
    {"type": "hologram"},
]


def message(model: str) -> dict[str, Any]:
    """A body with something of everything, all of it right."""
    return {
        "model": model,
        "max_tokens": 20,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t1", "name": "clock", "input": {"zone": "UTC"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "noon"}]},
        ],
        "tools": [{"name": "clock", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u", "tags": {"team": "a"}},
    }


def counted(body: Any) -> Any:
    """The same as a question for its tokens."""
    left_out = ("max_tokens", "metadata", "stream")
    return {name: value for name, value in body.items() if name not in left_out} if isinstance(body, dict) else body


def bent(draw: random.Random, path: str) -> bytes:
    """A right body with something wrong in it."""
    body: Any = copy.deepcopy(message(draw.choice(MODELS)))
    if path == COUNT:
        body = counted(body)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        found = list(places(body))
        match draw.randrange(4):
            case 0:
                body[draw.choice(FIELDS)] = copy.deepcopy(draw.choice(ODD))
            case 1 if found:
                *way, last = draw.choice(found)
                node = body
                for step in way:
                    node = node[step]
                node[last] = copy.deepcopy(draw.choice(ODD))
            case 2 if found:
                *way, last = draw.choice(found)
                node = body
                for step in way:
                    node = node[step]
                del node[last]
            case _:
                blocks = [copy.deepcopy(draw.choice([*BLOCKS, *ODD])) for _ in range(draw.randrange(1, 4))]
                turn = {"role": draw.choice(("user", "assistant", "system")), "content": blocks}
                if isinstance(body.get("messages"), list):
                    body["messages"].insert(draw.randrange(len(body["messages"]) + 1), turn)
    if draw.random() < 0.3 and path == MESSAGES:
        body["stream"] = True
    return json.dumps(body).encode()


def broken() -> Iterator[bytes]:
    """Bodies that are no request at all."""
    whole = json.dumps(message("claude-haiku")).encode()
    yield from (whole[:cut] for cut in range(0, len(whole), 41))
    yield from (b"", b" ", b"null", b"7", b'"x"', b"[]", b"{}", b"\xff\xfe", b"\x00" * 99, whole + whole)
    yield whole.replace(b"noon", b"\\ud800")
    yield whole.replace(b"claude-haiku", b"\\udfff")
    yield whole.replace(b'"max_tokens": 20', b'"max_tokens": 1e999')
    yield whole.replace(b'"max_tokens": 20', b'"max_tokens": ' + b"9" * 5000)
    yield whole.replace(b'"UTC"', b"9" * 400)
    for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (70, 900, 100_000):
            yield whole.replace(b'"UTC"', open_ * depth + b"1" + close * depth)
            yield whole.replace(b'"noon"', open_ * depth + b"1" + close * depth)
            yield open_ * depth
    yield json.dumps(message("mercury") | {"messages": [{"role": "user", "content": "x"}] * 20_000}).encode()


@pytest.fixture(scope="module")
def http(_gateway: fleet.Serving) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=_gateway.url, headers=headers, timeout=20, verify=False, trust_env=False) as client:
        yield client


def judge(answer: httpx.Response) -> str | None:
    """What is wrong with an answer, if anything."""
    if answer.status_code >= 500:
        return f"a {answer.status_code}: {answer.text[:200]}"
    if answer.status_code >= 400:
        told = answer.json()
        if set(told) != {"type", "error", "request_id"} or told["type"] != "error":
            return f"no error of Anthropic's: {answer.text[:200]}"
        error = told["error"]
        if set(error) != {"type", "message"} or error["type"] not in TYPES:
            return f"no error of Anthropic's: {answer.text[:200]}"
        if len(error["message"]) < 10 or "Traceback" in error["message"]:
            return f"a message that says nothing: {error['message'][:200]!r}"
        if told["request_id"] != answer.headers.get("request-id"):
            return "no request id"
    elif answer.headers["content-type"].startswith("text/event-stream"):
        if not answer.text.endswith('data: {"type":"message_stop"}\n\n') and "message_stop" not in answer.text[-60:]:
            return f"a stream that does not end well: {answer.text[-300:]}"
    elif "input_tokens" not in answer.json() and answer.json()["type"] != "message":
        return f"no message: {answer.text[:200]}"
    return None


@BOTH
def test_no_body_is_too_strange(http, simulator, path):
    draw = random.Random(SEED)
    wrong: list[str] = []
    seen: dict[int, int] = {}
    for body in [*broken(), *(bent(draw, path) for _ in range(MANY))]:
        answer = http.post(path, content=body)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        if fault := judge(answer):
            wrong.append(f"{fault}\n    for {body[-700:]!r}")
    assert not wrong, f"{len(wrong)} answers\n" + "\n".join(wrong[:20])
    assert seen[200] >= MANY / 10
    assert seen[400] >= MANY / 3
    assert http.get("/health/ready").status_code == 200


@BOTH
def test_no_body_says_where_it_goes_or_with_which_key(http, simulator, path):
    body = message("claude-haiku")
    tried = 0
    for word in CONNECTION_WORDS:
        for way in [(), *places(body)]:
            if {"input_schema", "input"} & set(way):
                continue
            changed = copy.deepcopy(body)
            node: Any = changed
            for step in way:
                node = node[step]
            if isinstance(node, dict):
                node[word] = "https://elsewhere.example"
                answer = http.post(path, content=json.dumps(changed).encode())
                tried += 1
                assert answer.status_code == 400, changed
                assert word in answer.json()["error"]["message"], changed
    assert tried > 60
    assert simulator.requests() == []


@BOTH
def test_a_tool_may_be_called_with_parameters_of_any_name(http, simulator, path):
    given = dict.fromkeys(CONNECTION_WORDS, "x")
    names = {word: {"type": "string", "default": "x"} for word in CONNECTION_WORDS}
    for model in ("claude-haiku", "gpt-4.1-nano"):
        body = message(model)
        body["messages"][1]["content"][1]["input"] = given
        body["tools"][0]["input_schema"]["properties"] = names
        assert http.post(path, json=counted(body) if path == COUNT else body).status_code == 200


@BOTH
def test_other_methods_are_not_allowed(http, path):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = http.request(method, path)
        assert answer.status_code == 405
        assert judge(answer) is None


@BOTH
def test_what_a_web_page_could_send_unasked_is_not_taken(http, path):
    answer = http.post(path, content=json.dumps(message("mercury")), headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert judge(answer) is None


@BOTH
def test_a_body_that_is_too_large_is_refused(simulator, path):
    text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: none, max_body_bytes: 5000")
    with fleet.serving(text) as gateway:
        answer = fleet.http.post(gateway.url + path, json=message("mercury") | {"system": "x" * 6000})
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"
    assert judge(answer) is None


@BOTH
def test_the_door_refuses_in_anthropics_words(http, simulator, path):
    body = json.dumps(message("mercury"))
    for headers in ({"x-filler": "x" * 70_000}, {"host": "elsewhere.example"}):
        answer = http.post(path, content=body, headers=headers)
        assert answer.status_code in (403, 431)
        told = answer.json()
        assert told["type"] == "error"
        assert told["error"]["type"] in ("permission_error", "invalid_request_error")
        assert told["request_id"] == answer.headers["request-id"]
    assert simulator.requests() == []
