"""talaria: each command parses, calls one function, and prints. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.keys import Keys

FOUND_A_PROBLEM = 1
WRONG_USAGE = 2

DEFAULT_FILE = Path("talaria.yaml")

app = typer.Typer(
    name="talaria",
    help="An LLM gateway: one OpenAI-compatible endpoint in front of Mercury, GPT-4.1 Nano, Claude Haiku and others.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="Application keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file; talaria.yaml by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Over the file's.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Over the file's; 0 takes a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; this version runs one.")] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="Run against a simulator beside it; needs no keys.")] = False,
) -> None:
    """Run the gateway."""
    if workers != 1:
        _fail("--workers: this version runs one process; start several behind a load balancer for more", WRONG_USAGE)
    if demo and config is not None:
        _fail("--demo brings its own configuration; leave out --config", WRONG_USAGE)
    # What is loaded at the start stays: looking through it for garbage costs a tenth of the start. `run` enables it.
    gc.disable()
    import uvloop

    from gateway.config import ConfigError
    from gateway.keys import KeysUnavailable
    from gateway.run import serve_demo, serve_file

    try:
        if demo:
            uvloop.run(serve_demo(host, port))
        else:
            uvloop.run(serve_file(config or DEFAULT_FILE, host, port))
    except ConfigError as error:
        _fail(str(error), WRONG_USAGE)
    except KeysUnavailable as error:
        _fail(f"server.ledger: {error}", FOUND_A_PROBLEM)
    except OSError as error:
        _fail(f"cannot listen: {error.strerror or error}", FOUND_A_PROBLEM)
    except KeyboardInterrupt:
        pass


@app.command()
def simulate(
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    speed: Annotated[float, typer.Option(min=0, help="Multiplies the models' speeds; 0 answers without delay.")] = 1.0,
) -> None:
    """Run the simulated vendors alone."""
    import uvloop

    from gateway.simulate import serve_simulator

    try:
        uvloop.run(serve_simulator(host, port, seed, speed))
    except OSError as error:
        _fail(f"cannot listen: {error.strerror or error}", FOUND_A_PROBLEM)
    except KeyboardInterrupt:
        pass


@app.command()
def check(file: Path, as_json: JsonOption = False) -> None:
    """Validate a configuration: errors with their line and what is allowed."""
    from gateway.config import check as examine

    problems = examine(file)
    errors = [problem for problem in problems if problem.severity == "error"]
    if as_json:
        _print([_fields(problem) for problem in problems])
    else:
        for problem in problems:
            print(problem)
        if not errors:
            print(f"{file} is valid.")
    if errors:
        raise typer.Exit(WRONG_USAGE)


@app.command()
def schema() -> None:
    """Print the configuration's JSON Schema."""
    from gateway.config import schema as describe

    _print(describe())


@app.command()
def explain(request: Path, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show where a request would go, and why, without calling anyone."""
    from gateway.explain import explain as work_out
    from providers.errors import TalariaError

    loaded = _load(config)
    try:
        raw = request.read_bytes()
    except OSError as error:
        _fail(f"{request}: {error.strerror}", WRONG_USAGE)
    try:
        found = work_out(loaded, raw)
    except TalariaError as error:
        _fail(f"{request}: {error.message}", FOUND_A_PROBLEM)
    if as_json:
        _print(found)
    else:
        for name, value in found.items():
            if isinstance(value, list):
                print(f"{name}:", *(f"\n  {_line(each)}" for each in value))
            else:
                print(f"{name}: {'none' if value is None else value}")


@app.command()
def doctor(
    config: ConfigOption = None,
    live: Annotated[bool, typer.Option("--live", help="Make the calls; they cost about a cent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make one small call to each configured model, and hold its answer against what is expected."""
    from gateway.doctor import examine

    if not live:
        _fail("doctor calls the vendors for real: say so with --live", WRONG_USAGE)
    findings = asyncio.run(examine(_load(config)))
    if as_json:
        _print([_fields(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.healthy else 'FAIL'} {finding.model}: {finding.detail}")
    if not all(finding.healthy for finding in findings):
        raise typer.Exit(FOUND_A_PROBLEM)


@keys_app.command("create")
def keys_create(name: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make a key for an application and show it, this once."""
    if not name.strip():
        _fail("give the key a name that says whose it is", WRONG_USAGE)
    key, text = _keys(config).create(name)
    if as_json:
        _print({"id": key.id, "name": key.name, "key": text})
    else:
        print(text)


@keys_app.command("list")
def keys_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys, without their secrets."""
    found = _keys(config).all()
    if as_json:
        _print([{"id": k.id, "name": k.name, "created": k.created, "revoked": k.revoked} for k in found])
    else:
        for key in found:
            print(f"{key.id}  {'revoked' if key.revoked else 'active '}  {key.name}")


@keys_app.command("revoke")
def keys_revoke(id: str, config: ConfigOption = None) -> None:
    """Take a key back. Running gateways refuse it within a second."""
    if not _keys(config).revoke(id):
        _fail(f"no active key {id!r}; see `talaria keys list`", FOUND_A_PROBLEM)
    print(f"{id} is revoked.", file=sys.stderr)


def main() -> None:
    app()


def _load(file: Path | None) -> Config:
    from gateway.config import ConfigError, load

    try:
        return load(file or DEFAULT_FILE)
    except ConfigError as error:
        _fail(str(error), WRONG_USAGE)


def _keys(file: Path | None) -> Keys:
    from gateway.keys import KeysUnavailable, SqliteKeys

    config = _load(file)
    try:
        return SqliteKeys(config.server.ledger)
    except KeysUnavailable as error:
        _fail(f"server.ledger: {error}", FOUND_A_PROBLEM)


def _fields(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _line(value: Any) -> str:
    return "  ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)
