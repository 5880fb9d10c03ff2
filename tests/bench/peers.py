"""Other gateways, each a public package of a pinned version in a folder of its own. Nothing else needs them."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.contenders import Contender, NotHere
from tests.bench.load import Target
from tests.bench.machine import ROOT, free_port

FOLDER = ROOT / ".tools" / "peers"

INSTALL_SECONDS = 900


class Peer(Contender):
    package = ""
    patience = 120.0

    @classmethod
    def install(cls) -> None:
        """Into its folder, unless it is there. Raises NotHere."""
        folder = FOLDER / cls.name
        note = folder / ".installed"
        if note.exists() and note.read_text() == cls.package:
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for command in cls.steps(folder):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=folder)
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", None) or str(error)
            raise NotHere(f"{cls.package} could not be installed: {told[-600:]}") from None
        note.write_text(cls.package)

    @classmethod
    def steps(cls, folder: Path) -> list[list[str]]:
        """The commands that install it: a Python package, unless said otherwise."""
        return [
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", cls.package],
        ]

    @property
    def bin(self) -> Path:
        return FOLDER / self.name / "bin"


class LiteLLM(Peer):
    """LiteLLM's proxy: Python."""

    name = "litellm"
    key = "sk-" + secrets.token_hex(16)
    """Without one it does not start."""
    # Not 1.107.0: that release was tampered with.
    package = "litellm[proxy]==1.106.2"

    def command(self) -> list[str]:
        config = self.file(
            "config.yaml",
            "model_list:\n"
            "  - model_name: gpt-4.1-nano\n"
            f"    litellm_params: {{model: openai/gpt-4.1-nano, api_base: {self.place.vendor}/openai/v1, api_key: bench}}\n"
            "litellm_settings: {telemetry: false}\n"
            f"general_settings: {{master_key: {self.key}}}\n",
        )
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"]
        return [str(self.bin / "litellm"), "--config", str(config), *options]

    def target(self, way: str = "") -> Target:
        return Target(self.port, "/v1/chat/completions", "gpt-4.1-nano", {"authorization": f"Bearer {self.key}"})

    def environment(self) -> dict[str, str]:
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}


class SglangRouter(Peer):
    """SGLang's router in front of a vendor of OpenAI's dialect: Rust."""

    name = "sglang-router"
    package = "sglang-router==0.3.2"

    def command(self) -> list[str]:
        return [
            *(str(self.bin / "python"), "-m", "sglang_router.launch_router"),
            *("--backend", "openai", "--worker-urls", f"{self.place.vendor}/openai", "--history-backend", "none"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        ]


class Portkey(Peer):
    """Portkey's gateway: Node."""

    name = "portkey"
    package = "@portkey-ai/gateway@1.15.2"

    @classmethod
    def steps(cls, folder: Path) -> list[list[str]]:
        npm = shutil.which("npm")
        if npm is None:
            raise NotHere("npm is not installed")
        # With a later one every stream is a 500: https://github.com/Portkey-AI/gateway/issues/1389
        (folder / "package.json").write_text('{"private": true, "overrides": {"@hono/node-server": "1.13.8"}}')
        options = ["--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--legacy-peer-deps"]
        return [[npm, "install", *options, cls.package]]

    def command(self) -> list[str]:
        node = shutil.which("node")
        if node is None:
            raise NotHere("node is not installed")
        start = FOLDER / self.name / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        return [node, str(start), f"--port={self.port}", "--headless"]

    def environment(self) -> dict[str, str]:
        return {"NODE_ENV": "production"}

    def target(self, way: str = "") -> Target:
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{self.place.vendor}/openai/v1"}
        return Target(self.port, "/v1/chat/completions", "gpt-4.1-nano", headers)


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteLLM, SglangRouter, Portkey)}
