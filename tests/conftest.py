"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--recorded",
        default=os.environ.get("TALARIA_RECORDED"),
        help="folder with recorded vendor traffic (also: TALARIA_RECORDED); tests that read it are skipped without",
    )


@pytest.fixture(scope="session")
def recorded(pytestconfig: pytest.Config) -> Path:
    """The folder of recorded vendor traffic, one interaction a line in `<vendor>_<api>.jsonl`."""
    folder = pytestconfig.getoption("--recorded")
    if not folder:
        pytest.skip("no recorded traffic: give its folder with --recorded or TALARIA_RECORDED")
    if not Path(folder).is_dir():
        pytest.fail(f"--recorded: {folder} is not a folder")
    return Path(folder)
