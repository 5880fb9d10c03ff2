"""What is taken off an answer's text: stop words, code fences, the space around it.

Each `Filter` takes a text in pieces and gives the same however it was cut: what it cannot judge yet it keeps for later.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from providers.types import Json

LONGEST_STOP = 256
"""A longer stop word is not looked for."""


class Filter(Protocol):
    def feed(self, piece: str) -> str:
        """What can be said now that `piece` is known."""

    def end(self) -> str:
        """What was kept, now that nothing more comes."""


@dataclass(frozen=True, slots=True)
class Output:
    """Which rules hold for a model's answers."""

    strip_fences: Literal["json", "always"] | None = None
    """`json`: where the caller asked for JSON; what follows the fence goes with it."""
    trim: bool = False
    remove_stop: bool = False

    def filters(self, body: Json) -> list[Filter]:
        """Those that a request as it is sent calls for, in the order in which they act."""
        form = body.get("response_format")
        json = isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")
        found: list[Filter] = []
        if self.remove_stop and (stops := [word for word in stop_words(body) if len(word) <= LONGEST_STOP]):
            found.append(Cut(stops))
        if self.strip_fences == "always" or (self.strip_fences == "json" and json):
            found.append(Unfence(alone=json))
        if self.trim:
            found.append(Trim())
        return found


def stop_words(body: Json) -> list[str]:
    """A request's `stop` as a list."""
    stop = body.get("stop")
    words = stop if isinstance(stop, list) else [stop]
    return [word for word in words if isinstance(word, str) and word]


def feed(filters: Sequence[Filter], piece: str) -> str:
    """`piece` through all of them."""
    for each in filters:
        piece = each.feed(piece)
    return piece


def end(filters: Sequence[Filter]) -> str:
    """What all of them still have: each one's rest goes through those after it."""
    rest = ""
    for each in filters:
        rest = each.feed(rest) + each.end()
    return rest


class Cut:
    """Ends the text before the first of the stop words, as vendors that know the word do.

    The first is the one that begins first. One that is there whole does not end the text while another that began
    before it may still be completed.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._kept = ""
        self._over = False

    def feed(self, piece: str) -> str:
        if self._over:
            return ""
        text = self._kept + piece
        found = self._found(text)
        begun = len(text) - max(_overlap(text, stop) for stop in self._stops)
        if found <= begun and found < len(text):
            self._over, self._kept = True, ""
            return text[:found]
        self._kept = text[begun:]
        return text[:begun]

    def end(self) -> str:
        return self._kept[: self._found(self._kept)]

    def _found(self, text: str) -> int:
        """Where the first stop word that is there whole begins; else the end."""
        return min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=len(text))


def _overlap(text: str, stop: str) -> int:
    """How long an end of `text` is that `stop` begins with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class Trim:
    """Takes off the space before and after the text."""

    def __init__(self) -> None:
        self._space: list[str] = []
        """What came since the last character that is none; unless nothing else came yet."""
        self._begun = False

    def feed(self, piece: str) -> str:
        said = piece.rstrip()
        space = piece[len(said) :]
        if not said:
            if self._begun and space:
                self._space.append(space)
            return ""
        said = "".join(self._space) + said if self._begun else said.lstrip()
        self._space = [space] if space else []
        self._begun = True
        return said

    def end(self) -> str:
        return ""


# Every repetition has a bound, so that no text, however odd, costs more than its length.
_INFO = r"[\w+.#-]{0,32}[ \t]{0,16}\r?"
_OPENING = re.compile(rf"\s{{0,64}}(`{{3,64}}){_INFO}\n")
_MAY_OPEN = re.compile(rf"\s{{0,64}}(?:`{{0,2}}|`{{3,64}}{_INFO})")


class Unfence:
    """Takes off the code fence that a text opens with, and the line that closes it.

    `alone` is for an answer that must be nothing but what is in the fence: there the fence may close at the end of a
    line, and what follows it is left out. A text that does not open with a fence stays as it is.
    """

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._place: Literal["before", "inside", "after", "plain"] = "before"
        self._kept = ""
        self._space: list[str] = []
        """What came since the fence was closed: said only where more comes."""
        self._first = True
        """The inside is read from the line end before it on, which is never said."""
        self._closing = self._last_closing = self._may_close = _OPENING

    def feed(self, piece: str) -> str:
        text, self._kept = self._kept + piece, ""
        said = ""
        if self._place == "before":
            opening = _OPENING.match(text)
            if opening is not None:
                self._open(len(opening[1]))
                text = text[opening.end() - 1 :]
            elif _MAY_OPEN.fullmatch(text):
                self._kept = text
                return ""
            else:
                self._place = "plain"
        if self._place == "inside":
            closing = self._closing.search(text)
            if closing is None:
                keep = self._may_close.search(text)
                at = keep.start() if keep else len(text)
                self._kept = text[at:]
                return self._say(text[:at])
            said = self._say(text[: closing.start()])
            self._place = "after"
            text = text[closing.end() :]
        if self._place == "after":
            if self._alone:
                return said
            if not text.strip():
                self._space.append(text)
                return said
            self._place = "plain"
            text = self._say("\n" + "".join(self._space) + text)
        return said + text

    def end(self) -> str:
        match self._place:
            case "inside":
                closing = self._last_closing.search(self._kept)
                return self._say(self._kept[: closing.start()] if closing else self._kept)
            case "before":
                return self._kept
            case _:
                return ""

    def _open(self, ticks: int) -> None:
        before = r"(?:\r?\n)?[ \t]{0,16}" if self._alone else r"\r?\n {0,3}"
        after = r"[ \t]{0,16}\r?"
        self._place = "inside"
        self._closing = re.compile(f"{before}(?<!`)`{{{ticks},64}}{after}\n")
        self._last_closing = re.compile(f"{before}(?<!`)`{{{ticks},64}}{after}\\Z")
        self._may_close = re.compile(f"(?:{before}`{{0,64}}{after}|\r)\\Z")

    def _say(self, text: str) -> str:
        if self._first and text:
            self._first = False
            return text[1:]
        return text
