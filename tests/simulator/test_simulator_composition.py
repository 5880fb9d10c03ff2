"""The parts that invent: values that fit schemas, text of a length, tokens that join."""

from __future__ import annotations

import random
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.simulator import prose
from providers.simulator.compose import Tool, Wish, compose
from providers.simulator.schema import fit
from providers.simulator.tokens import split

unhurried = settings(deadline=None, max_examples=60)


class Leaf(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    kind: Literal["leaf"]
    size: Annotated[int, pydantic.Field(ge=3, le=5)]


class Branch(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    kind: Literal["branch"]
    children: Annotated[list[Branch | Leaf], pydantic.Field(max_length=2)]


class Everything(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    tree: Annotated[Branch | Leaf, pydantic.Field(discriminator="kind")]
    born: date
    seen: datetime
    id: UUID
    ratio: Annotated[float, pydantic.Field(gt=0, lt=1)]
    even: Annotated[int, pydantic.Field(multiple_of=2, ge=11)]
    code: Annotated[str, pydantic.Field(pattern=r"^[A-Z]{3}-\d{2}$")]
    short: Annotated[str, pydantic.Field(min_length=30, max_length=31)]
    pair: tuple[int, str]
    flags: Annotated[set[Literal["a", "b", "c"]], pydantic.Field(min_length=2)]
    scores: dict[str, int]
    nothing: None
    maybe: int | None = None


@unhurried
@given(st.integers(0, 2**32))
def test_an_invented_value_fits_its_schema(seed):
    value = fit(Everything.model_json_schema(), random.Random(seed))
    Everything.model_validate_json(pydantic.TypeAdapter(Any).dump_json(value))


@pytest.mark.parametrize(
    ("schema", "check"),
    [
        ({"const": 3}, lambda value: value == 3),
        ({"type": ["null", "integer"]}, lambda value: isinstance(value, int)),
        ({"allOf": [{"type": "object", "required": ["a"]}, {"required": ["b"]}]}, lambda value: {"a", "b"} <= set(value)),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4}, lambda value: len(value) >= 4),
        ({"type": "number", "exclusiveMaximum": -5}, lambda value: value < -5),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}, lambda value: isinstance(value, dict)),
        (True, lambda value: value is not None),
    ],
)  # fmt: skip
def test_the_corners_of_json_schema_are_known(schema, check):
    assert all(check(fit(schema, random.Random(seed))) for seed in range(50))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"type": "object", "required": ["x"], "properties": {"x": {"$ref": "#"}}},
    ],
)
def test_a_schema_that_goes_in_circles_comes_to_an_end(schema):
    fit(schema, random.Random(1))


@unhurried
@given(st.text())
def test_tokens_join_to_the_text_they_came_from(text):
    assert "".join(split(text)) == text


@unhurried
@given(st.integers(0, 2**32), st.integers(1, 400))
def test_prose_has_the_length_that_was_asked_for(seed, wanted):
    assert len(prose.words(random.Random(seed), wanted).split()) == wanted
    assert 38 <= len(prose.answer(random.Random(seed)).split()) <= 125


@unhurried
@given(st.integers(0, 2**32), st.integers(1, 60), st.booleans(), st.integers(0, 50))
def test_no_answer_is_longer_than_allowed(seed, limit, tools, reasoning):
    offered = [Tool("a", {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]})] * tools
    wish = Wish(prompt="parallel", tools=offered, max_tokens=limit, reasoning=reasoning)
    answer = compose(wish, random.Random(seed))
    assert answer.tokens <= limit
    assert (answer.finish == "length") == (
        compose(Wish("parallel", tools=offered, reasoning=reasoning), random.Random(seed)).tokens > limit
    )


def test_an_answer_stops_at_the_first_stop_sequence():
    answer = compose(Wish("say exactly: a b c d", stop=[" d", " c"]), random.Random(1))
    assert (answer.text(), answer.finish, answer.stop) == ("a b", "stop_sequence", " c")
