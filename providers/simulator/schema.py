"""Invents a JSON value that fits a JSON Schema."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from math import ceil, floor
from typing import Any

Schema = Mapping[str, Any] | bool

WORDS = (
    "amber",
    "harbour",
    "lantern",
    "meridian",
    "orchard",
    "quartz",
    "river",
    "saffron",
    "tundra",
    "violet",
    "zéphyr",
)
FORMATS = {
    "date-time": "2026-11-24T09:30:00Z",
    "date": "2026-11-24",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "ada@example.com",
    "idn-email": "ada@example.com",
    "hostname": "api.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/winged",
    "uri-reference": "/winged",
    "url": "https://example.com/winged",
    "uuid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "regex": "^a+$",
    "json-pointer": "/a/b",
    "byte": "VGFsYXJpYQ==",
}
DEEPEST = 6


_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_NUMBERS = ("minimum", "maximum", "multipleOf")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def is_schema(value: Any) -> bool:
    """Whether a value is a JSON Schema at all: every keyword that matters here has the shape that it must have."""
    if not isinstance(value, dict):
        return isinstance(value, bool)
    kind = value.get("type", "object")
    kinds = kind if isinstance(kind, list) else [kind]
    texts = [value.get(key, "") for key in ("$ref", "pattern", "format")]
    nested = [value[key] for key in _ONE if key in value]
    for key in _MANY:
        if key in value and not (isinstance(value[key], list) and value[key]):
            return False
        nested += value.get(key, ())
    for key in _NAMED:
        if not isinstance(value.get(key, {}), dict):
            return False
        nested += value.get(key, {}).values()
    return (
        all(isinstance(each, str) and each in _TYPES for each in kinds)
        and all(isinstance(text, str) for text in texts)
        and _is_list_of_text(value.get("required", []))
        and isinstance(value.get("enum", [None]), list)
        and value.get("enum") != []
        and not any(isinstance(value.get(key, 1), bool | str | list | dict | None) for key in _NUMBERS)
        and all(type(value.get(key, 0)) is int and value.get(key, 0) >= 0 for key in _COUNTS)
        and all(is_schema(each) for each in nested)
    )


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


MOST_VALUES = 5_000
"""A schema that doubles itself again and again is not followed to its end."""


def fit(schema: Schema, random: random.Random) -> Any:
    """A value for a schema; an empty object for one that only refers to itself."""
    try:
        return _Inventor(schema, random).invent(schema, 0)
    except RecursionError:
        return {}


class _Inventor:
    def __init__(self, root: Schema, random: random.Random) -> None:
        self.root = root
        self.random = random
        self.left = MOST_VALUES

    def invent(self, schema: Schema, depth: int) -> Any:
        self.left -= 1
        # What requires itself can never be satisfied.
        if isinstance(schema, bool) or not schema or depth > 2 * DEEPEST or self.left < 0:
            return self.random.choice(WORDS)
        if "$ref" in schema:
            return self.invent(self.follow(schema), depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self.random.choice(schema["enum"])
        if "allOf" in schema:
            return self.invent(self.merge(schema), depth)
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self.invent(_joined(_without(schema, union), self.choose(schema[union], depth)), depth)
        return self.invent_typed(schema, depth)

    def invent_typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        match self.type_of(schema, depth):
            case "object":
                return self.invent_object(schema, depth)
            case "array":
                return self.invent_array(schema, depth)
            case "integer":
                return self.invent_integer(schema)
            case "number":
                return self.invent_number(schema)
            case "boolean":
                return self.random.random() < 0.5
            case "null":
                return None
            case _:
                return self.invent_string(schema)

    def type_of(self, schema: Mapping[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            if depth >= DEEPEST and "null" in kind:
                return "null"
            kind = next((each for each in kind if each != "null"), "null")
        if isinstance(kind, str):
            return kind
        if "properties" in schema or "additionalProperties" in schema or "required" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        return "number" if "minimum" in schema or "maximum" in schema else "string"

    def invent_object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Schema] = schema.get("properties") or {}
        required = schema.get("required") or []
        made = {
            name: self.invent(inner, depth + 1)
            for name, inner in properties.items()
            if name in required or (depth < DEEPEST and self.random.random() < 0.5)
        }
        extra = schema.get("additionalProperties", True)
        made.update({name: self.invent(extra or True, depth + 1) for name in required if name not in made})
        missing = schema.get("minProperties", 0) - len(made)
        for name in properties:
            if missing > 0 and name not in made:
                made[name] = self.invent(properties[name], depth + 1)
                missing -= 1
        if extra is not False:
            for number in range(max(missing, 1 if isinstance(extra, Mapping) and not properties else 0)):
                made[f"{WORDS[number % len(WORDS)]}_{number}"] = self.invent(extra, depth + 1)
        return made

    def invent_array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, 3))
        first = schema.get("prefixItems") or []
        wanted = least if depth >= DEEPEST else max(least, min(most, self.random.randint(1, 2)), len(first))
        items: list[Any] = [self.invent(inner, depth + 1) for inner in first[:most]]
        tries = 0
        while len(items) < wanted and tries < 50 + wanted:
            item = self.invent(schema.get("items", True), depth + 1)
            tries += 1
            if not (schema.get("uniqueItems") and item in items):
                items.append(item)
        return items

    def invent_integer(self, schema: Mapping[str, Any]) -> int:
        low, high = _bounds(schema, 1)
        step = schema.get("multipleOf", 1)
        step = step if isinstance(step, int) and step > 0 else 1
        first, last = ceil(low / step), floor(high / step)
        return self.random.randint(first, max(first, last)) * step

    def invent_number(self, schema: Mapping[str, Any]) -> float:
        low, high = _bounds(schema, 0.01)
        step = schema.get("multipleOf")
        if step:
            return float(self.random.randint(ceil(low / step), max(ceil(low / step), floor(high / step))) * step)
        return min(max(round(self.random.uniform(low, high), 2), low), high)

    def invent_string(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        text = " ".join(self.random.sample(WORDS, self.random.randint(1, 3)))
        if "pattern" in schema:
            text = _matching(schema["pattern"], self.random) or text
        least = schema.get("minLength", 0)
        while len(text) < least:
            text += " " + self.random.choice(WORDS)
        return text[: max(least, schema.get("maxLength", len(text)))]

    def choose(self, options: list[Schema], depth: int) -> Schema:
        nullable = [option for option in options if _is_null(option)]
        if depth >= DEEPEST and nullable:
            return nullable[0]
        rest = [option for option in options if not _is_null(option)] or options
        return rest[0] if depth >= DEEPEST else self.random.choice(rest)

    def merge(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        merged: Mapping[str, Any] = _without(schema, "allOf")
        for part in schema["allOf"]:
            if isinstance(part, Mapping):
                part = self.follow(part)
                merged = _joined(merged, self.merge(part) if "allOf" in part else part)
        return merged

    def follow(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with what its references lead to; one that leads back to itself is left out."""
        seen: set[str] = set()
        while "$ref" in schema:
            reference = schema["$ref"]
            schema = {**({} if reference in seen else self.resolve(reference)), **_without(schema, "$ref")}
            seen.add(reference)
        return schema

    def resolve(self, reference: str) -> Mapping[str, Any]:
        node: Any = self.root
        for key in reference.lstrip("#").strip("/").split("/"):
            if key:
                key = key.replace("~1", "/").replace("~0", "~")
                if isinstance(node, list):
                    node = node[int(key)] if key.isdigit() and int(key) < len(node) else {}
                else:
                    node = node.get(key) if isinstance(node, dict) else {}
        return node if isinstance(node, Mapping) else {}


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _joined(left: Mapping[str, Any], right: Schema) -> Mapping[str, Any]:
    if isinstance(right, bool):
        return left
    joined = {**left, **right}
    if "properties" in left and "properties" in right:
        joined["properties"] = {**left["properties"], **right["properties"]}
    if "required" in left and "required" in right:
        joined["required"] = [*left["required"], *right["required"]]
    return joined


def _is_null(option: Schema) -> bool:
    return isinstance(option, Mapping) and (
        option.get("type") == "null" or ("const" in option and option["const"] is None)
    )


def _bounds(schema: Mapping[str, Any], margin: float) -> tuple[float, float]:
    low, high = schema.get("minimum"), schema.get("maximum")
    # Draft 4 wrote exclusive limits as booleans.
    if isinstance(above := schema.get("exclusiveMinimum"), int | float) and not isinstance(above, bool):
        low = above + margin
    if isinstance(below := schema.get("exclusiveMaximum"), int | float) and not isinstance(below, bool):
        high = below - margin
    if low is None:
        low = min(0, high - 100) if high is not None else 0
    if high is None:
        high = max(100, low + 100)
    return low, high


def _matching(pattern: str, random: random.Random) -> str | None:
    """A text for the simple patterns: literals, classes, `\\d`, `\\w`, with counts."""
    made = ""
    for literal, repeat in re.findall(r"(\[[^\]]+\]|\\.|[^\[\]\\^$])(\{\d+(?:,\d*)?\}|[*+?])?", pattern.strip("^$")):
        times = int(re.findall(r"\d+", repeat)[0]) if repeat.startswith("{") else 1
        made += "".join(_character(literal, random) for _ in range(times))
    try:
        return made if re.search(pattern, made) else None
    except re.error:
        return None


def _character(literal: str, random: random.Random) -> str:
    if literal.startswith("["):
        inside = literal[1:-1]
        first = inside[1:2] if inside.startswith("\\") else inside[0]
        return {"d": "4", "w": "a", "s": " "}.get(first, first) if inside.startswith("\\") else first
    if literal.startswith("\\"):
        return {"d": str(random.randint(1, 9)), "w": "a", "s": " "}.get(literal[1], literal[1])
    return "x" if literal == "." else literal
