"""Anthropic's Messages API. https://platform.claude.com/docs/en/api/messages

The request is told in `anthropic_request.py` (its messages in `anthropic_messages.py`, its schemas in
`anthropic_schema.py`), the answer in `anthropic_answer.py`, what goes wrong in `anthropic_errors.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress

import orjson

from providers.anthropic_answer import Decoder, Reading, decode, decode_usage
from providers.anthropic_errors import decode_error
from providers.anthropic_request import Encoded, encode
from providers.base import Batch, Endpoint, Response, Stream, Transport
from providers.errors import BadReply, InvalidRequest
from providers.types import Call, Json, Model, Reply, Tally, Timeouts

__all__ = ["Decoder", "Encoded", "Provider", "Reading", "decode", "decode_error", "decode_usage", "encode"]

VERSION = "2023-06-01"
"""Newer versions take no sampling parameters any more."""


class Provider:
    def __init__(self, name: str, base_url: str, keys: Sequence[str], transport: Transport) -> None:
        self.name = name
        common = {"anthropic-version": VERSION, "content-type": "application/json"}
        headers = itertools.cycle([{"x-api-key": key, **common} for key in keys if key] or [common])
        root = base_url.rstrip("/").removesuffix("/v1")
        self.endpoints: Mapping[str, Endpoint] = {"chat": Chat(name, f"{root}/v1/messages", headers, transport)}


class Chat:
    """Chat completions, by the Messages API."""

    def __init__(self, name: str, url: str, headers: Iterator[Mapping[str, str]], transport: Transport) -> None:
        self.name = name
        self._url = url
        self._headers = headers
        self._transport = transport

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        encoded = encode(call, model)
        encoded.body.pop("stream", None)
        response = await self._post(encoded.body, timeouts)
        raw = await response.read()
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
        response = await self._transport.post(self._url, next(self._headers), content, timeouts)
        if not 200 <= response.status < 300:
            raise decode_error(self.name, response.status, response.headers, await response.read())
        return response

    async def _no_stream(self, response: Response) -> Exception:
        """What an answer means that is no stream although one was asked for."""
        raw = await response.read()
        with suppress(KeyError, TypeError, ValueError):
            if isinstance(orjson.loads(raw)["error"], dict):
                return decode_error(self.name, 200, {}, raw)
        return BadReply(
            f"{self.name}: the answer is not a stream of events", provider=self.name, status=response.status
        )

    async def _events(self, response: Response, decoder: Decoder) -> AsyncIterator[Batch]:
        try:
            async for data in response.chunks():
                if batch := decoder.read(data):
                    yield batch
                if decoder.done or decoder.trouble is not None:
                    break
            else:
                if batch := decoder.end():
                    yield batch
            if decoder.trouble is not None:
                raise decoder.trouble
            await response.drain()
        finally:
            response.close()
