"""What stands between callers and the vendor: Talaria, and what it is held against. A class is a contender.

A contender may have several ways through it, such as a vendor that speaks another dialect: `talaria:anthropic`.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trustme

from tests.bench import bodies
from tests.bench.load import Target, once
from tests.bench.machine import ROOT, Process, free_port


class NotHere(Exception):
    """A contender that cannot be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where contenders run."""

    folder: Path
    """For their configurations and logs."""
    core: int | None
    port: int
    """The vendor's."""
    tls_port: int
    ca: Path
    """Whose certificate the vendor has."""

    @property
    def vendor(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def certificates(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A certificate for 127.0.0.1 as a server shows it, and the file that callers need to trust it."""
    ca = trustme.CA()
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context, path


class Contender:
    """One that is started once and then measured again and again."""

    name = ""
    patience = 60.0
    """Seconds that it may take to start."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.port = free_port()
        self.process: Process | None = None

    def command(self) -> list[str]:
        """Raises NotHere."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def target(self, way: str = "") -> Target:
        return Target(self.port, "/v1/chat/completions", "gpt-4.1-nano")

    def file(self, name: str, text: str) -> Path:
        path = self.place.folder / f"{self.name}-{self.port}-{name}"
        path.write_text(text)
        return path

    async def start(self) -> float:
        """Starts it; the seconds until its first answer. Raises NotHere."""
        log = self.place.folder / f"{self.name}-{self.port}.log"
        command, environment = self.command(), self.environment()
        started = time.perf_counter()
        self.process = process = Process(command, self.place.core, log, environment)
        body = bodies.small(self.target().model)
        try:
            while not await once(self.target(), body, self.patience):
                if process.gone():
                    raise NotHere(f"{self.name} ended at its start: {log.read_text(errors='replace')[-800:]}")
                if time.perf_counter() - started > self.patience:
                    raise NotHere(f"{self.name} did not answer: {log.read_text(errors='replace')[-800:]}")
                await asyncio.sleep(0.005)
        except BaseException:
            process.stop()
            raise
        took = time.perf_counter() - started
        process.settle()
        return took

    def cpu(self) -> float:
        return self.process.cpu() if self.process else 0.0

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


class Direct(Contender):
    """No gateway at all: what callers and vendor can do by themselves."""

    name = "direct"

    def target(self, way: str = "") -> Target:
        return Target(self.place.port, "/openai/v1/chat/completions", "gpt-4.1-nano")

    async def start(self) -> float:
        return 0.0


BASIC = """\
version: 1
server: {{listen: "127.0.0.1:{port}", auth: none, log: {{level: warning}}}}
providers:
  inception: {{kind: inception, base_url: "{vendor}/inception/v1", keys: [{{id: main, value: bench}}]}}
  openai:    {{kind: openai, base_url: "{vendor}/openai/v1", keys: [{{id: main, value: bench}}]}}
  anthropic: {{kind: anthropic, base_url: "{vendor}/anthropic", keys: [{{id: main, value: bench}}]}}
{more_providers}
models:
  mercury:      {{provider: inception, upstream: mercury-2}}
  gpt-4.1-nano: {{provider: openai}}
  claude-haiku: {{provider: anthropic, upstream: claude-haiku-4-5-20251001}}
  failing:      {{provider: openai, upstream: upstream-fails}}
{more_models}
"""

EVERYTHING = """\
use_cases: [ide, support, reports]
fallbacks:
  small: [mercury, gpt-4.1-nano, claude-haiku]
routes:
  - name: typing
    match: {{models: [auto], use_cases: [ide], tasks: [autocomplete, code]}}
    class: realtime
    candidates: [mercury, gpt-4.1-nano]
    fallback: small
  - {{name: auto-fast, class: realtime, candidates: [mercury, gpt-4.1-nano]}}
  - {{name: reports, match: {{models: [auto], use_cases: [reports]}}, candidates: [claude-haiku], fallback: small}}
  - {{name: auto, candidates: [gpt-4.1-nano, mercury, claude-haiku], fallback: small}}
"""


class Talaria(Contender):
    """As it starts with three vendors and little else: no keys, a quiet log."""

    name = "talaria"
    models: ClassVar[dict[str, str]] = {
        "": "gpt-4.1-nano",
        "anthropic": "claude-haiku",
        "mercury": "mercury",
        "fails": "failing",
    }

    def text(self) -> str:
        return BASIC.format(port=self.port, vendor=self.place.vendor, more_providers="", more_models="")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gateway", "serve", "--config", str(self.file("talaria.yaml", self.text()))]

    def target(self, way: str = "") -> Target:
        return Target(self.port, "/v1/chat/completions", self.models[way])


class TalariaTls(Talaria):
    """The same, with a vendor behind TLS."""

    name = "talaria-tls"
    models: ClassVar[dict[str, str]] = {"": "secret"}

    def text(self) -> str:
        provider = (
            f'  secure: {{kind: openai, base_url: "https://127.0.0.1:{self.place.tls_port}/openai/v1", '
            "keys: [{id: main, value: bench}]}"
        )
        model = "  secret: {provider: secure, upstream: gpt-4.1-nano}"
        return BASIC.format(port=self.port, vendor=self.place.vendor, more_providers=provider, more_models=model)

    def environment(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(self.place.ca)}


class TalariaFull(Talaria):
    """With all on that there is: keys, use cases, tags, several routes, and a line in the log for each call."""

    name = "talaria-full"
    models: ClassVar[dict[str, str]] = {"": "auto"}

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._key = ""

    def text(self) -> str:
        server = (
            f'{{listen: "127.0.0.1:{self.port}", auth: keys, '
            f'ledger: "sqlite:///{self.place.folder}/keys-{self.port}.db", log: {{level: info, format: json}}}}'
        )
        text = BASIC.format(port=self.port, vendor=self.place.vendor, more_providers="", more_models="")
        return re.sub("server: .*", f"server: {server}", text) + EVERYTHING.format()

    def command(self) -> list[str]:
        command = super().command()
        made = subprocess.run(
            [sys.executable, "-m", "gateway", "keys", "create", "bench", "--config", command[-1]],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        found = re.search(r"sk-tal-\S+", made.stdout)
        assert found is not None
        self._key = found[0]
        return command

    def target(self, way: str = "") -> Target:
        headers = {
            "authorization": f"Bearer {self._key}",
            "x-talaria-use-case": "support",
            "x-talaria-tags": "team=bench,feature=speed",
        }
        return Target(self.port, "/v1/chat/completions", self.models[way], headers)


class Floor(Contender):
    """See `floor`."""

    name = "floor"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.bench.floor", str(self.port), f"{self.place.vendor}/openai/v1"]

    def target(self, way: str = "") -> Target:
        return Target(self.port, f"/{way or 'pass'}/v1/chat/completions", "gpt-4.1-nano")


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx-{port}.pid; error_log stderr error; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 64m; client_body_temp_path {folder}/nginx-{port}-body;
  proxy_temp_path {folder}/nginx-{port}-proxy; fastcgi_temp_path {folder}/nginx-{port}-f;
  uwsgi_temp_path {folder}/nginx-{port}-u; scgi_temp_path {folder}/nginx-{port}-s;
  keepalive_requests 100000000;
  upstream vendor {{ server 127.0.0.1:{vendor}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location /v1/ {{
      proxy_pass http://vendor/openai/v1/; proxy_http_version 1.1; proxy_set_header connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


class Nginx(Contender):
    """A proxy in C that looks at nothing: the limit of what can be had."""

    name = "nginx"
    binary: str | None = None

    def command(self) -> list[str]:
        if self.binary is None:
            raise NotHere("nginx is not installed (--nginx PATH names one)")
        user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        text = NGINX.format(folder=self.place.folder, port=self.port, vendor=self.place.port, user=user)
        return [self.binary, "-p", str(self.place.folder), "-c", str(self.file("nginx.conf", text))]


HOUSE: dict[str, type[Contender]] = {
    kind.name: kind for kind in (Direct, Nginx, Floor, Talaria, TalariaFull, TalariaTls)
}
"""Those that need nothing but this repository, and nginx where it is installed."""
