"""Events of a stream that differ in their text alone: passed on without being read.

Most of a stream is one event over and over with other words in it. Once one was read as JSON and written anew, what is
around its text is known, and the next one of that shape needs no more than a comparison.
"""

from __future__ import annotations

MOST = 4
"""How many shapes are tried on one stream: where every event is another, learning them costs more than it saves."""

_PAD = b'"obfuscation":"'
# OpenAI hides the length of each text behind as much as it takes of these characters.


class Mould:
    """What is around the text of an event, as it comes and as it goes on.

    `said` is the length in characters of the last text that was cast.
    """

    __slots__ = (
        *("_head", "_left", "_loose", "_pad", "_same", "_start", "_tail", "_to_head", "_to_pad", "_to_tail"),
        "said",
    )

    def __init__(self, most: int = MOST) -> None:
        self._left = most
        self._head = b"\0"  # as no event begins
        self._same = self._loose = False
        self._start = self.said = 0
        self._tail = self._to_head = self._to_tail = b""
        self._pad: bytes | None = None
        self._to_pad = b""

    def learn(self, event: bytes, text: str, written: bytes) -> None:
        """Takes the shape of an event that says `text` and nothing else that is new, and goes on as `written`."""
        if not self._left or not text or not text.isprintable() or event.startswith(self._head):
            return
        self._left -= 1
        quoted = b'"%b"' % text.encode()
        at, to = event.find(quoted) + 1, written.find(quoted) + 1
        # Where it stands twice, nobody can tell which one is the text.
        if b"\\" in quoted or not at or not to or event.count(quoted) > 1 or written.count(quoted) > 1:
            return
        end = len(quoted) - 2
        self._head, tail = event[:at], event[at + end :]
        self._to_head, self._to_tail = written[:to], written[to + end :]
        self._start = at
        self._same = event == written
        # Anthropic fills its events up with spaces; where strings follow, they may mean something.
        self._loose = b'"' not in tail[1:]
        self._tail = tail.replace(b" ", b"") if self._loose else tail
        self._pad, to_pad = _before_pad(tail), _before_pad(self._to_tail)
        if to_pad is None:
            self._pad = None
        else:
            self._to_pad = to_pad

    def cast(self, event: bytes) -> bytes | None:
        """The event as it goes on; None where its shape is another, or its text must be read to be understood."""
        if not event.startswith(self._head):
            return None
        end = event.find(b'"', self._start)
        tail = event[end:]
        to_tail = self._to_tail
        if tail != self._tail:
            if self._pad is not None:
                pad = tail[len(self._pad) :]
                if not (tail.startswith(self._pad) and pad.endswith(b'"}') and (len(pad) == 2 or pad[:-2].isalnum())):
                    return None
                to_tail = self._to_pad + pad
            elif not self._loose or tail.replace(b" ", b"") != self._tail:
                return None
        text = event[self._start : end]
        if not text or b"\\" in text:
            return None
        try:
            said = text.decode()
        except UnicodeDecodeError:
            return None
        if not said.isprintable():
            return None
        self.said = len(said)
        return event if self._same else self._to_head + text + to_tail


def _before_pad(tail: bytes) -> bytes | None:
    head, name, rest = tail.rpartition(_PAD)
    return head + name if name and rest.endswith(b'"}') and rest.count(b'"') == 1 else None
