"""The bare floor: what the least proxy of Talaria's stack costs, a Starlette route with httpx over aiohttp's sockets.

    python -m tests.bench.floor PORT UPSTREAM_BASE_URL

`/pass` hands the bytes of a stream on as they come; `/parse` reads every event and writes it anew, one write for each
read, which is the least that a gateway does that looks at what it carries. Whole answers are parsed both ways.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import httpx
import orjson
import uvicorn
from httpx_aiohttp import AiohttpTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

PORT, BASE = int(sys.argv[1]), sys.argv[2]
HEADERS = {"content-type": "application/json", "authorization": "Bearer x"}

_client: httpx.AsyncClient | None = None


def client() -> httpx.AsyncClient:
    global _client
    if _client is None:
        # Its sockets belong to the loop that it is first used on. To aiohttp 0 is no limit.
        limits = httpx.Limits(max_connections=0, keepalive_expiry=60)
        _client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=60)
    return _client


async def chat(request: Request) -> Response:
    body = orjson.loads(await request.body())
    content = orjson.dumps(body)
    url = BASE + "/chat/completions"
    if body.get("stream"):
        sent = client().build_request("POST", url, content=content, headers=HEADERS)
        answer = await client().send(sent, stream=True)
        parts = rewritten(answer) if request.url.path.startswith("/parse") else answer.aiter_bytes()
        return StreamingResponse(parts, answer.status_code, media_type="text/event-stream")
    answer = await client().post(url, content=content, headers=HEADERS)
    return Response(
        orjson.dumps(orjson.loads(answer.content)), status_code=answer.status_code, media_type="application/json"
    )


async def rewritten(answer: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for data in answer.aiter_bytes():
        *events, rest = (rest + data).split(b"\n\n")
        out = []
        for event in events:
            if event == b"data: [DONE]":
                out.append(event)
            else:
                out.append(b"data: " + orjson.dumps(orjson.loads(event[6:])))
        if out:
            yield b"\n\n".join(out) + b"\n\n"


app = Starlette(
    routes=[Route(f"/{way}/v1/chat/completions", chat, methods=["POST"]) for way in ("pass", "parse")],
)

if __name__ == "__main__":
    uvicorn.run(app, port=PORT, access_log=False, log_level="warning")
