"""From a file to a configuration that can be used, and everything that can be said against it before a call is made.

What a file may say is in `tree.py`, `entries.py` and `rules.py`, what the whole does not allow in `checks.py`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway import checks, document
from gateway.describe import schema
from gateway.document import Document, Problem
from gateway.entries import BASE_URLS, ModelEntry, PriceList, Provider, kinds
from gateway.prompts import served
from gateway.rules import TASKS, Choose, Experiment, LatencyClass, Match, Route, Tasks, policies
from gateway.rules import USUAL as CLASSES
from gateway.tree import Admin, Config, ConfigError, Log, Server, is_loopback
from gateway.wording import place, plain, stands
from providers import catalog, compatible
from providers.types import Card, Model, Prices

__all__ = [
    "BASE_URLS",
    "CLASSES",
    "TASKS",
    "Admin",
    "Choose",
    "Config",
    "ConfigError",
    "Experiment",
    "LatencyClass",
    "Log",
    "Match",
    "ModelEntry",
    "PriceList",
    "Provider",
    "Route",
    "Server",
    "Tasks",
    "check",
    "is_loopback",
    "kinds",
    "load",
    "model",
    "model_card",
    "parse",
    "policies",
    "schema",
    "settle",
]

ALWAYS = date.min.isoformat()
"""The day from which a model's first prices hold."""


def model_card(config: Config, name: str, today: date | None = None) -> Card:
    """What the catalog knows of the model, with what the file says over it, and the prices of the day (UTC)."""
    entry = config.models[name]
    provider = config.providers[entry.provider]
    usual = None if provider.vendor is None else compatible.rows()[provider.vendor].card
    card = catalog.lookup(provider.kind, entry.upstream, usual)
    if entry.prompt is not None:
        card = served(card, entry.prompt)
    dated = _dated(card.prices, entry.price_lists)
    card = replace(
        card,
        prices=dated[0][1],
        dated=dated if len(dated) > 1 else (),
        context=card.context if entry.context is None else entry.context,
        max_output=card.max_output if entry.max_output is None else entry.max_output,
        abilities=card.abilities if entry.features is None else entry.features,
        serves=card.serves if entry.serves is None else entry.serves,
        ttft_ms=card.ttft_ms if entry.expect.ttft_ms is None else entry.expect.ttft_ms,
        tokens_per_second=(
            card.tokens_per_second if entry.expect.tokens_per_second is None else entry.expect.tokens_per_second
        ),
    )
    return replace(card, prices=catalog.prices_on(card, _today() if today is None else today))


def _dated(usual: Prices, lists: tuple[PriceList, ...]) -> tuple[tuple[str, Prices], ...]:
    """Each list over the usual prices, by the day from which it holds; the usual ones hold before the first."""
    found = {ALWAYS: usual}
    for each in lists:
        found[ALWAYS if each.valid_from is None else each.valid_from.isoformat()] = replace(usual, **each.given)
    return tuple(found.items())


def _today() -> date:
    return datetime.now(UTC).date()


def model(config: Config, name: str, today: date | None = None) -> Model:
    """The configured model as routing and the vendors take it."""
    entry = config.models[name]
    card = model_card(config, name, today)
    caches = entry.cache == "auto"
    return Model(name, entry.provider, entry.upstream, card, entry.on_unsupported, entry.fim_template, caches)


def load(path: Path | str, environ: Mapping[str, str] = os.environ, *, today: date | None = None) -> Config:
    """The configuration in the file. Raises ConfigError with everything that is wrong with it."""
    return _usable(*_examine(Path(path), environ, today))


def parse(text: str, name: str, environ: Mapping[str, str] = os.environ, *, today: date | None = None) -> Config:
    """The configuration in `text`, which is called `name` in messages. Raises ConfigError as `load` does."""
    return settle(document.read(text, name, environ), today=today)


def settle(read: Document, *, today: date | None = None) -> Config:
    """The configuration in a document that was read. Raises ConfigError as `load` does."""
    return _usable(*_judge(read, today))


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
            today = today or _today()
            cards = {name: model_card(config, name, today) for name in config.models}
            problems += [read.problem(*note, "warning") for note in checks.notes(config, cards, today)]
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

    What others refer to by name stays, and so do the items of lists, whose indices are places.
    """
    data = copy.deepcopy(data)
    for detail in details:
        path = stands(detail)
        named = len(path) == 2 and path[0] in ("providers", "models", "latency_classes", "fallbacks", "experiments")
        holder: Any = data
        for part in path[:-1]:
            if isinstance(holder, dict):
                holder = holder.get(str(part))
            else:
                holder = holder[part] if isinstance(holder, list) and isinstance(part, int) else None
        if isinstance(holder, dict):
            spared = named or isinstance(holder.get(path[-1]), dict | list)
            if detail["type"] == "extra_forbidden" or not spared:
                holder.pop(path[-1], None)
    return data
