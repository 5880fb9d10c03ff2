"""Remembers which beginnings of prompts have been seen, as the vendors' prompt caches do."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

REMEMBERED = 20_000


@dataclass(frozen=True)
class Prefix:
    digest: bytes
    tokens: int


def prefixes(salt: str, parts: Iterable[tuple[bytes, int]]) -> list[Prefix]:
    """The prompt's beginnings, one after each part, with all tokens up to there."""
    running = hashlib.blake2b(salt.encode(), digest_size=16)
    tokens = 0
    found = []
    for data, count in parts:
        running.update(data)
        tokens += count
        found.append(Prefix(running.copy().digest(), tokens))
    return found


class PromptCache:
    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def read(self, candidates: Iterable[Prefix], least: int) -> int:
        """Tokens of the longest beginning that was seen before and is long enough to have been kept."""
        return max(
            (each.tokens for each in candidates if each.tokens >= least and each.digest in self._seen), default=0
        )

    def write(self, candidates: Iterable[Prefix]) -> None:
        for each in candidates:
            self._seen[each.digest] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
