"""What each part of a configuration allows and the whole does not, and what is hardly meant as it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

import providers
from gateway.document import Path
from gateway.wording import unknown
from providers.types import Card

if TYPE_CHECKING:
    from gateway.config import Config

Found = tuple[Path, str]


def errors(config: Config) -> Iterator[Found]:
    """What each part allows and the whole does not: names that nothing bears, and names borne twice."""

    def known(noun: str, word: str | None, names: Iterable[str], *path: str | int) -> Iterator[Found]:
        names = list(names)
        if word is not None and word not in names:
            yield path, unknown(noun, word, names)

    yield from known("latency class", config.server.default_class, config.latency_classes, "server", "default_class")
    for name, entry in config.models.items():
        yield from known("provider", entry.provider, config.providers, "models", name, "provider")
        yield from known("fallback chain", entry.fallback, config.fallbacks, "models", name, "fallback")
        if entry.prompt is not None and entry.prompt.template is not None and entry.provider in config.providers:
            kind = config.providers[entry.provider].kind
            if "completions" not in getattr(providers.load(kind), "forms", ()):
                yield (
                    ("models", name, "prompt", "template"),
                    f"is for models that serve completions, which kind {kind} does not have",
                )
    for name, chain in config.fallbacks.items():
        for index, link in enumerate(chain):
            yield from known("model", link, config.models, "fallbacks", name, index)
    seen: dict[str, int] = {}
    for index, route in enumerate(config.routes):
        path = ("routes", index)
        if route.name in config.models:
            yield (*path, "name"), f"{route.name!r} is a model's name already; callers could not tell them apart"
        if route.name in seen:
            yield (*path, "name"), f"{route.name!r} is the name of routes[{seen[route.name]}] already"
        seen.setdefault(route.name, index)
        yield from known("latency class", route.latency_class, config.latency_classes, *path, "class")
        yield from known("fallback chain", route.fallback, config.fallbacks, *path, "fallback")
        for place, candidate in enumerate(route.candidates):
            yield from known("model", candidate, config.models, *path, "candidates", place)
        lists: tuple[tuple[str, str, Iterable[str]], ...] = (
            ("use_cases", "use case", config.use_cases),
            ("tasks", "task", config.tasks.names),
            ("classes", "latency class", config.latency_classes),
        )
        for key, noun, names in lists:
            for place, word in enumerate(getattr(route.match, key) or ()):
                yield from known(noun, word, names, *path, "match", key, place)


def notes(config: Config, cards: Mapping[str, Card], today: date) -> Iterator[Found]:
    """What can be used as it stands and is hardly meant so."""
    if config.server.redis.get_secret_value():
        yield ("server", "redis"), "is set, but this version keeps all state in the process"
    for name, provider in config.providers.items():
        if not provider.active:
            models = ", ".join(model for model, entry in config.models.items() if entry.provider == name)
            yield (
                ("providers", name),
                f"is off, because every key is empty; no candidates therefore: {models or 'none'}",
            )
    for name, entry in config.models.items():
        card = cards[name]
        if card.retired and date.fromisoformat(card.retired) <= today:
            instead = f"; its successor is {card.successor}" if card.successor else ""
            yield ("models", name, "upstream"), f"{entry.upstream} was retired on {card.retired}{instead}"
        unpriced = card.prices.output is None and card.serves != {"embeddings"}
        if card.prices.input is None or unpriced:
            yield (
                ("models", name, "prices"),
                "has no price for input or output, here or in the catalog; its calls count as unpriced",
            )
        if entry.prompt is not None and entry.prompt.template is None and "chat" not in card.serves:
            yield ("models", name, "prompt"), "has no effect: the model serves no chat, and it has no template"
        if entry.fim_template is not None and ("completions" not in card.serves or "fim" in card.serves):
            yield (
                ("models", name, "fim_template"),
                "has no effect: it is for models that serve completions and not fim (see `serves`)",
            )
    used = {entry.fallback for entry in config.models.values()} | {route.fallback for route in config.routes}
    for name, chain in config.fallbacks.items():
        if name not in used:
            yield ("fallbacks", name), "is used by no model and no route"
        vendors = {config.models[link].provider for link in chain}
        if len(chain) > 1 and len(vendors) == 1:
            yield ("fallbacks", name), f"has models of {vendors.pop()} only; when that vendor fails all of it fails"
    for index, route in enumerate(config.routes):
        takers = [
            next((earlier.name for earlier in config.routes[:index] if earlier.match.covers(route.match, word)), None)
            for word in route.match.models
        ]
        if None not in takers:
            names = ", ".join(dict.fromkeys(str(name) for name in takers))
            yield ("routes", index), f"is unreachable: what it would take is taken before it, by {names}"
        if not any(config.active(config.models[name].provider) for name in route.candidates):
            yield ("routes", index, "candidates"), "are all off, because their providers are"
