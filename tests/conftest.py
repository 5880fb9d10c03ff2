"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import fleet

pytest_plugins = ["tests.capabilities"]

# Machines are slow at times: how long an example takes says nothing of the code.
settings.register_profile("talaria", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("talaria")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--recorded",
        default=os.environ.get("TALARIA_RECORDED"),
        help="folder with recorded vendor traffic (also: TALARIA_RECORDED); tests that read it are skipped without",
    )
    parser.addoption(
        "--inception-openapi",
        default=os.environ.get("TALARIA_INCEPTION_OPENAPI"),
        help="Inception's OpenAPI document (also: TALARIA_INCEPTION_OPENAPI); tests that read it are skipped without",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        text
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "figure"
    ]
    if told:
        terminalreporter.section("figures")
        for text in told:
            terminalreporter.write_line(str(text))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a sentence with something measured, for the summary of the run."""
    return lambda text: record_property("figure", text)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests (`pytest.mark.anyio`) run where the gateway does."""
    return "asyncio"


@pytest.fixture(scope="session")
def recorded(pytestconfig: pytest.Config) -> Path:
    """The folder of recorded vendor traffic, one interaction a line in `<vendor>_<api>.jsonl`."""
    folder = pytestconfig.getoption("--recorded")
    if not folder:
        pytest.skip("no recorded traffic: give its folder with --recorded or TALARIA_RECORDED")
    if not Path(folder).is_dir():
        pytest.fail(f"--recorded: {folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def _simulator() -> Iterator[fleet.Simulator]:
    with fleet.simulated() as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: fleet.Simulator) -> fleet.Simulator:
    """The vendors, at full speed, with no faults and an empty bill."""
    _simulator.reset()
    return _simulator


@pytest.fixture(scope="session")
def _gateway(_simulator: fleet.Simulator) -> Iterator[fleet.Serving]:
    with fleet.serving(fleet.THREE_VENDORS.format(simulator=_simulator.url)) as gateway:
        yield gateway


@pytest.fixture
def gateway(_gateway: fleet.Serving, simulator: fleet.Simulator) -> fleet.Serving:
    """A gateway in front of the three vendors, with `fleet.THREE_VENDORS`, that remembers no rests."""
    _gateway.gateway.health.__init__()  # type: ignore[misc]
    return _gateway
