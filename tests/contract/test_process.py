"""The gateway as a process: how soon it answers, how much memory it takes, and the demo as a user starts it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import openai
import psutil

from tests import fleet

START_SECONDS = 1.5
MEMORY_MB = 100
LENIENCE = 3
"""How many times the bar is still no failure: machines differ, and others may be using this one."""
TRIES = 3


@dataclass(frozen=True)
class Start:
    seconds: float
    work: float
    """Seconds of CPU."""
    fresh: float
    """MB after the first answer."""
    used: float
    """MB after 300 more."""


def start(folder: Path) -> Start:
    body = {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: up"}]}
    begun = time.monotonic()
    with fleet.process("serve", folder=folder) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        assert fleet.http.post(url, json=body).status_code == 200
        seconds = time.monotonic() - begun
        process = psutil.Process(gateway.popen.pid)
        work = process.cpu_times().user + process.cpu_times().system
        fresh = process.memory_info().rss / 2**20
        for model in ("gpt-4.1-nano", "claude-haiku", "mercury") * 100:
            assert fleet.http.post(url, json=body | {"model": model}).status_code == 200
        used = process.memory_info().rss / 2**20
        assert gateway.stop() == 0
    return Start(seconds, work, fresh, used)


def test_the_first_answer_comes_soon_and_memory_stays_small(simulator, figure, tmp_path: Path):
    text = fleet.THREE_VENDORS.format(simulator=simulator.url)
    (tmp_path / "talaria.yaml").write_text(text, encoding="utf-8")
    for _ in range(TRIES):
        best = start(tmp_path)
        if best.work < START_SECONDS * LENIENCE:
            break
    figure(
        f"first answer after {best.seconds:.2f} s ({best.work:.2f} s of CPU); "
        f"{best.fresh:.0f} MB, {best.used:.0f} MB after 300 more"
    )
    # Held against the CPU's time: who else uses the machine matters less to it.
    assert best.work < START_SECONDS * LENIENCE
    assert best.used < MEMORY_MB * LENIENCE


def test_the_demo_works_as_pasted(tmp_path: Path):
    with fleet.process("serve", "--demo", folder=tmp_path) as gateway:
        fleet.wait_for(lambda: "Ctrl-C" in gateway.log.read_text())
        greeting = gateway.log.read_text()
        curl = re.search(r"curl (\S+) -H '(.*?): (.*?)' \\\n\s+-d '(.*)'", greeting)
        assert curl
        answer = fleet.http.post(curl[1], content=curl[4].encode(), headers={curl[2]: curl[3]})
        assert answer.json()["choices"][0]["message"]["content"]
        snippet = re.search(r"^  from openai.*?flush=True\)\n", greeting, re.DOTALL | re.MULTILINE)
        assert snippet
        code = "\n".join(line[2:] for line in snippet[0].splitlines())
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.split()) > 10
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
            names = {model.id for model in client.models.list()}
        assert names >= {"mercury", "gpt-4.1-nano", "claude-haiku", "claude-sonnet", "auto", "auto-fast", "auto-best"}
        assert gateway.stop() == 0
