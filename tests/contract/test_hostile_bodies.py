"""Whatever a body holds, the answer is a sensible one: no 5xx, and each 4xx an OpenAI error that says what is wrong."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import fleet

SEED = 20261125
MANY = 400

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**40,
    "", " ", "x", "true", "1", "null", "\x00", "\ufeff", "\u202e", "\u2028", "é" * 300, "🙂" * 50, "a" * 20_000,
    "data:image/png;base64,AAAA", "data:,", "https://example.com/x", "file:///etc/passwd", "{{7*7}}", "'; DROP TABLE",
    [], [[]], [None], [0], [""], ["stop"] * 50, [{}], {}, {"": ""}, {"type": None}, {"type": []}, {"type": "function"},
    {"type": "function", "function": None}, {"type": "function", "function": {"name": ""}}, {"type": "json_schema"},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense", "properties": 7}}},
    {"type": "allowed_tools"}, {"type": "custom"}, {"a": {"b": {"c": [1, {"d": None}]}}}, {"include_usage": "yes"},
    {"url": 7}, {"role": "user"}, {"name": "x", "arguments": "{"}, {"__proto__": {"x": 1}}, {"$ref": "#"},
]  # fmt: skip

FIELDS = [
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n",
    "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "seed", "tools",
    "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format", "reasoning_effort",
    "modalities", "audio", "metadata", "user", "store", "prediction", "web_search_options", "service_tier", "verbosity",
    "thinking", "top_k", "cache_control", "diffusing", "realtime", "extra", "",
]  # fmt: skip

CONNECTION_WORDS = ["api_base", "base_url", "api_key", "extra_headers", "organization", "custom_llm_provider"]

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def chat(model: str) -> dict[str, Any]:
    """A body with something of everything, all of it right."""
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
            {"role": "user", "content": "Thank you"},
        ],
        "tools": [TOOL],
        "max_tokens": 20,
    }


def completions(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": ["at noon"], "max_tokens": 20, "stop": ["x"], "temperature": 0.7, "user": "u"}


def embeddings(model: str) -> dict[str, Any]:
    return {"model": model, "input": ["noon", "night"], "dimensions": 8, "encoding_format": "float"}


def fim(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "at noon", "suffix": "end", "max_tokens": 20, "stop": ["x"], "top_k": 5}


@dataclass(frozen=True)
class Endpoint:
    path: str
    whole: Callable[[str], dict[str, Any]]
    """A right body."""
    models: tuple[str, ...]
    fields: tuple[str, ...] = ()


CHAT = Endpoint("/v1/chat/completions", chat, ("mercury", "gpt-4.1-nano", "claude-haiku", "auto"))
ENDPOINTS = [
    CHAT,
    Endpoint(
        "/v1/completions",
        completions,
        ("instruct", "mercury", "gpt-4.1-nano", "claude-haiku", "auto"),
        ("prompt", "suffix", "echo", "best_of"),
    ),
    Endpoint(
        "/v1/embeddings", embeddings, ("text-embedding-3-small",), ("input", "dimensions", "encoding_format", "user")
    ),
    Endpoint(
        "/v1/fim/completions",
        fim,
        ("mercury-edit-2", "instruct"),
        ("prompt", "suffix", "top_k", "repetition_penalty"),
    ),
]
EVERYWHERE = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*path, key)
            yield from places(value, (*path, key))


def bent(endpoint: Endpoint, draw: random.Random) -> bytes:
    """A right body with something wrong in it."""
    body = copy.deepcopy(endpoint.whole(draw.choice(endpoint.models)))
    fields = [*FIELDS, *endpoint.fields * 5]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        found = list(places(body))
        match draw.randrange(4):
            case 0:
                body[draw.choice(fields)] = copy.deepcopy(draw.choice(ODD))
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
                message = {"role": draw.choice(("user", "assistant", "tool", "system", "function", "developer"))}
                for name in draw.sample(("content", "tool_calls", "tool_call_id", "name", "refusal", "audio"), 2):
                    message[name] = copy.deepcopy(draw.choice(ODD))
                if isinstance(body.get("messages"), list):
                    body["messages"].insert(draw.randrange(len(body["messages"]) + 1), message)
    if draw.random() < 0.3:
        body["stream"] = True
    return json.dumps(body).encode()


def broken(endpoint: Endpoint) -> Iterator[bytes]:
    """Bodies that are no request at all."""
    model = endpoint.models[0]
    whole = json.dumps(endpoint.whole(model)).encode()
    yield from (whole[:cut] for cut in range(0, len(whole), 17))
    yield from (b"", b" ", b"null", b"true", b"7", b'"x"', b"[]", b"{}", b"[{}]", b"{,}", b"{'model': 'x'}")
    yield from (
        b"\xff\xfe",
        b"\xef\xbb\xbf" + whole,
        b"\x00" * 100,
        b'{"model": "\xff"}',
        whole.replace(b"noon", b"\xc3"),
    )
    yield whole.decode().encode("utf-16")
    yield whole.replace(b"noon", b"\\ud800")
    yield whole.replace(model.encode(), b"\\udfff")
    yield whole + whole
    yield b'{"model": "mercury", "messages": NaN}'
    yield b'{"model": "mercury", "messages": [], "temperature": Infinity}'
    yield whole.replace(b'"max_tokens": 20', b'"max_tokens": 1e999')
    yield whole.replace(b'"max_tokens": 20', b'"max_tokens": ' + b"9" * 5000)
    for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (70, 900, 100_000):
            yield b'{"model": "mercury", "messages": ' + open_ * depth + b"1" + close * depth + b"}"
            yield open_ * depth
    yield b'{"model": "mercury", "model": "auto", "messages": [], "messages": 7}'
    yield json.dumps({"model": "mercury", "messages": [{"role": "user", "content": "x"}] * 30_000}).encode()
    yield json.dumps(endpoint.whole(model) | {"tools": [TOOL] * 2000}).encode()
    yield json.dumps(endpoint.whole(model) | {f"field{i}": i for i in range(5000)}).encode()
    yield json.dumps(endpoint.whole(model) | {"prompt": ["x"] * 3000, "input": ["x"] * 3000}).encode()
    yield json.dumps(endpoint.whole(model) | {"prompt": [[1]] * 3000, "input": [[1], ["x"]]}).encode()


def with_connection_words(endpoint: Endpoint) -> Iterator[tuple[str, bytes]]:
    body = endpoint.whole(endpoint.models[0])
    if "messages" in body:
        body["messages"][1]["content"].append({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}})
    body["metadata"] = {"team": "a"}
    body["stream_options"] = {}
    body["extra"] = [{"deep": [{"deeper": {}}]}]
    for word in CONNECTION_WORDS:
        for path in [(), *places(body)]:
            if "parameters" in path:
                continue
            changed = copy.deepcopy(body)
            node = changed
            for step in path:
                node = node[step]
            if isinstance(node, dict):
                node[word] = "https://elsewhere.example"
                yield word, json.dumps(changed).encode()


def bodies(endpoint: Endpoint) -> list[bytes]:
    draw = random.Random(SEED)
    return [*broken(endpoint), *(bent(endpoint, draw) for _ in range(MANY))]


@pytest.fixture(scope="module")
def http(_gateway: fleet.Serving) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=_gateway.url, headers=headers, timeout=20, verify=False, trust_env=False) as client:
        yield client


def judge(answer: httpx.Response) -> str | None:
    """What is wrong with an answer, if anything."""
    if answer.status_code >= 500:
        return f"a {answer.status_code}: {answer.text[:200]}"
    if answer.status_code >= 400:
        error = answer.json().get("error")
        if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
            return f"no OpenAI error: {answer.text[:200]}"
        if not isinstance(error["message"], str) or len(error["message"]) < 10 or "Traceback" in error["message"]:
            return f"a message that says nothing: {error['message'][:200]!r}"
        if error["type"] != "invalid_request_error":
            return f"the type {error['type']}"
        if not answer.headers.get("x-request-id"):
            return "no request id"
    elif answer.headers["content-type"].startswith("text/event-stream"):
        if not answer.text.endswith("data: [DONE]\n\n"):
            return f"a stream that does not end well: {answer.text[-300:]}"
    elif not (answer.json().get("choices") or answer.json().get("data")):
        return "nothing in it"
    return None


@EVERYWHERE
def test_no_body_is_too_strange(http, simulator, figure, endpoint):
    wrong: list[str] = []
    seen: dict[int, int] = {}
    for body in bodies(endpoint):
        answer = http.post(endpoint.path, content=body)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        if fault := judge(answer):
            wrong.append(f"{fault}\n    for {body[-500:]!r}{'...' if len(body) > 300 else ''}")
    figure(f"{endpoint.path}: {sum(seen.values())} hostile bodies, statuses {dict(sorted(seen.items()))}")
    assert not wrong, f"{len(wrong)} answers\n" + "\n".join(wrong[:20])
    assert seen[400] >= MANY / 2
    assert http.get("/health/ready").status_code == 200
    plain = {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: still here"}]}
    assert http.post("/v1/chat/completions", json=plain).json()["choices"][0]["message"]["content"] == "still here"


@EVERYWHERE
def test_no_body_says_where_it_goes_or_with_which_key(http, simulator, endpoint):
    tried = 0
    for word, body in with_connection_words(endpoint):
        answer = http.post(endpoint.path, content=body)
        tried += 1
        assert answer.status_code == 400, body
        assert answer.json()["error"]["param"] == word, body
    assert tried > (60 if endpoint is CHAT else 15)
    assert simulator.requests() == []


def test_a_tool_may_have_parameters_of_any_name(http, simulator):
    names = {word: {"type": "string", "default": "x"} for word in CONNECTION_WORDS}
    body = chat("gpt-4.1-nano") | {"messages": [{"role": "user", "content": "Use clock"}]}
    body["tools"] = [
        {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": names}}}
    ]
    assert http.post(CHAT.path, json=body).status_code == 200
    (request,) = simulator.requests()
    assert request["body"]["tools"] == body["tools"]


@EVERYWHERE
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("", 200),
        ("text/plain", 415),
        ("TEXT/plain; x=y", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_what_a_web_page_could_send_unasked_is_not_taken(http, endpoint, content_type, status):
    body = json.dumps(endpoint.whole(endpoint.models[0]))
    answer = http.post(endpoint.path, content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert judge(answer) is None


@EVERYWHERE
def test_other_methods_are_not_allowed(http, endpoint):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = http.request(method, endpoint.path)
        assert answer.status_code == 405
        assert judge(answer) is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(simulator, chunked):
    text = fleet.THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: none, max_body_bytes: 5000")
    body = json.dumps(chat("mercury") | {"user": "x" * 6000}).encode()
    with fleet.serving(text) as gateway, httpx.Client(base_url=gateway.url, verify=False, trust_env=False) as client:
        for endpoint in ENDPOINTS:
            content = (body[i : i + 1000] for i in range(0, len(body), 1000)) if chunked else body
            answer = client.post(endpoint.path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 413
            assert judge(answer) is None
            assert answer.json()["error"]["code"] == "request_too_large"
        assert client.post(CHAT.path, json=chat("mercury")).status_code == 200
    assert len(simulator.requests()) == 1


def test_headers_that_are_wrong_are_named(http, simulator):
    wrong = {
        "x-talaria-deadline-ms": ("-1", "0", "soon", "1e3", "9" * 30),
        "x-talaria-latency-class": ("yesterday", "é"),
        "x-talaria-task": ("juggling", "x" * 300),
        "x-talaria-tags": ("team", "=a", "a=b,c"),
    }
    for name, values in wrong.items():
        for value in values:
            answer = http.post(CHAT.path, json=chat("mercury"), headers={name: value.encode("utf-8")})
            assert answer.status_code == 400, (name, value)
            assert judge(answer) is None
    big = http.post(CHAT.path, json=chat("mercury"), headers={"x-filler": "x" * 70_000})
    assert big.status_code in (400, 431)
    assert simulator.requests() == []
