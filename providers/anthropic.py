"""Anthropic's Messages API. https://platform.claude.com/docs/en/api/messages

The request is told in `anthropic_request.py` (its messages in `anthropic_messages.py`, its schemas in
`anthropic_schema.py`), the answer in `anthropic_answer.py`, what goes wrong in `anthropic_errors.py`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import orjson

from providers.anthropic_answer import Decoder, Reading, decode, decode_usage
from providers.anthropic_errors import decode_error
from providers.anthropic_request import Encoded, encode
from providers.base import Batch, Response, Stream, Transport
from providers.errors import BadReply, InvalidRequest, ProviderError, TalariaError
from providers.types import Call, Json, Model, Reply, Tally, Timeouts

__all__ = ["Decoder", "Encoded", "Provider", "Reading", "decode", "decode_error", "decode_usage", "encode"]

VERSION = "2023-06-01"
"""Newer versions take no sampling parameters any more."""
DRAIN_SECONDS = 0.25
"""How long the end of the connection is waited for after the end of the answer, so that it can be used again."""


class Provider:
    def __init__(self, name: str, base_url: str, keys: Sequence[str], transport: Transport) -> None:
        self.name = name
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/v1/messages"
        self._transport = transport
        common = {"anthropic-version": VERSION, "content-type": "application/json"}
        self._headers = itertools.cycle([{"x-api-key": key, **common} for key in keys if key] or [common])

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        encoded = encode(call, model)
        encoded.body.pop("stream", None)
        response = await self._post(encoded.body, timeouts)
        try:
            raw = await response.read()
        except ProviderError as error:
            raise self._named(error) from None
        body, tally = decode(raw, model, encoded.reading, provider=self.name)
        tally.waited = response.waited
        return Reply(body, tally, response.headers, encoded.dropped)

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        encoded = encode(call, model)
        encoded.body["stream"] = True
        response = await self._post(encoded.body, timeouts)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise await self._no_stream(response)
        tally = Tally(waited=response.waited)
        decoder = Decoder(model, encoded.reading, tally, include_usage=call.include_usage, provider=self.name)
        return Stream(self._events(response, decoder), response.close, tally, response.headers, encoded.dropped)

    async def _post(self, body: Json, timeouts: Timeouts) -> Response:
        try:
            content = orjson.dumps(body)
        except TypeError:
            raise InvalidRequest("the request cannot be written as JSON") from None
        try:
            response = await self._transport.post(self._url, next(self._headers), content, timeouts)
            if not 200 <= response.status < 300:
                raise decode_error(response.status, response.headers, await response.read(), provider=self.name)
        except ProviderError as error:
            raise self._named(error) from None
        return response

    async def _no_stream(self, response: Response) -> Exception:
        """What an answer means that is no stream although one was asked for."""
        try:
            raw = await response.read()
            if isinstance(orjson.loads(raw)["error"], dict):
                return decode_error(200, {}, raw, provider=self.name)
        except ProviderError as error:
            return self._named(error)
        except (KeyError, TypeError, ValueError):
            pass
        return BadReply(
            f"{self.name}: the answer is not a stream of events", provider=self.name, status=response.status
        )

    async def _events(self, response: Response, decoder: Decoder) -> AsyncIterator[Batch]:
        chunks = response.chunks()
        try:
            async for data in chunks:
                if batch := decoder.read(data):
                    yield batch
                if decoder.done or decoder.trouble is not None:
                    break
            else:
                if batch := decoder.end():
                    yield batch
            if decoder.trouble is not None:
                raise decoder.trouble
            await _drain(chunks, response)
        except ProviderError as error:
            response.close()
            raise self._named(error) from None
        except TalariaError:
            response.close()
            raise

    def _named(self, error: ProviderError) -> ProviderError:
        if not error.provider:
            error.provider = self.name
            error.message = f"{self.name}: {error.message}"
            error.args = (error.message,)
        return error


async def _drain(chunks: AsyncIterator[bytes], response: Response) -> None:
    """Reads the connection to its end, which is all but there; a vendor that keeps it open delays nobody."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
    except (ProviderError, TimeoutError):
        response.close()
