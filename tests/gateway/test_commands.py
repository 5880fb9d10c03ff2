"""The commands, as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import fleet
from tests.fleet import THREE_VENDORS, Simulator

CHAT = "/v1/chat/completions"


def talaria(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(fleet.ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def write(folder: Path, text: str) -> Path:
    file = folder / "talaria.yaml"
    file.write_text(text)
    return file


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "mercury", "messages": [{"role": "user", "content": "say exactly: hello"}], **changes}


def test_check_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    file = write(tmp_path, "version: 1\nserver: {listn: 127.0.0.1:1}\n")
    found = talaria("check", str(file), folder=tmp_path)
    assert found.returncode == 2
    assert "talaria.yaml:2:" in found.stdout
    assert "did you mean" in found.stdout
    as_json = talaria("check", "--json", str(file), folder=tmp_path)
    assert json.loads(as_json.stdout)[0]["line"] == 2


def test_check_passes_what_is_right(tmp_path: Path) -> None:
    file = write(tmp_path, THREE_VENDORS.format(simulator="http://127.0.0.1:1"))
    found = talaria("check", str(file), folder=tmp_path)
    assert found.returncode == 0, found.stdout
    assert "is valid" in found.stdout


def test_a_file_that_is_wrong_does_not_start(tmp_path: Path) -> None:
    write(tmp_path, "version: 2\n")
    found = talaria("serve", folder=tmp_path)
    assert found.returncode == 2
    assert "version" in found.stderr
    assert "Traceback" not in found.stderr
    missing = talaria("serve", "--config", "nowhere.yaml", folder=tmp_path)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


def test_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(talaria("schema", folder=tmp_path).stdout)["type"] == "object"


def test_explain_shows_the_way_and_calls_nobody(tmp_path: Path) -> None:
    write(tmp_path, THREE_VENDORS.format(simulator="http://127.0.0.1:1"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    request = body(model="auto", messages=[{"role": "user", "content": [image]}], metadata={"task": "chat"})
    (tmp_path / "request.json").write_text(json.dumps(request))
    found = json.loads(talaria("explain", "request.json", "--json", folder=tmp_path).stdout)
    assert found["route"] == "auto"
    assert found["task"] == "chat"
    assert [target["model"] for target in found["targets"]] == ["gpt-4.1-nano", "claude-haiku"]
    assert [each["model"] for each in found["passed_over"]] == ["mercury"]
    (tmp_path / "wrong.json").write_text("{}")
    wrong = talaria("explain", "wrong.json", folder=tmp_path)
    assert wrong.returncode == 1
    assert "model" in wrong.stderr


def test_keys_are_made_listed_and_taken_back(tmp_path: Path) -> None:
    write(tmp_path, "version: 1\n")
    made = json.loads(talaria("keys", "create", "app", "--json", folder=tmp_path).stdout)
    assert made["key"].startswith("sk-tal-")
    listed = talaria("keys", "list", folder=tmp_path).stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert talaria("keys", "revoke", made["id"], folder=tmp_path).returncode == 0
    assert "revoked" in talaria("keys", "list", folder=tmp_path).stdout
    assert talaria("keys", "revoke", made["id"], folder=tmp_path).returncode == 1


def test_the_first_start_makes_one_key_and_says_it_once(tmp_path: Path, simulator: Simulator) -> None:
    text = THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", "auth: keys")
    file = write(tmp_path, text)
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        key = next(word for word in gateway.log.read_text().split() if word.startswith("sk-tal-"))
        assert httpx.post(gateway.url + CHAT, json=body()).status_code == 401
        answer = httpx.post(gateway.url + CHAT, json=body(), headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        revoked = talaria("keys", "revoke", key.split("-")[2], folder=tmp_path)
        assert revoked.returncode == 0
        headers = {"authorization": f"Bearer {key}"}
        fleet.wait_for(lambda: httpx.post(gateway.url + CHAT, json=body(), headers=headers).status_code == 401, 5)
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        assert "sk-tal-" not in gateway.log.read_text()


def test_the_demo_answers_as_it_says(tmp_path: Path) -> None:
    with fleet.process("serve", "--demo", folder=tmp_path) as gateway:
        fleet.wait_for(lambda: "Ctrl-C" in gateway.log.read_text())
        said = gateway.log.read_text()
        curl = said[said.index("curl ") : said.index("\n\nOr with")]
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=30)
        assert json.loads(answer.stdout)["choices"][0]["message"]["content"]
        snippet = said[said.index("  from openai") : said.index("\nModels:")]
        code = "\n".join(line[2:] for line in snippet.split("\n"))
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert ran.stdout.strip(), ran.stderr
        assert gateway.stop() == 0


def test_an_address_in_use_is_told_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = talaria("serve", "--demo", "--port", str(taken.getsockname()[1]), folder=tmp_path)
    assert found.returncode == 1
    assert "in use" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["--demo", "--config", "x.yaml"], ["--port", "99999"]])
def test_wrong_usage_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    found = talaria("serve", *arguments, folder=tmp_path)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_the_admin_listener_has_the_metrics_to_itself(tmp_path: Path, simulator: Simulator) -> None:
    port = fleet.free_port()
    admin = f'auth: none, admin: {{listen: "127.0.0.1:{port}"}}'
    file = write(tmp_path, THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", admin))
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        assert httpx.get(f"{gateway.url}/metrics").status_code == 404
        assert "talaria_build_info" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
        assert httpx.post(f"http://127.0.0.1:{port}{CHAT}", json=body()).status_code == 404


def test_the_log_is_json_where_it_is_asked_for(tmp_path: Path, simulator: Simulator) -> None:
    log = "auth: none, log: {level: info, format: json}"
    file = write(tmp_path, THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", log))
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        httpx.post(gateway.url + CHAT, json=body())
        fleet.wait_for(lambda: "model=mercury" in gateway.log.read_text())
        assert all(json.loads(line)["level"] for line in gateway.log.read_text().strip().split("\n"))


def test_the_log_level_is_kept(tmp_path: Path, simulator: Simulator) -> None:
    log = "auth: none, log: {level: error}"
    file = write(tmp_path, THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", log))
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        httpx.post(gateway.url + CHAT, json=body())
        assert gateway.log.read_text() == ""


@pytest.fixture(scope="module")
def unhurried() -> Any:
    """Vendors at a tenth of their speed."""
    with fleet.simulated(speed=0.1) as simulator:
        yield simulator


def serve_drained(folder: Path, simulator: Simulator, drain_seconds: float) -> Any:
    drain = f"auth: none, drain_seconds: {drain_seconds}"
    file = write(folder, THREE_VENDORS.format(simulator=simulator.url).replace("auth: none", drain))
    return fleet.process("serve", "--config", str(file), folder=folder)


def test_streams_end_before_the_gateway_does(tmp_path: Path, unhurried: Simulator) -> None:
    with serve_drained(tmp_path, unhurried, 30) as gateway:
        request = body(model="claude-haiku", stream=True, messages=[{"role": "user", "content": "in 20 words"}])
        with httpx.stream("POST", gateway.url + CHAT, json=request, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            gateway.popen.send_signal(signal.SIGTERM)

            def refused() -> bool:
                try:
                    return httpx.get(gateway.url + "/health/ready").status_code == 503
                except httpx.ConnectError:
                    return True

            fleet.wait_for(refused)
            rest = list(lines)
        assert "data: [DONE]" in rest
        assert gateway.popen.wait(20) == 0


def test_what_does_not_end_in_time_is_told_so(tmp_path: Path, unhurried: Simulator) -> None:
    with serve_drained(tmp_path, unhurried, 1) as gateway:
        request = body(model="claude-haiku", stream=True, messages=[{"role": "user", "content": "in 900 words"}])
        with httpx.stream("POST", gateway.url + CHAT, json=request, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            gateway.popen.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert "shutting down" in rest[-1]
        assert "data: [DONE]" not in rest
        assert gateway.popen.wait(20) == 0


def test_keys_and_prompts_never_reach_a_log_an_answer_or_a_metric(tmp_path: Path, simulator: Simulator) -> None:
    secret, prompt = "sk-MARKEDKEY0123456789", "MARKEDPROMPT"
    text = THREE_VENDORS.format(simulator=simulator.url).replace("value: test", f"value: {secret}")
    text = text.replace("auth: none", "auth: none, log: {level: debug}")
    file = write(tmp_path, text)
    faults: list[dict[str, Any]] = [
        {},
        *({"kind": "status", "status": status} for status in (400, 401, 403, 404, 429, 500, 503)),
        *({"kind": kind} for kind in ("reset_before", "error_body", "truncated_json", "wrong_content_type")),
        {"kind": "error_event", "after_events": 2},
        {"kind": "cut", "after_events": 2},
    ]
    said: list[str] = []
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        for fault in faults:
            simulator.faults(*([{"vendor": "*", "model": "*", **fault}] if fault else []))
            for model in ("mercury", "gpt-4.1-nano", "claude-haiku"):
                for stream in (False, True):
                    # The answer may repeat the prompt; errors, headers, logs and metrics may not.
                    messages = [{"role": "user", "content": f"in 5 words {prompt}"}]
                    response = httpx.post(
                        gateway.url + CHAT, json=body(model=model, stream=stream, messages=messages), timeout=30
                    )
                    said += [str(response.headers), response.text]
        said.append(httpx.get(f"{gateway.url}/metrics").text)
        said.append(gateway.log.read_text())
    for text in said:
        assert secret not in text
        assert prompt not in text


def test_start_and_memory_are_modest(tmp_path: Path, simulator: Simulator, record_property: Any) -> None:
    file = write(tmp_path, THREE_VENDORS.format(simulator=simulator.url))
    started = time.monotonic()
    with fleet.process("serve", "--config", str(file), folder=tmp_path) as gateway:
        httpx.post(gateway.url + CHAT, json=body()).raise_for_status()
        seconds = time.monotonic() - started
        status = Path(f"/proc/{gateway.popen.pid}/status").read_text()
        megabytes = int(status.split("VmRSS:")[1].split()[0]) / 1024
    print(f"start to first answer {seconds:.2f} s, resident {megabytes:.0f} MB")
    record_property("seconds", seconds)
    assert megabytes < 130
