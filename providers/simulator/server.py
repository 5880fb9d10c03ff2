"""Runs the simulator on a socket: in the caller's loop, or on a thread of its own for tests and the demo."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from providers.simulator.connection import TRANSPORT

START_SECONDS = 10.0


class Protocol(HttpToolsProtocol):
    """Lets the app reach the transport, which a connection reset needs."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    def __init__(self, app: Any, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=Protocol,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self.started_event = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_event.set()


async def serve(app: Any, host: str = "127.0.0.1", port: int = 9100) -> None:
    """Serves until a signal or until the task is cancelled."""
    server = _Server(app, host, port)
    try:
        await server.serve()
    except asyncio.CancelledError:
        await server.shutdown()
        raise


@contextmanager
def running(app: Any, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves on a thread and gives the URL; port 0 takes a free one."""
    listener = socket.create_server((host, port), backlog=2048)
    bound = listener.getsockname()[1]
    server = _Server(app, host, bound)
    thread = threading.Thread(target=server.run, args=([listener],), name="simulator", daemon=True)
    thread.start()
    try:
        if not server.started_event.wait(START_SECONDS):
            raise RuntimeError("the simulator did not start")
        yield f"http://{host}:{bound}"
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        listener.close()
