"""Application keys: `sk-tal-<id>-<secret>`, shown once; only the SHA-256 of the whole is kept.

They must last, so they live in the ledger's database. The serving process reads a copy in memory and looks once a
second whether the database has changed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PREFIX = "sk-tal-"
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    name: str
    digest: str
    """SHA-256 of the whole key, in hex."""
    created: float
    """Unix seconds."""
    revoked: float | None = None


class KeysUnavailable(Exception):
    """The place where keys are kept cannot be read or written."""


class Keys(Protocol):
    """Where application keys are kept. Every method may raise KeysUnavailable."""

    def create(self, name: str) -> tuple[Key, str]:
        """A new key, and its text: the only time that it is known."""

    def all(self) -> list[Key]: ...

    def revoke(self, id: str) -> bool:
        """Whether there was such a key, not revoked before."""

    def version(self) -> object:
        """Differs from the value of an earlier call when keys have changed since."""


class SqliteKeys:
    """Keys in an SQLite file; `url` is `sqlite:///relative.db` or `sqlite:////absolute.db`."""

    def __init__(self, url: str) -> None:
        self._path = Path(url.removeprefix("sqlite:///"))
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS keys "
                "(id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, created REAL NOT NULL, revoked REAL)"
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self._path, timeout=5)
            try:
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise KeysUnavailable(f"cannot use {self._path}: {error}") from None

    def create(self, name: str) -> tuple[Key, str]:
        key, text = mint(name)
        with self._open() as database:
            database.execute(
                "INSERT INTO keys (id, name, digest, created) VALUES (?, ?, ?, ?)",
                (key.id, key.name, key.digest, key.created),
            )
        return key, text

    def all(self) -> list[Key]:
        with self._open() as database:
            rows = database.execute("SELECT id, name, digest, created, revoked FROM keys ORDER BY created, id")
            return [Key(*row) for row in rows]

    def revoke(self, id: str) -> bool:
        with self._open() as database:
            changed = database.execute(
                "UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", (time.time(), id)
            ).rowcount
        return changed > 0

    def version(self) -> object:
        with self._open() as database:
            return database.execute("SELECT count(*), max(created), max(revoked) FROM keys").fetchone()


class LocalKeys:
    """Keys that live as long as the process: for tests, and behind anything that keeps none."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def create(self, name: str) -> tuple[Key, str]:
        key, text = mint(name)
        self._keys[key.id] = key
        return key, text

    def all(self) -> list[Key]:
        return list(self._keys.values())

    def revoke(self, id: str) -> bool:
        key = self._keys.get(id)
        if key is None or key.revoked is not None:
            return False
        self._keys[id] = Key(key.id, key.name, key.digest, key.created, time.time())
        return True

    def version(self) -> object:
        return tuple(self._keys.values())


def mint(name: str) -> tuple[Key, str]:
    """A key that never was, and its text."""
    id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = f"{PREFIX}{id}-{''.join(secrets.choice(_ALPHABET) for _ in range(40))}"
    return Key(id, name, digest(text), time.time()), text


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Ring:
    """The keys that open the gateway, in memory."""

    def __init__(self, keys: list[Key]) -> None:
        self._digests = {key.id: key.digest for key in keys if key.revoked is None}

    def opens(self, text: str) -> str | None:
        """The id of the key that a text is, or None. Takes as long for a wrong secret as for the right one."""
        if not text.startswith(PREFIX):
            return None
        id = text[len(PREFIX) :].partition("-")[0]
        known = self._digests.get(id)
        return id if hmac.compare_digest(known or "", digest(text)) and known else None
