"""The JSON Schema of the file: the tree's own, with the words that only the running program knows."""

from __future__ import annotations

from typing import Any

from gateway.entries import kinds
from gateway.rules import COMPARING, DEFAULT_POLICY, Setting, policies, settings
from gateway.tree import Config
from providers import catalog, compatible


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    found = Config.model_json_schema(by_alias=True)
    parts = found["$defs"]
    parts["Provider"]["properties"]["kind"]["enum"] = kinds()
    parts["Provider"]["properties"]["vendor"]["anyOf"][0]["enum"] = list(compatible.rows())
    parts["Provider"]["required"].remove("keys")
    for field, words in (("features", catalog.ABILITIES), ("serves", catalog.OPERATIONS)):
        parts["ModelEntry"]["properties"][field]["anyOf"][0]["items"]["enum"] = sorted(words)
    for part, optional in (("Route", "match"), ("Match", "models")):
        parts[part]["required"].remove(optional)
    parts["Match"].pop("required")
    parts["LatencyClass"].pop("required")
    # What is text here may look like a number to an editor: `version: 1`.
    parts["Prompt"]["properties"]["version"]["type"] = ["string", "number"]
    parts["Experiment"]["properties"]["salt"]["anyOf"][0]["type"] = ["string", "number"]
    _choose(parts["Choose"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _choose(part: dict[str, Any]) -> None:
    """Every policy's settings: all that there are, and which of them go with which policy."""
    by, experiment = part["properties"]["by"], part["properties"]["experiment"]
    by["enum"] = policies()
    part["properties"] = {"by": by}
    part["allOf"] = []
    owners: dict[str, list[str]] = {}
    for policy in by["enum"]:
        known = {} if policy == COMPARING else settings(policy)
        own = {name: _setting(setting) for name, setting in known.items()}
        needed = [name for name, setting in known.items() if setting.needed]
        if policy == COMPARING:
            own, needed = {"experiment": {"type": "string"}}, ["experiment"]
        for name in own:
            owners.setdefault(name, []).append(policy)
        which: dict[str, Any] = {"properties": {"by": {"const": policy}}}
        if policy != DEFAULT_POLICY:
            which["required"] = ["by"]
        part["allOf"].append(
            {
                "if": which,
                "then": {"properties": {"by": True, **own}, "required": needed, "additionalProperties": False},
            }
        )
    for name, those in owners.items():
        told = {"description": f"A setting of {', '.join(those)}."}
        part["properties"][name] = experiment if name == "experiment" else told


def _setting(setting: Setting) -> dict[str, Any]:
    found = setting.type.json_schema()
    return {**found, "description": setting.manual} if setting.manual else found
