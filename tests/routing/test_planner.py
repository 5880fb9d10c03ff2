"""From a call and its route to a plan, by what is known of the models."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from providers.errors import NoCandidate
from providers.types import Call, Card, Hints, Model, Prices, Timeouts, Usage
from routing.health import LocalHealth
from routing.latency_class import LatencyClass
from routing.outlook import Outlook, Quality
from routing.planner import Plan, Planner
from routing.policies import experiment, ordered, score
from routing.route import Match, Route, Table
from routing.target import Target


def target(name: str, ttft: float = 500.0, speed: float = 100.0, price: str = "1", **card: Any) -> Target:
    prices = Prices(input=Decimal(price), output=Decimal(price), cache_read=Decimal(price) / 10)
    found = Card(id=name, kind="openai", prices=prices, ttft_ms=ttft, tokens_per_second=speed, **card)
    return Target(Model(name, "p", name, found), {"chat": None})  # type: ignore[dict-item]


def call(text: str = "hello", *, stream: bool = True, task: str = "chat", chars: int = 400, **body: Any) -> Call:
    messages = [{"role": "user", "content": text}]
    return Call(
        "1",
        "chat",
        b"",
        {"messages": messages, **body},
        "auto",
        stream,
        False,
        {},
        Hints(),
        0.0,
        1.0,
        "",
        task=task,
        chars=chars,
    )


def aim(target: float | None = None, of: str = "first_token", rejects: bool = False) -> LatencyClass:
    return LatencyClass(Timeouts(), 0, name="brisk", target=target, target_of=of, rejects=rejects)  # type: ignore[arg-type]


FAST, MIDDLE, SLOW = target("fast", 100, 1000), target("middle", 600, 200), target("slow", 1500, 50)
PLANNER_SEED = 7


class World:
    def __init__(
        self, *candidates: Target, policy: Any = None, fallback: tuple[Target, ...] = (), **route: Any
    ) -> None:
        self.outlook = Outlook()
        self.planner = Planner(self.outlook, LocalHealth(), Random(PLANNER_SEED))
        made = Route(
            "auto", Match(frozenset({"auto"})), candidates, fallback, policy or ordered.Policy(), by="ordered", **route
        )
        self.table = Table({each.name: each for each in candidates}, (made,), qualities={"slow": Quality(0.95)})

    def plan(self, asked: Call | None = None, latency_class: LatencyClass | None = None, now: float = 0.0) -> Plan:
        asked = asked or call()
        return self.planner.plan(self.table, asked, self.table.route(asked), latency_class or aim(), now)


def names(plan: Plan) -> list[str]:
    return [each.name for each in plan.targets]


def test_a_model_that_is_too_slow_for_the_class_is_no_candidate_and_the_plan_says_why() -> None:
    plan = World(SLOW, MIDDLE, FAST).plan(latency_class=aim(1.0))
    assert names(plan) == ["middle", "fast"]
    assert plan.passed_over == (("slow", "1500 ms to the first token are expected, and class brisk aims for 1000 ms"),)


def test_the_target_may_be_on_the_whole_answer() -> None:
    plan = World(MIDDLE, FAST).plan(call(max_tokens=20, task="classification"), aim(0.2, "answer"))
    assert names(plan) == ["fast"]
    assert World(MIDDLE, FAST).plan(call(max_tokens=2000, task="writing"), aim(0.2, "answer")).reason == "fastest"


def test_where_none_is_in_time_the_fastest_goes_first_or_the_call_is_refused() -> None:
    world = World(SLOW, MIDDLE, FAST)
    plan = world.plan(latency_class=aim(0.05))
    assert (names(plan), plan.reason, plan.passed_over) == (["fast", "middle", "slow"], "fastest", ())
    with pytest.raises(NoCandidate, match=r"50 ms to the first token .* fastest takes about 100 ms"):
        world.plan(latency_class=aim(0.05, rejects=True))
    with pytest.raises(NoCandidate):
        World(FAST).plan(latency_class=aim(0.05, rejects=True))


def test_a_fallback_is_there_however_slow() -> None:
    assert names(World(FAST, MIDDLE, fallback=(SLOW, FAST)).plan(latency_class=aim(0.7))) == ["fast", "middle", "slow"]


def test_a_prompt_beyond_a_window_goes_to_a_larger_one() -> None:
    small, large = target("small", context=1000), target("large", context=100_000)
    plan = World(small, large).plan(call(chars=40_000))
    assert names(plan) == ["large"]
    assert plan.passed_over == (("small", "a prompt of about 10000 tokens exceeds its window of 1000"),)
    # An estimate alone is no reason to refuse.
    assert names(World(small, target("tiny", context=10)).plan(call(chars=40_000))) == ["small", "tiny"]


def test_what_is_learned_changes_the_plan_and_time_changes_it_back() -> None:
    world = World(FAST, MIDDLE)
    asked = call()
    for second in range(20):
        flight = world.outlook.sent(asked, world.plan(asked, now=second).options[0], float(second))
        flight.first(second + 0.9 + 2.0)
        flight.ended()
    assert names(world.plan(latency_class=aim(1.0), now=23.0)) == ["middle"]
    assert names(world.plan(latency_class=aim(1.0), now=23.0 + 3600)) == ["fast", "middle"]


def test_a_conversation_stays_where_it_is_cached_unless_the_route_says_otherwise() -> None:
    one, two = target("one", price="1"), target("two", price="0.7")
    weights = score.Policy(weights={"cost": 1.0}, explore=0.0)
    long = call("x" * 40_000, chars=40_000)
    for affine, expected in ((True, "one"), (False, "two")):
        world = World(one, two, policy=weights, affinity=affine)
        assert names(world.plan(long))[0] == "two"
        conversation = World(one, two, policy=weights).plan(long).conversation
        for turn in range(6):
            world.outlook.settled(
                "one", "chat", 40_000, Usage(input=500, cache_read=9500, output=100), float(turn), conversation
            )
        assert names(world.plan(long, now=6.0))[0] == expected


def test_an_experiment_names_its_arm() -> None:
    arms = {"control": {"candidates": ["slow"], "weight": 1}, "treatment": {"candidates": ["fast"], "weight": 1}}
    world = World(SLOW, FAST, policy=experiment.Policy(arms=arms, unit="user"), experiment="try")
    seen = {(plan.arm, names(plan)[0]) for i in range(50) if (plan := world.plan(call(user=f"u{i}")))}
    assert seen == {("control", "slow"), ("treatment", "fast")}
    assert world.plan().experiment == "try"


def test_routes_match_by_tags_and_by_the_size_of_the_prompt() -> None:
    match = Match(frozenset({"auto"}), tags={"team": frozenset({"a", "b"})}, at_least=100, below=1000)
    asked = call(chars=2000)
    assert match.misfit(asked) == "tag team="
    asked.hints = Hints(tags={"team": "b"})
    assert match.misfit(asked) is None
    asked.chars = 40
    assert match.misfit(asked) == "a prompt of about 10 tokens"
