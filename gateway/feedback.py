"""What callers thought of answers: one verdict of each judge on each answer, kept beside the ledger and counted.

What is known of the newest answers is remembered here; of those that have a verdict, the database knows it as well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import NamedTuple

from gateway.record import Record
from providers.errors import InvalidRequest, Overloaded

REMEMBERED = 10_000
"""Answers, the newest: about 2.3 MB."""
MAX_JUDGES = 32
"""Of one answer."""
GOOD, BAD = 0.6, 0.4
"""Scores from the first up are good ones, those up to the second bad ones."""
WORTH = {"good": 1.0, "neutral": 0.5, "bad": 0.0}
"""Labels that stand for a score."""
LOCKED_SECONDS = 2.0
"""How long the database may be locked by somebody else."""
PATIENCE_SECONDS = 5.0
"""How long a verdict waits for those before it."""

log = logging.getLogger("talaria")


class Answer(NamedTuple):
    """What is known of an answer."""

    key_id: str | None
    """Whose it is."""
    model: str
    task: str
    route: str
    experiment: str | None
    arm: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody thought of an answer: a score from 0 to 1, a label, or both."""

    request_id: str
    by: str
    score: float | None = None
    label: str | None = None
    comment: str | None = None

    @property
    def worth(self) -> float | None:
        """The score, or the one that the label stands for; None for a label that says nothing of it."""
        return WORTH.get((self.label or "").lower()) if self.score is None else self.score

    @property
    def word(self) -> str:
        """good, bad, neutral, or other."""
        worth = self.worth
        if worth is None:
            return "other"
        return "good" if worth >= GOOD else "bad" if worth <= BAD else "neutral"


class Kept(NamedTuple):
    """A verdict that is in the database."""

    id: str
    answer: Answer
    new: bool
    """Whether it is the judge's first one on this answer."""


class Standing(NamedTuple):
    """The verdicts on one model's answers to one task, in one arm of an experiment or outside of any."""

    model: str
    task: str
    experiment: str | None
    arm: str | None
    verdicts: int
    score: float | None
    """The mean of those that are worth one."""


Judged = Callable[[Answer, str], None]
"""Hears of each judge's first verdict on an answer: of what, and good, bad, neutral or other."""


class Feedback:
    """Takes verdicts on answers. `settled` listens for records, `judged` hears what came in.

    `url` is that of the ledger, `sqlite:///relative.db` or `sqlite:////absolute.db`; its file is made when the first
    verdict comes.
    """

    def __init__(self, url: str, judged: Judged) -> None:
        self._verdicts = SqliteVerdicts(url)
        self._judged = judged
        # Plain tuples: the garbage collector has no work with those.
        self._answers: dict[str, tuple[str | None, str, str, str, str | None, str | None]] = {}
        self._order: deque[str] = deque()
        self._turn = asyncio.Lock()

    def settled(self, record: Record) -> None:
        """Listens for settled records."""
        call, journey = record.call, record.journey
        if call is None or journey is None or journey.served is None:
            return
        plan, key_id, order = journey.plan, call.key_id, self._order
        # Keys and tasks are of the configuration, but each call brings texts of its own that say so.
        self._answers[record.id] = (
            None if key_id is None else intern(key_id),
            journey.served.model.name,
            intern(call.task),
            plan.route or "direct",
            plan.experiment if plan.arm else None,
            plan.arm,
        )
        order.append(record.id)
        if len(order) > REMEMBERED:
            del self._answers[order.popleft()]

    async def judge(self, verdict: Verdict, key_id: str | None) -> Kept:
        """Keeps a verdict, in place of what the same judge said before, and counts it if nothing was.

        Raises InvalidRequest (404) where no answer of that id is known to be the key's, Overloaded where the database
        fails: then nothing has changed.
        """
        known = self._answers.get(verdict.request_id)
        answer = None if known is None else Answer._make(known)
        if answer is not None and answer.key_id != key_id:
            raise _unknown(verdict)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise _unable() from None
        try:
            kept = await asyncio.to_thread(self._verdicts.keep, verdict, answer, key_id)
        except sqlite3.Error as error:
            log.error("server.ledger: cannot use %s for feedback: %s", self._verdicts.path, error)
            raise _unable() from None
        finally:
            self._turn.release()
        if kept is None:
            raise _unknown(verdict)
        if kept.new:
            self._judged(kept.answer, verdict.word)
        return kept

    async def tallies(self) -> list[Standing]:
        """How all verdicts stand, for what learns from them. Raises sqlite3.Error."""
        return await asyncio.to_thread(self._verdicts.tallies)


def _unknown(verdict: Verdict) -> InvalidRequest:
    return InvalidRequest(
        f"No answer with the id '{verdict.request_id}' is known; it is the `x-request-id` of a recent answer.",
        param="request_id",
        code="request_not_found",
        status=404,
    )


def _unable() -> Overloaded:
    return Overloaded("Feedback cannot be kept just now.", retry_after=1.0)


class SqliteVerdicts:
    """Verdicts in an SQLite file. Every method may raise sqlite3.Error, and has changed nothing then."""

    def __init__(self, url: str) -> None:
        self.path = Path(url.removeprefix("sqlite:///"))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=LOCKED_SECONDS, isolation_level="IMMEDIATE")
        try:
            with database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_TABLE)
                yield database
        finally:
            database.close()

    def keep(self, verdict: Verdict, answer: Answer | None, key_id: str | None) -> Kept | None:
        """Keeps a verdict on an answer, or where that is None on one that has a verdict already.

        None where there is none, or it is not the key's.
        """
        if answer is None and not self.path.exists():
            return None
        with self._open() as database:
            if answer is None:
                found = database.execute(_ANSWER, (verdict.request_id,)).fetchone()
                if found is None or found[0] != key_id:
                    return None
                answer = Answer._make(found)
            judges = database.execute(_OTHERS, (verdict.request_id, verdict.by)).fetchone()[0]
            if judges >= MAX_JUDGES:
                raise InvalidRequest(f"{MAX_JUDGES} have judged this answer already, and no more can.", param="by")
            id, now = "fb_" + os.urandom(12).hex(), time.time()
            said = (verdict.request_id, verdict.by, verdict.score, verdict.label, verdict.comment, verdict.worth)
            (kept,) = database.execute(_KEEP, (id, *said, *answer, now, now)).fetchall()
            return Kept(kept[0], answer, new=kept[0] == id)

    def tallies(self) -> list[Standing]:
        if not self.path.exists():
            return []
        with self._open() as database:
            return [Standing._make(row) for row in database.execute(_TALLIES)]


_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    judge TEXT NOT NULL,
    score REAL,
    label TEXT,
    comment TEXT,
    worth REAL,
    key_id TEXT,
    model TEXT NOT NULL,
    task TEXT NOT NULL,
    route TEXT NOT NULL,
    experiment TEXT,
    arm TEXT,
    created REAL NOT NULL,
    changed REAL NOT NULL,
    UNIQUE (request_id, judge)
)
"""

_ANSWER = "SELECT key_id, model, task, route, experiment, arm FROM feedback WHERE request_id = ? LIMIT 1"

_OTHERS = "SELECT count(*) FROM feedback WHERE request_id = ? AND judge <> ?"

_KEEP = """
INSERT INTO feedback (
    id, request_id, judge, score, label, comment, worth, key_id, model, task, route, experiment, arm, created, changed
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (request_id, judge) DO UPDATE SET
    score = excluded.score,
    label = excluded.label,
    comment = excluded.comment,
    worth = excluded.worth,
    changed = excluded.changed
RETURNING id
"""

_TALLIES = """
SELECT model, task, experiment, arm, count(*), avg(worth) FROM feedback
GROUP BY model, task, experiment, arm ORDER BY model, task, experiment, arm
"""
