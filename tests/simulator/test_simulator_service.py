"""What holds for every vendor: the bill, the log, determinism, pace, and awkward but legal HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from providers.simulator import create_app
from providers.simulator.bill import Requests
from providers.simulator.server import running, serve

VENDORS = ("inception", "openai", "anthropic")
PATHS = {"inception": "chat/completions", "openai": "chat/completions", "anthropic": "messages"}
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


def address(vendor: str) -> str:
    return f"/{vendor}/v1/{PATHS[vendor]}"


def eventually(look: Callable[[], Any], within: float = 2.0) -> Any:
    deadline = time.monotonic() + within
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


@every_vendor
def test_the_bill_agrees_with_the_answer_whether_streamed_or_not(simulator, vendor):
    answer = simulator.post(vendor).json()
    simulator.post(vendor, stream=True)
    whole, streamed = simulator.bill()
    assert whole["id"] == answer["id"]
    assert (whole["vendor"], whole["model"], whole["status"], whole["completed"]) == (
        vendor, simulator.body(vendor)["model"], 200, True,
    )  # fmt: skip
    counted = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    assert [whole[name] for name in counted] == [streamed[name] for name in counted]
    usage = answer["usage"]
    assert whole["output_tokens"] == usage.get("completion_tokens", usage.get("output_tokens"))
    assert whole["input_tokens"] == usage.get("prompt_tokens", usage.get("input_tokens"))
    totals = simulator.http.get("/control/bill").json()["totals"][f"{vendor}/{whole['model']}"]
    assert totals["requests"] == 2
    assert totals["output_tokens"] == 2 * whole["output_tokens"]


@every_vendor
def test_a_refused_request_costs_nothing(simulator, vendor):
    assert simulator.post(vendor, model="nought").status_code == 404
    assert simulator.bill() == []


@every_vendor
def test_a_caller_who_leaves_a_stream_pays_for_what_was_sent(paced, vendor):
    paced.http.delete("/control/bill")
    paced.http.delete("/control/requests")
    body = paced.body(vendor, "Write 2000 words", stream=True, max_tokens=8000)
    with paced.http.stream("POST", address(vendor), json=body) as answer:
        next(answer.iter_raw())
    left_at = time.time()
    row = eventually(paced.bill)[0]
    assert not row["completed"]
    assert row["output_tokens"] < 1500
    assert abs(row["closed_at"] - left_at) < 0.5
    request = paced.requests()[0]
    assert request["peer_closed"]
    assert abs(request["closed_at"] - left_at) < 0.5


def test_a_caller_who_leaves_before_the_answer_pays_for_what_was_generated(paced):
    paced.http.delete("/control/bill")
    with pytest.raises(httpx.ReadTimeout):
        paced.http.post(address("openai"), json=paced.body("openai", "Write 3000 words", max_tokens=9000), timeout=0.2)
    row = eventually(paced.bill)[0]
    assert not row["completed"]
    assert 0 < row["output_tokens"] < 2000
    assert row["input_tokens"] > 0


@every_vendor
def test_the_same_seed_says_the_same_and_another_does_not(simulator, vendor):
    def said(http: httpx.Client) -> str:
        response = http.post(address(vendor), json=simulator.body(vendor), headers=dict(simulator.http.headers))
        answer = response.json()
        return json.dumps(answer.get("choices") or answer["content"])

    with running(create_app(seed=7, speed=0)) as url, httpx.Client(base_url=url) as same:
        assert said(simulator.http) == said(simulator.http) == said(same)
    with running(create_app(seed=8, speed=0)) as url, httpx.Client(base_url=url) as other:
        assert said(simulator.http) != said(other)


def test_ids_are_never_given_twice(simulator):
    assert len({simulator.post(vendor).json()["id"] for vendor in VENDORS for _ in range(5)}) == 15


def test_a_fast_model_reaches_its_speed():
    with running(create_app(seed=7, speed=2)) as url, httpx.Client(base_url=url) as http:
        body = {"model": "mercury-2", "stream": True, "reasoning_effort": "instant",
                "stream_options": {"include_usage": True},
                "messages": [{"role": "user", "content": "Write 300 words"}]}  # fmt: skip
        with http.stream("POST", address("inception"), json=body, headers={"authorization": "Bearer key"}) as answer:
            lines = answer.iter_lines()
            next(lines)
            began = time.monotonic()
            text = "".join(lines)
        took = time.monotonic() - began
        tokens = json.loads(text.split("data: ")[-2])["usage"]["completion_tokens"]
    assert 1000 < tokens / took < 2300


def test_a_slower_model_streams_more_slowly(paced):
    def seconds(model: str) -> float:
        began = time.monotonic()
        paced.post("openai", "Write 40 words", model=model, stream=True)
        return time.monotonic() - began

    assert seconds("gpt-4.1") > 1.5 * seconds("gpt-4.1-nano")


def test_the_log_keeps_what_was_sent_but_no_keys(simulator):
    simulator.send("anthropic", simulator.body("anthropic"), x_api_key="sk-secret")
    logged = simulator.requests()[0]
    assert (logged["method"], logged["path"], logged["vendor"]) == ("POST", "/anthropic/v1/messages", "anthropic")
    assert logged["body"] == simulator.body("anthropic")
    assert logged["headers"]["anthropic-version"] == "2023-06-01"
    assert "sk-secret" not in json.dumps(logged)
    assert (logged["status"], logged["peer_closed"]) == (200, False)
    assert logged["received_at"] <= logged["closed_at"]


def test_the_log_is_bounded():
    log = Requests()
    numbers = [log.begin("GET", "/openai/v1/models", "openai", {}).number for _ in range(1005)]
    assert [request["number"] for request in log.as_json()["requests"]] == numbers[5:]


def test_health_answers_and_nothing_else_is_there(simulator):
    assert simulator.http.get("/control/health").json() == {"status": "ok"}
    assert simulator.http.get("/nowhere").status_code == 404
    assert simulator.http.get("/control/nowhere").status_code == 404
    for vendor in VENDORS:
        assert simulator.http.post(f"/{vendor}/v1/nowhere", json={}).status_code == 404
        assert simulator.http.get(f"/{vendor}/v1/nowhere").status_code == 404


@every_vendor
def test_a_body_that_is_not_json_is_refused(simulator, vendor):
    response = simulator.http.post(address(vendor), content=b'{"model": ')
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


@every_vendor
def test_bodies_are_compressed_for_those_who_accept_it(simulator, vendor):
    body = simulator.body(vendor)
    plain = simulator.send(vendor, body, accept_encoding="identity")
    assert "content-encoding" not in plain.headers
    with simulator.http.stream("POST", address(vendor), json=body, headers={"accept-encoding": "gzip"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        raw = b"".join(packed.iter_raw())
    assert json.loads(gzip.decompress(raw)).keys() == plain.json().keys()


@every_vendor
def test_writes_can_break_inside_characters_and_line_ends(simulator, vendor):
    said = "say exactly: naïve 世界 🙂"
    body = simulator.body(vendor, said, stream=True)
    headers = {"x-simulator-split": "1"}
    with simulator.http.stream("POST", address(vendor), json=body, headers=headers) as answer:
        whole = b"".join(answer.iter_raw())
    assert b"\r\n\r\n" in whole
    assert "世" in whole.decode()
    wire = raw_chunks(simulator.url, address(vendor), body)
    assert any(chunk.endswith(b"\r") for chunk in wire)
    assert any(chunk[0] & 0xC0 == 0x80 for chunk in wire)


def raw_chunks(url: str, path: str, body: dict[str, Any]) -> list[bytes]:
    """The chunks of a chunked answer as they were framed."""
    host, port = url.removeprefix("http://").split(":")
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer key\r\nanthropic-version: 2023-06-01\r\n"
        f"x-simulator-split: 1\r\ncontent-length: {len(payload)}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as reader:
        connection.sendall(head.encode() + payload)
        while reader.readline() != b"\r\n":
            pass
        chunks = []
        while size := int(reader.readline(), 16):
            chunks.append(reader.read(size))
            reader.readline()
    return chunks


def test_a_stream_is_never_compressed_and_ends_lines_plainly(simulator):
    response = simulator.post("openai", stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-encoding" not in response.headers
    assert "\r" not in response.text


def test_it_serves_in_a_loop_until_it_is_cancelled():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def health() -> int:
        serving = asyncio.create_task(serve(create_app(speed=0), "127.0.0.1", port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            while True:
                try:
                    status = (await http.get("/control/health")).status_code
                except httpx.ConnectError:
                    await asyncio.sleep(0.01)
                else:
                    break
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        return status

    assert asyncio.run(health()) == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/control/health")
