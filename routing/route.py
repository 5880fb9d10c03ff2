"""Which route a call takes: the first that fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from providers.errors import ModelNotFound
from providers.types import Call
from routing.lengths import TOKENS_PER_CHAR
from routing.outlook import Quality
from routing.policies import Policy
from routing.target import Target


@dataclass(frozen=True, slots=True)
class Match:
    """What a call must be for a route to take it. What is empty asks for nothing."""

    models: frozenset[str]
    use_cases: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By name, the values that are taken."""
    at_least: float = 0.0
    below: float = inf
    """Prompt tokens, as estimated by the length of the text."""

    def misfit(self, call: Call) -> str | None:
        """What about a call does not fit, in words; None where all of it does."""
        hints = call.hints
        if call.model not in self.models:
            return f"model {call.model}"
        if self.use_cases and hints.use_case not in self.use_cases:
            return f"use case {hints.use_case or 'none'}"
        if self.tasks and call.task not in self.tasks:
            return f"task {call.task}"
        if self.classes and hints.latency_class not in self.classes:
            return f"latency class {hints.latency_class or 'none'}"
        for name, values in self.tags.items():
            if hints.tags.get(name) not in values:
                return f"tag {name}={hints.tags.get(name, '')}"
        tokens = call.chars * TOKENS_PER_CHAR
        return None if self.at_least <= tokens < self.below else f"a prompt of about {tokens:.0f} tokens"


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    match: Match
    candidates: tuple[Target, ...]
    fallback: tuple[Target, ...]
    policy: Policy
    latency_class: str | None = None
    by: str = "ordered"
    """The policy's name."""
    experiment: str | None = None
    affinity: bool = True
    """Whether a conversation stays with the model that has it in its cache, as far as that is worth it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Every route and model of one configuration.

    `models` holds the models that are on, `off` the reason for each that is not, `fallbacks` the chain of each model
    that has one, `qualities` what is said of how well models do.
    """

    models: Mapping[str, Target]
    routes: tuple[Route, ...] = ()
    fallbacks: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)
    qualities: Mapping[str, Quality] = field(default_factory=dict)
    _by_model: Mapping[str, tuple[Route, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = {word for route in self.routes for word in route.match.models}
        by_model = {word: tuple(route for route in self.routes if word in route.match.models) for word in words}
        object.__setattr__(self, "_by_model", by_model)

    def route(self, call: Call) -> Route | None:
        """The first route that takes the call; None where it names a model instead. Raises ModelNotFound."""
        routes = self._by_model.get(call.model, ())
        hints, task = call.hints, call.task
        use_case, named, tags = hints.use_case, hints.latency_class, hints.tags
        for route in routes:
            match = route.match
            # What most routes ask for is looked at here, and the rest only where that fits: there may be many routes.
            if (
                (not match.use_cases or use_case in match.use_cases)
                and (not match.tasks or task in match.tasks)
                and (not match.classes or named in match.classes)
                and (not match.tags or tags)
                and match.misfit(call) is None
            ):
                return route
        if call.model in self.models:
            return None
        if call.model in self.off:
            raise ModelNotFound(f"The model `{call.model}` is off: {self.off[call.model]}.", param="model")
        if routes:
            raise ModelNotFound(f"No route for `{call.model}` takes a call with these hints.", param="model")
        raise ModelNotFound(f"The model `{call.model}` does not exist here; GET /v1/models lists those that do.")
