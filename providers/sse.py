"""Server-sent events, from bytes: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

from typing import NamedTuple

from providers.errors import BadReply

MAX_EVENT_BYTES = 32 * 1024 * 1024


class Event(NamedTuple):
    name: bytes | None
    data: bytes


class Splitter:
    """Cuts a byte stream into events as they stand, whatever it was cut into on its way; `parse` reads one.

    Bytes are never decoded, so a character that was cut in two comes out whole. Comments and `id`/`retry` fields are
    passed over; line ends may be LF, CRLF or CR; events without data are none.
    """

    __slots__ = ("_after_cr", "_bom", "_buffer", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._after_cr = False
        self._bom = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes. Raises BadReply for one that never ends."""
        if not chunk:
            return []
        if self._bom:
            if len(self._buffer) + len(chunk) < 3 and b"\xef\xbb\xbf".startswith(bytes(self._buffer) + chunk):
                self._buffer += chunk
                return []
            chunk = bytes(self._buffer) + chunk
            self._buffer.clear()
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            self._bom = False
        if self._after_cr:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer
        if not buffer and chunk.endswith(b"\n\n"):
            blocks = chunk.split(b"\n\n")
        else:
            # The search for the end goes on where it stopped: an event of many reads is looked at once.
            buffer += chunk
            end = buffer.rfind(b"\n\n", max(0, self._scanned - 1))
            if end < 0:
                self._scanned = len(buffer)
                if self._scanned > MAX_EVENT_BYTES:
                    raise BadReply(f"an event is larger than {MAX_EVENT_BYTES} bytes")
                return []
            blocks = bytes(buffer[:end]).split(b"\n\n")
            del buffer[: end + 2]
            self._scanned = len(buffer)
        return [block for block in blocks if block]

    def flush(self) -> list[bytes]:
        """The event that the end of the stream completes, where no blank line did."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return [rest] if rest else []


def parse(block: bytes) -> Event | None:
    """An event with its fields apart; None where it has no data."""
    # The two forms that nearly every event has; the rest is for the others.
    if block.startswith(b"data: ") and b"\n" not in block:
        return Event(None, block[6:])
    if block.startswith(b"event: "):
        head, _, rest = block.partition(b"\n")
        if rest.startswith(b"data: ") and b"\n" not in rest:
            return Event(head[7:], rest[6:])
    name: bytes | None = None
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(data)) if data else None
