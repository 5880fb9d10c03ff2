"""The whole configuration as one frozen tree.

The fields here and in `entries.py` and `rules.py` are the reference: their descriptions go into the JSON Schema. A key
that is not there is an error.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.document import Problem
from gateway.entries import ModelEntry, Provider
from gateway.fields import (
    Address,
    Name,
    Names,
    Part,
    RedisUrl,
    SqliteUrl,
    Table,
    nothing,
    split_address,
    unique,
    vendor_key,
)
from gateway.rules import OWN, USUAL, Experiment, LatencyClass, Route, Tasks, over
from gateway.wording import plain, wrong


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` are all that were found, warnings too."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _version(found: Any) -> Any:
    return 1 if found == "1" else found


class Log(Part):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is worth a line."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="`text` for people, `json` for machines; to stderr."
    )


class Admin(Part):
    """Where metrics and the admin page are, and who may see them."""

    listen: Address | None = Field(
        default=None,
        description="host:port of a listener of its own for `/metrics` and `/admin`; left out, they share `listen`.",
    )
    key: SecretStr | None = Field(
        default=None,
        description="What `Authorization: Bearer` must say off loopback; empty or left out, nobody gets in there.",
    )

    @field_validator("key")
    @classmethod
    def _empty_is_no_key(cls, key: SecretStr | None) -> SecretStr | None:
        stripped = None if key is None else vendor_key(key)
        return stripped if stripped else None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, where there is a listener of its own."""
        return _endpoint(self.listen) if self.listen else None


class Server(Part):
    """The gateway as a service."""

    listen: Address = Field(default="127.0.0.1:8080", description="host:port to serve on; port 0 takes a free one.")
    auth: Literal["keys", "none"] = Field(
        default="keys",
        description="`keys` asks callers for an application key; `none` asks for nothing, and only on loopback.",
        validate_default=True,
    )
    admin: Admin = Field(default=Admin(), description="Where metrics and the admin page are, and who may see them.")
    redis: RedisUrl = Field(
        default=SecretStr(""),
        description="redis://, rediss://, unix:// or redis+sentinel:// URL of shared state; empty for none.",
    )
    ledger: SqliteUrl = Field(
        default="sqlite:///talaria.db",
        description="sqlite:/// URL of what must last: who asked what, and what it cost.",
    )
    default_class: Name = Field(default="interactive", description="Latency class of a call that names none.")
    drain_seconds: float = Field(
        default=30, ge=0, le=86_400, description="How long calls in flight may go on once the gateway is told to stop."
    )
    max_body_bytes: int = Field(
        default=32 * 1024 * 1024, gt=0, le=1024**3, description="Largest request body; what is larger gets a 413."
    )
    sse_keepalive_seconds: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="Comment line to the caller after this much silence in a stream; 0 for none.",
    )
    log: Log = Field(default=Log(), description="What is logged, and how.")

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if self.auth == "none" and not self.loopback:
            raise wrong(
                f"auth: none is refused on {self.listen}: anybody could spend your keys; "
                "listen on 127.0.0.1, ::1 or localhost, or set auth: keys",
                "auth",
            )
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return _endpoint(self.listen)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can call."""
        return is_loopback(self.address[0])

    @property
    def database(self) -> str:
        """The ledger's file."""
        return self.ledger.removeprefix("sqlite:///")


def _endpoint(address: str) -> tuple[str, int]:
    host, port = split_address(address)
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or an address of this machine that no other can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Config(Part):
    """Everything the file says, with all that it leaves out filled in."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="The version of this format: 1.")
    server: Server = Field(default=Server(), description="The gateway as a service.")
    providers: Table[Provider] = Field(default_factory=nothing, description="Vendors by name.")
    models: Table[ModelEntry] = Field(default_factory=nothing, description="Models by the name that callers use.")
    latency_classes: Table[LatencyClass] = Field(
        default_factory=nothing,
        description="Latency classes by name; realtime, interactive and background are always there.",
        validate_default=True,
    )
    tasks: Tasks = Field(default=Tasks(), description="What sorts of work calls are told apart by.")
    use_cases: Annotated[tuple[Name, ...], AfterValidator(unique)] = Field(
        default=(), description="Use cases that metrics and costs are kept for; any other counts as `other`."
    )
    fallbacks: Table[Names] = Field(default_factory=nothing, description="Chains of models by name, tried in order.")
    routes: tuple[Route, ...] = Field(default=(), description="The first whose `match` fits takes the call.")

    experiments: Table[Experiment] = Field(
        default_factory=nothing, description="What is compared, by name; a route takes part with `choose`."
    )

    _warnings: tuple[Problem, ...] = PrivateAttr(())

    @field_validator("models", mode="before")
    @classmethod
    def _upstream_is_the_name(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: {"upstream": name, **model} if isinstance(model, dict) else model for name, model in data.items()}

    @field_validator("latency_classes", mode="before")
    @classmethod
    def _over_the_usual(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: over(USUAL.get(name, OWN), data.get(name, {})) for name in dict.fromkeys((*USUAL, *data))}

    @model_validator(mode="after")
    def _experiments_in_their_routes(self) -> Self:
        routes = tuple(route.comparing(self.experiments) for route in self.routes)
        return self if routes == self.routes else self.model_copy(update={"routes": routes})

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is worth a word though the configuration can be used."""
        return self._warnings

    @cached_property
    def hash(self) -> str:
        """Tells snapshots apart. Secrets have no part in it, so it may be shown; a changed key does not change it."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def active(self, provider: str) -> bool:
        """Whether the provider has a key, or asks for none."""
        return self.providers[provider].active

    def listening(self, host: str | None = None, port: int | None = None) -> Config:
        """The same with another address, as flags ask for it. Raises ConfigError where it could not be so in a file."""
        old_host, old_port = self.server.address
        host = old_host if host is None else host
        listen = f"{f'[{host}]' if ':' in host else host}:{old_port if port is None else port}"
        try:
            given = {name: getattr(self.server, name) for name in Server.model_fields}
            server = Server.model_validate({**given, "listen": listen})
        except ValidationError as error:
            found = [plain(detail, Server) for detail in error.errors(include_url=False)]
            raise ConfigError(Problem("flags", 1, 1, "server.listen", words) for words in found) from None
        changed = self.model_copy(update={"server": server})
        changed.__dict__.pop("hash", None)
        return changed
