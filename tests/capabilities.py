"""The table of what works with which vendor: a cell for each ability whose marked tests passed.

A test that shows an ability says so: `@pytest.mark.ability("tools")`, with `vendor=` or, where it is parametrised by
`vendor` or `model`, for that one, by the module's VENDORS; `only=` names the vendors for which it shows it. `pytest --capabilities write` makes
the table from what passed, `--capabilities check` holds it against that, and `--capabilities list` prints, without
running anything, the cells that the marks speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "docs" / "capabilities.md"
README = Path(__file__).parents[1] / "README.md"
"""Has the same table between two marks."""
MARKS = ("<!-- capabilities: made by `make capabilities` -->\n", "<!-- capabilities: end -->\n")

NAMES = {
    "inception": "Inception (Mercury)",
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "gemini": "Google Gemini",
    "compatible": "compatible vendors",
}
ABILITIES = (
    *("chat", "streams", "tools", "streamed tools", "JSON schema", "images", "reasoning"),
    *("completions", "fill-in-the-middle", "embeddings", "Anthropic's dialect", "typed errors", "fallback"),
)

Cell = tuple[str, str]
"""A vendor and an ability."""

HEAD = """\
# What works with which vendor

Made by `make capabilities` from the tests that passed: a mark means that a test shows it through a running gateway,
against a simulated vendor, and none that shows it failed. No mark means that nobody has shown it.

"""


def cells(item: pytest.Item) -> Iterator[Cell]:
    """What the test shows when it passes. Raises UsageError for a word that the table has not."""
    for mark in item.iter_markers("ability"):
        vendor = mark.kwargs.get("vendor")
        if vendor is None:
            given: dict[str, str] = item.callspec.params  # type: ignore[attr-defined]
            vendor = given.get("vendor") or item.module.VENDORS[given["model"]]  # type: ignore[attr-defined]
        if vendor in mark.kwargs.get("only", NAMES):
            for ability in mark.args:
                if vendor not in NAMES or ability not in ABILITIES:
                    raise pytest.UsageError(f"{item.nodeid}: the table has no {ability!r} of {vendor!r}")
                yield vendor, ability


def table(shown: Iterable[Cell]) -> str:
    """The file, with a mark in each of these cells."""
    shown = set(shown)
    rows = [["", *NAMES.values()], ["---", *([":-:"] * len(NAMES))]]
    rows += [[ability, *("✓" if (vendor, ability) in shown else "" for vendor in NAMES)] for ability in ABILITIES]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def within(readme: str, made: str) -> str:
    """A README with the rows of the table between its marks."""
    before, _, rest = readme.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}{made.removeprefix(HEAD)}{MARKS[1]}{after}"


class Capabilities:
    """Listens to the tests, wherever they run, and makes of their outcomes the table."""

    def __init__(self, wish: str, file: Path = FILE, readme: Path = README) -> None:
        self.wish = wish
        self.file = file
        self.readme = readme
        self.passed: set[Cell] = set()
        self.failed: set[Cell] = set()
        self.problem = ""

    @property
    def shown(self) -> set[Cell]:
        return self.passed - self.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = {(str(told[0]), str(told[1])) for name, told in report.user_properties if name == "ability"}  # type: ignore[index]
        if report.failed:
            self.failed |= found
        elif report.when == "call" and report.passed:
            self.passed |= found

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        made = table(self.shown)
        if self.wish == "write":
            self.file.write_text(made, encoding="utf-8")
            readme = self.readme.read_text(encoding="utf-8")
            self.readme.write_text(within(readme, made), encoding="utf-8")
        elif self.wish == "check" and (not self.file.exists() or self.file.read_text(encoding="utf-8") != made):
            self.problem = f"{self.file.name} is not what the tests show: make capabilities"
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.problem:
            terminalreporter.section("capabilities")
            terminalreporter.write_line(self.problem)


# --- Hooks, which conftest.py takes over ---


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--capabilities", choices=["write", "check", "list"], help="what to do with docs/capabilities.md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ability(*names, vendor=None, only=...): what works with a vendor if it passes")
    if wish := config.getoption("--capabilities"):
        config.pluginmanager.register(Capabilities(wish), "capabilities")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [("ability", cell) for cell in cells(item)]
    if config.getoption("--capabilities") == "list":
        for vendor, ability in sorted({cell for item in items for cell in cells(item)}):
            print(f"{vendor}: {ability}")
        items.clear()
