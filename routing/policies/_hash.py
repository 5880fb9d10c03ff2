"""Chance that falls alike everywhere and every time."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b


def fraction(value: bytes, word: str) -> float:
    """A number between 0 and 1, neither of them included, that `value` and `word` settle together; evenly spread."""
    digest = blake2b(value, digest_size=8, salt=_salt(word)).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


@lru_cache(4096)
def _salt(word: str) -> bytes:
    return blake2b(word.encode(), digest_size=16).digest()
