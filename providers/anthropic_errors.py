"""Anthropic's errors as ours. https://platform.claude.com/docs/en/api/errors"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from providers.errors import (
    BadReply,
    ContextTooLong,
    CredentialsRejected,
    InvalidRequest,
    ModelGone,
    Overwhelmed,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    TalariaError,
    TimedOut,
    Unavailable,
)
from providers.http import retry_after

_BY_TYPE: dict[str, tuple[type[TalariaError], int]] = {
    "invalid_request_error": (InvalidRequest, 400),
    "authentication_error": (CredentialsRejected, 401),
    "billing_error": (QuotaExhausted, 402),
    "permission_error": (CredentialsRejected, 403),
    "not_found_error": (ModelGone, 404),
    "conflict_error": (InvalidRequest, 409),
    "request_too_large": (RequestTooLarge, 413),
    "rate_limit_error": (RateLimited, 429),
    "api_error": (Unavailable, 500),
    "timeout_error": (TimedOut, 504),
    "overloaded_error": (Overwhelmed, 529),
}
_BY_CODE: dict[str, type[TalariaError]] = {
    "enforced_spend_limit_reached": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "organization_on_hold": QuotaExhausted,
    "request_body_too_large_after_decoding": RequestTooLarge,
}
_BY_STATUS: dict[int, type[TalariaError]] = {status: error for error, status in _BY_TYPE.values()} | {
    408: TimedOut,
    422: InvalidRequest,
}
# An edge in front of the vendor answers in HTML: that says nothing of our key, the model or the request.
_BY_STATUS_ALONE: dict[int, type[TalariaError]] = {
    401: CredentialsRejected,
    408: TimedOut,
    413: RequestTooLarge,
    429: RateLimited,
    504: TimedOut,
    529: Overwhelmed,
}
_OWN_STATUSES = frozenset({400, 404, 409, 413, 422})

# The only errors that have no code of their own and are known by how their text begins.
_TOO_LONG = ("prompt is too long", "input length and `max_tokens` exceed context limit")
_SPENT = ("You have reached your specified API usage limits", "Your credit balance is too low")

_SECRETS = re.compile(
    r"sk-ant-[\w-]+|\borg[_-][\w-]{6,}|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE
)


def decode_error(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> TalariaError:
    """What the vendor's error stands for, by its own type and code; by the status where there is none of either.

    `headers` in lower case. `status` below 400: the error came within an answer.
    """
    try:
        found = orjson.loads(body)["error"]
        type_, message = found.get("type"), found.get("message")
    except (AttributeError, KeyError, TypeError, ValueError):
        found = type_ = message = None
    details = found.get("details") if found is not None else None
    code = details.get("error_code") if isinstance(details, dict) else None
    text = _SECRETS.sub("***", message)[:1000] if isinstance(message, str) and message else ""

    if found is None:
        kind = _BY_STATUS_ALONE.get(status, Unavailable if status >= 500 else BadReply)
    elif isinstance(type_, str) and type_ in _BY_TYPE:
        kind, usual = _BY_TYPE[type_]
        status = status if status >= 400 else usual
    else:
        kind = _BY_STATUS.get(status, Unavailable if status >= 500 or status < 400 else BadReply)
    if isinstance(code, str):
        kind = _BY_CODE.get(code, kind)
    if kind is InvalidRequest and text.startswith(_TOO_LONG):
        kind = ContextTooLong
    elif kind is InvalidRequest and text.startswith(_SPENT):
        kind = QuotaExhausted

    message = f"{provider}: {text or f'HTTP {status}'}"
    if kind is CredentialsRejected:
        # The vendor's own text may quote the key.
        message = f"{provider} does not accept the gateway's key"
    if issubclass(kind, ProviderError):
        wait = None if kind is QuotaExhausted else retry_after(headers)
        return kind(message, provider=provider, status=status if status >= 400 else None, retry_after=wait)
    error = kind(message)
    if isinstance(error, ContextTooLong):
        error.param, error.code = "messages", "context_length_exceeded"
    if isinstance(error, InvalidRequest) and status in _OWN_STATUSES:
        error.status = status
    return error
