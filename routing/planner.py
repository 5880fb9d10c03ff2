"""From a call and its route to a plan: hard limits first, then the policy's order, then the fallbacks."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from providers.errors import ModelNotFound, NoCandidate, Unsupported
from providers.types import Call
from routing import origin
from routing.health import Health
from routing.latency_class import LatencyClass
from routing.outlook import Option, Outlook, fits
from routing.route import Route, Table
from routing.target import Target

DIRECT, ONLY, FASTEST = "direct", "only", "fastest"

MOMENT_SECONDS = 0.05
"""For as long what is expected of the candidates serves for all calls alike: working it out for twenty models takes
longer than all the rest of a decision. Who has how much to do is looked at for each call."""
MOST_CHOICES = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a call goes: the targets in order, and those passed over with the reason."""

    targets: tuple[Target, ...]
    route: str | None = None
    """None where the caller named a model."""
    passed_over: tuple[tuple[str, str], ...] = ()
    reason: str = DIRECT
    """Why the first comes first: the policy's name, `direct`, `only` (nothing else was left), or `fastest` (none is
    expected to keep the class's target)."""
    options: tuple[Option, ...] = ()
    """What was expected of those that the policy had to choose from, best first."""
    experiment: str | None = None
    arm: str | None = None
    conversation: bytes | None = None


class _Choice(NamedTuple):
    """What a policy has to choose from. It holds for calls alike, and for a moment."""

    until: float
    able: Sequence[Target]
    timely: Sequence[Option]
    late: Sequence[Option]
    passed_over: tuple[tuple[str, str], ...]


class Planner:
    """Plans by what is known of models just now. `draw` is where policies take their chances from."""

    def __init__(self, outlook: Outlook, health: Health, draw: Random | None = None) -> None:
        self.outlook = outlook
        self._health = health
        self._draw = draw or Random()
        self._table: Table | None = None
        self._choices: dict[Hashable, _Choice] = {}

    def plan(self, table: Table, call: Call, route: Route | None, latency_class: LatencyClass, now: float) -> Plan:
        """The targets for a call, each once: those that have the abilities it needs, resting ones last.

        Raises Unsupported, naming the parameter, when no target has them; NoCandidate when none is expected to keep the
        target of a class that then rejects.
        """
        if route is None:
            return self._direct(table, call, now)
        conversation = origin.conversation(call) if route.affinity else None
        choice = self._choice(table, call, route, latency_class, conversation, now)
        options, arm = choice.timely, None
        if options:
            reason = route.by
            options = route.policy.rank(call, options, self._draw)
            ranked: Sequence[Target] = [option.target for option in options]
        elif choice.late:
            if latency_class.rejects:
                raise _none_in_time(route, latency_class, choice.late)
            reason, options = FASTEST, choice.late
            ranked = [option.target for option in options]
        else:
            reason, ranked = ONLY, choice.able
        if route.experiment is not None:
            arm = route.policy.arm(call)  # type: ignore[attr-defined]  # only the policy `experiment` has one
        passed_over = choice.passed_over
        if route.fallback:
            lacking: dict[str, Mapping[str, str]] = {}
            rest = _able(call, route.fallback, lacking)
            ranked = list({target.model.name: target for target in (*ranked, *rest)}.values())
            passed_over += _lacks(lacking, {name for name, _ in passed_over})
        if not ranked:
            raise _unsupported(call, route)
        return Plan(
            self._rested(ranked, now),
            route.name,
            passed_over,
            reason,
            tuple(options),
            route.experiment,
            arm,
            conversation,
        )

    def _choice(
        self,
        table: Table,
        call: Call,
        route: Route,
        latency_class: LatencyClass,
        conversation: bytes | None,
        now: float,
    ) -> _Choice:
        """What there is to choose from: as it was a moment ago for a call alike; anew for a conversation in a cache."""
        if table is not self._table or len(self._choices) > MOST_CHOICES:
            self._table = table
            self._choices.clear()
        if conversation is not None and not self.outlook.conversations.kept(conversation, now)[1]:
            conversation = None
        chars = call.chars
        # Lengths within an eighth of each other are one.
        step = chars >> 3 if chars < 16 else (chars.bit_length() << 3) | (chars >> (chars.bit_length() - 4))
        key = (
            *(route.name, latency_class.name, call.operation, call.task, call.whole, step, call.max_output),
            *(tuple(call.needs) if call.needs else (), call.hints.diffusing),
        )
        if conversation is None:
            held = self._choices.get(key)
            if held is not None and now < held.until:
                return held
        lacking: dict[str, Mapping[str, str]] = {}
        passed: dict[str, str] = {}
        able = _able(call, route.candidates, lacking)
        timely: Sequence[Option] = ()
        late: Sequence[Option] = ()
        if len(able) > 1 or (able and latency_class.rejects):
            options = self.outlook.options(call, call.task, able, table.qualities, now, call.chars, conversation)
            timely, late = _timely(_roomy(options, passed), latency_class)
            if timely:
                passed |= {option.name: _too_late(option, latency_class) for option in late}
            else:
                late = sorted(late, key=lambda option: _expected(option, latency_class))
        choice = _Choice(now + MOMENT_SECONDS, able, timely, late, (*passed.items(), *_lacks(lacking)))
        if conversation is None:
            self._choices[key] = choice
        return choice

    def _direct(self, table: Table, call: Call, now: float) -> Plan:
        first = table.models[call.model]
        rest = table.fallbacks.get(call.model, ())
        lacking: dict[str, Mapping[str, str]] = {}
        able = _able(call, (first, *rest), lacking)
        if not able:
            raise _unsupported(call, None, first)
        return Plan(targets=self._rested(able, now), passed_over=_lacks(lacking) if lacking else ())

    def _rested(self, targets: Sequence[Target], now: float) -> tuple[Target, ...]:
        if len(targets) == 1:
            return (targets[0],)
        return tuple(sorted(targets, key=lambda target: self._health.rests(target.model.name, now) > 0))


def _able(call: Call, targets: Iterable[Target], lacking: dict[str, Mapping[str, str]]) -> list[Target]:
    """Those that have what the call needs, each once; what the others lack goes into `lacking`."""
    needs, operation = call.needs, call.operation
    found: dict[str, Target] = {}
    for target in targets:
        if not needs and operation in target.endpoints:
            found[target.model.name] = target
        elif lacks := target.lacks(call):
            lacking[target.name] = lacks
        else:
            found[target.name] = target
    return list(found.values())


def _lacks(lacking: Mapping[str, Mapping[str, str]], told: Container[str] = ()) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"cannot take {', '.join(lacks)}") for name, lacks in lacking.items() if name not in told)


def _roomy(options: Sequence[Option], passed: dict[str, str]) -> Sequence[Option]:
    """Those whose window is large enough for the prompt; all where none is: an estimate is no verdict."""
    small = [option for option in options if option.prompt_tokens > (option.target.model.card.context or 1e12)]
    if not small or len(small) == len(options):
        return options
    for option in small:
        window = option.target.model.card.context
        passed[option.name] = f"a prompt of about {option.prompt_tokens:.0f} tokens exceeds its window of {window}"
    return [option for option in options if option.name not in passed]


def _timely(options: Sequence[Option], latency_class: LatencyClass) -> tuple[Sequence[Option], Sequence[Option]]:
    """Those that are expected to keep the class's target, and those that are not."""
    target, until = latency_class.target, latency_class.target_of
    if target is None:
        return options, ()
    timely = [option for option in options if fits(option, target, until)]
    return timely, [] if len(timely) == len(options) else [
        option for option in options if not fits(option, target, until)
    ]


def _too_late(option: Option, latency_class: LatencyClass) -> str:
    return (
        f"{_expected(option, latency_class) * 1000:.0f} ms to the {_WORDS[latency_class.target_of]} are expected, "
        f"and class {latency_class.name} aims for {(latency_class.target or 0.0) * 1000:.0f} ms"
    )


_WORDS = {"first_token": "first token", "answer": "end of the answer"}


def _expected(option: Option, latency_class: LatencyClass) -> float:
    return option.ttft if latency_class.target_of == "first_token" else option.seconds


def _none_in_time(route: Route, latency_class: LatencyClass, options: Sequence[Option]) -> NoCandidate:
    best = min(_expected(option, latency_class) for option in options)
    return NoCandidate(
        f"No candidate of route `{route.name}` is expected to keep the {(latency_class.target or 0) * 1000:.0f} ms to "
        f"the {_WORDS[latency_class.target_of]} that class {latency_class.name} wants; the fastest takes about "
        f"{best * 1000:.0f} ms."
    )


def _unsupported(call: Call, route: Route | None, first: Target | None = None) -> Exception:
    candidates = (*route.candidates, *route.fallback) if route is not None else (first,) if first is not None else ()
    lacking = next((lacks for target in candidates if (lacks := target.lacks(call))), None)
    if lacking is None:
        return ModelNotFound(f"Every candidate of route `{route.name if route else call.model}` is off.", param="model")
    ability, param = next(iter(lacking.items()))
    who = f"The model `{call.model}`" if route is None else f"No candidate of route `{route.name}`"
    if ability == call.operation:
        verb = "does not serve" if route is None else "serves"
        return Unsupported(f"{who} {verb} {ability.replace('_', ' ')}.", param="model", code="unsupported_value")
    verb = "does not support" if route is None else "supports"
    return Unsupported(
        f"{who} {verb} {ability.replace('_', ' ')}, which `{param}` asks for.", param=param, code="unsupported_value"
    )
