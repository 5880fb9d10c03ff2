"""JSON schemas inside the limits of Anthropic's structured outputs.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs (July 2026): every object closed, no recursion,
no external references, few constraints, at most 24 optional properties and 16 unions.
"""

from __future__ import annotations

from typing import Any

import orjson

from providers.types import Json

MAX_OPTIONAL = 24
MAX_UNIONS = 16
MAX_DEPTH = 64

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_KEPT = frozenset({"title", "description", "default"})
_STRIPPED = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
        *("contentEncoding", "contentMediaType", "nullable"),
    }
)
_BEYOND = frozenset(
    {
        *("not", "if", "then", "else", "patternProperties", "propertyNames", "prefixItems", "contains"),
        *("dependentSchemas", "dependentRequired", "dependencies", "$dynamicRef", "$recursiveRef"),
    }
)


def constrain(schema: Any) -> tuple[Json, bool] | None:
    """The schema as the vendor takes it, and whether constraints had to be taken out of it.

    What is taken out is told in the description instead. None where the schema does not fit at all.
    """
    walk = _Walk()
    try:
        fitted = walk.node(schema, 0)
        walk.check()
    except _Beyond:
        return None
    return fitted, walk.stripped


def fits(schema: Any) -> bool:
    """Whether the vendor takes the schema exactly as it is."""
    fitted = constrain(schema)
    return fitted is not None and fitted[0] == schema


class _Beyond(Exception):
    pass


class _Walk:
    def __init__(self) -> None:
        self.stripped = False
        self._optional = 0
        self._unions = 0
        self._where = ""
        self._defined: set[str] = set()
        self._references: dict[str, set[str]] = {}

    def node(self, schema: Any, depth: int) -> Json:
        if not isinstance(schema, dict) or depth > MAX_DEPTH or not _BEYOND.isdisjoint(schema):
            raise _Beyond
        out: Json = {}
        told: list[str] = []
        for key, value in schema.items():
            match key:
                case "properties":
                    out[key] = self._named(value, depth)
                case "$defs" | "definitions":
                    out[key] = self._definitions(key, value, depth)
                case "items":
                    out[key] = self.node(value, depth + 1)
                case "anyOf" | "oneOf" | "allOf":
                    self._variants(out, key, value, depth)
                case "$ref":
                    if not isinstance(value, str):
                        raise _Beyond
                    self._references.setdefault(self._where, set()).add(value)
                    out[key] = value
                case "type":
                    if isinstance(value, list) and len(value) > 1:
                        self._unions += 1
                    out[key] = value
                case "enum":
                    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
                        raise _Beyond
                    out[key] = value
                case "const":
                    if isinstance(value, list | dict):
                        raise _Beyond
                    out[key] = value
                case "required":
                    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                        raise _Beyond
                    out[key] = value
                case "additionalProperties" | "unevaluatedProperties":
                    if value is not False:
                        raise _Beyond
                    if key == "additionalProperties":
                        out[key] = value
                case _ if key in _KEPT or self._supported(key, value):
                    out[key] = value
                case _ if key in _STRIPPED or key in ("minItems", "format", "pattern"):
                    told.append(f"{key}: {orjson.dumps(value).decode()}")
                case _:
                    pass  # annotations, such as `$schema` or `examples`, bind nobody
        if told:
            self.stripped = True
            description = out.get("description")
            out["description"] = " ".join([description] if isinstance(description, str) else []) + (
                f"{' ' if description else ''}({', '.join(told)})"
            )
        if schema.get("type") == "object" or "properties" in schema:
            self._close(out)
        return out

    def check(self) -> None:
        """Over all: the counts, and that every reference leads somewhere and none in a circle."""
        if self._optional > MAX_OPTIONAL or self._unions > MAX_UNIONS:
            raise _Beyond
        if any(target not in self._defined for targets in self._references.values() for target in targets):
            raise _Beyond
        settled: set[str] = set()
        while unsettled := self._defined - settled:
            ready = {name for name in unsettled if self._references.get(name, set()) <= settled}
            if not ready:
                raise _Beyond
            settled |= ready

    def _named(self, value: Any, depth: int) -> Json:
        if not isinstance(value, dict):
            raise _Beyond
        return {name: self.node(schema, depth + 1) for name, schema in value.items()}

    def _definitions(self, key: str, value: Any, depth: int) -> Json:
        if depth or not isinstance(value, dict):
            raise _Beyond
        out: Json = {}
        for name, schema in value.items():
            self._where = f"#/{key}/{name}"
            self._defined.add(self._where)
            out[name] = self.node(schema, depth + 1)
        self._where = ""
        return out

    def _variants(self, out: Json, key: str, value: Any, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise _Beyond
        variants = [self.node(schema, depth + 1) for schema in value]
        if key == "allOf":
            if any("$ref" in variant for variant in variants):
                raise _Beyond
        else:
            self._unions += 1
        if key == "oneOf":
            self.stripped = True
            key = "anyOf"
        if key in out:
            raise _Beyond
        out[key] = variants

    def _supported(self, key: str, value: Any) -> bool:
        match key:
            case "minItems":
                return value in (0, 1)
            case "format":
                return value in _FORMATS if isinstance(value, str) else False
            case "pattern":
                # Groups that look around, back references and word boundaries are not taken.
                return isinstance(value, str) and "(?" not in value and not _ESCAPES.intersection(_pairs(value))
            case _:
                return False

    def _close(self, out: Json) -> None:
        properties = out.get("properties")
        if not properties and "additionalProperties" not in out:
            raise _Beyond  # closing a free-form object would leave nothing but {}
        out["additionalProperties"] = False
        self._optional += len(set(properties or ()) - set(out.get("required", ())))


_ESCAPES = frozenset({"\\b", "\\B", *(f"\\{digit}" for digit in range(1, 10))})


def _pairs(pattern: str) -> set[str]:
    return {pattern[at : at + 2] for at in range(len(pattern) - 1)}
