"""Everything that can go wrong with a call, named for what can be done about it.

    TalariaError
      InvalidRequest            the caller's own mistake; no other target would help
        ContextTooLong          ... except one with a larger window
        Unsupported             ... except one that has the ability
        RequestTooLarge
      ModelNotFound             no model or route of that name is configured
      Unauthorized              no key, or not one of ours
      LimitExceeded             a limit or budget of ours is used up
      Overloaded                we are draining or full
        NoCandidate             ... or know of no model that would be fast enough
      DeadlineExceeded          the call's own time ran out
      ProviderError             the vendor's trouble; another target may do better
        CredentialsRejected     ... and an operator must look at our key
        QuotaExhausted          ... and our account there is out of money or allowance
        RateLimited             ... and this one wants to rest for `retry_after` seconds
        Overwhelmed             ... the vendor is overloaded
        Unavailable             ... refused, reset, or an error of its own (5xx)
        TimedOut                ... silent for too long
        BadReply                ... answered something that is no answer
        ModelGone               ... does not serve this model (any more)
        ContentRefused          refused for its content: goes back to the caller as the vendor said it

Classes hold no logic; the status and body a caller sees are found in `gateway/errors.py` by walking the MRO.
"""

from __future__ import annotations


class TalariaError(Exception):
    """Base of all. `message` is fit for callers: it never holds a key or a prompt."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(TalariaError):
    """The request cannot be served as it is; `param` names the place, `status` what HTTP calls it."""

    status = 400

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        if status is not None:
            self.status = status


class ContextTooLong(InvalidRequest):
    """Prompt and output together exceed the model's window."""


class Unsupported(InvalidRequest):
    """The model has no such ability, and leaving it out would change the meaning of the request."""


class RequestTooLarge(InvalidRequest):
    """The body has more bytes than are accepted."""

    status = 413


class ModelNotFound(TalariaError):
    """`model` is neither a configured model nor a route."""


class Unauthorized(TalariaError):
    """The caller's key is missing, unknown, expired or revoked."""


class LimitExceeded(TalariaError):
    """A limit or budget of the caller's is used up."""


class Overloaded(TalariaError):
    """The gateway itself takes no more calls for now; in `retry_after` seconds it may."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoCandidate(Overloaded):
    """No candidate is expected to keep the target of the call's latency class, which then rejects."""


class DeadlineExceeded(TalariaError):
    """The call's deadline passed before any target had answered."""


class ProviderError(TalariaError):
    """A vendor failed us.

    `provider` is its configured name, `status` the HTTP status it gave (None without an answer), `retry_after` the
    seconds it asked to be left alone (None when it did not say).
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.provider = provider
        self.status = status
        self.retry_after = retry_after


class CredentialsRejected(ProviderError):
    """The vendor does not accept our key."""


class QuotaExhausted(ProviderError):
    """Our account with the vendor is out of money or over its spend limit."""


class RateLimited(ProviderError):
    """Too many requests or tokens for now."""


class Overwhelmed(ProviderError):
    """The vendor says that it is overloaded."""


class Unavailable(ProviderError):
    """Connection refused or lost, or an error of the vendor's own."""


class TimedOut(ProviderError):
    """No answer, no first token or no further event within the time given."""


class BadReply(ProviderError):
    """The answer cannot be read, or ended early."""


class ModelGone(ProviderError):
    """The vendor knows no such model."""


class ContentRefused(ProviderError):
    """The vendor's policy refuses the content of the request."""
