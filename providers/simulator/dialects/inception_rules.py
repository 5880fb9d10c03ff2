"""How Inception says that a request is not valid."""

from __future__ import annotations

from typing import Any

from providers.simulator.dialects import Refusal


def unfit(
    place: tuple[str | int, ...], message: str, given: Any, status: int = 422, kind: str = "value_error"
) -> Refusal:
    """A validation error, whose message is a list of findings instead of a text."""
    return Refusal(
        status, [{"type": kind, "loc": list(place), "msg": message, "input": given}], "invalid_request_error"
    )


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"model `{name}` not found", "invalid_request_error", param="model", code="model_not_found")


def too_long(most: int) -> Refusal:
    message = (
        f"You exceeded the maximum context length for this model of {most}. "
        "Please reduce the length of the messages or completion."
    )
    return Refusal(400, message, "invalid_request_error", param="messages", code="context_length_exceeded")
