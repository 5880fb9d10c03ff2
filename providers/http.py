"""The only module that touches the network: a small seam, and two ways behind it.

`AiohttpTransport` carries the traffic; `HttpxTransport` wraps any `httpx` transport, for tests and where speed is of no
matter. What the libraries raise becomes an error of `providers.errors` here and nowhere else. Redirects are never
followed: a request goes to the host that the configuration names, or nowhere.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import aiohttp
import httpx

from providers.errors import BadReply, ProviderError, TimedOut, Unavailable
from providers.types import Timeouts

MAX_REPLY_BYTES = 64 * 1024 * 1024


class Response(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""

    async def read(self) -> bytes:
        """The whole body; the connection is free again afterwards. BadReply above MAX_REPLY_BYTES."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, one item per read."""

    def close(self) -> None:
        """Ends it at once: the vendor sees the connection close if the body was not read to its end."""


class Transport(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        """Sends, and returns when the response's headers are there. Raises Unavailable or TimedOut."""

    async def get(self, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> Response: ...

    async def aclose(self) -> None: ...


class AiohttpTransport:
    """Pooled, warm connections over aiohttp's sockets (TCP_NODELAY is its default).

    `connections` bounds the sockets to each host (0: no bound).
    """

    def __init__(self, connections: int = 0, tls: ssl.SSLContext | None = None) -> None:
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
        return await self._send("POST", url, headers, body, timeouts)

    async def get(self, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> Response:
        return await self._send("GET", url, headers, None, timeouts)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeouts: Timeouts
    ) -> Response:
        try:
            response = await self._open().request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_timeout(timeouts),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _translate(error) from None
        return _AiohttpResponse(response)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


_timeout_cache: dict[tuple[float, float], aiohttp.ClientTimeout] = {}


def _timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    key = (timeouts.connect, timeouts.idle)
    found = _timeout_cache.get(key)
    if found is None:
        found = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.idle)
        if len(_timeout_cache) < 256:
            _timeout_cache[key] = found
    return found


class _AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        content = self._response.content
        parts: list[bytes] = []
        size = 0
        try:
            while part := await content.readany():
                parts.append(part)
                size += len(part)
                if size > MAX_REPLY_BYTES:
                    self._response.close()
                    raise BadReply(f"the answer is larger than {MAX_REPLY_BYTES} bytes")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._response.close()
            raise _translate(error) from None
        except asyncio.CancelledError:
            self._response.close()
            raise
        self._response.release()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while part := await content.readany():
                yield part
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._response.close()
            raise _translate(error) from None

    def close(self) -> None:
        self._response.close()


class HttpxTransport:
    """The same seam over an `httpx` transport, such as `httpx.MockTransport(handler)`."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(transport=transport, follow_redirects=False)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Response:
        return await self._send("POST", url, headers, body, timeouts)

    async def get(self, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> Response:
        return await self._send("GET", url, headers, None, timeouts)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeouts: Timeouts
    ) -> Response:
        limits = httpx.Timeout(None, connect=timeouts.connect, read=timeouts.idle)
        request = self._client.build_request(method, url, headers=dict(headers), content=body, timeout=limits)
        try:
            return _HttpxResponse(await self._client.send(request, stream=True))
        except httpx.HTTPError as error:
            raise _translate(error) from None

    async def aclose(self) -> None:
        await self._client.aclose()


class _HttpxResponse:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        try:
            return await self._response.aread()
        except httpx.HTTPError as error:
            raise _translate(error) from None
        finally:
            await self._response.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_bytes():
                yield part
        except httpx.HTTPError as error:
            raise _translate(error) from None

    def close(self) -> None:
        self._closing = asyncio.ensure_future(self._response.aclose())


def _translate(error: Exception) -> ProviderError:
    # The library's own text is not passed on: it may quote the URL or headers.
    match error:
        case aiohttp.ConnectionTimeoutError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Unavailable("could not connect in time")
        case TimeoutError() | httpx.TimeoutException():
            return TimedOut("no answer in time")
        case aiohttp.ClientConnectorError() | httpx.ConnectError():
            return Unavailable("could not connect")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return Unavailable("the connection was closed before the answer was complete")
        case aiohttp.ClientResponseError() | httpx.ProtocolError() | httpx.DecodingError():
            return BadReply("the answer is not valid HTTP")
        case _:
            return Unavailable("the connection was lost")
