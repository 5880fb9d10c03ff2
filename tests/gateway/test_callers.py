"""Callers who leave, dawdle or send what nobody foresaw, and vendors who answer so."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import caller
from gateway.config import parse
from gateway.gateway import Gateway
from gateway.keys import KeysUnavailable, SqliteKeys
from tests import fleet
from tests.fleet import THREE_VENDORS, Serving, Simulator

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: hello"}]}


def ask(gateway: Serving, **changes: Any) -> httpx.Response:
    return httpx.post(gateway.url + CHAT, json={**BODY, **changes}, timeout=30)


@contextlib.contextmanager
def vendor(answer: bytes) -> Iterator[str]:
    """Whoever calls gets these bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def answering(status: str, body: bytes, *headers: bytes) -> bytes:
    head = [
        b"HTTP/1.1 " + status.encode(),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join([*head, b"connection: close", b"", body])


ONE = """\
version: 1
server: {{auth: none}}
providers:
  odd: {{kind: openai, base_url: "{url}", keys: [{{id: main, value: "{key}"}}]}}
models:
  mercury: {{provider: odd, upstream: m}}
"""


def test_a_vendor_that_quotes_our_key_is_not_repeated() -> None:
    key = "anything-CANARY-0123456789"
    body = json.dumps(
        {"error": {"message": f"no: Bearer {key}", "type": "invalid_request_error", "param": key}}
    ).encode()
    with vendor(answering("400 Bad Request", body)) as url, fleet.serving(ONE.format(url=url, key=key)) as gateway:
        response = ask(gateway)
    assert response.status_code == 400
    assert key not in response.text
    assert "***" in response.text


def test_keys_are_found_in_every_spelling_and_the_longest_first() -> None:
    text = ONE.format(url="http://127.0.0.1:1", key='quote\\"and-more').replace(
        "]}\nmodels", ', {id: a, value: "fakekey-secret"}, {id: b, value: "fakekey-secret-123"}]}\nmodels'
    )
    snapshot = Gateway(parse(text, "test.yaml")).snapshot
    told = snapshot.conceal(json.dumps({"m": 'quote"and-more fakekey-secret-123 fakekey-secret'}).encode())
    assert json.loads(told) == {"m": "*** *** ***"}


def test_an_answer_that_nobody_foresaw_is_the_vendors_failure() -> None:
    usage = b'{"id":"x","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1e300}}'
    with vendor(answering("200 OK", usage)) as url, fleet.serving(ONE.format(url=url, key="k")) as gateway:
        assert ask(gateway).status_code == 200


def test_a_header_from_a_vendor_cannot_break_the_answer() -> None:
    body = b'{"id":"x","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    odd = b"x-request-id: a\x01b"
    with vendor(answering("200 OK", body, odd)) as url, fleet.serving(ONE.format(url=url, key="k")) as gateway:
        response = ask(gateway)
    assert response.status_code == 200


@pytest.mark.parametrize("model", ["mercury", "claude-haiku"])
def test_names_from_the_caller_cannot_break_a_header(gateway: Serving, model: str) -> None:
    strange = {"foo\r\nx-evil: 1": 1, "名前": 2, "x" * 5000: 3}
    for stream in (False, True):
        response = ask(gateway, model=model, stream=stream, **strange)
        assert response.status_code == 200
        assert "x-evil" not in response.headers
        assert len(response.headers["x-talaria-dropped"]) <= 512


@pytest.mark.parametrize("model", ["mercury", "claude-haiku"])
def test_many_unknown_names_cost_little(gateway: Serving, model: str) -> None:
    started = time.process_time()
    ask(gateway, model=model, **{f"unknown-{i}": i for i in range(20_000)})
    message = {"role": "user", "content": "hi", **{f"unknown-{i}": i for i in range(20_000)}}
    ask(gateway, model=model, messages=[message])
    assert time.process_time() - started < 20  # it was quadratic, and minutes


def test_three_of_three_vendors_are_asked(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults(
        *({"vendor": each, "model": "*", "kind": "status", "status": 503} for each in ("inception", "openai"))
    )
    for stream in (False, True):
        response = ask(gateway, model="auto", stream=stream)
        assert response.headers["x-talaria-model"] == "claude-haiku"


def test_a_refusal_says_which_way_the_call_went(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "*", "model": "*", "kind": "status", "status": 401})
    response = ask(gateway, model="auto")
    assert response.status_code == 502
    assert response.headers["x-talaria-route"] == "auto"
    assert response.headers["x-talaria-attempts"] == "3"


@pytest.mark.parametrize("status", [401, 402])
def test_a_vendor_that_rejects_us_is_asked_last_for_a_while(
    gateway: Serving, simulator: Simulator, status: int
) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": status})
    assert ask(gateway, model="auto").headers["x-talaria-attempts"] == "2"
    assert ask(gateway, model="auto").headers["x-talaria-attempts"] == "1"


def test_a_caller_who_leaves_ends_no_models_rest(gateway: Serving, simulator: Simulator) -> None:
    simulator.faults(
        {"vendor": "inception", "model": "*", "kind": "status", "status": 429, "retry_after": 60, "count": 1}
    )
    assert ask(gateway, model="auto").headers["x-talaria-attempts"] == "2"
    simulator.faults({"vendor": "inception", "model": "*", "kind": "silent", "seconds": 30})
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(gateway.url + CHAT, json=BODY, timeout=0.2)
    simulator.faults()
    assert ask(gateway, model="auto").headers["x-talaria-model"] == "gpt-4.1-nano"


def test_leaving_while_pings_are_sent_is_charged(simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url).replace(
        "auth: none", "auth: none, sse_keepalive_seconds: 0.05"
    )
    simulator.faults({"vendor": "*", "model": "*", "kind": "silent", "seconds": 30})
    with fleet.serving(text) as gateway:
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.stream("POST", gateway.url + CHAT, json={**BODY, "stream": True}, timeout=5) as response,
        ):
            next(response.iter_lines())
        fleet.wait_for(lambda: gateway.metric("talaria_requests_total", outcome="cancelled") == 1)
        assert gateway.metric("talaria_estimated_tokens_total", model="mercury") > 0
        assert gateway.metric("talaria_upstream_attempts_total", outcome="cancelled") == 1


def test_a_body_that_does_not_come_is_not_waited_for(gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "UPLOAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        connection.settimeout(10)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive" in answer


def test_a_caller_who_leaves_while_sending_is_forgotten(gateway: Serving) -> None:
    before = gateway.metric("talaria_requests_total", outcome="cancelled")
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
    fleet.wait_for(lambda: gateway.metric("talaria_requests_total", outcome="cancelled") == before + 1)


def test_keys_that_cannot_be_read_for_a_while_are_read_again(tmp_path: Path, simulator: Simulator) -> None:
    file = tmp_path / "keys.db"
    text = THREE_VENDORS.format(simulator=simulator.url)
    text = text.replace("auth: none", f'auth: keys, ledger: "sqlite:///{file}"')
    keys = SqliteKeys(f"sqlite:///{file}")
    key, secret = keys.create("app")

    class Flaky:
        """The same keys, but for a while nobody can look whether they have changed."""

        broken = False
        refused = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(keys, name)

        def version(self) -> object:
            if self.broken:
                self.refused += 1
                raise KeysUnavailable("locked")
            return keys.version()

    flaky = Flaky()
    with fleet.serving(text, keys=flaky) as gateway:
        headers = {"authorization": f"Bearer {secret}"}

        def status() -> int:
            return httpx.post(gateway.url + CHAT, json=BODY, headers=headers, timeout=30).status_code

        assert status() == 200
        flaky.broken = True
        fleet.wait_for(lambda: flaky.refused)
        keys.revoke(key.id)
        flaky.broken = False
        fleet.wait_for(lambda: status() == 401)


def test_a_ledger_that_is_none_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"no database at all, but long enough to look like a file" * 20)
    for place in (tmp_path / "nowhere" / "keys.db", tmp_path, tmp_path / "junk.db"):
        with pytest.raises(KeysUnavailable):
            SqliteKeys(f"sqlite:///{place}").all()
    assert not issubclass(KeysUnavailable, sqlite3.Error)
