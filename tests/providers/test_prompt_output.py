from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers.prompt_output import Cut, Filter, Output, Trim, Unfence, end, feed

PIECES = st.lists(
    st.sampled_from(
        ["```", "``", "`", "````", "json", "\n", "\r\n", " ", "  ", "\t", "{}", "a", "é", "STOP", "ST", "O", "P", "\\n"]
    ),
    max_size=14,
)


def said(filters: list[Filter], *pieces: str) -> str:
    return "".join(feed(filters, piece) for piece in pieces) + end(filters)


MAKERS: dict[str, Callable[[], Filter]] = {
    "fence": lambda: Unfence(alone=False),
    "json": lambda: Unfence(alone=True),
    "trim": Trim,
    "stop": lambda: Cut(["STOP", "ST\n", "``"]),
    "stops in stops": lambda: Cut(["STOP\na", "TOP", "O", "`json`", "json", "``"]),
}


@pytest.mark.parametrize(
    "names",
    [["fence"], ["json"], ["trim"], ["stop"], ["stops in stops"], ["stop", "json", "trim"], ["stop", "fence", "trim"]],
)
@settings(max_examples=150)
@given(pieces=PIECES, data=st.data())
def test_a_text_comes_out_the_same_however_it_was_cut(names: list[str], pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    chunks = [text[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(text)])]
    whole = said([MAKERS[name]() for name in names], text)
    assert said([MAKERS[name]() for name in names], *chunks) == whole
    assert said([MAKERS[name]() for name in names], *text) == whole


@given(text=st.text(alphabet="ab \n\t"))
def test_trimmed_is_as_python_strips(text: str) -> None:
    assert said([Trim()], text) == text.strip()


@given(
    text=st.text(alphabet="abc", max_size=30),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
@example(text="xabc", stops=["abc", "b"], cuts=[3])
@example(text="x</answer>", stops=["</answer>", "ans"], cuts=[6])
def test_nothing_is_left_from_the_first_stop_word_on(text: str, stops: list[str], cuts: list[int]) -> None:
    left = text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
    assert said([Cut(stops)], text) == left
    assert said([Cut(stops)], *text) == left
    assert said([Cut(stops)], *(text[at:to] for at, to in pairwise([0, *sorted(cuts), 30]))) == left


def test_space_after_a_fence_costs_no_more_than_its_length() -> None:
    began = process_time()
    assert said([Unfence(alone=False)], "```\nx\n```\n", *" " * 300_000) == "x"
    assert process_time() - began < 3
    assert said([Unfence(alone=False)], "```\nx\n```\n", *"  y") == "x\n  y"


@given(inside=st.text(alphabet='ab{}"\n `', max_size=30), ticks=st.integers(3, 5))
@example(inside="", ticks=3)
@example(inside="\n", ticks=3)
def test_what_a_fence_is_around_comes_out_as_it_is(inside: str, ticks: int) -> None:
    fence = "`" * ticks
    if any(line.strip(" ").startswith("```") for line in inside.split("\n")):
        inside = inside.replace("`", "")
    assert said([Unfence(alone=False)], f"{fence}python\n{inside}\n{fence}\n") == inside


@pytest.mark.parametrize(
    ("text", "fence", "alone"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}', '{"a": 1}'),
        ('\n  ```\n{"a": 1}\n```  \n\n', '{"a": 1}', '{"a": 1}'),
        ('```json\r\n{"a": 1}\r\n```\r\n', '{"a": 1}', '{"a": 1}'),
        ('```json\n{"a": 1}\n```\nI hope this helps.', '{"a": 1}\nI hope this helps.', '{"a": 1}'),
        ('```json\n{"a": 1}```', '{"a": 1}```', '{"a": 1}'),
        ('```json\n{"a": "```"}\n```', '{"a": "```"}', '{"a": "```"}'),
        ('```json\n{"a": 1}', '{"a": 1}', '{"a": 1}'),
        ("```\n```", "", ""),
        ("````md\n```py\nx\n```\n````", "```py\nx\n```", None),
        ("```py\nx\n````", "x", "x"),
        ('{"a": 1}\n', '{"a": 1}\n', '{"a": 1}\n'),
        ("Here:\n```json\n{}\n```", "Here:\n```json\n{}\n```", "Here:\n```json\n{}\n```"),
        ("```not a fence\n```", "```not a fence\n```", "```not a fence\n```"),
        ("`code`", "`code`", "`code`"),
        ("``", "``", "``"),
        ("   ", "   ", "   "),
        ("", "", ""),
    ],
)
def test_fences_are_taken_off(text: str, fence: str, alone: str | None) -> None:
    assert said([Unfence(alone=False)], text) == fence
    if alone is not None:
        assert said([Unfence(alone=True)], text) == alone


@pytest.mark.parametrize(
    ("rules", "body", "names"),
    [
        (Output(), {"stop": "x", "response_format": {"type": "json_object"}}, []),
        (Output(strip_fences="json"), {}, []),
        (Output(strip_fences="json"), {"response_format": {"type": "text"}}, []),
        (Output(strip_fences="json"), {"response_format": {"type": "json_object"}}, ["Unfence"]),
        (Output(strip_fences="json"), {"response_format": {"type": "json_schema"}}, ["Unfence"]),
        (Output(strip_fences="always", trim=True), {}, ["Unfence", "Trim"]),
        (Output(remove_stop=True), {}, []),
        (Output(remove_stop=True), {"stop": [""]}, []),
        (Output(remove_stop=True), {"stop": ["x" * 300]}, []),
        (Output(remove_stop=True, trim=True), {"stop": "x"}, ["Cut", "Trim"]),
    ],
)
def test_only_the_rules_that_a_request_calls_for_act(rules: Output, body: dict[str, object], names: list[str]) -> None:
    assert [type(each).__name__ for each in rules.filters(body)] == names
