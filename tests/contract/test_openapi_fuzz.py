"""Requests made up from the gateway's own OpenAPI document break nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fleet import Serving, Simulator


def test_no_request_that_the_document_allows_or_forbids_is_a_server_error(
    gateway: Serving, simulator: Simulator, tmp_path: Path
) -> None:
    schemathesis = [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"]
    limits = ["--checks", "not_a_server_error", "--max-examples", "15", "--seed", "1", "--generation-database", "none"]
    found = subprocess.run([*schemathesis, *limits], capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert "generated" in found.stdout
