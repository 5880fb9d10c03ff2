"""The table of capabilities is what the marked tests say, and what they say is what they showed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.capabilities import ABILITIES, FILE, MARKS, NAMES, README, Capabilities, cells, table, within

ROOT = Path(__file__).parents[1]


def marked() -> set[tuple[str, str]]:
    """The cells that the marks of all tests speak of."""
    asked = [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", "--capabilities", "list"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found = (line.partition(": ") for line in told.splitlines())
    return {(vendor, ability) for vendor, _, ability in found if vendor in NAMES and ability in ABILITIES}


def test_the_table_has_a_mark_for_what_tests_show_and_no_other() -> None:
    shown = table(marked())
    assert FILE.read_text(encoding="utf-8") == shown
    readme = README.read_text(encoding="utf-8")
    assert within(readme, shown) == readme


def a_report(outcome: str, *shown: tuple[str, str], when: str = "call") -> Any:
    return SimpleNamespace(
        user_properties=[("ability", cell) for cell in shown] + [("figure", "x")],
        when=when,
        failed=outcome == "failed",
        passed=outcome == "passed",
    )


def test_an_ability_is_shown_when_all_that_show_it_passed() -> None:
    listener = Capabilities("check")
    for report in (
        a_report("passed", ("gemini", "chat"), ("gemini", "tools")),
        a_report("failed", ("gemini", "tools")),
        a_report("failed", ("gemini", "images"), when="setup"),
        a_report("passed", ("openai", "chat"), when="setup"),
        a_report("skipped", ("openai", "tools")),
    ):
        listener.pytest_runtest_logreport(report)
    assert listener.shown == {("gemini", "chat")}


@pytest.mark.parametrize(
    ("wish", "before", "after", "problem"),
    [
        ("write", "old", "new", False),
        ("check", "new", "new", False),
        ("check", "old", "old", True),
        ("check", None, None, True),
    ],
)
def test_the_file_is_written_or_held_against_the_run(
    tmp_path: Path, wish: str, before: str | None, after: str | None, problem: bool
) -> None:
    texts = {"new": table([("gemini", "chat")]), "old": table([])}
    file = tmp_path / "table.md"
    if before:
        file.write_text(texts[before], encoding="utf-8")
    readme = tmp_path / "readme.md"
    readme.write_text(f"before\n{MARKS[0]}old\n{MARKS[1]}after\n", encoding="utf-8")
    listener = Capabilities(wish, file, readme)
    listener.pytest_runtest_logreport(a_report("passed", ("gemini", "chat")))
    session: Any = SimpleNamespace(config=SimpleNamespace(), exitstatus=0)
    listener.pytest_sessionfinish(session)
    assert (file.read_text(encoding="utf-8") if file.exists() else None) == (texts[after] if after else None)
    assert (bool(listener.problem), session.exitstatus) == (problem, int(problem))


def an_item(*args: str, params: dict[str, str] | None = None, **kwargs: Any) -> Any:
    return SimpleNamespace(
        nodeid="t",
        iter_markers=lambda name: [SimpleNamespace(args=args, kwargs=kwargs)],
        callspec=SimpleNamespace(params=params or {}),
        module=SimpleNamespace(VENDORS={"mercury": "inception"}),
    )


def test_a_mark_names_its_vendor_or_takes_it_from_the_case() -> None:
    assert list(cells(an_item("chat", "tools", vendor="gemini"))) == [("gemini", "chat"), ("gemini", "tools")]
    assert list(cells(an_item("chat", params={"model": "mercury"}))) == [("inception", "chat")]
    assert list(cells(an_item("chat", params={"vendor": "openai"}))) == [("openai", "chat")]
    assert list(cells(an_item("images", params={"model": "mercury"}, only=("openai",)))) == []


@pytest.mark.parametrize("item", [an_item("flight", vendor="gemini"), an_item("chat", vendor="acme", only=("acme",))])
def test_words_that_the_table_has_not_are_mistakes(item: Any) -> None:
    with pytest.raises(pytest.UsageError, match="the table has no"):
        list(cells(item))
