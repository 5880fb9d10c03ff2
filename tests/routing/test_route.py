"""From a call to the targets it may go to."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.errors import ModelNotFound, RateLimited, Unsupported
from providers.types import Call, Card, Hints, Model, Prices, Timeouts
from routing import policies
from routing.health import LocalHealth
from routing.latency_class import LatencyClass
from routing.outlook import Outlook
from routing.planner import Planner
from routing.policies import cheapest, ordered
from routing.route import Match, Route, Table
from routing.target import Attempt, Target


def target(name: str, *abilities: str, price: str | None = None) -> Target:
    prices = Prices(Decimal(price), Decimal(price)) if price else Prices()
    card = Card(id=name, kind="openai", abilities=frozenset(abilities), prices=prices)
    return Target(Model(name, "p", name, card), {"chat": None})  # type: ignore[dict-item]


def call(model: str, needs: dict[str, str] | None = None, **hints: str) -> Call:
    return Call(
        id="1",
        operation="chat",
        raw=b"",
        body={},
        model=model,
        stream=False,
        include_usage=False,
        needs=needs or {},
        hints=Hints(**hints),  # type: ignore[arg-type]
        started=0.0,
        deadline=1.0,
        snapshot="",
        task=hints.get("task", "general"),
    )


CLASS = LatencyClass(Timeouts(), 2)

A, B, C = target("a", "tools"), target("b", "tools", "image"), target("c")


def route(name: str = "auto", candidates: tuple[Target, ...] = (A, B), **changes: object) -> Route:
    values = {"match": Match(frozenset({name})), "fallback": (B, C), "policy": ordered.Policy(), **changes}
    return Route(name=name, candidates=candidates, **values)  # type: ignore[arg-type]


TABLE = Table(
    models={"a": A, "b": B, "c": C},
    routes=(route(),),
    fallbacks={"c": (A,)},
    off={"d": "its provider `p` has no key"},
)


def names(table: Table, asked: Call, health: LocalHealth | None = None, now: float = 0.0) -> list[str]:
    planner = Planner(Outlook(), health or LocalHealth())
    return [each.name for each in planner.plan(table, asked, table.route(asked), CLASS, now).targets]


def test_candidates_come_before_the_fallback_and_each_once() -> None:
    assert names(TABLE, call("auto")) == ["a", "b", "c"]


def test_a_model_called_by_name_falls_back_only_where_it_says_so() -> None:
    assert names(TABLE, call("a")) == ["a"]
    assert names(TABLE, call("c")) == ["c", "a"]


def test_targets_without_a_needed_ability_are_passed_over_with_the_reason() -> None:
    asked = call("auto", {"image": "messages[0].content[1]"})
    plan = Planner(Outlook(), LocalHealth()).plan(TABLE, asked, TABLE.route(asked), CLASS, 0.0)
    assert [each.name for each in plan.targets] == ["b"]
    assert plan.passed_over == (("a", "cannot take image"), ("c", "cannot take image"))


def test_no_target_with_the_ability_names_the_parameter() -> None:
    with pytest.raises(Unsupported) as caught:
        names(TABLE, call("auto", {"audio": "messages[0].content[0]"}))
    assert caught.value.param == "messages[0].content[0]"


@pytest.mark.parametrize("model", ["nobody", "d"])
def test_what_is_not_there_is_not_found(model: str) -> None:
    with pytest.raises(ModelNotFound):
        names(TABLE, call(model))


def test_the_first_route_that_fits_takes_the_call() -> None:
    special = route("special", (C,), fallback=(), match=Match(frozenset({"auto"}), use_cases=frozenset({"chat"})))
    table = Table(models=TABLE.models, routes=(special, route()))
    assert names(table, call("auto", use_case="chat")) == ["c"]
    assert names(table, call("auto", use_case="other")) == ["a", "b", "c"]
    by_task = route("t", (B,), fallback=(), match=Match(frozenset({"auto"}), tasks=frozenset({"code"})))
    by_class = route("k", (C,), fallback=(), match=Match(frozenset({"auto"}), classes=frozenset({"realtime"})))
    table = Table(models=TABLE.models, routes=(by_task, by_class))
    assert names(table, call("auto", task="code")) == ["b"]
    assert names(table, call("auto", latency_class="realtime")) == ["c"]
    with pytest.raises(ModelNotFound):
        names(table, call("auto"))


def test_a_route_without_a_candidate_that_is_on_is_not_found() -> None:
    table = Table(models={}, routes=(route("auto", (), fallback=()),))
    with pytest.raises(ModelNotFound):
        names(table, call("auto"))


def test_a_model_that_asked_for_rest_is_tried_last() -> None:
    health = LocalHealth()
    health.learn(Attempt(A.model, 0.0, error=RateLimited("x", retry_after=30.0)), 0.0)
    assert names(TABLE, call("auto"), health, 10.0) == ["b", "c", "a"]
    assert names(TABLE, call("auto"), health, 31.0) == ["a", "b", "c"]
    health.learn(Attempt(A.model, 0.0), 11.0)
    assert names(TABLE, call("auto"), health, 11.0) == ["a", "b", "c"]


def test_a_short_rest_is_waited_for_instead() -> None:
    health = LocalHealth()
    health.learn(Attempt(A.model, 0.0, error=RateLimited("x", retry_after=1.0)), 0.0)
    assert health.rests("a", 0.5) == 0.0


def test_a_policy_is_found_by_its_file() -> None:
    assert policies.load("cheapest") is cheapest.Policy
    for name in ("nonsense", "__init__", "../os", ""):
        with pytest.raises(LookupError, match="cheapest"):
            policies.load(name)
