"""Says in plain words what is wrong with a value: what is allowed, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.document import ECHO, Path

ONE, MANY = "<one>", "<many>"
"""Tags of a value that may be a mapping or a list of such: parts of pydantic's places, and of nobody else's."""


def wrong(message: str, *at: str | int) -> PydanticCustomError:
    """What a validator raises: `message` as it is, about the key `at` where it looked at several."""
    return PydanticCustomError("plain", "{message}", {"message": message, "at": at})


def unknown(noun: str, word: str, known: Iterable[str]) -> str:
    """No such word; with the nearest that there is, and all of them."""
    known = list(known)
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), lower, 1, 0.55)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    return f"unknown {noun} {word[:ECHO]!r}{hint} (known: {', '.join(known) or 'none'})"


def place(detail: ErrorDetails) -> Path:
    """Where in the data."""
    where = stands(detail)
    at: Path = detail["ctx"]["at"] if detail["type"] == "plain" else ()
    return (*(where[:-1] if _of_a_name(detail) else where), *at)


def stands(detail: ErrorDetails) -> Path:
    """Where pydantic stood when it found that."""
    return tuple(part for part in detail["loc"] if part not in (ONE, MANY))


def _of_a_name(detail: ErrorDetails) -> bool:
    """Whether it is the key of a table that is wrong, which pydantic says in a way of its own."""
    return detail["type"].startswith("string_") and detail["loc"][-1:] == ("[key]",)


def plain(detail: ErrorDetails, root: type[BaseModel]) -> str:
    """What pydantic found, in words that say what is allowed. A value that may be secret is never repeated."""
    where = place(detail)
    if detail["type"] == "extra_forbidden":
        return unknown("key", str(where[-1]), _fields_at(root, where[:-1]))
    if detail["type"] == "missing":
        return f"is missing: {_fields_at(root, where[:-1])[str(where[-1])].description}"
    return said(detail)


def said(detail: ErrorDetails) -> str:
    """The same of a value, whatever it is part of."""
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind == "plain":
        return str(limits["message"])
    if _of_a_name(detail):
        return "is no name: letters, digits and . _ : / @ + - are, up to 128, the first a letter or digit"
    limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in limits.items()}
    allowed = _ALLOWED.get(kind, "is not what is allowed here").format_map(limits)
    return f"{allowed}{_instead(place(detail), detail['input'])}"


_SECRET = frozenset(("keys", "key", "value", "admin", "redis"))

_ALLOWED = {
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be a name: letters, digits and . _ : / @ + -, the first a letter or digit",
    "string_too_long": "must be no longer than {max_length} characters",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of reasonable size",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "must name at least {min_length}",
    "too_long": "must name at most {max_length}",
    "tuple_type": "must be a list: [one, another]",
    "frozen_set_type": "must be a list: [one, another]",
    "dict_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}


def _instead(where: Path, found: Any) -> str:
    if not _SECRET.isdisjoint(where):
        return ""
    if found is None:
        return ", but is empty"
    if isinstance(found, dict | list | tuple):
        return f", not a {'mapping' if isinstance(found, dict) else 'list'}"
    return f", not {str(found)[:ECHO]!r}"


def _fields_at(part: type[BaseModel], where: Path) -> dict[str, FieldInfo]:
    """The keys that a mapping at `where` may have."""
    steps = iter(where)
    for step in steps:
        if isinstance(step, int):
            continue
        field = next(f for name, f in part.model_fields.items() if step in (name, f.alias))
        inner, many = _inside(field.annotation)
        if inner is None:
            break
        part = inner
        if many:
            next(steps, None)
    return {field.alias or name: field for name, field in part.model_fields.items()}


def _inside(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The part that a field holds, and whether it holds many, by name or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = get_origin(annotation) in (tuple, Mapping)
    for argument in get_args(annotation):
        inner, deeper = _inside(argument)
        if inner is not None:
            return inner, many or deeper
    return None, many
