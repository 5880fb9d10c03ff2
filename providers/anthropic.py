"""Anthropic's Messages API. https://platform.claude.com/docs/en/api/messages

A chat request is told in `anthropic_request.py` (its messages in `anthropic_messages.py`, its schemas in
`anthropic_schema.py`), its answer in `anthropic_answer.py`; what callers say in Anthropic's own words, and hear, in
`anthropic_native.py`; what goes wrong in `anthropic_errors.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import orjson

from providers import anthropic_native as native
from providers.anthropic_answer import Decoder, Reading, decode, decode_usage
from providers.anthropic_errors import decode_error
from providers.anthropic_request import Encoded, encode
from providers.base import Batch, Endpoint, Response, Stream, Transport
from providers.errors import BadReply, InvalidRequest, TalariaError
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
        api = Api(name, f"{root}/v1/messages", headers, transport)
        self.endpoints: Mapping[str, Endpoint] = {
            "chat": Chat(api),
            "messages": Messages(api),
            "count_tokens": CountTokens(api),
        }


class Chat:
    """Chat completions, by the Messages API."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        encoded = encode(call, model)
        encoded.body.pop("stream", None)
        response = await self._api.post(encoded.body, timeouts)
        body, tally = decode(await response.read(), model, encoded.reading, provider=self._api.name)
        tally.waited = response.waited
        return Reply(body, tally, response.headers, encoded.dropped)

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        encoded = encode(call, model)
        encoded.body["stream"] = True
        response = await self._api.post(encoded.body, timeouts)
        tally = Tally(waited=response.waited)
        decoder = Decoder(model, encoded.reading, tally, include_usage=call.include_usage, provider=self._api.name)
        return await self._api.stream(response, decoder, encoded.dropped)


class Messages:
    """The Messages API for callers who speak it: what they say and what they hear is left as it is."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        asked, dropped = native.encode(call, model)
        response = await self._api.post(asked, timeouts, call.headers)
        body, tally = native.decode(await response.read(), model, provider=self._api.name)
        tally.waited = response.waited
        return Reply(body, tally, response.headers, dropped)

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        asked, dropped = native.encode(call, model)
        response = await self._api.post(asked, timeouts, call.headers)
        reader = native.Reader(model, Tally(waited=response.waited), provider=self._api.name)
        return await self._api.stream(response, reader, dropped)


class CountTokens:
    """How long a request is, by the vendor's own count."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        body = native.encode_count(call, model)
        response = await self._api.post(body, timeouts, call.headers, path="/count_tokens")
        return Reply(await response.read(), Tally(waited=response.waited), response.headers)

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        raise InvalidRequest("A token count is not streamed.", param="stream")


class Reader(Protocol):
    """What turns a stream's bytes into batches; see `anthropic_answer.Decoder`."""

    tally: Tally
    done: bool
    trouble: TalariaError | None

    def read(self, data: bytes) -> Batch: ...

    def end(self) -> Batch: ...


class Api:
    """The vendor's `/v1/messages` and what is below it."""

    def __init__(self, name: str, url: str, headers: Iterator[Mapping[str, str]], transport: Transport) -> None:
        self.name = name
        self._url = url
        self._headers = headers
        self._transport = transport

    async def post(self, body: Json, timeouts: Timeouts, more: Mapping[str, str] = {}, path: str = "") -> Response:
        """Sends, with `more` headers over the usual ones. Raises what an answer that is none stands for."""
        headers = {**next(self._headers), **more}
        response = await self._transport.post(self._url + path, headers, _written(body), timeouts)
        if not 200 <= response.status < 300:
            raise decode_error(self.name, response.status, response.headers, await response.read())
        return response

    async def stream(self, response: Response, reader: Reader, dropped: tuple[str, ...]) -> Stream:
        """The answer as it arrives. Raises what it means when it is no stream."""
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise await self._no_stream(response)
        return Stream(self._events(response, reader), response.close, reader.tally, response.headers, dropped)

    async def _no_stream(self, response: Response) -> Exception:
        raw = await response.read()
        with suppress(KeyError, TypeError, ValueError):
            if isinstance(orjson.loads(raw)["error"], dict):
                return decode_error(self.name, 200, {}, raw)
        return BadReply(
            f"{self.name}: the answer is not a stream of events", provider=self.name, status=response.status
        )

    async def _events(self, response: Response, reader: Reader) -> AsyncIterator[Batch]:
        try:
            async for data in response.chunks():
                if batch := reader.read(data):
                    yield batch
                if reader.done or reader.trouble is not None:
                    break
            else:
                if batch := reader.end():
                    yield batch
            if reader.trouble is not None:
                raise reader.trouble
            await response.drain()
        finally:
            response.close()


def _written(body: Json) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        raise InvalidRequest("the request cannot be written as JSON") from None
