"""The whole configuration as one frozen tree, and everything that can be said against it before a call is made.

The fields below are the reference: their descriptions go into the JSON Schema. A key that is not here is an error.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import ipaddress
import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    WrapSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

import providers
from gateway import checks, document
from gateway.document import Document, Problem
from gateway.prompts import Prompt, served
from gateway.wording import place, plain, unknown, wrong
from providers import catalog, compatible
from providers.types import Card, Model

V = TypeVar("V")

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "inception": "https://api.inceptionlabs.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
"""What `base_url` is where the file does not say."""

CLASSES: dict[str, dict[str, int]] = {
    "realtime": {"deadline_ms": 10_000, "first_token_ms": 2_000, "idle_ms": 5_000, "connect_ms": 2_000, "retries": 0},
    "interactive": {
        "deadline_ms": 600_000,
        "first_token_ms": 15_000,
        "idle_ms": 60_000,
        "connect_ms": 5_000,
        "retries": 2,
    },
    "background": {
        "deadline_ms": 3_600_000,
        "first_token_ms": 60_000,
        "idle_ms": 120_000,
        "connect_ms": 10_000,
        "retries": 2,
    },
}
"""The latency classes that are always there. A class of one's own takes what it does not say from `interactive`."""

TASKS = (
    *("autocomplete", "code", "explanation", "reasoning", "math", "summarization", "extraction"),
    *("classification", "writing", "chat", "general"),
)


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` are all that were found, warnings too."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _version(found: Any) -> Any:
    return 1 if found == "1" else found


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _thaw(table: Mapping[str, Any], handler: SerializerFunctionWrapHandler) -> Any:
    return handler(dict(table))


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise wrong(f"names {', '.join(twice)} more than once")
    return values


def _address(text: str) -> str:
    host, port = _split(text)
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise wrong('must be host:port, such as "127.0.0.1:8080" or "[::1]:8080"')
    return text


def _split(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    if found := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]", host):
        return found[1], port
    return (host, port) if re.fullmatch("[A-Za-z0-9._-]+", host) else ("", "")


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or any(letter.isspace() or not letter.isascii() for letter in text):
        raise wrong("must be an http:// or https:// URL, as the vendor's own SDK takes it")
    if parts.username is not None or parts.query or parts.fragment:
        raise wrong("must be a URL without credentials, query and fragment; keys belong under `keys`")
    return text.rstrip("/")


def _redis_url(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    scheme, separator, rest = text.partition("://")
    if text and not (scheme in ("redis", "rediss", "unix", "redis+sentinel") and separator and rest):
        raise wrong("must be empty, or a redis://, rediss://, unix:// or redis+sentinel:// URL")
    return SecretStr(text)


def _masked(secret: SecretStr) -> str:
    scheme, separator, rest = secret.get_secret_value().partition("://")
    return f"{scheme}{separator}{rest.partition('?')[0].rpartition('@')[2]}"


def _sqlite_url(text: str) -> str:
    if not text.startswith("sqlite:///"):
        raise wrong("must be a sqlite:///path URL; no other database is served in this version")
    if not text.removeprefix("sqlite:///"):
        raise wrong("must name a file: sqlite:///talaria.db, or sqlite:////an/absolute/path.db")
    return text


def _vendor_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if any(not 32 < ord(letter) < 127 for letter in text):
        raise wrong("holds characters that no key has (a space, a line break or a letter beyond ASCII)")
    return SecretStr(text)


def kinds() -> list[str]:
    """The words that `kind` takes: one for each vendor's file in `providers/`."""
    return [name for name in providers.kinds() if not getattr(providers.load(name), "_is_protocol", False)]


def _kind(name: str) -> str:
    try:
        if not getattr(providers.load(name), "_is_protocol", False):
            return name
    except LookupError:
        pass
    raise wrong(unknown("provider kind", name, kinds()))


def _vendor(name: str) -> str:
    if name not in compatible.rows():
        raise wrong(unknown("vendor", name, compatible.rows()))
    return name


def _policy(name: str) -> str:
    if name not in policies():
        raise wrong(unknown("policy", name, policies()))
    return name


def _abilities(words: frozenset[str]) -> frozenset[str]:
    for word in sorted(words - catalog.ABILITIES):
        raise wrong(unknown("ability", word, sorted(catalog.ABILITIES)))
    return words


def _operations(words: frozenset[str]) -> frozenset[str]:
    for word in sorted(words - catalog.OPERATIONS):
        raise wrong(unknown("operation", word, sorted(catalog.OPERATIONS)))
    return words


def _template(text: str) -> str:
    for gap in ("{prefix}", "{suffix}"):
        if text.count(gap) != 1:
            raise wrong(f"must have {gap} in it, once")
    return text


def policies() -> list[str]:
    """The words that `choose.by` takes: one for each file in `routing/policies/`."""
    package = importlib.util.find_spec("routing.policies")
    places = package.submodule_search_locations if package else None
    return sorted(info.name for info in pkgutil.iter_modules(places) if not info.name.startswith("_"))


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=128)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_unique)]
Table = Annotated[Mapping[Name, V], AfterValidator(MappingProxyType), WrapSerializer(_thaw)]
Address = Annotated[str, AfterValidator(_address)]
Dollars = Annotated[Decimal, Field(ge=0, le=1000)]
Milliseconds = Annotated[int, Field(gt=0, le=86_400_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Log(_Part):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is worth a line."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="`text` for people, `json` for machines; to stderr."
    )


class Admin(_Part):
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
        stripped = None if key is None else _vendor_key(key)
        return stripped if stripped else None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, where there is a listener of its own."""
        return _endpoint(self.listen) if self.listen else None


class Server(_Part):
    """The gateway as a service."""

    listen: Address = Field(default="127.0.0.1:8080", description="host:port to serve on; port 0 takes a free one.")
    auth: Literal["keys", "none"] = Field(
        default="keys",
        description="`keys` asks callers for an application key; `none` asks for nothing, and only on loopback.",
        validate_default=True,
    )
    admin: Admin = Field(default=Admin(), description="Where metrics and the admin page are, and who may see them.")
    redis: Annotated[SecretStr, AfterValidator(_redis_url), PlainSerializer(_masked)] = Field(
        default=SecretStr(""),
        description="redis://, rediss://, unix:// or redis+sentinel:// URL of shared state; empty for none.",
    )
    ledger: Annotated[str, AfterValidator(_sqlite_url)] = Field(
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
    host, port = _split(address)
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or an address of this machine that no other can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Key(_Part):
    """One key of ours with a vendor."""

    id: Name = Field(description="What logs and metrics call it.")
    value: Annotated[SecretStr, AfterValidator(_vendor_key)] = Field(
        description="The key itself, best as a variable; an empty one is off."
    )


class Provider(_Part):
    """A vendor, or a server that speaks like one."""

    kind: Annotated[str, AfterValidator(_kind)] = Field(description="Whose wire format: a file name in `providers/`.")
    vendor: Annotated[str, AfterValidator(_vendor)] | None = Field(
        default=None, description="For kind compatible: whose OpenAI dialect, a row of `providers/compatible.toml`."
    )
    base_url: Annotated[str, AfterValidator(_http_url)] = Field(
        default="",
        description="What the vendor's official SDK takes as base URL; left out, the kind's or the vendor's own.",
        validate_default=True,
    )
    keys: tuple[Key, ...] = Field(
        description="Keys that calls take in turn. With every one empty it is off; `[]` says that it asks for none."
    )
    connections: int = Field(
        default=1000, ge=0, le=100_000, description="Most sockets to the vendor at a time; 0 for no bound."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(kind := data.get("kind"), str):
            return data
        usual: dict[str, Any] = {"base_url": BASE_URLS[kind]} if kind in BASE_URLS else {}
        if kind == "compatible" and data.get("vendor") is None:
            data = {**data, "vendor": compatible.GENERIC}
        if isinstance(vendor := data.get("vendor"), str) and (row := compatible.rows().get(vendor)):
            usual = ({"base_url": row.base_url} if row.base_url else {}) | ({"keys": []} if row.keyless else {})
        return {**usual, **data}

    @model_validator(mode="after")
    def _vendor_of_its_kind(self) -> Self:
        if self.vendor is not None and self.kind != "compatible":
            raise wrong(f"is for kind compatible; kind {self.kind} is a vendor's own", "vendor")
        return self

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        _unique(tuple(key.id for key in keys))
        return keys

    @property
    def active(self) -> bool:
        """Whether calls can be made: it asks for no key, or has one."""
        return not self.keys or bool(self.secrets)

    @property
    def settings(self) -> dict[str, str]:
        """What is said for its kind alone."""
        return {} if self.vendor is None else {"vendor": self.vendor}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys that are on."""
        return tuple(value for key in self.keys if (value := key.value.get_secret_value()))


class PriceList(_Part):
    """Dollars per million tokens; what is left out is as in the catalog."""

    input: Dollars | None = Field(default=None, description="Prompt tokens, in dollars per million.")
    output: Dollars | None = Field(default=None, description="Answer tokens, reasoning included.")
    cache_read: Dollars | None = Field(default=None, description="Prompt tokens that the vendor had in its cache.")
    cache_write: Dollars | None = Field(
        default=None, description="Prompt tokens put into the vendor's cache for five minutes."
    )
    cache_write_1h: Dollars | None = Field(
        default=None, description="Prompt tokens put into the vendor's cache for an hour."
    )


class ModelEntry(_Part):
    """A model that callers can name and routes can choose."""

    provider: Name = Field(description="Which of `providers` serves it.")
    upstream: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        default="", description="The vendor's id for it; left out, its name here.", validate_default=True
    )
    prices: PriceList = Field(default=PriceList(), description="Dollars per million tokens, each over the catalog's.")
    context: int | None = Field(default=None, gt=0, description="Window in tokens, prompt and answer together.")
    max_output: int | None = Field(default=None, gt=0, description="Most tokens it can answer with.")
    features: Annotated[frozenset[str], AfterValidator(_abilities), PlainSerializer(sorted)] | None = Field(
        default=None, description="What it can do, in place of what the catalog says."
    )
    serves: (
        Annotated[frozenset[str], Field(min_length=1), AfterValidator(_operations), PlainSerializer(sorted)] | None
    ) = Field(default=None, description="The endpoints it has at its vendor, in place of what the catalog says.")
    fim_template: Annotated[str, StringConstraints(max_length=4096), AfterValidator(_template)] | None = Field(
        default=None,
        description="How fill-in-the-middle is written as one prompt for its completions: {prefix} and {suffix} stand "
        "for what is around the gap.",
    )
    prompt: Prompt | None = Field(default=None, description="What is put around its conversations.")
    fallback: Name | None = Field(
        default=None, description="Which of `fallbacks` serves when it is called by name and fails."
    )
    on_unsupported: Literal["error", "drop"] | None = Field(
        default=None,
        description="What becomes of a parameter it cannot express; left out, that depends on the parameter.",
    )


class LatencyClass(_Part):
    """How long a call may take, and how often it is tried again."""

    deadline_ms: Milliseconds = Field(description="All of the call, every attempt included.")
    first_token_ms: Milliseconds = Field(description="From sending a request to the first content of its answer.")
    idle_ms: Milliseconds = Field(description="The longest silence within an answer.")
    connect_ms: Milliseconds = Field(description="Opening a connection to the vendor.")
    retries: int = Field(ge=0, le=10, description="Further attempts at the same model before the next one's turn.")

    @model_validator(mode="after")
    def _within_the_deadline(self) -> Self:
        for name in ("first_token_ms", "idle_ms", "connect_ms"):
            if getattr(self, name) > self.deadline_ms:
                raise wrong(f"{getattr(self, name)} is more than deadline_ms, which is {self.deadline_ms}", name)
        return self


class Tasks(_Part):
    """What sorts of work calls are told apart by."""

    names: Names = Field(default=TASKS, description="The tasks that hints and routes may name.")


class Match(_Part):
    """Which calls a route takes: those that fit every list it gives."""

    models: Names = Field(description="Words callers put into `model`: any, or a configured model's name.")
    use_cases: Names | None = Field(default=None, description="Use cases; left out, any.")
    tasks: Names | None = Field(default=None, description="Tasks; left out, any.")
    classes: Names | None = Field(default=None, description="Latency classes; left out, any.")

    def covers(self, other: Match, model: str) -> bool:
        """Whether every call for `model` that fits `other` fits here."""
        pairs = ((self.use_cases, other.use_cases), (self.tasks, other.tasks), (self.classes, other.classes))
        return model in self.models and all(
            mine is None or (theirs is not None and set(mine) >= set(theirs)) for mine, theirs in pairs
        )


class Choose(_Part):
    """How a route orders its candidates."""

    by: Annotated[str, AfterValidator(_policy)] = Field(
        default="ordered", description="A file name in `routing/policies/`."
    )


class Route(_Part):
    """Which models a sort of call may go to."""

    name: Name = Field(description="What callers may put into `model`, and what metrics call it.")
    match: Match = Field(description="Which calls it takes; left out, those whose `model` is its name.")
    # `class` is a word of Python's own
    latency_class: Name | None = Field(
        default=None, alias="class", description="Latency class of its calls, where the caller names none."
    )
    candidates: Names = Field(description="Models to choose from.")
    fallback: Name | None = Field(default=None, description="Which of `fallbacks` is tried after the candidates.")
    choose: Choose = Field(default=Choose(), description="How the candidates are ordered.")

    @model_validator(mode="before")
    @classmethod
    def _own_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(name := data.get("name"), str):
            match = data.get("match", {})
            if isinstance(match, dict) and "models" not in match:
                return {**data, "match": {"models": [name], **match}}
        return data


class Config(_Part):
    """Everything the file says, with all that it leaves out filled in."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="The version of this format: 1.")
    server: Server = Field(default=Server(), description="The gateway as a service.")
    providers: Table[Provider] = Field(default_factory=_nothing, description="Vendors by name.")
    models: Table[ModelEntry] = Field(default_factory=_nothing, description="Models by the name that callers use.")
    latency_classes: Table[LatencyClass] = Field(
        default_factory=_nothing,
        description="Latency classes by name; realtime, interactive and background are always there.",
        validate_default=True,
    )
    tasks: Tasks = Field(default=Tasks(), description="What sorts of work calls are told apart by.")
    use_cases: Annotated[tuple[Name, ...], AfterValidator(_unique)] = Field(
        default=(), description="Use cases that metrics and costs are kept for; any other counts as `other`."
    )
    fallbacks: Table[Names] = Field(default_factory=_nothing, description="Chains of models by name, tried in order.")
    routes: tuple[Route, ...] = Field(default=(), description="The first whose `match` fits takes the call.")

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
        return {
            name: _over(CLASSES.get(name, CLASSES["interactive"]), data.get(name, {}))
            for name in dict.fromkeys((*CLASSES, *data))
        }

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


def _over(usual: Mapping[str, int], data: Any) -> Any:
    """A class's fields over the usual ones, which never exceed a deadline that the file gives."""
    if not isinstance(data, dict):
        return data
    filled = {**usual, **data}
    try:
        deadline = int(filled["deadline_ms"])
    except (TypeError, ValueError):
        return filled
    for name in ("first_token_ms", "idle_ms", "connect_ms"):
        if name not in data and usual[name] > deadline:
            filled[name] = deadline
    return filled


def model_card(config: Config, name: str) -> Card:
    """What the catalog knows of the model, with what the file says over it."""
    entry = config.models[name]
    provider = config.providers[entry.provider]
    usual = None if provider.vendor is None else compatible.rows()[provider.vendor].card
    card = catalog.lookup(provider.kind, entry.upstream, usual)
    given = {key: price for key in PriceList.model_fields if (price := getattr(entry.prices, key)) is not None}
    if entry.prompt is not None:
        card = served(card, entry.prompt)
    return replace(
        card,
        prices=replace(card.prices, **given),
        context=card.context if entry.context is None else entry.context,
        max_output=card.max_output if entry.max_output is None else entry.max_output,
        abilities=card.abilities if entry.features is None else entry.features,
        serves=card.serves if entry.serves is None else entry.serves,
    )


def model(config: Config, name: str) -> Model:
    """The configured model as routing and the vendors take it."""
    entry = config.models[name]
    card = model_card(config, name)
    return Model(name, entry.provider, entry.upstream, card, entry.on_unsupported, entry.fim_template)


def load(path: Path | str, environ: Mapping[str, str] = os.environ, *, today: date | None = None) -> Config:
    """The configuration in the file. Raises ConfigError with everything that is wrong with it."""
    return _usable(*_examine(Path(path), environ, today))


def parse(text: str, name: str, environ: Mapping[str, str] = os.environ, *, today: date | None = None) -> Config:
    """The configuration in `text`, which is called `name` in messages. Raises ConfigError as `load` does."""
    return _usable(*_judge(document.read(text, name, environ), today))


def check(
    source: Path | str,
    environ: Mapping[str, str] = os.environ,
    *,
    name: str = "talaria.yaml",
    today: date | None = None,
) -> list[Problem]:
    """All errors and warnings, in the order of the file. A Path is read; a str is the text itself."""
    if isinstance(source, Path):
        return _examine(source, environ, today)[1]
    return _judge(document.read(source, name, environ), today)[1]


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    found = Config.model_json_schema(by_alias=True)
    found["$defs"]["Provider"]["properties"]["kind"]["enum"] = kinds()
    found["$defs"]["Provider"]["properties"]["vendor"]["anyOf"][0]["enum"] = list(compatible.rows())
    found["$defs"]["Provider"]["required"].remove("keys")
    found["$defs"]["Choose"]["properties"]["by"]["enum"] = policies()
    for field, words in (("features", catalog.ABILITIES), ("serves", catalog.OPERATIONS)):
        found["$defs"]["ModelEntry"]["properties"][field]["anyOf"][0]["items"]["enum"] = sorted(words)
    for part, optional in (("Route", "match"), ("Match", "models")):
        found["$defs"][part]["required"].remove(optional)
    found["$defs"]["Match"].pop("required")
    found["$defs"]["LatencyClass"].pop("required")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _usable(config: Config | None, problems: list[Problem]) -> Config:
    if config is None:
        raise ConfigError(problems)
    return config


def _examine(path: Path, environ: Mapping[str, str], today: date | None) -> tuple[Config | None, list[Problem]]:
    try:
        with path.open("rb") as file:
            raw = file.read(document.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        return None, [Problem(str(path), 1, 1, "", f"cannot be read: {reason}")]
    return _judge(document.read(raw, str(path), environ), today)


def _judge(read: Document, today: date | None) -> tuple[Config | None, list[Problem]]:
    problems = list(read.problems)
    if not read.data:
        return None, problems
    config, details = _validate(read.data)
    problems += [
        read.problem(place(detail), plain(detail, Config))
        for detail in details
        if not any(place(detail)[: len(path)] == path or place(detail) == path[:-1] for path in read.unset)
    ]
    if details and not read.unset:
        config, _ = _validate(_without(read.data, details))
    if config is not None and not read.unset:
        problems += [read.problem(path, message) for path, message in checks.errors(config)]
        if not problems:
            cards = {name: model_card(config, name) for name in config.models}
            problems += [read.problem(*note, "warning") for note in checks.notes(config, cards, today or date.today())]
    problems.sort(key=lambda problem: (problem.line, problem.column))
    if config is None or any(problem.severity == "error" for problem in problems):
        return None, problems
    config._warnings = tuple(problems)
    return config, problems


def _validate(data: dict[str, Any]) -> tuple[Config | None, list[ErrorDetails]]:
    try:
        return Config.model_validate(data), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _without(data: dict[str, Any], details: list[ErrorDetails]) -> dict[str, Any]:
    """The data less the keys that are wrong, where that leaves something to look at for further problems.

    What others refer to by name stays, and so does everything in lists, whose indices are places.
    """
    data = copy.deepcopy(data)
    for detail in details:
        path = detail["loc"]
        named = len(path) == 2 and path[0] in ("providers", "models", "latency_classes", "fallbacks")
        holder: Any = data
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            spared = named or isinstance(holder.get(path[-1]), dict | list)
            if detail["type"] == "extra_forbidden" or not spared:
                holder.pop(path[-1], None)
    return data
