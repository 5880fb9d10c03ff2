"""Models as facts: `catalog.toml` read into cards, and what an answer costs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from providers.types import Card, Prices, Usage

FILE = Path(__file__).with_name("catalog.toml")

ABILITIES = frozenset(
    {
        *("tools", "custom_tools", "allowed_tools", "functions", "strict_tools"),
        *("image", "image_url", "audio", "file", "audio_output"),
        *("json_object", "json_schema", "n", "logprobs", "web_search", "prediction"),
        *("server_tools", "file_id", "file_url"),
        *("diffusing", "prefill", "system_anywhere", "reasoning", "suffix"),
    }
)

OPERATIONS = frozenset({"chat", "completions", "fim", "embeddings", "messages", "count_tokens"})
"""What a model may be made for: the words of `Call.operation`."""

_MILLION = Decimal(1_000_000)
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


def lookup(kind: str, upstream: str, usual: Card | None = None) -> Card:
    """The card of the vendor's model `upstream`: by its id, by an alias, by its id without a date.

    A model that the catalog does not know gets the card that is `usual` there, or else its kind's, without limits and
    prices; a kind that it does not know is taken to speak OpenAI's dialect.
    """
    kinds, models = _load()
    for name in (upstream, _DATED.sub("", upstream)):
        card = models.get((kind, name))
        if card is not None:
            return card
    return replace(usual or kinds.get(kind, kinds["openai"]), id=upstream, kind=kind)


def usual(kind: str, table: Mapping[str, Any], place: str) -> Card:
    """The kind's card with what `table` says over it, in the words of `catalog.toml`. Raises ValueError."""
    return _card(_load()[0][kind], table, place)


def prices_on(card: Card, day: date) -> Prices:
    """The prices that hold on a day (UTC)."""
    if not card.dated:
        return card.prices
    return next((prices for start, prices in reversed(card.dated) if start <= day.isoformat()), card.prices)


def cost(usage: Usage, prices: Prices) -> Decimal | None:
    """Dollars, exactly; None when tokens of a sort were used that has no price.

    Tokens read from a cache cost what fresh ones do where they have no price of their own. Reasoning is output already.
    """
    cache_read = prices.input if prices.cache_read is None else prices.cache_read
    total = Decimal(0)
    for tokens, price in (
        (usage.input, prices.input),
        (usage.cache_read, cache_read),
        (usage.cache_write, prices.cache_write),
        (usage.cache_write_1h, prices.cache_write_1h),
        (usage.output, prices.output),
    ):
        if tokens:
            if price is None:
                return None
            total += tokens * price
    return total / _MILLION


@cache
def _load() -> tuple[dict[str, Card], dict[tuple[str, str], Card]]:
    return parse(FILE.read_text(encoding="utf-8"))


def parse(text: str) -> tuple[dict[str, Card], dict[tuple[str, str], Card]]:
    """The kinds by name, and the models by kind and each of their names. ValueError names the place that is wrong."""
    tables = tomllib.loads(text, parse_float=Decimal)
    _only(tables, {"kinds", "models"}, "the catalog")
    kinds = {name: _card(Card(id="", kind=name), table, f"kinds.{name}") for name, table in tables["kinds"].items()}
    models: dict[tuple[str, str], Card] = {}
    for id, table in tables.get("models", {}).items():
        place = f'models."{id}"'
        kind = table.pop("kind", None)
        if kind not in kinds:
            raise ValueError(f"{place}.kind: {kind!r} is none of {', '.join(kinds)}")
        aliases = _words(table.pop("aliases", []), f"{place}.aliases")
        card = _card(replace(kinds[kind], id=id), table, place)
        for name in (id, *sorted(aliases)):
            if models.setdefault((kind, name), card) is not card:
                raise ValueError(f"{place}: the name {name!r} is taken")
    for (kind, _), card in models.items():
        if card.successor is not None and (kind, card.successor) not in models:
            raise ValueError(f'models."{card.id}".successor: no model {card.successor!r}')
    return kinds, models


def _card(base: Card, table: Mapping[str, Any], place: str) -> Card:
    _only(table, {*_READERS, "lacks"}, place)
    read = {key: _READERS[key](value, f"{place}.{key}") for key, value in table.items() if key != "lacks"}
    for key in ("abilities", "accepts", "drops"):
        read[key] = getattr(base, key) | read.get(key, frozenset())
    lacks = _words(table.get("lacks", []), f"{place}.lacks")
    _only(dict.fromkeys(lacks), base.abilities, f"{place}.lacks")
    read["abilities"] -= lacks
    return replace(base, **read)


def _only(table: Mapping[str, Any], known: set[str] | frozenset[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"{place}: unknown {key!r}; known: {', '.join(sorted(known))}")


def _words(value: Any, place: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{place}: a list of words is expected")
    return frozenset(value)


def _operations(value: Any, place: str) -> frozenset[str]:
    words = _words(value, place)
    _only(dict.fromkeys(words), OPERATIONS, place)
    return words


def _abilities(value: Any, place: str) -> frozenset[str]:
    words = _words(value, place)
    _only(dict.fromkeys(words), ABILITIES, place)
    return words


def _word(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{place}: a word is expected")
    return value


def _one_of(*words: str) -> Callable[[Any, str], str]:
    def read(value: Any, place: str) -> str:
        if value not in words:
            raise ValueError(f"{place}: one of {', '.join(words)} is expected")
        return str(value)

    return read


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{place}: true or false is expected")
    return value


def _count(value: Any, place: str) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{place}: a whole number above 0 is expected")
    return value


def _number(value: Any, place: str) -> Decimal:
    if type(value) not in (int, Decimal) or value < 0:
        raise ValueError(f"{place}: a number of 0 or more is expected")
    return Decimal(value)


def _float(value: Any, place: str) -> float:
    return float(_number(value, place))


def _range(value: Any, place: str) -> tuple[float, float] | None:
    if value is False:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{place}: [least, most] or false is expected")
    least, most = (_float(end, place) for end in value)
    if least > most:
        raise ValueError(f"{place}: {least} is more than {most}")
    return least, most


def _reasoning(value: Any, place: str) -> dict[str, str | int | None]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: a table of efforts is expected")
    told: dict[str, str | int | None] = {}
    for effort, what in value.items():
        if what is not False and type(what) not in (str, int):
            raise ValueError(f"{place}.{effort}: a word, a number of tokens, or false is expected")
        told[effort] = None if what is False else what
    return told


def _prices(value: Any, place: str) -> Prices:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: a table of prices is expected")
    _only(value, {field.name for field in fields(Prices)}, place)
    return Prices(**{sort: _price(price, f"{place}.{sort}") for sort, price in value.items()})


def _price(value: Any, place: str) -> Decimal:
    price = _number(value, place)
    if price > 1000:
        raise ValueError(f"{place}: {price} dollars per million tokens cannot be meant")
    return price


def _date(value: Any, place: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise ValueError(f"{place}: a date like 2026-10-23 is expected") from None


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "context": _count,
    "max_output": _count,
    "serves": _operations,
    "abilities": _abilities,
    "accepts": _words,
    "drops": _words,
    "unknown": _one_of("forward", "drop"),
    "temperature": _range,
    "top_p": _range,
    "one_sampling": _flag,
    "max_tokens_name": _one_of("max_tokens", "max_completion_tokens"),
    "reasoning": _reasoning,
    "reasons_by_default": _flag,
    "max_images": _count,
    "cache_from": _count,
    "prices": _prices,
    "ttft_ms": _float,
    "tokens_per_second": _float,
    "released": _date,
    "retired": _date,
    "successor": _word,
}
