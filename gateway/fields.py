"""What single keys of the configuration may say: names, addresses, URLs, keys, prices, days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    SerializerFunctionWrapHandler,
    StringConstraints,
    WithJsonSchema,
    WrapSerializer,
)

from gateway.wording import wrong

V = TypeVar("V")


class Part(BaseModel):
    """A mapping whose keys are known, and which nobody changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def nothing() -> Mapping[str, Any]:
    """An empty table."""
    return MappingProxyType({})


def frozen(found: Any) -> Any:
    """The same, for good: tables become read-only, and lists tuples."""
    if isinstance(found, Mapping):
        return MappingProxyType({name: frozen(each) for name, each in found.items()})
    return tuple(map(frozen, found)) if isinstance(found, list | tuple) else found


def thawed(found: Any) -> Any:
    """The same as plain mappings and lists."""
    if isinstance(found, Mapping):
        return {name: thawed(each) for name, each in found.items()}
    return [thawed(each) for each in found] if isinstance(found, list | tuple) else found


def _thaw(table: Mapping[str, Any], handler: SerializerFunctionWrapHandler) -> Any:
    return handler(dict(table))


def unique(values: tuple[str, ...]) -> tuple[str, ...]:
    """The same, if none is there twice."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise wrong(f"names {', '.join(twice)} more than once")
    return values


def _address(text: str) -> str:
    host, port = split_address(text)
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise wrong('must be host:port, such as "127.0.0.1:8080" or "[::1]:8080"')
    return text


def split_address(address: str) -> tuple[str, str]:
    """Host and port; the host is empty where it is none."""
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


def vendor_key(secret: SecretStr) -> SecretStr:
    """The key without the space around it, if it can be one."""
    text = secret.get_secret_value().strip()
    if any(not 32 < ord(letter) < 127 for letter in text):
        raise wrong("holds characters that no key has (a space, a line break or a letter beyond ASCII)")
    return SecretStr(text)


def _day(found: Any) -> Any:
    """Only as it is written in prices: pydantic would take a number of seconds, too."""
    if found is None or isinstance(found, date):
        return found
    try:
        if isinstance(found, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", found):
            return date.fromisoformat(found)
    except ValueError:
        pass
    raise wrong("must be a day, such as 2026-10-01")


def _flag(found: Any) -> Any:
    """Only YAML 1.2's own words: pydantic would take `on` and `1`, too."""
    if isinstance(found, bool):
        return found
    if isinstance(found, str) and found.lower() in ("true", "false"):
        return found.lower() == "true"
    raise wrong("must be true or false")


def _texts(found: Any) -> Any:
    return [found] if isinstance(found, str) else found


_LOOSE = {"type": ["string", "number", "boolean"]}
"""Text that may look like something else to an editor."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=128)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
Table = Annotated[Mapping[Name, V], AfterValidator(MappingProxyType), WrapSerializer(_thaw)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Texts = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    AfterValidator(unique),
    BeforeValidator(_texts),
    WithJsonSchema({"anyOf": [_LOOSE, {"type": "array", "items": _LOOSE, "minItems": 1}]}),
]
Address = Annotated[str, AfterValidator(_address)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url), PlainSerializer(_masked)]
SqliteUrl = Annotated[str, AfterValidator(_sqlite_url)]
VendorKey = Annotated[SecretStr, AfterValidator(vendor_key)]
Dollars = Annotated[Decimal, Field(ge=0, le=1000)]
Day = Annotated[date, BeforeValidator(_day)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]
Milliseconds = Annotated[int, Field(gt=0, le=86_400_000)]
