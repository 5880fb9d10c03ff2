"""From an error to what a caller sees: OpenAI's body and status, found by walking the MRO.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import math
from typing import NamedTuple

import orjson

from providers.errors import (
    BadReply,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    ModelGone,
    ModelNotFound,
    NoCandidate,
    Overloaded,
    Overwhelmed,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    TalariaError,
    TimedOut,
    Unauthorized,
    Unavailable,
    Unsupported,
)


class Face(NamedTuple):
    """How a class of errors looks from outside."""

    status: int
    type: str
    code: str | None
    """OpenAI's, where the error has none of its own."""
    label: str
    """The word in metrics and logs: whose fault it was, then what."""
    outcome: str


FACES: dict[type[BaseException], Face] = {
    InvalidRequest: Face(400, "invalid_request_error", None, "caller_invalid_request", "caller_error"),
    ContextTooLong: Face(
        400, "invalid_request_error", "context_length_exceeded", "caller_context_too_long", "caller_error"
    ),
    Unsupported: Face(400, "invalid_request_error", "unsupported_value", "caller_unsupported", "caller_error"),
    RequestTooLarge: Face(413, "invalid_request_error", "request_too_large", "caller_too_large", "caller_error"),
    ModelNotFound: Face(404, "invalid_request_error", "model_not_found", "caller_model_unknown", "caller_error"),
    Unauthorized: Face(401, "invalid_request_error", "invalid_api_key", "policy_access_denied", "policy"),
    LimitExceeded: Face(429, "rate_limit_error", "rate_limit_exceeded", "policy_rate_limited", "policy"),
    Overloaded: Face(503, "server_error", "server_is_overloaded", "talaria_overloaded", "internal"),
    NoCandidate: Face(503, "server_error", "no_candidate", "policy_no_candidate", "policy"),
    DeadlineExceeded: Face(504, "server_error", "timeout", "provider_timeout", "upstream_error"),
    CredentialsRejected: Face(502, "server_error", "upstream_authentication", "provider_auth_failed", "upstream_error"),
    QuotaExhausted: Face(429, "insufficient_quota", "insufficient_quota", "provider_billing", "upstream_error"),
    RateLimited: Face(429, "rate_limit_error", "rate_limit_exceeded", "provider_rate_limited", "upstream_error"),
    Overwhelmed: Face(503, "server_error", "server_is_overloaded", "provider_overloaded", "upstream_error"),
    Unavailable: Face(502, "server_error", "upstream_unavailable", "provider_server_error", "upstream_error"),
    TimedOut: Face(504, "server_error", "timeout", "provider_timeout", "upstream_error"),
    BadReply: Face(502, "server_error", "bad_gateway", "provider_bad_reply", "upstream_error"),
    ModelGone: Face(404, "invalid_request_error", "model_not_found", "provider_model_gone", "upstream_error"),
    ContentRefused: Face(400, "invalid_request_error", "content_filter", "provider_content_refused", "caller_error"),
    ProviderError: Face(502, "server_error", "bad_gateway", "provider_other", "upstream_error"),
    BaseException: Face(500, "server_error", "internal_error", "internal", "internal"),
}

LABELS = tuple(sorted({face.label for face in FACES.values()}))


def face(error: BaseException) -> Face:
    """The most specific entry for an error; status and code are the error's own where it carries a vendor's."""
    found = next(FACES[kind] for kind in type(error).__mro__ if kind in FACES)
    if isinstance(error, InvalidRequest):
        return found._replace(status=error.status)
    if isinstance(error, Unavailable):
        if error.status is None:
            return found._replace(label="provider_connection_failed")
        if error.status == 503:
            return found._replace(status=503)
    return found


INTERNAL = "Something went wrong inside the gateway."
"""All that is said of what is not one of our errors."""

_PLAIN = (CredentialsRejected, QuotaExhausted, RateLimited)
"""Their code is always OpenAI's: a vendor's own would send callers after the wrong thing (whose key is invalid?)."""


def body(error: BaseException) -> bytes:
    """OpenAI's error object. What is not one of our errors says nothing of itself."""
    found = face(error)
    if isinstance(error, TalariaError):
        message, param = error.message, error.param
        code = found.code if isinstance(error, _PLAIN) else error.code or found.code
    else:
        message, param, code = INTERNAL, None, found.code
    return orjson.dumps({"error": {"message": message, "type": found.type, "param": param, "code": code}})


def headers(error: BaseException) -> list[tuple[bytes, bytes]]:
    """When to come back, where that is known; not to, where it is of no use."""
    if isinstance(error, QuotaExhausted):
        return [(b"x-should-retry", b"false")]
    seconds = error.retry_after if isinstance(error, ProviderError | Overloaded) else None
    if seconds is None:
        return []
    return [
        (b"retry-after", str(math.ceil(seconds)).encode()),
        (b"retry-after-ms", str(math.ceil(seconds * 1000)).encode()),
    ]
