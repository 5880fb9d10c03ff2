"""The seam of `providers.http` over any `httpx` transport, such as `httpx.MockTransport(handler)`.

Apart from the other, so that a gateway which does not use it does not load it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import httpx

from providers.base import Response
from providers.errors import BadReply, ProviderError, TimedOut, Unavailable
from providers.http import named
from providers.types import Timeouts


class HttpxTransport:
    """The same seam over an `httpx` transport, such as `httpx.MockTransport(handler)`."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, provider: str = "") -> None:
        self._provider = provider
        self._client = httpx.AsyncClient(transport=transport, follow_redirects=False)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        started = time.monotonic()
        limits = httpx.Timeout(None, connect=timeouts.connect, read=timeouts.idle)
        request = self._client.build_request("POST", url, headers=dict(headers), content=body, timeout=limits)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _translate(error, self._provider) from None
        return _HttpxResponse(response, self._provider, time.monotonic() - started)

    async def aclose(self) -> None:
        await self._client.aclose()


class _HttpxResponse:
    def __init__(self, response: httpx.Response, provider: str, waited: float) -> None:
        self._response = response
        self._provider = provider
        self.waited = waited
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        started = time.monotonic()
        try:
            return await self._response.aread()
        except httpx.HTTPError as error:
            raise _translate(error, self._provider) from None
        finally:
            self.waited += time.monotonic() - started
            await self._response.aclose()

    async def drain(self) -> None:
        await self._response.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_bytes():
                yield part
        except httpx.HTTPError as error:
            raise _translate(error, self._provider) from None

    def close(self) -> None:
        self._closing = asyncio.ensure_future(self._response.aclose())


def _translate(error: Exception, provider: str) -> ProviderError:
    # The library's own text is not passed on: it may quote the URL or headers.
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return named(Unavailable, "could not connect in time", provider)
        case httpx.TimeoutException():
            return named(TimedOut, "no answer in time", provider)
        case httpx.ConnectError():
            return named(Unavailable, "could not connect", provider)
        case httpx.ProtocolError() | httpx.DecodingError():
            return named(BadReply, "the answer is not valid HTTP", provider)
        case _:
            return named(Unavailable, "the connection was lost", provider)
