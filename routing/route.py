"""From a call to the targets it may go to, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from providers.errors import ModelNotFound, Unsupported
from providers.types import Call
from routing.health import Health
from routing.policies import Policy
from routing.target import Target


@dataclass(frozen=True, slots=True)
class Match:
    """What a call must be for a route to take it. An empty set asks for nothing."""

    models: frozenset[str]
    use_cases: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()

    def takes(self, call: Call) -> bool:
        hints = call.hints
        return (
            call.model in self.models
            and (not self.use_cases or hints.use_case in self.use_cases)
            and (not self.tasks or hints.task in self.tasks)
            and (not self.classes or hints.latency_class in self.classes)
        )


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    match: Match
    candidates: tuple[Target, ...]
    fallback: tuple[Target, ...]
    policy: Policy
    latency_class: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a call goes: the targets in order, and those passed over with the reason."""

    targets: tuple[Target, ...]
    route: str | None = None
    """None where the caller named a model."""
    passed_over: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Every route and model of one configuration.

    `models` holds the models that are on, `off` the reason for each that is not, `fallbacks` the chain of each model
    that has one.
    """

    models: Mapping[str, Target]
    routes: tuple[Route, ...] = ()
    fallbacks: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)

    def route(self, call: Call) -> Route | None:
        """The first route that takes the call; None where it names a model instead. Raises ModelNotFound."""
        for route in self.routes:
            if route.match.takes(call):
                return route
        if call.model in self.models:
            return None
        if call.model in self.off:
            raise ModelNotFound(f"The model `{call.model}` is off: {self.off[call.model]}.", param="model")
        if any(call.model in route.match.models for route in self.routes):
            raise ModelNotFound(f"No route for `{call.model}` takes a call with these hints.", param="model")
        raise ModelNotFound(f"The model `{call.model}` does not exist here; GET /v1/models lists those that do.")

    def plan(self, call: Call, route: Route | None, health: Health, now: float) -> Plan:
        """The targets for a call: those with the abilities it needs, resting ones last, each once.

        Raises Unsupported, naming the parameter, when no target has them.
        """
        if route is None:
            first: Sequence[Target] = (self.models[call.model],)
            rest = self.fallbacks.get(call.model, ())
        else:
            first, rest = route.policy.rank(call, route.candidates), route.fallback
        if len(first) == 1 and not rest and not call.needs and call.operation in first[0].endpoints:
            return Plan(targets=tuple(first), route=route.name if route else None)
        able: dict[str, Target] = {}
        lacking: dict[str, Mapping[str, str]] = {}
        for target in (*first, *rest):
            if target.name in able or target.name in lacking:
                continue
            if lacks := target.lacks(call):
                lacking[target.name] = lacks
            else:
                able[target.name] = target
        if not able:
            raise _unsupported(call, route, lacking)
        targets = sorted(able.values(), key=lambda target: health.rests(target.name, now) > 0)
        return Plan(
            targets=tuple(targets),
            route=route.name if route else None,
            passed_over=tuple((name, f"cannot take {', '.join(lacks)}") for name, lacks in lacking.items()),
        )


def _unsupported(call: Call, route: Route | None, lacking: Mapping[str, Mapping[str, str]]) -> Exception:
    if not lacking:
        return ModelNotFound(f"Every candidate of route `{route.name if route else call.model}` is off.", param="model")
    ability, param = next(iter(next(iter(lacking.values())).items()))
    who = f"The model `{call.model}`" if route is None else f"No candidate of route `{route.name}`"
    if ability == call.operation:
        verb = "does not serve" if route is None else "serves"
        return Unsupported(f"{who} {verb} {ability.replace('_', ' ')}.", param="model", code="unsupported_value")
    verb = "does not support" if route is None else "supports"
    return Unsupported(
        f"{who} {verb} {ability.replace('_', ' ')}, which `{param}` asks for.", param=param, code="unsupported_value"
    )
