"""What each part of a configuration allows and the whole does not, and what is hardly meant as it stands."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

import providers
from gateway.document import Path
from gateway.rules import Experiment, LatencyClass, Route, edges
from gateway.tree import Config
from gateway.wording import unknown
from providers.types import Card
from routing.lengths import OUTPUT, REASONING
from routing.outlook import UNKNOWN_QUALITY

Found = tuple[Path, str]

OF_MODELS = frozenset({("weighted", "weights")})
"""Settings of policies that map models to something."""


def known(noun: str, word: str | None, names: Iterable[str], *path: str | int) -> Iterator[Found]:
    """What is wrong with a word that must be one of the names."""
    names = list(names)
    if word is not None and word not in names:
        yield path, unknown(noun, word, names)


def errors(config: Config) -> Iterator[Found]:
    """What each part allows and the whole does not: names that nothing bears, and names borne twice."""
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
        if entry.quality is not None:
            for task in entry.quality.by_task:
                yield from known("task", task, config.tasks.names, "models", name, "quality", "by_task", task)
    for name, latency_class in config.latency_classes.items():
        yield from _off_the_edges(name, latency_class)
    for name, experiment in config.experiments.items():
        for arm, each in experiment.arms.items():
            for index, candidate in enumerate(each.candidates):
                at: Path = ("experiments", name, "arms", arm, "candidates", index)
                yield from known("model", candidate, config.models, *at)
    for name, chain in config.fallbacks.items():
        for index, link in enumerate(chain):
            yield from known("model", link, config.models, "fallbacks", name, index)
    seen: dict[str, int] = {}
    for index, route in enumerate(config.routes):
        path = ("routes", index)
        yield from _chosen(config, route, *path)
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


def _off_the_edges(name: str, latency_class: LatencyClass) -> Iterator[Found]:
    target, allowed = latency_class.target_ms, edges(latency_class.target_of)
    if target is None or target in allowed:
        return
    place = bisect_left(allowed, target)
    near = " or ".join(str(edge) for edge in allowed[max(0, place - 1) : place + 1])
    histogram = "answers" if latency_class.target_of == "answer" else "first tokens"
    yield (
        ("latency_classes", name, "target_ms"),
        f"{target} is no edge of the histogram of {histogram}, so nobody could see whether it is kept; "
        f"nearest: {near} (all: {', '.join(map(str, allowed))})",
    )


def _chosen(config: Config, route: Route, *path: str | int) -> Iterator[Found]:
    """What a route's policy names and the route does not have."""
    choose = route.choose
    for name, table in choose.settings.items():
        if (choose.by, name) in OF_MODELS:
            for word in table:
                yield from known("candidate of this route", word, route.candidates, *path, "choose", name, word)
    yield from known("experiment", choose.experiment, config.experiments, *path, "choose", "experiment")
    if choose.experiment is not None and choose.experiment in config.experiments:
        yield from _compared(choose.experiment, config.experiments[choose.experiment], config, route)


def _compared(name: str, experiment: Experiment, config: Config, route: Route) -> Iterator[Found]:
    for arm, each in experiment.arms.items():
        for index, candidate in enumerate(each.candidates):
            if candidate in config.models and candidate not in route.candidates:
                yield (
                    ("experiments", name, "arms", arm, "candidates", index),
                    f"{candidate!r} is no candidate of route {route.name!r} (known: {', '.join(route.candidates)})",
                )


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
        if entry.fallback is not None and set(config.fallbacks[entry.fallback]) == {name}:
            yield ("models", name, "fallback"), f"has no effect: chain {entry.fallback} has this model alone"
    used = {entry.fallback for entry in config.models.values()} | {route.fallback for route in config.routes}
    for name, chain in config.fallbacks.items():
        if name not in used:
            yield ("fallbacks", name), "is used by no model and no route"
        vendors = {config.models[link].provider for link in chain}
        if len(chain) > 1 and len(vendors) == 1:
            yield ("fallbacks", name), f"has models of {vendors.pop()} only; when that vendor fails all of it fails"
        yield from _shrinking(name, chain, cards)
    compared = {route.choose.experiment for route in config.routes}
    for name in config.experiments:
        if name not in compared:
            yield ("experiments", name), "is used by no route: `choose: {by: experiment, experiment: ...}` takes part"
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
        yield from _out_of_reach(config, route, cards, "routes", index)
        yield from _below_the_floor(config, route, "routes", index)


def _shrinking(name: str, chain: tuple[str, ...], cards: Mapping[str, Card]) -> Iterator[Found]:
    first = cards[chain[0]].context
    for index, link in enumerate(chain):
        context = cards[link].context
        if first is not None and context is not None and context < first:
            yield (
                ("fallbacks", name, index),
                f"{link} has a window of {context} tokens, less than the {first} of {chain[0]}, which it stands in for",
            )


def _out_of_reach(config: Config, route: Route, cards: Mapping[str, Card], *path: str | int) -> Iterator[Found]:
    """Latency classes whose target no candidate can be expected to keep, by all that is known beforehand."""
    asked = [task for task in route.match.tasks or () if task in config.tasks.names]
    for name in route.match.classes or (route.latency_class or config.server.default_class,):
        latency_class = config.latency_classes[name]
        target = latency_class.target_ms
        if target is None:
            continue
        whole = latency_class.target_of == "answer"
        late = []
        for task in asked or sorted(config.tasks.names, key=_length)[:1]:
            times = [(seconds, each) for each in route.candidates if (seconds := _expected(cards[each], task, whole))]
            if len(times) == len(route.candidates) and all(sum(seconds) * 1000 > target for seconds, _ in times):
                late.append((task, *min(times, key=_sum)))
        if late:
            _, (first, rest), best = min(late, key=lambda found: sum(found[1]))
            what = f"{'answers' if whole else 'first tokens'} in {target} ms, the target of class {name},"
            tasks = f" for {', '.join(found[0] for found in late)}" if asked else ""
            tokens = rest * (cards[best].tokens_per_second or 0)
            until = f" and {rest * 1000:.0f} ms for some {tokens:.0f} tokens" if whole else ""
            yield (
                path,
                f"{what} are out of every candidate's reach{tasks}, as far as is known: "
                f"{best} takes {first * 1000:.0f} ms to the first token{until}",
            )


def _sum(found: tuple[tuple[float, float], str]) -> float:
    return sum(found[0])


def _length(task: str) -> float:
    return OUTPUT.get(task, OUTPUT["general"])


def _expected(card: Card, task: str, whole: bool) -> tuple[float, float] | None:
    """Seconds to the first token, and from there to the end where that matters; None where not enough is known."""
    if card.ttft_ms is None:
        return None
    if not whole:
        return card.ttft_ms / 1000, 0.0
    if card.tokens_per_second is None:
        return None
    tokens = _length(task) * (REASONING if card.reasons_by_default else 1.0)
    return card.ttft_ms / 1000, tokens / card.tokens_per_second


def _below_the_floor(config: Config, route: Route, *path: str | int) -> Iterator[Found]:
    floor = (route.choose.settings.get("floor") or {}).get("quality", 0.0)
    best = max(_quality(config, name, route.match.tasks) for name in route.candidates)
    if best < floor:
        yield (
            (*path, "choose", "floor", "quality"),
            f"{floor:g} is more than any candidate is known for; the best has {best:g}",
        )


def _quality(config: Config, name: str, tasks: tuple[str, ...] | None) -> float:
    """The best that a model is known for, at the tasks or at all."""
    quality = config.models[name].quality
    if quality is None:
        return UNKNOWN_QUALITY
    if tasks:
        return max(quality.by_task.get(task, quality.overall) for task in tasks)
    return max(quality.overall, *quality.by_task.values(), 0.0)
