"""What `talaria simulate` runs: the pretend vendors alone. Imports nothing of the gateway but its server."""

from __future__ import annotations

import socket

from gateway import server
from gateway.server import Site
from providers.simulator import create_app
from providers.simulator.server import Protocol


def site(bound: socket.socket, seed: int = 0, speed: float = 1.0) -> Site:
    """The simulator on a socket."""
    return Site(create_app(seed=seed, speed=speed), bound, Protocol)


async def serve_simulator(host: str, port: int, seed: int, speed: float) -> None:
    """The simulator alone. Raises OSError where it cannot listen."""
    alone = site(server.listen(host, port), seed, speed)

    def ready() -> None:
        print(f"simulated vendors: {alone.url}/inception/v1 {alone.url}/openai/v1 {alone.url}/anthropic", flush=True)

    await server.run([alone], drain_seconds=1, on_ready=ready)
