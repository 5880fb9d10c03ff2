"""In which order candidates are tried: one file per policy, found by its name.

A policy is a frozen dataclass `Policy`: its fields are its settings, which it checks itself (ValueError), and its
docstring is its manual. It is arithmetic on what is expected of each option: no I/O, no clock, no chance but `draw`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from random import Random
from typing import Any, Protocol

from providers.types import Call
from routing.outlook import Option


class Policy(Protocol):
    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        """All options, in the order in which they are tried."""

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        """What speaks for each of the options, in numbers: how the order came about, chance aside."""


def names() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")]


def load(name: str) -> type[Policy]:
    """The `Policy` class of `routing/policies/<name>.py`. LookupError, with the names there are, when there is none."""
    if name not in names():
        raise LookupError(f"unknown policy {name!r}; known policies: {', '.join(names())}")
    policy: type[Policy] = importlib.import_module(f"routing.policies.{name}").Policy
    return policy


def build(name: str, settings: Mapping[str, Any]) -> Policy:
    """The policy with these settings. LookupError for its name, ValueError for what is wrong with a setting."""
    policy: Any = load(name)
    known = {field.name: field for field in fields(policy) if field.init}
    for setting in settings:
        if setting not in known:
            raise ValueError(f"{setting}: unknown setting of policy {name}; known: {', '.join(known) or 'none'}")
    for setting, field in known.items():
        if setting not in settings and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{setting}: policy {name} needs it")
    built: Policy = policy(**settings)
    return built
