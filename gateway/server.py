"""Runs ASGI apps on sockets until told to stop, then lets what runs come to its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn


@dataclass(frozen=True, slots=True)
class Site:
    """An app, the socket it is served on, and the protocol class that reads its requests."""

    app: Any
    bound: socket.socket
    protocol: Any = "httptools"

    @property
    def url(self) -> str:
        host, port = self.bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's, with the signals left to `run`: it would end the process by the signal instead of with 0."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.listen(2048)
    bound.setblocking(False)
    return bound


async def run(
    sites: Sequence[Site],
    *,
    drain_seconds: float,
    on_ready: Callable[[], None] = lambda: None,
    on_drain: Callable[[], None] = lambda: None,
    on_hangup: Callable[[], None] | None = None,
) -> None:
    """Serves each site until SIGTERM or SIGINT; answers under way have `drain_seconds` to end.

    The first site is ended first: it may need the others. A second signal cuts the rest short.
    """
    servers = [Server(_settings(site, drain_seconds)) for site in sites]
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            for server in servers:
                server.force_exit = True
        stop.set()

    loop = asyncio.get_running_loop()
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    tasks = [
        asyncio.create_task(server.serve(sockets=[site.bound])) for server, site in zip(servers, sites, strict=True)
    ]
    for server, task in zip(servers, tasks, strict=True):
        await _either(server.up, task)
    if all(server.started for server in servers):
        on_ready()
        await _either(stop, *tasks)
    on_drain()
    for server, task in zip(servers, tasks, strict=True):
        server.should_exit = True
        await task


async def _either(event: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Until the event is set, or a task is over."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _settings(site: Site, drain_seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        site.app,
        http=site.protocol,
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whose address it is that calls, nobody here asks; headers that claim another are left alone.
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
