"""The protocols a vendor may implement: one small one per ability."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from providers.errors import BadReply
from providers.types import Call, Model, Reply, Tally, Timeouts

Batch = list[bytes]
"""The events of one read from the vendor, each in the form of the call's operation, without the framing."""


class Stream:
    """An answer that arrives in parts.

    A vendor hands over `events`, an asynchronous iterator that yields one batch per read and raises an error of
    `providers.errors` when the vendor breaks off. Nothing is read before it is asked for, so a slow reader slows the
    vendor down. Parts add up to the answer, but where it `replaces`: there each text stands in place of the one before.
    """

    __slots__ = ("_close", "_events", "_held", "dropped", "headers", "replaces", "tally")

    def __init__(
        self,
        events: AsyncIterator[Batch],
        close: Callable[[], None],
        tally: Tally,
        headers: Mapping[str, str],
        dropped: tuple[str, ...] = (),
        replaces: bool = False,
    ) -> None:
        self._events = events
        self._close = close
        self._held: deque[Batch] = deque()
        self.tally = tally
        self.headers = headers
        self.dropped = dropped
        self.replaces = replaces

    async def begin(self) -> None:
        """Reads up to and including the first content-bearing event, and holds what was read.

        Raises what the vendor raised; BadReply when the answer ended before it had begun.
        """
        started = time.monotonic()
        async for batch in self._events:
            self._held.append(batch)
            if self.tally.begun:
                break
        self.tally.waited += time.monotonic() - started
        if self.tally.begun:
            return
        if self.tally.finish is None:
            raise BadReply("the stream ended before it had begun")

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    def __anext__(self) -> Awaitable[Batch]:
        # The events' own, once what was held is out: another layer would be walked through for every batch.
        return self._next_held() if self._held else self._events.__anext__()

    async def _next_held(self) -> Batch:
        return self._held.popleft()

    def close(self) -> None:
        """Lets go of the connection; at once, also in the middle of an answer."""
        self._close()


class Response(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""

    @property
    def waited(self) -> float:
        """Seconds that `post` and `read` have spent waiting for the vendor."""

    async def read(self) -> bytes:
        """The whole body; the connection is free again afterwards. BadReply where it is too large."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, one item per read."""

    async def drain(self) -> None:
        """Ends it when the answer is there: a connection that was read to its end can be used again."""

    def close(self) -> None:
        """Ends it at once: the vendor sees the connection close if the body was not read to its end."""


class Transport(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        """Sends, and returns when the response's headers are there. Raises Unavailable or TimedOut."""

    async def aclose(self) -> None: ...


class Endpoint(Protocol):
    """One operation, as one vendor serves it. What wraps one is one: the same shape all the way."""

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        """The whole answer. Raises an error of `providers.errors`."""

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        """The answer as it arrives, once the vendor has accepted the request. Raises an error of `providers.errors`."""


class Vendor(Protocol):
    """What the composition root builds for each entry under `providers`, and closes in the end.

    `base_url` is what the vendor's official SDK takes; `keys` are the vendor keys that calls take in turn; `settings`
    is what the configuration says for its kind alone.
    """

    name: str
    endpoints: Mapping[str, Endpoint]
    """By operation (`Call.operation`): those that the vendor itself serves."""

    def __init__(
        self, name: str, base_url: str, keys: Sequence[str], transport: Transport, **settings: str
    ) -> None: ...
