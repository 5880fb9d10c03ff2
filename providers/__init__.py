"""Speaks to model vendors: one file per vendor API, all with the same face.

To add a vendor with its own wire format, write `providers/<kind>.py` with a class `Provider` that has the abilities it
serves (`providers.base.Chat`, ...); `kind: <kind>` in the configuration then finds it. Its pure functions carry the
same names everywhere: `encode` (the call as the vendor's request), `decode` (the vendor's answer as ours),
`decode_usage`, `decode_error`. What its models can do, in which ranges and at what price is data in `catalog.toml`.

Nothing in here knows of routing, of serving, of Redis or of application keys.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from providers.base import Vendor


def load(kind: str) -> type[Vendor]:
    """The `Provider` class of `providers/<kind>.py`.

    Raises LookupError, with the kinds there are, when no such vendor file exists.
    """
    if kind.isidentifier() and importlib.util.find_spec(f"providers.{kind}"):
        found = getattr(importlib.import_module(f"providers.{kind}"), "Provider", None)
        if found is not None and found.__module__ == f"providers.{kind}":
            provider: type[Vendor] = found
            return provider
    raise LookupError(f"unknown provider kind {kind!r}; known kinds: {', '.join(kinds())}")


def kinds() -> list[str]:
    """Every vendor file there is, by name. Imports them all: for error messages and schemas, not for serving."""
    names = (info.name for info in pkgutil.iter_modules(__path__) if not info.ispkg)
    modules = ((name, importlib.import_module(f"providers.{name}")) for name in names)
    return [
        name
        for name, module in modules
        if getattr(getattr(module, "Provider", None), "__module__", None) == module.__name__
    ]
