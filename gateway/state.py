"""The four kinds of state as protocols, each with the form that lives in this process.

*Health* is `routing.health`: read locally, learned at once. *Leases* are for what may be used up, *blobs* for what may
be lost, and what must last is `gateway.keys`. Other forms may share them between replicas; nobody above can tell.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Leases(Protocol):
    """Shares of something limited, taken before use and given back after it."""

    async def take(self, subject: str, amount: int, limit: int) -> bool:
        """Takes `amount` for a subject unless more than `limit` would be out; whether it did."""

    async def give(self, subject: str, amount: int) -> None:
        """Gives an amount back."""


class Blobs(Protocol):
    """Bytes that may be gone at any time."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_seconds: float) -> None: ...


class LocalLeases:
    def __init__(self) -> None:
        self._out: dict[str, int] = {}

    async def take(self, subject: str, amount: int, limit: int) -> bool:
        out = self._out.get(subject, 0)
        if out + amount > limit:
            return False
        self._out[subject] = out + amount
        return True

    async def give(self, subject: str, amount: int) -> None:
        left = self._out.get(subject, 0) - amount
        if left > 0:
            self._out[subject] = left
        else:
            self._out.pop(subject, None)


class LocalBlobs:
    """Keeps at most `capacity_bytes` of values, the latest used longest."""

    def __init__(self, capacity_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity_bytes
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._size = 0

    async def get(self, key: str) -> bytes | None:
        held = self._held.get(key)
        if held is None:
            return None
        expires, value = held
        if expires <= self._clock():
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, ttl_seconds: float) -> None:
        if key in self._held:
            self._drop(key)
        if len(value) > self._capacity:
            return
        self._held[key] = (self._clock() + ttl_seconds, value)
        self._size += len(value)
        while self._size > self._capacity:
            self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        self._size -= len(self._held.pop(key)[1])
