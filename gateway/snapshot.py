"""One configuration, built: all that a call needs to know of it, worked out before the first one comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import orjson

import providers
from gateway import config as configured
from gateway.config import Config, model
from gateway.length import chars
from gateway.wire import Request, Wire
from providers.base import Vendor
from providers.errors import InvalidRequest
from providers.http import PooledTransport
from providers.prompt import Prompt, prompted
from providers.types import Call, Hints, Model, Timeouts
from routing import policies, tasks
from routing.latency_class import LatencyClass
from routing.outlook import Quality
from routing.route import Match, Route, Table
from routing.target import Target

OTHER = "other"


@dataclass(slots=True)
class Tenants:
    """How many calls run under a snapshot, and whether another has taken its place."""

    count: int = 0
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A configuration with its targets, routes and budgets. Never changed: another configuration is another one."""

    config: Config
    hash: str
    table: Table
    transports: Sequence[PooledTransport]
    classes: Mapping[str, LatencyClass]
    tasks: frozenset[str]
    use_cases: frozenset[str]
    secrets: tuple[bytes, ...]
    """Every vendor key in use that is long enough to be one, in each spelling; the longest first."""
    tenants: Tenants

    @property
    def objectives(self) -> dict[str, float]:
        """The share of calls that shall keep the target, of each latency class that has one."""
        classes = self.config.latency_classes.items()
        return {name: entry.objective for name, entry in classes if entry.target_ms is not None}

    def call(
        self, id: str, started: float, operation: str, raw: bytes, asked: Request, hints: Hints, key_id: str | None
    ) -> Call:
        """The call for a request. Raises InvalidRequest for a hint that this configuration does not know."""
        if hints.task is not None and hints.task not in self.tasks:
            raise _unknown("task", hints.task, self.tasks)
        if hints.latency_class is not None and hints.latency_class not in self.classes:
            raise _unknown("latency class", hints.latency_class, self.classes)
        call = Call(
            id=id,
            operation=operation,
            raw=raw,
            body=asked.body,
            model=asked.model,
            stream=asked.stream,
            include_usage=asked.include_usage,
            needs=asked.needs,
            hints=hints,
            started=started,
            deadline=started,
            snapshot=self.hash,
            key_id=key_id,
        )
        call.chars = chars(call)
        if hints.task is not None:
            call.task = hints.task
        elif self.config.tasks.classify:
            guessed = tasks.guess(call).task
            call.task = guessed if guessed in self.tasks else "general"
        return call

    def latency_class(self, call: Call, route: Route | None) -> LatencyClass:
        """The latency class that a call runs under; sets the call's deadline by it."""
        name = call.hints.latency_class or (route.latency_class if route else None) or self.config.server.default_class
        found = self.classes[name]
        limit = found.deadline
        if call.hints.deadline_ms is not None:
            limit = min(limit, call.hints.deadline_ms / 1000)
        call.deadline = call.started + limit
        return found

    def use_case(self, hints: Hints) -> str:
        """As metrics count it: one of the configured names, or `other`."""
        return hints.use_case if hints.use_case in self.use_cases else OTHER

    def conceal(self, told: bytes) -> bytes:
        """The same without vendor keys: a vendor may quote them where it says what went wrong."""
        for secret in self.secrets:
            told = told.replace(secret, b"***")
        return told

    async def aclose(self) -> None:
        for transport in self.transports:
            await transport.aclose()


def build(config: Config, wires: Sequence[Wire]) -> Snapshot:
    """Everything that one configuration asks for; vendors whose every key is empty are left out.

    A model serves what its vendor does, and of `wires` what can be served through that.
    """
    transports: list[PooledTransport] = []
    vendors: dict[str, Vendor] = {}
    for name, provider in config.providers.items():
        if not provider.active:
            continue
        transports.append(PooledTransport(name, provider.connections))
        vendor = providers.load(provider.kind)
        vendors[name] = vendor(name, provider.base_url, provider.secrets, transports[-1], **provider.settings)
    targets: dict[str, Target] = {}
    off: dict[str, str] = {}
    for name, entry in config.models.items():
        if entry.provider in vendors:
            prompt = entry.prompt.build() if entry.prompt else None
            targets[name] = _target(model(config, name), vendors[entry.provider], wires, prompt)
        else:
            off[name] = f"its provider `{entry.provider}` has no key"

    def chain(name: str | None) -> tuple[Target, ...]:
        return tuple(targets[each] for each in config.fallbacks[name] if each in targets) if name else ()

    table = Table(
        models=targets,
        routes=tuple(
            Route(
                name=route.name,
                match=Match(
                    models=frozenset(route.match.models),
                    use_cases=frozenset(route.match.use_cases or ()),
                    tasks=frozenset(route.match.tasks or ()),
                    classes=frozenset(route.match.classes or ()),
                    tags={name: frozenset(values) for name, values in (route.match.tags or {}).items()},
                    at_least=route.match.prompt_tokens.at_least or 0 if route.match.prompt_tokens else 0,
                    below=route.match.prompt_tokens.below or inf if route.match.prompt_tokens else inf,
                ),
                candidates=tuple(targets[each] for each in route.candidates if each in targets),
                fallback=chain(route.fallback),
                policy=policies.load(route.choose.by)(**route.choose.settings),
                latency_class=route.latency_class,
                by=route.choose.by,
                experiment=route.choose.experiment,
                affinity=route.affinity,
            )
            for route in config.routes
        ),
        fallbacks={name: chain(entry.fallback) for name, entry in config.models.items() if entry.fallback},
        off=off,
        qualities={
            name: Quality(entry.quality.overall, entry.quality.by_task)
            for name, entry in config.models.items()
            if entry.quality is not None
        },
    )
    return Snapshot(
        config=config,
        hash=config.hash,
        table=table,
        transports=tuple(transports),
        classes={name: _class(name, each) for name, each in config.latency_classes.items()},
        tasks=frozenset(config.tasks.names),
        use_cases=frozenset(config.use_cases),
        secrets=_spellings(key for provider in config.providers.values() for key in provider.secrets),
        tenants=Tenants(),
    )


def _target(model: Model, vendor: Vendor, wires: Sequence[Wire], prompt: Prompt | None) -> Target:
    endpoints = {name: endpoint for name, endpoint in vendor.endpoints.items() if name in model.card.serves}
    if prompt is not None:
        endpoints = prompted(endpoints, prompt)
    served = dict(endpoints)
    for wire in wires:
        if wire.OPERATION not in endpoints:
            endpoint = wire.through(endpoints, model)
            if endpoint is not None:
                served[wire.OPERATION] = endpoint
    return Target(model, served)


def _spellings(keys: Iterable[str]) -> tuple[bytes, ...]:
    found = {spelled for key in keys if len(key) >= 8 for spelled in (key.encode(), orjson.dumps(key)[1:-1])}
    return tuple(sorted(found, key=len, reverse=True))


def _class(name: str, entry: configured.LatencyClass) -> LatencyClass:
    return LatencyClass(
        timeouts=Timeouts(
            connect=entry.connect_ms / 1000,
            first_token=entry.first_token_ms / 1000,
            idle=entry.idle_ms / 1000,
        ),
        retries=entry.retries,
        name=name,
        deadline=entry.deadline_ms / 1000,
        deadline_of=entry.deadline_of,
        target=None if entry.target_ms is None else entry.target_ms / 1000,
        target_of=entry.target_of,
        rejects=entry.on_no_candidate == "reject",
    )


def _unknown(noun: str, word: str, known: Mapping[str, object] | frozenset[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Unknown {noun} {word[:64]!r}; known ones: {', '.join(sorted(known))}.",
        param=f"metadata.{noun.replace(' ', '_')}",
        code="invalid_value",
    )
