"""What a parameter must be: checks that name the place, in OpenAI's words, and describe themselves as JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from providers.errors import InvalidRequest
from providers.types import Json

Check = Callable[[str, Any], None]
"""Takes a parameter's name and value. Raises InvalidRequest."""

_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
_schemas: dict[Check, Json] = {}


def described(schema: Json) -> Callable[[Check], Check]:
    """Says what a check lets pass, at least."""

    def note(check: Check) -> Check:
        _schemas[check] = schema
        return check

    return note


def schema(checks: Mapping[str, Check], *required: str) -> Json:
    """The JSON Schema of a body that `checks` are held against; `required` are the parameters it must have."""
    described = {name: _schemas.get(check, {}) for name, check in checks.items()}
    return {"type": "object", "required": list(required), "properties": described}


def show(value: object) -> str:
    """A value as a message may repeat it."""
    text = repr(value)
    return text if len(text) <= 64 else text[:61] + "..."


def listed(words: Iterable[str]) -> str:
    """Words in quotes, in order."""
    return ", ".join(f"'{word}'" for word in sorted(words))


def mistyped(place: str, expected: str, value: object) -> InvalidRequest:
    """The error for a value of the wrong type."""
    names: dict[type, str] = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        type(None): "null",
    }
    return InvalidRequest(
        f"Invalid type for '{place}': expected {expected}, but got {names[type(value)]} instead.",
        param=place,
        code="invalid_type",
    )


def number(low: float, high: float) -> Check:
    """A finite number between two."""

    def check(name: str, value: Any) -> None:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise mistyped(name, "a decimal", value)
        if not low <= value <= high:
            bound, word = (low, "below_min") if value < low else (high, "above_max")
            raise InvalidRequest(
                f"Invalid '{name}': expected a value between {low:g} and {high:g}, but got {value!r} instead.",
                param=name,
                code=f"decimal_{word}_value" if isinstance(bound, float) else f"integer_{word}_value",
            )

    return described({"type": "number", "minimum": low, "maximum": high})(check)


def integer(low: int, high: int) -> Check:
    """A whole number between two."""
    within = number(low, high)

    def check(name: str, value: Any) -> None:
        if type(value) is not int:
            raise mistyped(name, "an integer", value)
        within(name, value)

    return described({"type": "integer", "minimum": low, "maximum": high})(check)


def is_a(kind: type, expected: str) -> Check:
    """A value of just this type."""

    def check(name: str, value: Any) -> None:
        if type(value) is not kind:
            raise mistyped(name, expected, value)

    return described({"type": _TYPES[kind]})(check)


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(name: str, value: Any) -> None:
        if value not in words if isinstance(value, str) else True:
            raise InvalidRequest(
                f"Invalid value: {show(value)}. Supported values are: {listed(words)}.",
                param=name,
                code="invalid_value",
            )

    return described({"type": "string", "enum": list(words)})(check)
