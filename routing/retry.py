"""Which failure leads to which step: one table, for retries and for fallback alike."""

from __future__ import annotations

from typing import NamedTuple

from tenacity import RetryCallState, wait_random_exponential

from providers.errors import (
    BadReply,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    InvalidRequest,
    ModelGone,
    Overloaded,
    Overwhelmed,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    TalariaError,
    TimedOut,
    Unavailable,
    Unsupported,
)


class Steps(NamedTuple):
    again: bool
    """Another try at the same target may mend it."""
    onward: bool
    """Another target may do better."""


STEPS: dict[type[TalariaError], Steps] = {
    InvalidRequest: Steps(again=False, onward=False),
    ContextTooLong: Steps(again=False, onward=True),  # only to a larger window: see Router
    Unsupported: Steps(again=False, onward=True),
    ContentRefused: Steps(again=False, onward=False),
    CredentialsRejected: Steps(again=False, onward=True),
    QuotaExhausted: Steps(again=False, onward=True),
    ModelGone: Steps(again=False, onward=True),
    TimedOut: Steps(again=False, onward=True),  # who was silent once is not asked again
    RateLimited: Steps(again=True, onward=True),
    Overwhelmed: Steps(again=True, onward=True),
    Unavailable: Steps(again=True, onward=True),
    BadReply: Steps(again=True, onward=True),
    ProviderError: Steps(again=True, onward=True),
    Overloaded: Steps(again=False, onward=True),  # all our connections to this one are taken
    TalariaError: Steps(again=False, onward=False),
}

MAX_ATTEMPTS = 6
"""Tries of one call over all its targets."""

PATIENCE_SECONDS = 5.0
"""A longer rest is not waited for: the call goes on to the next target, or back to the caller with `retry-after`."""

_backoff = wait_random_exponential(multiplier=0.1, max=PATIENCE_SECONDS)


def steps(error: TalariaError) -> Steps:
    """The most specific entry of the table for an error."""
    return next(STEPS[kind] for kind in type(error).__mro__ if kind in STEPS)


def pause(error: TalariaError, tries: int) -> float:
    """Seconds to wait before the next try at the same target, after `tries` of them.

    What the vendor asked for in its latest answer, else exponential with full jitter (0.1 s, 0.2 s, 0.4 s, ...).
    """
    if isinstance(error, ProviderError) and error.retry_after is not None:
        return max(0.0, error.retry_after)
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = tries
    return _backoff(state)
