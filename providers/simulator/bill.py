"""What the pretend vendors charge for, one row a request, and a log of the requests as they arrived."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SECRET = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
REMEMBERED = 1000


@dataclass(frozen=True)
class Usage:
    input_tokens: int
    """All prompt tokens, cached ones included."""
    output_tokens: int
    """With reasoning."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Row:
    id: str
    vendor: str
    model: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    status: int
    completed: bool
    closed_at: float


class Bill:
    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, id: str, vendor: str, model: str, usage: Usage, sent: int, completed: bool) -> None:
        """Books the prompt whole and as many output tokens as were generated until the end."""
        self._rows.append(
            Row(
                id,
                vendor,
                model,
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                min(sent, usage.output_tokens),
                min(sent, usage.reasoning_tokens),
                200,
                completed,
                time.time(),
            )
        )

    def clear(self) -> None:
        self._rows.clear()

    def as_json(self) -> dict[str, Any]:
        totals: dict[str, dict[str, int]] = {}
        summed = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
        for row in self._rows:
            total = totals.setdefault(f"{row.vendor}/{row.model}", dict.fromkeys(("requests", *summed), 0))
            total["requests"] += 1
            for name in summed:
                total[name] += getattr(row, name)
        return {"rows": [asdict(row) for row in self._rows], "totals": totals}


@dataclass
class Request:
    number: int
    method: str
    path: str
    vendor: str
    headers: Mapping[str, str]
    received_at: float = field(default_factory=time.time)
    model: str | None = None
    body: Any = None
    status: int | None = None
    fault: str | None = None
    peer_closed: bool = False
    """Whether the caller left before the answer was complete."""
    closed_at: float | None = None


class Requests:
    def __init__(self) -> None:
        self._log: deque[Request] = deque(maxlen=REMEMBERED)
        self._received = 0

    def begin(self, method: str, path: str, vendor: str, headers: Mapping[str, str]) -> Request:
        self._received += 1
        shown = {name: value for name, value in headers.items() if name not in SECRET}
        request = Request(self._received, method, path, vendor, shown)
        self._log.append(request)
        return request

    def clear(self) -> None:
        self._log.clear()

    def as_json(self) -> dict[str, Any]:
        return {"requests": [asdict(request) for request in self._log]}
