"""In which order candidates are tried: one file per policy, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol

from providers.types import Call
from routing.target import Target


class Policy(Protocol):
    def rank(self, call: Call, targets: Sequence[Target]) -> Sequence[Target]:
        """The targets in the order in which they are tried. Never empty for targets that are not."""


def names() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(__path__)]


def load(name: str) -> type[Policy]:
    """The `Policy` class of `routing/policies/<name>.py`. LookupError, with the names there are, when there is none."""
    if name not in names():
        raise LookupError(f"unknown policy {name!r}; known policies: {', '.join(names())}")
    policy: type[Policy] = importlib.import_module(f"routing.policies.{name}").Policy
    return policy
