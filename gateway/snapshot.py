"""One configuration, built: all that a call needs to know of it, worked out before the first one comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

import providers
from gateway.config import Config, LatencyClass, model
from gateway.wire import Request, Wire
from providers.base import Vendor
from providers.errors import InvalidRequest
from providers.http import PooledTransport
from providers.prompt import Prompt, prompted
from providers.types import Call, Hints, Model, Timeouts
from routing import policies
from routing.route import Match, Route, Table
from routing.router import Budget
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
    budgets: Mapping[str, Budget]
    tasks: frozenset[str]
    use_cases: frozenset[str]
    secrets: tuple[bytes, ...]
    """Every vendor key in use that is long enough to be one, in each spelling; the longest first."""
    tenants: Tenants

    def call(
        self, id: str, started: float, operation: str, raw: bytes, asked: Request, hints: Hints, key_id: str | None
    ) -> Call:
        """The call for a request. Raises InvalidRequest for a hint that this configuration does not know."""
        if hints.task is not None and hints.task not in self.tasks:
            raise _unknown("task", hints.task, self.tasks)
        if hints.latency_class is not None and hints.latency_class not in self.budgets:
            raise _unknown("latency class", hints.latency_class, self.budgets)
        return Call(
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

    def budget(self, call: Call, route: Route | None) -> tuple[str, Budget]:
        """The latency class a call runs under, and what it may take; sets the call's deadline by it."""
        name = call.hints.latency_class or (route.latency_class if route else None) or self.config.server.default_class
        limit = self.config.latency_classes[name].deadline_ms
        if call.hints.deadline_ms is not None:
            limit = min(limit, call.hints.deadline_ms)
        call.deadline = call.started + limit / 1000
        return name, self.budgets[name]

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
                ),
                candidates=tuple(targets[each] for each in route.candidates if each in targets),
                fallback=chain(route.fallback),
                policy=policies.load(route.choose.by)(),
                latency_class=route.latency_class,
            )
            for route in config.routes
        ),
        fallbacks={name: chain(entry.fallback) for name, entry in config.models.items() if entry.fallback},
        off=off,
    )
    return Snapshot(
        config=config,
        hash=config.hash,
        table=table,
        transports=tuple(transports),
        budgets={name: _budget(each) for name, each in config.latency_classes.items()},
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


def _budget(latency_class: LatencyClass) -> Budget:
    return Budget(
        timeouts=Timeouts(
            connect=latency_class.connect_ms / 1000,
            first_token=latency_class.first_token_ms / 1000,
            idle=latency_class.idle_ms / 1000,
        ),
        retries=latency_class.retries,
    )


def _unknown(noun: str, word: str, known: Mapping[str, object] | frozenset[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Unknown {noun} {word[:64]!r}; known ones: {', '.join(sorted(known))}.",
        param=f"metadata.{noun.replace(' ', '_')}",
        code="invalid_value",
    )
