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


ROUTED = """\
version: 1
server: {{listen: "127.0.0.1:0", auth: none}}
providers:
  inception: {{kind: inception, base_url: "{simulator}/inception/v1", keys: [{{id: main, value: test}}]}}
  openai:    {{kind: openai, base_url: "{simulator}/openai/v1", keys: [{{id: main, value: test}}]}}
  anthropic: {{kind: anthropic, base_url: "{simulator}/anthropic", keys: [{{id: main, value: test}}]}}
models:
  mercury:      {{provider: inception, upstream: mercury-2, expect: {{ttft_ms: 100, tokens_per_second: 1000}}, quality: {{overall: 0.5}}}}
  nano:         {{provider: openai, upstream: gpt-4.1-nano, expect: {{ttft_ms: 300, tokens_per_second: 200}}, quality: {{overall: 0.6, by_task: {{code: 0.1}}, source: ours}}}}
  claude-haiku: {{provider: anthropic, upstream: claude-haiku-4-5-20251001, expect: {{ttft_ms: 700, tokens_per_second: 90}}, quality: {{overall: 0.9}}}}
latency_classes:
  brisk: {{target_ms: 500, target_of: first_token, objective: 0.9}}
  hopeless: {{target_ms: 50, target_of: answer, on_no_candidate: reject}}
  late: {{target_ms: 50, target_of: answer, on_no_candidate: fastest}}
{more}
routes:
{routes}
"""
ALL = "candidates: [claude-haiku, nano, mercury]"


def routed(simulator: Simulator, *routes: str, more: str = "") -> str:
    return ROUTED.format(simulator=simulator.url, more=more, routes="\n".join(f"  - {{{route}}}" for route in routes))


def served(gateway: Serving, **body: Any) -> str:
    answer = ask(gateway, **{"model": "auto", **body})
    return answer.headers.get("x-talaria-model", answer.json().get("error", {}).get("code"))


def test_expectations_and_targets_decide_who_is_a_candidate(simulator: Simulator) -> None:
    ordered = f"name: auto, {ALL}, choose: {{by: ordered}}"
    with fleet.serving(routed(simulator, ordered)) as gateway:
        classes = {name: served(gateway, metadata={"latency_class": name}) for name in ("brisk", "hopeless", "late")}
        assert classes == {"brisk": "nano", "hopeless": "no_candidate", "late": "mercury"}
        assert gateway.metric("talaria_slo_objective_ratio", latency_class="brisk") == 0.9
        refused = ask(gateway, model="auto", metadata={"latency_class": "hopeless"})
        assert refused.status_code == 503
        assert "50 ms to the end of the answer" in refused.json()["error"]["message"]


def test_qualities_and_weights_decide_the_score(simulator: Simulator) -> None:
    best = f"name: auto, {ALL}, choose: {{by: score, explore: 0, weights: {{quality: 1}}}}"
    with fleet.serving(routed(simulator, best)) as gateway:
        assert served(gateway) == "claude-haiku"
    two = "name: auto, candidates: [nano, mercury], choose: {by: score, explore: 0, weights: {quality: 1}}"
    with fleet.serving(routed(simulator, two)) as gateway:
        assert served(gateway) == "nano"
        assert served(gateway, metadata={"task": "code"}) == "mercury"
        told = httpx.post(f"{gateway.url}/admin/api/explain", json={"request": {**BODY, "model": "auto"}}).json()
        assert {each["model"]: each.get("quality_source") for each in told["candidates"]} == {
            "nano": "ours",
            "mercury": None,
        }


def test_a_floor_comes_before_the_price(simulator: Simulator) -> None:
    for floor, expected in (("", "nano"), (", floor: {quality: 0.8}", "claude-haiku")):
        cheapest = f"name: auto, {ALL}, choose: {{by: cheapest{floor}}}"
        with fleet.serving(routed(simulator, cheapest)) as gateway:
            assert served(gateway) == expected


def test_routes_are_found_by_tags_task_and_the_size_of_the_prompt(simulator: Simulator) -> None:
    routes = (
        "name: a, match: {models: [auto], tags: {team: [x, y]}}, candidates: [nano]",
        "name: b, match: {models: [auto], prompt_tokens: {at_least: 2000}}, candidates: [claude-haiku]",
        "name: c, match: {models: [auto], tasks: [autocomplete, math]}, candidates: [mercury]",
        "name: auto, candidates: [nano]",
    )
    long = [{"role": "user", "content": "wings " * 4000}]
    sum_up = [{"role": "user", "content": "Calculate 17 * 23 + 4."}]
    with fleet.serving(routed(simulator, *routes)) as gateway:
        found = [
            ask(gateway, model="auto", **body).headers["x-talaria-route"]
            for body in ({"metadata": {"tags": {"team": "y"}}}, {"messages": long}, {"messages": sum_up}, {})
        ]
        assert found == ["a", "b", "c", "auto"]
    with fleet.serving(routed(simulator, *routes, more="tasks: {classify: false}")) as gateway:
        answer = ask(gateway, model="auto", messages=sum_up)
        assert (answer.headers["x-talaria-route"], answer.headers["x-talaria-task"]) == ("auto", "general")


def test_an_experiment_assigns_and_counts(simulator: Simulator) -> None:
    arms = "arms: {control: {candidates: [nano], weight: 1}, treatment: {candidates: [mercury], weight: 1}}"
    more = f"experiments:\n  try: {{unit: user, salt: s, {arms}}}"
    route = f"name: auto, {ALL}, choose: {{by: experiment, experiment: try}}"
    with fleet.serving(routed(simulator, route, more=more)) as gateway:
        models = {user: {served(gateway, user=user) for _ in range(3)} for user in ("u1", "u2", "u3", "u4", "u5", "u6")}
        assert all(len(found) == 1 for found in models.values())
        assert set.union(*models.values()) == {"nano", "mercury"}
        counted = [
            gateway.metric("talaria_experiment_assignments_total", experiment="try", arm=arm)
            for arm in ("control", "treatment")
        ]
        assert sum(counted) == 18
        assert min(counted) > 0


def test_a_deadline_on_the_first_token_lets_a_stream_go_on(simulator: Simulator) -> None:
    """The text takes about two seconds at this vendor's speed, the first of it a tenth."""
    more = "  first: {deadline_ms: 1500, deadline_of: first_token}\n  all: {deadline_ms: 1500, deadline_of: answer}"
    with fleet.simulated(speed=1) as slow, fleet.serving(routed(slow, f"name: auto, {ALL}", more=more)) as gateway:
        ends = {
            name: b"[DONE]"
            in ask(
                gateway,
                model="nano",
                stream=True,
                messages=[{"role": "user", "content": "say exactly: " + "one two three four " * 100}],
                metadata={"latency_class": name},
            ).content
            for name in ("first", "all")
        }
        assert ends == {"first": True, "all": False}


def test_affinity_keeps_a_conversation_where_it_is_cached(simulator: Simulator) -> None:
    """The other one is cheaper, but not as cheap as what is read from a cache."""
    text = routed(simulator, "name: auto, candidates: [nano, mercury], affinity: AFFINITY, choose: {by: cheapest}")
    nano = "upstream: gpt-4.1-nano, prices: {input: 1, cache_read: 0.01, output: 1}"
    text = text.replace("upstream: gpt-4.1-nano", nano)
    text = text.replace("upstream: mercury-2", "upstream: mercury-2, prices: {input: 0.6, output: 1}")
    messages = [{"role": "user", "content": "wings " * 6000}]
    hints = {"task": "chat", "latency_class": "background"}
    for affinity, expected in (("true", "nano"), ("false", "mercury")):
        with fleet.serving(text.replace("AFFINITY", affinity)) as gateway:
            simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 503})
            assert served(gateway, messages=messages, metadata=hints) == "nano"
            simulator.faults()
            for _ in range(3):
                messages += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "go on"}]
                last = served(gateway, messages=messages, metadata=hints)
            assert last == expected
