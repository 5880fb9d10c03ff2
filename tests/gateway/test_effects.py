"""Keys of the configuration whose effect no other test shows, each through a running gateway."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests import fleet
from tests.fleet import THREE_VENDORS, Serving, Simulator

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: hello"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def ask(gateway: Serving, **changes: Any) -> httpx.Response:
    return httpx.post(gateway.url + CHAT, json={**BODY, **changes}, timeout=30)


def changed(simulator: Simulator, *swaps: tuple[str, str]) -> str:
    text = THREE_VENDORS.format(simulator=simulator.url)
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_default_class_is_what_a_call_without_one_runs_under(simulator: Simulator) -> None:
    text = changed(simulator, ("auth: none", "auth: none, default_class: realtime"))
    with fleet.serving(text) as gateway:
        ask(gateway)
        assert gateway.metric("talaria_requests_total", latency_class="realtime") == 1


def test_max_body_bytes_bounds_the_body(simulator: Simulator) -> None:
    with fleet.serving(changed(simulator, ("auth: none", "auth: none, max_body_bytes: 2000"))) as gateway:
        assert ask(gateway).status_code == 200
        assert ask(gateway, user="x" * 2000).status_code == 413


def test_features_stand_in_place_of_the_catalogs(simulator: Simulator) -> None:
    text = changed(simulator, ("upstream: mercury-2", "upstream: mercury-2, features: [json_object]"))
    with fleet.serving(text) as gateway:
        refused = ask(gateway, tools=[TOOL])
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
        assert ask(gateway, model="gpt-4.1-nano", tools=[TOOL]).status_code == 200


def test_tasks_are_those_of_the_list(simulator: Simulator) -> None:
    with fleet.serving(changed(simulator, ("use_cases:", "tasks: {names: [alpha]}\nuse_cases:"))) as gateway:
        assert ask(gateway, metadata={"task": "alpha"}).headers["x-talaria-task"] == "alpha"
        assert "alpha" in ask(gateway, metadata={"task": "chat"}).json()["error"]["message"]


def test_prices_stand_over_the_catalogs(simulator: Simulator) -> None:
    prices = "upstream: mercury-2, prices: {input: 1000, output: 0}"
    with fleet.serving(changed(simulator, ("upstream: mercury-2", prices))) as gateway:
        answer = ask(gateway)
        dollars = answer.json()["usage"]["prompt_tokens"] / 1000
        assert float(answer.headers["x-talaria-cost-usd"]) == dollars


ANSWER = b'{"id":"x","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'

ONE = """\
version: 1
server: {{auth: none}}
providers:
  slow: {{kind: openai, base_url: "{url}", keys: [], connections: {connections}}}
models:
  mercury: {{provider: slow, upstream: m}}
latency_classes:
  interactive: {{deadline_ms: 20000, connect_ms: 200, retries: 0}}
"""


class Vendor:
    """Answers when as many calls as it waits for are there at once, or when told not to wait."""

    def __init__(self, together: int) -> None:
        self.gate = threading.Barrier(together)
        self.lock = threading.Lock()
        self.here = 0
        self.most = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            with self.lock:
                self.here += 1
                self.most = max(self.most, self.here)
            with contextlib.suppress(threading.BrokenBarrierError):
                self.gate.wait(10)
            with self.lock:
                self.here -= 1
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            )
            connection.sendall(head % len(ANSWER) + ANSWER)


@contextlib.contextmanager
def vendor(together: int) -> Iterator[Vendor]:
    found = Vendor(together)
    try:
        yield found
    finally:
        found.listener.close()


def three(gateway: Serving) -> set[int]:
    with ThreadPoolExecutor(3) as pool:
        return {answer.status_code for answer in pool.map(lambda _: ask(gateway), range(3))}


def test_connections_bound_the_calls_at_a_vendor() -> None:
    with vendor(together=1) as alone, fleet.serving(ONE.format(url=alone.url, connections=1)) as gateway:
        assert three(gateway) == {200}
        assert alone.most == 1
    with vendor(together=3) as crowd, fleet.serving(ONE.format(url=crowd.url, connections=0)) as gateway:
        assert three(gateway) == {200}
        assert crowd.most == 3


def test_connect_ms_bounds_the_opening_of_a_connection() -> None:
    with contextlib.ExitStack() as stack:
        # A queue that is full: the next ones who knock hear nothing.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with fleet.serving(ONE.format(url=f"http://127.0.0.1:{port}", connections=0)) as gateway:
            answer = ask(gateway)
    assert answer.status_code == 502
    assert "could not connect in time" in answer.json()["error"]["message"]


def test_context_says_which_window_is_larger(simulator: Simulator) -> None:
    fault = {"vendor": "inception", "model": "*", "kind": "status", "status": 400, "code": "context_length_exceeded"}
    simulator.faults(fault)
    text = changed(simulator, ("upstream: gpt-4.1-nano", "upstream: gpt-4.1-nano, context: 1000"))
    with fleet.serving(text) as gateway:
        assert ask(gateway, model="auto").headers["x-talaria-model"] == "claude-haiku"
    with fleet.serving(changed(simulator)) as gateway:
        assert ask(gateway, model="auto").headers["x-talaria-model"] == "gpt-4.1-nano"


def test_max_output_bounds_what_is_asked_for(simulator: Simulator) -> None:
    with fleet.serving(changed(simulator, ("upstream: mercury-2", "upstream: mercury-2, max_output: 50"))) as gateway:
        assert "max_tokens" in ask(gateway, max_tokens=400).headers["x-talaria-dropped"]
    assert simulator.requests()[-1]["body"]["max_completion_tokens"] == 50


def test_prices_of_cached_tokens_stand_over_the_catalogs(simulator: Simulator) -> None:
    prices = "{input: 0, output: 0, cache_read: 500, cache_write: 900, cache_write_1h: 900}"
    model = "upstream: claude-haiku-4-5-20251001"
    cached = {"type": "text", "text": "remember this " * 2000, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [cached]}]
    with fleet.serving(changed(simulator, (model, f"{model}, prices: {prices}"))) as gateway:
        written, read = (ask(gateway, model="claude-haiku", messages=messages) for _ in range(2))
    for answer, sort, price in ((written, "cache_write_tokens", 900), (read, "cached_tokens", 500)):
        tokens = answer.json()["usage"]["prompt_tokens_details"][sort]
        assert tokens > 0
        assert float(answer.headers["x-talaria-cost-usd"]) == tokens * price / 1_000_000


def conversation(gateway: Serving, words: int, turns: int = 3, **body: Any) -> list[int]:
    """Tokens that were read from the vendor's cache, turn by turn of one conversation."""
    messages = [{"role": "user", "content": "wings " * words}]
    read = []
    for turn in range(turns):
        answer = ask(gateway, model="claude-haiku", messages=messages, **body)
        read.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": f"and {turn}?"}]
    return read


def test_a_conversation_that_goes_on_is_cached_where_the_vendor_wants_it_marked(simulator: Simulator) -> None:
    with fleet.serving(changed(simulator)) as gateway:
        first, second, third = conversation(gateway, 6000)
        assert (first, second) == (0, 0)  # a first message may be the last: it is written with the second
        assert third > 4096
        assert conversation(gateway, 100) == [0, 0, 0]
    off = ("upstream: claude-haiku-4-5-20251001", "upstream: claude-haiku-4-5-20251001, cache: off")
    with fleet.serving(changed(simulator, off)) as gateway:
        assert conversation(gateway, 6000) == [0, 0, 0]
