"""The gateway as callers meet it, beside what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware

from gateway import errors, rest
from gateway.keys import LocalKeys
from providers.errors import TalariaError
from tests import fleet
from tests.fleet import THREE_VENDORS, Serving, Simulator

MESSAGES = [{"role": "user", "content": "say exactly: hello"}]
CHAT = "/v1/chat/completions"
OTHERS = ("text-embedding-3-small", "mercury-edit-2", "instruct")


def ask(gateway: Serving, body: Any = None, **changes: Any) -> httpx.Response:
    headers = changes.pop("headers", {})
    content = json.dumps({"model": "mercury", "messages": MESSAGES, **changes}) if body is None else body
    return httpx.post(
        gateway.url + CHAT, content=content, headers={"content-type": "application/json", **headers}, timeout=30
    )


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return found


def test_an_answer_says_who_served_it_and_at_which_cost(gateway: Serving) -> None:
    response = ask(gateway, model="auto-cheap", metadata={"task": "chat"})
    headers = response.headers
    assert response.json()["model"] == headers["x-talaria-model"] == "gpt-4.1-nano"
    assert headers["x-talaria-upstream-model"] == "gpt-4.1-nano"
    assert headers["x-talaria-provider"] == "openai"
    assert headers["x-talaria-route"] == "auto-cheap"
    assert headers["x-talaria-task"] == "chat"
    assert headers["x-talaria-attempts"] == "1"
    assert headers["x-talaria-cache"] == "off"
    assert float(headers["x-talaria-overhead-ms"]) >= 0
    usage = response.json()["usage"]
    dollars = usage["prompt_tokens"] * 0.10 / 1e6 + usage["completion_tokens"] * 0.40 / 1e6
    assert float(headers["x-talaria-cost-usd"]) == pytest.approx(dollars)


def test_dropped_parameters_are_named(gateway: Serving) -> None:
    response = ask(gateway, model="claude-haiku", seed=5, user="u", logit_bias={"1": 2})
    assert response.status_code == 200
    assert {"seed", "logit_bias"} <= set(response.headers["x-talaria-dropped"].split(","))


@pytest.mark.parametrize("hint", ["latency_class", "task"])
def test_an_unknown_hint_lists_the_known_ones(gateway: Serving, hint: str) -> None:
    known = {"latency_class": "interactive", "task": "autocomplete"}[hint]
    for response in (
        ask(gateway, metadata={hint: "nonsense"}),
        ask(gateway, headers={f"x-talaria-{hint.replace('_', '-')}": "nonsense"}),
    ):
        assert response.status_code == 400
        assert known in error(response)["message"]


def test_a_header_wins_over_the_body(gateway: Serving) -> None:
    response = ask(gateway, metadata={"task": "chat"}, headers={"x-talaria-task": "code"})
    assert response.headers["x-talaria-task"] == "code"


@pytest.mark.parametrize("value", ["soon", "0", "-5", "1e3"])
def test_a_deadline_that_is_none_is_refused(gateway: Serving, value: str) -> None:
    response = ask(gateway, headers={"x-talaria-deadline-ms": value})
    assert response.status_code == 400
    assert error(response)["param"] == "x-talaria-deadline-ms"


def test_the_deadline_of_the_hint_is_kept(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "silent", "seconds": 30})
    response = ask(gateway, headers={"x-talaria-deadline-ms": "150"})
    assert response.status_code == 504
    assert error(response)["code"] == "timeout"


def test_a_stream_ends_at_the_deadline_with_an_error(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "stall", "after_events": 3, "seconds": 30})
    response = ask(
        gateway,
        stream=True,
        messages=[{"role": "user", "content": "in 80 words"}],
        headers={"x-talaria-deadline-ms": "400"},
    )
    assert response.status_code == 200
    assert '"error"' in response.text.rstrip().split("\n")[-1]
    assert "[DONE]" not in response.text


def test_use_cases_outside_the_list_count_as_other(gateway: Serving) -> None:
    def count(use_case: str) -> float:
        return gateway.metric("talaria_requests_total", use_case=use_case, outcome="ok")

    known, other = count("tests"), count("other")
    ask(gateway, metadata={"use_case": "tests"})
    ask(gateway, metadata={"use_case": "made up"})
    assert (count("tests"), count("other")) == (known + 1, other + 1)
    assert gateway.metric("talaria_tokens_total", use_case="tests", type="output") > 0


def test_made_up_names_make_no_series(gateway: Serving) -> None:
    def series() -> int:
        return sum(len(family.samples) for family in gateway.gateway.metrics.registry.collect())

    ask(gateway, model="made-up", metadata={"use_case": "made-up"}, headers={"x-talaria-tags": "a=b"})
    before = series()
    for i in range(30):
        ask(gateway, model=f"made-up-{i}", metadata={"use_case": f"made-up-{i}"}, headers={"x-talaria-tags": f"a={i}"})
        ask(gateway, metadata={"latency_class": f"made-up-{i}"})
    assert series() <= before + 12  # the histogram and counter of refused hints, once


def test_usage_goes_to_the_caller_only_when_asked(gateway: Serving, simulator: Simulator) -> None:
    for model in ("mercury", "gpt-4.1-nano", "claude-haiku"):
        plain = ask(gateway, model=model, stream=True).text
        assert '"usage"' not in plain
        asked = ask(gateway, model=model, stream=True, stream_options={"include_usage": True}).text
        events = [json.loads(line[6:]) for line in asked.split("\n") if line.startswith("data: {")]
        told = [event for event in events if event.get("usage")]
        assert told == [events[-1]]
        assert told[0]["choices"] == []
    sent = [row["body"] for row in simulator.requests() if row["vendor"] != "anthropic"]
    assert all(body["stream_options"]["include_usage"] is True for body in sent)


def test_models_and_routes_are_listed(gateway: Serving) -> None:
    listed = httpx.get(f"{gateway.url}/v1/models").json()
    ids = [model["id"] for model in listed["data"]]
    assert ids == ["mercury", "gpt-4.1-nano", "claude-haiku", "claude-sonnet", *OTHERS, "auto", "auto-cheap"]
    assert all(set(model) == {"id", "object", "created", "owned_by"} for model in listed["data"])
    assert httpx.get(f"{gateway.url}/v1/models/auto").json()["id"] == "auto"
    missing = httpx.get(f"{gateway.url}/v1/models/nobody")
    assert missing.status_code == 404
    assert error(missing)["code"] == "model_not_found"


def test_health_calls_nobody(gateway: Serving, simulator: Simulator) -> None:
    assert httpx.get(f"{gateway.url}/health/live").status_code == 200
    assert httpx.get(f"{gateway.url}/health/ready").status_code == 200
    gateway.gateway.draining = True
    try:
        assert httpx.get(f"{gateway.url}/health/ready").status_code == 503
        assert httpx.get(f"{gateway.url}/health/live").status_code == 200
    finally:
        gateway.gateway.draining = False
    assert simulator.requests() == []


def test_metrics_are_exposed(gateway: Serving) -> None:
    ask(gateway)
    ask(gateway, stream=True)
    text = httpx.get(f"{gateway.url}/metrics").text
    for name in (
        *("talaria_requests_total", "talaria_request_duration_seconds_bucket", "talaria_overhead_seconds_bucket"),
        *("talaria_requests_in_flight", "talaria_upstream_attempts_total", "talaria_upstream_duration_seconds_bucket"),
        *("talaria_time_to_first_token_seconds_bucket", "talaria_time_per_output_token_seconds_bucket"),
        *("talaria_stream_stall_seconds_bucket", "talaria_tokens_total", "talaria_cost_dollars_total"),
        *("talaria_phase_seconds_bucket", "talaria_build_info", "talaria_config_info"),
    ):
        assert name in text, name
    assert 'le="0.2"' in text
    assert gateway.metric("talaria_requests_in_flight") == 0


def test_the_sockets_to_vendors_are_counted_and_have_a_bound(simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url).replace("kind: inception,", "kind: inception, connections: 7,")
    simulator.faults({"vendor": "inception", "model": "*", "kind": "latency", "seconds": 1.0})
    with fleet.serving(text) as gateway, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(ask, gateway) for _ in range(3)]
        fleet.wait_for(lambda: _sockets(gateway, "in_use") == 3)
        assert (_sockets(gateway, "waiters"), _sockets(gateway, "limit")) == (0, 7)
        assert {call.result().status_code for call in calls} == {200}
        assert _sockets(gateway, "in_use") == 0


def _sockets(gateway: Serving, what: str) -> float:
    lines = fleet.http.get(f"{gateway.url}/metrics").text.splitlines()
    name = f'talaria_upstream_pool_{what}{{provider="inception"}} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/nothing", 404), ("PUT", "/", 404)]
)
def test_what_is_not_there_is_told_in_openais_words(gateway: Serving, method: str, path: str, status: int) -> None:
    response = httpx.request(method, gateway.url + path)
    assert response.status_code == status
    assert error(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_what_a_web_page_could_send_unasked_is_refused(gateway: Serving, content_type: str) -> None:
    response = ask(gateway, headers={"content-type": content_type})
    assert response.status_code == 415
    assert "application/json" in error(response)["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(gateway: Serving, chunked: bool) -> None:
    body = b'{"model": "' + b"x" * (33 * 1024 * 1024) + b'"}'
    sent: Any = iter([body[i : i + 65536] for i in range(0, len(body), 65536)]) if chunked else body
    try:
        response = httpx.post(
            gateway.url + CHAT, content=sent, headers={"content-type": "application/json"}, timeout=30
        )
    except httpx.WriteError:
        assert chunked  # refused while it was still being sent
    else:
        assert response.status_code == 413
        assert error(response)["code"] == "request_too_large"
    assert ask(gateway).status_code == 200


def test_headers_that_are_too_large_are_refused(gateway: Serving) -> None:
    response = httpx.get(f"{gateway.url}/health/live", headers={f"x-{i}": "x" * 1000 for i in range(70)})
    assert response.status_code in (400, 431)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost:1/#@evil.example", "10.0.0.1"])
def test_without_keys_only_loopback_names_are_served(gateway: Serving, host: str) -> None:
    response = httpx.get(f"{gateway.url}/v1/models", headers={"host": host})
    assert response.status_code in (400, 403)
    assert ask(gateway, headers={"host": host}).status_code in (400, 403)
    for home in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
        assert httpx.get(f"{gateway.url}/v1/models", headers={"host": home}).status_code == 200


def test_images_are_never_fetched(gateway: Serving) -> None:
    with fleet.simulated() as canary:
        content = [
            {"type": "text", "text": "say exactly: hello"},
            {"type": "image_url", "image_url": {"url": f"{canary.url}/control/health"}},
        ]
        for model in ("mercury", "gpt-4.1-nano", "claude-haiku", "auto"):
            ask(gateway, model=model, messages=[{"role": "user", "content": content}])
        assert canary.requests() == []


@pytest.fixture(scope="module")
def guarded(_simulator: Simulator) -> Iterator[tuple[Serving, LocalKeys, str]]:
    """A gateway that asks for keys, its keys, and one of them."""
    text = THREE_VENDORS.format(simulator=_simulator.url).replace("auth: none", "auth: keys, admin: {key: operator}")
    keys = LocalKeys()
    _, key = keys.create("tests")
    with fleet.serving(text, keys=keys) as gateway:
        yield gateway, keys, key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", "Bearer sk-tal-00000000-0000", "Basic x", "Bearer \xff"]
)
def test_without_a_valid_key_nothing_but_health_is_served(guarded: tuple[Serving, LocalKeys, str], given: str) -> None:
    gateway, _, _ = guarded
    headers = [(b"authorization", given.encode("latin-1"))] if given else []
    documented = rest.callers(gateway.gateway, []).openapi()["paths"]
    routes = [(method.upper(), path) for path, methods in documented.items() for method in methods]
    assert {path for _, path in routes} >= {"/v1/models", "/metrics", "/health/live"}
    routes += [("POST", CHAT), ("GET", "/openapi.json")]
    for method, template in routes:
        path = template.replace("{model}", "mercury")
        for host in ("127.0.0.1", "x/#@y"):
            response = httpx.request(method, gateway.url + path, headers=[*headers, (b"host", host.encode())])
            if path.startswith("/health"):
                continue
            assert response.status_code in (400, 401), path


def test_a_key_opens_and_its_revocation_closes(guarded: tuple[Serving, LocalKeys, str]) -> None:
    gateway, keys, key = guarded
    assert ask(gateway, headers=bearer(key)).status_code == 200
    mine, other = keys.create("short-lived")
    fleet.wait_for(lambda: ask(gateway, headers=bearer(other)).status_code == 200)
    keys.revoke(mine.id)
    fleet.wait_for(lambda: ask(gateway, headers=bearer(other)).status_code == 401)
    assert ask(gateway, headers=bearer(key)).status_code == 200


def test_metrics_ask_for_the_admin_key(guarded: tuple[Serving, LocalKeys, str]) -> None:
    gateway, _, key = guarded
    assert httpx.get(f"{gateway.url}/metrics", headers=bearer(key)).status_code == 401
    assert httpx.get(f"{gateway.url}/metrics").status_code == 401
    assert httpx.get(f"{gateway.url}/metrics", headers=bearer("operator")).status_code == 200


def test_pings_fill_the_silence_and_change_no_deadline(simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    with_pings = text.replace("auth: none", "auth: none, sse_keepalive_seconds: 0.1")
    for config, pings in ((text, False), (with_pings, True)):
        with fleet.serving(config) as gateway:
            simulator.faults({"vendor": "*", "model": "*", "kind": "silent", "seconds": 30})
            response = ask(gateway, stream=True, headers={"x-talaria-deadline-ms": "400"})
            assert (b": ping\n\n" in response.content) == pings
            assert response.status_code == (200 if pings else 504)
            assert "timeout" in response.text
            assert response.elapsed.total_seconds() < 3
            simulator.faults({"vendor": "*", "model": "*", "kind": "latency", "seconds": 0.35})
            slow = ask(gateway, stream=True)
            assert "hello" in slow.text
            assert slow.text.endswith("data: [DONE]\n\n")


def test_the_caller_may_be_slow_to_send(gateway: Serving) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"model": "mercury", '
        yield b'"messages": [{"role": "user", "content": "say exactly: hello"}]}'

    response = httpx.post(gateway.url + CHAT, content=parts(), headers={"content-type": "application/json"})
    assert response.json()["choices"][0]["message"]["content"] == "hello"


def test_no_middleware_hides_a_caller_who_leaves(gateway: Serving) -> None:
    app = rest.callers(gateway.gateway, [])
    assert not [each for each in app.user_middleware if issubclass(each.cls, BaseHTTPMiddleware)]  # type: ignore[attr-defined]


def test_every_error_has_a_face() -> None:
    kinds: list[type[TalariaError]] = [TalariaError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    for kind in kinds[1:]:
        found = errors.face(kind("x"))
        assert 400 <= found.status < 600
        assert json.loads(errors.body(kind("x")))["error"]["message"] == "x"
    assert json.loads(errors.body(RuntimeError("secret")))["error"]["code"] == "internal_error"
    assert b"secret" not in errors.body(RuntimeError("secret"))


def test_keys_are_kept_as_digests_and_outlast_the_process(tmp_path: Path) -> None:
    from gateway.keys import Ring, SqliteKeys

    url = f"sqlite:///{tmp_path}/keys.db"
    key, text = SqliteKeys(url).create("app")
    assert text not in (tmp_path / "keys.db").read_bytes().decode("latin-1")
    again = SqliteKeys(url)
    assert [each.name for each in again.all()] == ["app"]
    assert Ring(again.all()).opens(text) == key.id
    before = again.version()
    assert again.revoke(key.id)
    assert not again.revoke(key.id)
    assert again.version() != before
    assert Ring(again.all()).opens(text) is None
