"""A changed file is taken up while calls go on; one that cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import Config, load, parse
from gateway.gateway import Gateway, built
from gateway.reload import Reload
from tests import fleet
from tests.fleet import THREE_VENDORS, Process, Simulator

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: hello"}]}


@contextmanager
def started(folder: Path, text: str) -> Iterator[tuple[Process, Path]]:
    file = folder / "talaria.yaml"
    file.write_text(text)
    with fleet.process("serve", "--config", str(file), folder=folder) as gateway:
        yield gateway, file


def metric(gateway: Process, name: str) -> str:
    text = httpx.get(f"{gateway.url}/metrics").text
    return next(line.rsplit(" ", 1)[1] for line in text.split("\n") if line.startswith(name))


def status(gateway: Process, **changes: Any) -> int:
    return httpx.post(gateway.url + CHAT, json={**BODY, **changes}, timeout=30).status_code


def test_a_changed_file_is_taken_up(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    with started(tmp_path, text) as (gateway, file):
        assert status(gateway, model="quick") == 404
        file.write_text(text + "  - {name: quick, candidates: [mercury]}\n")
        fleet.wait_for(lambda: status(gateway, model="quick") == 200)
        assert metric(gateway, "talaria_config_last_reload_successful") == "1.0"
        assert status(gateway) == 200


def test_a_file_that_is_wrong_changes_nothing(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    with started(tmp_path, text) as (gateway, file):
        file.write_text(text.replace("routes:", "rotues:"))
        fleet.wait_for(lambda: metric(gateway, "talaria_config_last_reload_successful") == "0.0")
        assert status(gateway, model="auto") == 200
        assert "did you mean" in gateway.log.read_text()
        file.unlink()
        assert status(gateway) == 200
        file.write_text(text)
        fleet.wait_for(lambda: metric(gateway, "talaria_config_last_reload_successful") == "1.0")
        assert 'talaria_config_reloads_total{result="error"}' in httpx.get(f"{gateway.url}/metrics").text


def test_a_rotated_key_is_used_by_the_next_call(tmp_path: Path, simulator: Simulator) -> None:
    good = THREE_VENDORS.format(simulator=simulator.url)
    with started(tmp_path, good.replace("value: test", "value: invalid")) as (gateway, file):
        assert status(gateway) == 502
        file.write_text(good)
        fleet.wait_for(lambda: status(gateway) == 200)


def test_a_link_that_is_swapped_is_seen(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    (tmp_path / "v1.yaml").write_text(text)
    (tmp_path / "v2.yaml").write_text(text + "  - {name: quick, candidates: [mercury]}\n")
    link = tmp_path / "linked.yaml"
    link.symlink_to("v1.yaml")
    with fleet.process("serve", "--config", str(link), folder=tmp_path) as gateway:
        assert status(gateway, model="quick") == 404
        (tmp_path / "next").symlink_to("v2.yaml")
        os.replace(tmp_path / "next", link)
        fleet.wait_for(lambda: status(gateway, model="quick") == 200)


def test_a_hangup_reads_the_file_again_and_tells_what_waits(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    with started(tmp_path, text) as (gateway, file):
        before = float(metric(gateway, "talaria_config_last_reload_success_timestamp_seconds"))
        gateway.popen.send_signal(signal.SIGHUP)
        fleet.wait_for(lambda: float(metric(gateway, "talaria_config_last_reload_success_timestamp_seconds")) > before)
        file.write_text(text.replace("auth: none", "auth: none, drain_seconds: 5"))
        fleet.wait_for(lambda: "drain_seconds: the new value waits for a restart" in gateway.log.read_text())


def test_twenty_reloads_under_load_fail_no_call(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url)
    with started(tmp_path, text) as (gateway, file):
        stop = threading.Event()
        seen: list[int] = []

        def ask() -> None:
            with httpx.Client(timeout=30) as client:
                while not stop.is_set():
                    seen.append(client.post(gateway.url + CHAT, json=BODY).status_code)
                    seen.append(client.post(gateway.url + CHAT, json={**BODY, "stream": True}).status_code)

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        reloads = 0
        for i in range(20):
            file.write_text(text + f"  - {{name: route-{i}, candidates: [mercury]}}\n")
            fleet.wait_for(lambda i=i: status(gateway, model=f"route-{i}") == 200)
            reloads += 1
        stop.set()
        for thread in asking:
            thread.join()
        assert reloads == 20
        assert len(seen) > 20
        assert set(seen) == {200}


def gateway_of(text: str) -> Gateway:
    return Gateway(parse(text, "test.yaml"))


PLAIN = "version: 1\nserver: {auth: none}\n"


@pytest.mark.anyio
async def test_what_a_call_began_with_is_closed_when_it_ends() -> None:
    gateway = gateway_of(PLAIN)
    old = gateway.snapshot
    closed = asyncio.Event()

    class Watched:
        async def aclose(self) -> None:
            closed.set()

    object.__setattr__(old, "transports", (Watched(),))
    with gateway.tenancy() as held:
        assert held is old
        gateway.apply(built(parse(PLAIN + "use_cases: [new]\n", "test.yaml")))
        with gateway.tenancy() as fresh:
            assert fresh is not old
        await asyncio.sleep(0)
        assert not closed.is_set()
    await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.anyio
async def test_what_was_learned_of_health_stays() -> None:
    gateway = gateway_of(PLAIN)
    health = gateway.health
    gateway.apply(built(parse(PLAIN, "test.yaml")))
    assert gateway.health is health


@pytest.mark.anyio
async def test_reading_happens_beside_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "talaria.yaml"
    file.write_text(PLAIN)
    threads: list[int] = []

    def read() -> Config:
        threads.append(threading.get_ident())
        return load(file)

    gateway = Gateway(load(file))
    assert await Reload(gateway, file, read).now()
    assert threads != [threading.get_ident()]


@pytest.mark.anyio
async def test_whatever_is_wrong_with_a_file_the_next_is_read(tmp_path: Path) -> None:
    file = tmp_path / "talaria.yaml"
    file.write_text(PLAIN)
    gateway = Gateway(load(file))
    broken = True

    def read() -> Config:
        if broken:
            raise RecursionError
        return parse(PLAIN + "use_cases: [new]\n", "test.yaml")

    reload = Reload(gateway, file, read)
    before = gateway.snapshot
    assert not await reload.now()
    assert gateway.snapshot is before
    broken = False
    assert await reload.now()
    assert gateway.snapshot.use_cases == {"new"}


@pytest.mark.anyio
async def test_what_waits_for_a_restart_is_named_until_it_is_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "talaria.yaml"
    file.write_text(PLAIN)
    texts = [PLAIN.replace("auth: none", "auth: none, log: {format: json}")] * 2 + [PLAIN]
    reload = Reload(Gateway(load(file)), file, lambda: parse(texts.pop(0), "test.yaml"))
    for expected in (1, 1, 0):
        caplog.clear()
        await reload.now()
        assert caplog.text.count("server.log.format: the new value waits for a restart") == expected
