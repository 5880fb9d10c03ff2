"""Who is asking: from a request's headers to the id of an application key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.keys import Ring
from providers.errors import Unauthorized

Refused = Callable[[str], None]
"""Hears of every refusal, with its reason: missing or invalid."""


class Auth:
    """Opens the gateway to bearers of a key of the ring; to anybody where there is no ring."""

    def __init__(self, ring: Ring | None, refused: Refused) -> None:
        self._ring = ring
        self._refused = refused

    def identify(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The id of the caller's key; None where the gateway asks for none. Raises Unauthorized."""
        if self._ring is None:
            return None
        scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not text:
            text = scheme or headers.get(b"x-api-key", b"").decode("latin-1")
        if not text.strip():
            self._refused("missing")
            raise Unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer <key>`, or as `x-api-key`.",
                code="missing_api_key",
            )
        key_id = self._ring.opens(text.strip())
        if key_id is None:
            self._refused("invalid")
            raise Unauthorized("Incorrect API key provided.")
        return key_id

    def change(self, ring: Ring | None) -> None:
        """Takes another ring from now on."""
        self._ring = ring
