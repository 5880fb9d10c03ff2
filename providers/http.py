"""The only module that touches the network: a small seam, and aiohttp's sockets behind it.

What the library raises becomes an error of `providers.errors` here and nowhere else (`providers.http_httpx` is the same
over httpx, for tests and where speed is of no matter). Redirects are never followed: a request goes to the host that
the configuration names, or nowhere.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import lru_cache

import aiohttp

from providers.base import Response
from providers.errors import BadReply, ProviderError, TimedOut, Unavailable
from providers.types import Timeouts

MAX_REPLY_BYTES = 64 * 1024 * 1024

DRAIN_SECONDS = 0.1
"""How long the end of a connection's answer is waited for, once the answer itself is there."""


class AiohttpTransport:
    """Pooled, warm connections to one vendor over aiohttp's sockets (TCP_NODELAY is its default).

    `provider` is whose name its errors bear; `connections` bounds the sockets to each host (0: no bound).
    """

    def __init__(self, provider: str = "", connections: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._provider = provider
        self._connections = connections
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        # The session belongs to the loop that uses it, so it is made at the first request.
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._connections,
                keepalive_timeout=55,
                ttl_dns_cache=60,
                ssl=self._tls or True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                headers={"user-agent": "talaria"},
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=256 * 1024,
            )
        return self._session

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        started = time.monotonic()
        try:
            response = await self._open().post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_timeout(timeouts),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _translate(error, self._provider) from None
        return _AiohttpResponse(response, self._provider, time.monotonic() - started)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


@lru_cache(maxsize=256)
def _timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.idle)


class _AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, provider: str, waited: float) -> None:
        self._response = response
        self._provider = provider
        self.waited = waited
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        content = self._response.content
        parts: list[bytes] = []
        size = 0
        started = time.monotonic()
        try:
            while part := await content.readany():
                parts.append(part)
                size += len(part)
                if size > MAX_REPLY_BYTES:
                    self._response.close()
                    raise named(BadReply, self._provider, f"the answer is larger than {MAX_REPLY_BYTES} bytes")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._response.close()
            raise _translate(error, self._provider) from None
        except asyncio.CancelledError:
            self._response.close()
            raise
        self._response.release()
        self.waited += time.monotonic() - started
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drain(self) -> None:
        content = self._response.content
        if not content.at_eof():
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    while await content.readany():
                        pass
        self._response.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while part := await content.readany():
                yield part
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._response.close()
            raise _translate(error, self._provider) from None

    def close(self) -> None:
        self._response.close()


LONGEST_REST_SECONDS = 86_400.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `retry-after-ms` or `retry-after` (seconds or a date) ask for; None when neither can be read.

    `headers` in lower case. https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        with suppress(ValueError):
            seconds = float(value) / scale
            if math.isfinite(seconds):
                return min(max(0.0, seconds), LONGEST_REST_SECONDS)
            continue
        with suppress(TypeError, ValueError):
            return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), LONGEST_REST_SECONDS)
    return None


def _translate(error: Exception, provider: str) -> ProviderError:
    # The library's own text is not passed on: it may quote the URL or headers.
    match error:
        case aiohttp.ConnectionTimeoutError():
            return named(Unavailable, provider, "could not connect in time")
        case TimeoutError():
            return named(TimedOut, provider, "no answer in time")
        case aiohttp.ClientConnectorError():
            return named(Unavailable, provider, "could not connect")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return named(Unavailable, provider, "the connection was closed before the answer was complete")
        case aiohttp.ClientResponseError():
            return named(BadReply, provider, "the answer is not valid HTTP")
        case _:
            return named(Unavailable, provider, "the connection was lost")


def named(kind: type[ProviderError], provider: str, text: str) -> ProviderError:
    """An error that says whose it is."""
    return kind(f"{provider}: {text}" if provider else text, provider=provider)
