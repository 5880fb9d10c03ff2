"""What goes wrong on purpose: the list that `PUT /control/faults` sets, and which of them a request meets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = frozenset(
    {
        "latency", "status", "reset_before", "reset_after", "stall", "slow", "silent", "malformed_sse",
        "error_event", "error_body", "truncated_json", "wrong_content_type", "no_done", "no_usage", "cut",
    }
)  # fmt: skip
STREAM_ONLY = frozenset({"malformed_sse", "error_event", "no_done"})
VENDORS = ("*", "inception", "openai", "anthropic")


class InvalidFault(ValueError):
    """The list sent to the control endpoint makes no sense; its text says why."""


@dataclass
class Fault:
    vendor: str
    model: str
    kind: str
    status: int | None = None
    """Of `status` and `error_body` the error, 500 if left out; of `wrong_content_type` the page's, 200 if left out."""
    code: str | None = None
    rate: float = 1.0
    count: int | None = None
    retry_after: float | None = None
    after_events: int = 0
    seconds: float | None = None
    applied: int = field(default=0, compare=False)

    def matches(self, vendor: str, models: Sequence[str], streaming: bool) -> bool:
        return (
            self.vendor in ("*", vendor)
            and (self.model == "*" or self.model in models)
            and (self.count is None or self.applied < self.count)
            and (streaming or self.kind not in STREAM_ONLY)
        )


class Faults:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._number = 0

    def replace(self, specs: Any) -> None:
        if not isinstance(specs, list):
            raise InvalidFault("the body must be a JSON list of faults")
        self._faults = [_parse(position, spec) for position, spec in enumerate(specs)]
        self._number = 0

    def clear(self) -> None:
        self._faults = []

    def draw(self, vendor: str, models: Sequence[str], streaming: bool) -> Fault | None:
        """The first fault that matches, counted as applied; requests are numbered since the list was set."""
        self._number += 1
        for position, fault in enumerate(self._faults):
            if fault.matches(vendor, models, streaming) and self._chance(position) < fault.rate:
                fault.applied += 1
                return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]

    def _chance(self, position: int) -> float:
        digest = hashlib.blake2b(f"{self._seed}/{position}/{self._number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


_NUMBERS = {
    "status": (int, 300, 599),
    "rate": (float, 0.0, 1.0),
    "count": (int, 0, 10**9),
    "retry_after": (float, 0.0, 86_400.0),
    "after_events": (int, 0, 10**9),
    "seconds": (float, 0.0, 86_400.0),
}


def _parse(position: int, spec: Any) -> Fault:
    where = f"fault {position}"
    if not isinstance(spec, dict):
        raise InvalidFault(f"{where}: must be an object")
    for name in ("vendor", "model", "kind"):
        if not isinstance(spec.get(name), str):
            raise InvalidFault(f"{where}: {name} is required and must be a string")
    if spec["vendor"] not in VENDORS:
        raise InvalidFault(f"{where}: vendor must be one of {', '.join(VENDORS)}, not {spec['vendor']!r}")
    if spec["kind"] not in KINDS:
        raise InvalidFault(f"{where}: kind must be one of {', '.join(sorted(KINDS))}, not {spec['kind']!r}")
    given = {name: value for name, value in spec.items() if value is not None}
    for name, value in given.items():
        if name in _NUMBERS:
            _check_number(where, name, value)
        elif name == "code" and not isinstance(value, str):
            raise InvalidFault(f"{where}: code must be a string")
        elif name not in ("vendor", "model", "kind", "code"):
            raise InvalidFault(f"{where}: unknown key {name!r}")
    return Fault(**given)


def _check_number(where: str, name: str, value: Any) -> None:
    kind, low, high = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        raise InvalidFault(f"{where}: {name} must be {'an integer' if kind is int else 'a number'}")
    if not low <= value <= high:
        raise InvalidFault(f"{where}: {name} must be between {low} and {high}")
