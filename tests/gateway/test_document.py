"""YAML text to data: what is read, where it stands, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import document
from gateway.document import Document


def read(text: str | bytes, **environ: str) -> Document:
    return document.read(text, "t.yaml", environ)


def data(text: str, **environ: str) -> dict[str, Any]:
    found = read(text, **environ)
    assert found.problems == []
    return found.data


def test_scalars_are_their_text_so_that_nothing_is_lost() -> None:
    assert data("a: on\nb: 1.10\nc: 012\nd: 'no'\ne: 2026-11-01\nf: 1e3\ng: true\n") == {
        "a": "on",
        "b": "1.10",
        "c": "012",
        "d": "no",
        "e": "2026-11-01",
        "f": "1e3",
        "g": "true",
    }


def test_nothing_is_none_but_a_quoted_nothing_is_text() -> None:
    assert data("a:\nb: ~\nc: null\nd: ''\ne: 'null'\n") == {"a": None, "b": None, "c": None, "d": "", "e": "null"}


def test_an_alias_stands_for_its_anchor() -> None:
    assert data("a: &x {k: [1, 2]}\nb: *x\n")["b"] == {"k": ["1", "2"]}


def test_every_key_and_item_has_its_line_and_column() -> None:
    marks = read("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n").marks
    assert marks == {
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "c"): (3, 3),
        ("a", "c", 0): (4, 7),
        ("a", "c", 1): (5, 7),
        ("a", "c", 1, "d"): (5, 8),
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${HOST}", "example.org"),
        ("http://${HOST}:${PORT:-80}/v1", "http://example.org:80/v1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-full}", "full"),
        ("${NONE:-}", ""),
        ("${NONE:-a b:c}", "a b:c"),
        ("$${HOST}", "${HOST}"),
        ("$HOST and 5$", "$HOST and 5$"),
        ("$$${HOST}", "$${HOST}"),
        ("${YAML}", "[a, b]"),
        ("${AGAIN}", "${HOST}"),
    ],
)
def test_variables_are_filled_in_once_and_as_text(text: str, found: str) -> None:
    environ = {"HOST": "example.org", "EMPTY": "", "YAML": "[a, b]", "AGAIN": "${HOST}"}
    assert data(f'a: "{text}"', **environ) == {"a": found}


def test_variables_in_keys_stay_as_they_are() -> None:
    assert data("${HOST}: 1", HOST="x") == {"${HOST}": "1"}


def test_all_unset_variables_are_named_at_once_with_their_lines() -> None:
    found = read("a: ${ONE}\nb: [x, '${TWO}']\nc: ${THREE:-}\n")
    assert [(p.line, p.path) for p in found.problems] == [(1, "a"), (2, "b[1]")]
    assert "ONE is not set" in found.problems[0].message
    assert "TWO is not set" in found.problems[1].message


@pytest.mark.parametrize("text", ["${", "${}", "${A:b}", "${file:/x}", "${1}", "${A-b}", "x ${A"])
def test_what_is_nearly_a_variable_is_an_error(text: str) -> None:
    [problem] = read(f'a: "{text}"', A="1").problems
    assert "not a variable" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice; first in line 1"),
        ("x:\n  a: 1\n  'a': 3\n", 3, "x.a: is there twice"),
        ("a: !!python/name:os.system x\n", 1, "tags such as !!python/name:os.system"),
        ("a: !secret x\n", 1, "tags such as !secret"),
        ("a: !!set {x}\n", 1, "tags such as !!set"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n", 3, "merge keys"),
        ("? [a, b]\n: 1\n", 1, "a key must be a word"),
        ("", 1, "empty"),
        ("# nothing\n", 1, "empty"),
        ("- a\n- b\n", 1, "mapping"),
        ("just text\n", 1, "mapping"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("a:\n\tb: 1\n", 2, "tab"),
        ("a: [1, 2\n", 2, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: *nowhere\n", 1, "not valid YAML"),
        ("a: {v: ${X}}\n", 1, "needs quotes"),
        ('a: "\\ud800"\n', 1, "control character"),
        ('a: "\\0"\n', 1, "control character"),
        ("a: 1\nb: \x07\n", 2, "character that YAML does not allow"),
        ('a: "\\UFFFFFFFF"\n', 1, "cannot be read"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        ("a: " + "[" * 80 + "]" * 80, 1, "nested too deeply"),
        ("a: &a [*a]\n", 1, "nested too deeply"),
        ("a: " + "x" * 2**20, 1, "larger than"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, line: int, words: str) -> None:
    problem = read(text).problems[0]
    assert problem.line == line
    assert words in str(problem)


def test_text_that_is_not_utf_8_is_said_with_its_line() -> None:
    [problem] = read(b"a: 1\nb: \xff\n").problems
    assert (problem.line, problem.column, problem.message) == (2, 4, "is not UTF-8")


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read("\ufeffa: 1".encode()).data == {"a": "1"}


def test_a_few_lines_that_stand_for_a_billion_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    [problem] = read("\n".join(lines)).problems
    assert "too many values" in problem.message


def test_a_problem_reads_as_file_line_column_path_and_message() -> None:
    found = read("models:\n  mercury: {x: 1}\n")
    assert str(found.problem(("models", "mercury", "x"), "is odd")) == "t.yaml:2:13: models.mercury.x: is odd"
    assert str(found.problem(("models", "nobody"), "is odd", "warning")) == "t.yaml:1:1: warning: models.nobody: is odd"


def test_what_a_variable_stood_for_is_never_repeated() -> None:
    found = read("a: ${KEY}", KEY="sk-live-123")
    assert found.problem(("a",), "'sk-live-123' is odd").message == "'***' is odd"
