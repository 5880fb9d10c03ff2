"""OpenAI's errors as ours. https://platform.openai.com/docs/guides/error-codes"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers import http
from providers.errors import (
    BadReply,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    InvalidRequest,
    ModelGone,
    Overwhelmed,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    TalariaError,
    TimedOut,
    Unavailable,
)
from providers.lenient import dumps, loads
from providers.types import Json

_CONTEXT = frozenset({"context_length_exceeded"})
_CONTENT_POLICY = frozenset({"content_filter", "content_policy_violation"})
_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "account_error",
    }
)
_KEY = frozenset({"invalid_api_key", "authentication_error", "permission_error"})
_OVERLOAD = frozenset({"server_is_overloaded", "slow_down", "service_unavailable_error", "overloaded_error"})
_RATE = frozenset({"rate_limit_exceeded", "rate_limit_reached", "rate_limit_error", "requests", "tokens"})
_GONE = frozenset({"model_not_found"})

_SECRETS = re.compile(r"\b(?:sk|org|proj)-[\w*-]{4,}")


def decode_error(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> TalariaError:
    """What the vendor's error is for us, by its code, type and status, never by its text.

    Bodies with an error under a status of 200, whole or as an event of a stream, are read the same way.
    """
    error = error_of(body)
    code, kind, param = error.get("code"), error.get("type"), error.get("param")
    if status < 400:
        status = next((said for key in _STATUS if (said := _status(error.get(key)))), status)
    words = {word for word in (code, kind) if isinstance(word, str)}
    message = f"{provider}: {_text(error)}" if _text(error) else f"{provider} answered with status {status}"
    told: dict[str, Any] = {
        "param": param if isinstance(param, str) else None,
        "code": code if isinstance(code, str) else None,
    }
    if words & _CONTEXT:
        return ContextTooLong(message, **told)
    if status == 413:
        return RequestTooLarge(message, **told)
    told |= {
        "provider": provider,
        "status": status if status >= 400 else None,
        "retry_after": retry_after(headers),
    }
    if words & _CONTENT_POLICY:
        return ContentRefused(message, **told)
    if status == 402 or words & _QUOTA:
        return QuotaExhausted(message, **told)
    if status in (401, 403) or words & _KEY:
        # The vendor's own text may quote the key.
        return CredentialsRejected(f"{provider} does not accept the gateway's key", **told)
    if words & _OVERLOAD:
        return Overwhelmed(message, **told)
    if status == 429 or words & _RATE:
        return RateLimited(message, **told)
    if status == 404 or words & _GONE:
        return ModelGone(message, **told)
    if status in (408, 504):
        return TimedOut(message, **told)
    if status == 503:
        return Overwhelmed(message, **told)
    if status >= 500 or status == 425:
        return Unavailable(message, **told)
    if status >= 400 or "invalid_request_error" in words:
        invalid = InvalidRequest(message, param=told["param"], code=told["code"])
        invalid.status = status if status >= 400 else 400
        return invalid
    return Unavailable(message, **told) if error else BadReply(message, **told)


def error_of(body: bytes) -> Json:
    """The error in a body, empty where there is none."""
    try:
        parsed = loads(body)
    except ValueError:
        return {}
    return _told(parsed) if isinstance(parsed, dict) else {}


def failure_in(answer: Json) -> Json | None:
    """The error that comes in place of an answer or a chunk, or as the end of a choice; None where there is none."""
    if answer.get("error"):
        return answer
    choices = answer.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and choice.get("finish_reason") == "error":
                return {"error": choice.get("error") or {"message": "the answer broke off"}}
        return None
    said = answer.get("object") == "error" or any(answer.get(key) for key in ("errors", *_TEXTS))
    return answer if said and not answer.get("usage") else None


_STATUS = ("code", "status", "status_code")
_TEXTS = ("message", "detail")


def _told(body: Json) -> Json:
    """An error's message and words: from an `error`, the first of `errors`, or the top of the body."""
    inner = body.get("error") or body.get("errors")
    if isinstance(inner, list) and inner:
        inner = inner[0]
    error = inner if isinstance(inner, dict) else body
    text = inner if isinstance(inner, str) else ""
    for key in _TEXTS:
        text = text or _words(error.get(key))
    told = {key: error[key] for key in ("type", "param", *_STATUS) if key in error}
    return {**told, "message": text} if text else told


def _words(value: Any) -> str:
    """What a validator found wrong, as it may come from FastAPI, or a plain text."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list():
            return "; ".join(_words(each) for each in value)
        case {"msg": str(text), "loc": [*place]}:
            return f"{'.'.join(map(str, place))}: {text}"
        case {"detail": detail}:
            return _words(detail)
    return dumps(value).decode()


def _status(value: Any) -> int | None:
    """An HTTP status of an error, where a vendor has it in the body, as a number or its digits."""
    if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
        return int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _text(error: Json) -> str:
    return _SECRETS.sub("***", error.get("message", ""))[:2000]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a vendor asks to be left alone, None when it does not say.

    Where it only tells its limits, the time until the one that is used up is whole again.
    """
    asked = http.retry_after(headers)
    if asked is not None:
        return asked
    used_up = (sort for sort in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{sort}") == "0")
    waits = (_duration(headers.get(f"x-ratelimit-reset-{sort}", "")) for sort in used_up)
    return max((wait for wait in waits if wait is not None), default=None)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: str) -> float | None:
    """`6m0s`, `120ms`, `1h2m3.5s` in seconds."""
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
