"""The simulator is Anthropic to Anthropic's own SDKs: today's, and the last one of the API version before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anthropic
import pytest

SCRIPT = Path(__file__).parent / "older_anthropic.py"
OLDER = Path(__file__).parents[2] / ".tools" / "anthropic-0"


@pytest.fixture(params=["today's", "the one before"])
def sdk(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """The version, the API version it speaks, and where Python finds it."""
    if request.param == "today's":
        return anthropic.__version__, "2026-10-21", ""
    if not (OLDER / ".installed").exists():
        pytest.skip("the older SDK is not installed: `make test` does it")
    return "0.125.0", "2023-06-01", str(OLDER)


def test_anthropic_sdks_take_the_simulator_for_anthropic(sdk, simulator):
    version, api_version, path = sdk
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"{simulator.url}/anthropic"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sdk"] == version
    assert told["plain"] == ["good day", "end_turn", "assistant", "message"]
    assert told["streamed"]
    assert told["usage"] == [True, True, "end_turn"]
    assert told["called"] == ["tool_use", "weather", ["city"], "tool_use"]
    assert told["answered"]
    assert told["thought"] == ["thinking", True, "text"]
    assert told["counted"] > 0
    assert told["models"]
    assert told["errors"] == [
        ["BadRequestError", 400, "invalid_request_error"],
        ["NotFoundError", 404, "not_found_error"],
        ["AuthenticationError", 401, "authentication_error"],
    ]
    assert {request["headers"]["anthropic-version"] for request in simulator.requests()} == {api_version}
