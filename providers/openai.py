"""OpenAI's API, and every service that has the same under another address.

Each operation is a `Form`: a path, and the functions that write its request and read its answer.
`providers.inception` and others with this dialect build on what is here.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple
from urllib.parse import quote

from providers import base, openai_chat, openai_completions, openai_embeddings
from providers.base import Batch, Response, Stream, Transport
from providers.errors import BadReply, ProviderError, TalariaError
from providers.openai_chat import Reader
from providers.openai_errors import decode_error, error_of
from providers.sse import Splitter
from providers.types import Call, Model, Reply, Tally, Timeouts


class Form(NamedTuple):
    """How one operation is spoken.

    `encode(call, model, stream)` gives the request's body and the parameters that were left out or bent;
    `decode(provider, model, headers, body)` reads a whole answer; `reader` reads a stream, where the operation has any;
    `decode_error(provider, status, headers, body)` reads what is no answer. In a path `{upstream}` stands for the
    model's id; `stream_path` is where streams are asked for, if not in the same place.
    """

    path: str
    encode: Callable[[Call, Model, bool], tuple[bytes, list[str]]]
    decode: Callable[[str, Model, Mapping[str, str], bytes], Reply]
    reader: Callable[[str, Model, bool, Tally], Reader] = Reader
    decode_error: Callable[[str, int, Mapping[str, str], bytes], TalariaError] = decode_error
    stream_path: str | None = None


class Endpoint:
    """One path of the vendor."""

    def __init__(
        self, name: str, base_url: str, form: Form, headers: Iterator[Mapping[str, str]], transport: Transport
    ) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._form = form
        self._headers = headers
        self._transport = transport

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        request, dropped = self._form.encode(call, model, False)
        response = await self._post(self._form.path, model, request, timeouts)
        reply = self._form.decode(self.name, model, response.headers, await response.read())
        reply.dropped += tuple(dropped)
        reply.tally.waited = response.waited
        return reply

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        request, dropped = self._form.encode(call, model, True)
        response = await self._post(self._form.stream_path or self._form.path, model, request, timeouts)
        if "text/event-stream" not in response.headers.get("content-type", "text/event-stream"):
            body = await response.read()
            if error_of(body):
                raise self._form.decode_error(self.name, response.status, response.headers, body)
            raise BadReply(f"{self.name}: a stream was asked for, and something else came", provider=self.name)
        tally = Tally(waited=response.waited)
        reader = self._form.reader(self.name, model, call.include_usage, tally)
        return Stream(self._events(response, reader), response.close, tally, response.headers, tuple(dropped))

    async def _post(self, path: str, model: Model, request: bytes, timeouts: Timeouts) -> Response:
        if "{upstream}" in path:
            path = path.replace("{upstream}", quote(model.upstream, safe=""))
        response = await self._transport.post(self._base_url + path, next(self._headers), request, timeouts)
        if response.status != 200:
            raise self._form.decode_error(self.name, response.status, response.headers, await response.read())
        return response

    async def _events(self, response: Response, reader: Reader) -> AsyncIterator[Batch]:
        splitter = Splitter()
        pieces = response.chunks()
        try:
            while not reader.done:
                batch: Batch = []
                try:
                    batch = reader.read(splitter.feed(await anext(pieces)))
                except StopAsyncIteration:
                    batch = reader.read(splitter.flush())
                    if not (reader.done or reader.failure):
                        reader.end(batch, whole=reader.finished)
                except ProviderError:
                    # What breaks after the last finish reason breaks nothing.
                    if not reader.finished:
                        raise
                    reader.end(batch, whole=True)
                if batch:
                    yield batch
                if reader.failure is not None:
                    raise reader.failure
            await response.drain()
        finally:
            response.close()


class Provider:
    """Any service with OpenAI's paths under `base_url`."""

    forms: ClassVar[Mapping[str, Form]] = {
        "chat": Form("/chat/completions", openai_chat.encode, openai_chat.decode),
        "completions": Form(
            "/completions", openai_completions.encode, openai_completions.decode, openai_completions.Reader
        ),
        "embeddings": Form("/embeddings", openai_embeddings.encode, openai_embeddings.decode),
    }

    auth: ClassVar[tuple[str, str]] = ("authorization", "Bearer ")
    """The header that the key is sent in, and what stands before it there."""

    def __init__(
        self,
        name: str,
        base_url: str,
        keys: Sequence[str],
        transport: Transport,
        forms: Mapping[str, Form] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        self.name = name
        plain = {"content-type": "application/json"}
        header, scheme = auth or self.auth
        headers = itertools.cycle([{**plain, header: scheme + key} for key in keys] or [plain])
        self.endpoints: Mapping[str, base.Endpoint] = {
            operation: Endpoint(name, base_url, form, headers, transport)
            for operation, form in (forms or self.forms).items()
        }
