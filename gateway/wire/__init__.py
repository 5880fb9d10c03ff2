"""The dialects that callers speak: from their bytes to a request, and from an answer to their bytes.

To add one, write a file with what `Wire` asks for, and name it in `gateway/gateway.py` with its path. Where a vendor
does not serve its operation itself, `through` may serve it from one that the vendor does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from providers.base import Batch, Endpoint
from providers.types import Hints, Json, Model


@dataclass(frozen=True, slots=True)
class Request:
    """What the gateway reads of a request; `Call` has the meaning of each field."""

    body: Json
    model: str
    stream: bool
    include_usage: bool
    needs: Mapping[str, str]
    hints: Hints


class Wire(Protocol):
    """One dialect and operation."""

    @property
    def OPERATION(self) -> str:
        """The word of `Call.operation`."""

    @property
    def SCHEMA(self) -> Json:
        """The JSON Schema of a request's body, as far as the gateway looks at it."""

    @property
    def HEADERS(self) -> frozenset[bytes]:
        """Request headers that go on to a vendor which speaks the dialect itself; names in lower case."""

    @property
    def DONE(self) -> bytes:
        """What ends a stream that is whole."""

    @property
    def PING(self) -> bytes:
        """What may be sent in a stream while nothing comes."""

    def decode(self, raw: bytes) -> Request:
        """A request's body. Raises InvalidRequest, naming the parameter."""

    def frame(self, batch: Batch) -> bytes:
        """The events of one batch, ready for one write."""

    def refusal(self, error: BaseException, request_id: str) -> bytes:
        """The body of an answer that is an error."""

    def failure(self, error: BaseException, request_id: str) -> bytes:
        """The one event that ends a stream which broke off."""

    def through(self, endpoints: Mapping[str, Endpoint], model: Model) -> Endpoint | None:
        """This operation, served from those that the vendor has. None where that cannot be."""
