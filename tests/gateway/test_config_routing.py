"""Where calls go, as the configuration says it: what each key takes, what it becomes, and what is said against it."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import config, rules
from gateway.config import Config, Match
from gateway.demo import demo
from gateway.document import Problem
from providers import catalog
from providers.types import Prices
from routing import policies

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "talaria.example.yaml"
TODAY = date(2026, 11, 25)

BASE = """\
version: 1
providers:
  inception: {kind: inception, keys: [{id: main, value: sk-secret-1}]}
  anthropic: {kind: anthropic, keys: [{id: main, value: sk-secret-2}]}
models:
  mercury: {provider: inception, upstream: mercury-2}
  haiku: {provider: anthropic, upstream: claude-haiku-4-5-20251001}
use_cases: [ide]
routes:
  - name: auto
    candidates: [mercury, haiku]
"""
ROUTE = "    candidates: [mercury, haiku]"
EXPERIMENT = """\
    choose: {by: experiment, experiment: trial}
experiments:
  trial:
    unit: user
    arms: {old: {candidates: [haiku], weight: 9}, new: {candidates: [mercury]}}
"""


def parse(text: str) -> Config:
    return config.parse(text, "talaria.yaml", {}, today=TODAY)


def problems(text: str, severity: str) -> list[Problem]:
    return [problem for problem in config.check(text, {}, today=TODAY) if problem.severity == severity]


def routed(*lines: str) -> str:
    return BASE + "".join(f"    {line}\n" for line in lines)


def modelled(words: str, model: str = "mercury-2") -> str:
    return BASE.replace(f"upstream: {model}", f"upstream: {model}, {words}")


def classed(words: str, name: str = "realtime") -> str:
    return BASE + f"latency_classes: {{{name}: {{{words}}}}}\n"


def test_the_base_is_sound() -> None:
    assert config.check(BASE, {}, today=TODAY) == []
    assert config.check(BASE + EXPERIMENT, {}, today=TODAY) == []


def test_a_models_quality_is_a_prior_by_task() -> None:
    tree = parse(modelled("quality: {overall: 0.4, by_task: {code: 0.6}, source: evals}"))
    quality = tree.models["mercury"].quality
    assert quality is not None
    assert (quality.overall, dict(quality.by_task), quality.source) == (0.4, {"code": 0.6}, "evals")
    assert tree.models["haiku"].quality is None


def test_what_is_expected_stands_over_the_catalogs() -> None:
    card = config.model_card(parse(modelled("expect: {ttft_ms: 90.5}")), "mercury")
    assert (card.ttft_ms, card.tokens_per_second) == (90.5, 1009)
    assert config.model_card(parse(BASE), "mercury").ttft_ms == 600


def test_caches_are_marked_unless_that_is_off() -> None:
    tree = parse(modelled("cache: off"))
    assert (tree.models["mercury"].cache, tree.models["haiku"].cache) == ("off", "auto")


DATED = "prices: [{input: 1, output: 2}, {valid_from: 2026-11-01, output: 3}, {valid_from: 2027-01-01, output: 4}]"


@pytest.mark.parametrize(
    ("today", "given", "output"),
    [("2026-10-31", "1", "2"), ("2026-11-01", "0.25", "3"), ("2026-12-31", "0.25", "3"), ("2027-06-01", "0.25", "4")],
)
def test_prices_are_those_of_the_day_each_list_over_the_catalogs(today: str, given: str, output: str) -> None:
    card = config.model_card(parse(modelled(DATED)), "mercury", date.fromisoformat(today))
    assert card.prices == Prices(input=Decimal(given), output=Decimal(output), cache_read=Decimal("0.025"))
    assert [(day, prices.output) for day, prices in card.dated] == [
        ("0001-01-01", 2),
        ("2026-11-01", 3),
        ("2027-01-01", 4),
    ]
    assert catalog.prices_on(card, date(2026, 11, 30)).output == 3


def test_before_the_first_day_the_catalogs_prices_hold() -> None:
    tree = parse(modelled("prices: {valid_from: 2026-11-25, output: 9}"))
    assert config.model_card(tree, "mercury", date(2026, 11, 24)).prices.output == Decimal("0.75")
    assert config.model_card(tree, "mercury", date(2026, 11, 25)).prices.output == 9
    assert config.model_card(parse(modelled("prices: {output: 9}")), "mercury").dated == ()


def test_the_three_classes_have_their_targets() -> None:
    classes = parse("version: 1").latency_classes
    assert [(each.target_ms, each.target_of, each.objective) for each in classes.values()] == [
        (200, "answer", 0.99),
        (2000, "first_token", 0.95),
        (None, "first_token", 0.95),
    ]
    assert {(each.deadline_of, each.on_no_candidate) for each in classes.values()} == {("answer", "fastest")}


def test_a_class_of_ones_own_has_no_target_unless_it_says_one() -> None:
    classes = parse(
        "version: 1\nlatency_classes: {a: {retries: 0}, b: {target_ms: 500, on_no_candidate: reject}}"
    ).latency_classes
    assert classes["a"].target_ms is None
    assert (classes["b"].target_ms, classes["b"].target_of, classes["b"].on_no_candidate) == (
        500,
        "first_token",
        "reject",
    )
    assert parse(classed("target_ms: null")).latency_classes["realtime"].target_ms is None


def test_a_shorter_deadline_brings_the_usual_target_to_the_edge_within() -> None:
    interactive = parse(classed("deadline_ms: 1700", "interactive")).latency_classes["interactive"]
    assert interactive.target_ms == 1500
    assert parse(classed("deadline_ms: 40")).latency_classes["realtime"].target_ms is None


def test_a_deadline_on_the_first_token_does_not_bound_what_comes_after() -> None:
    words = "deadline_ms: 2000, deadline_of: first_token, idle_ms: 9000, target_of: answer, target_ms: 5000"
    assert parse(classed(words)).latency_classes["realtime"].idle_ms == 9000


def test_a_match_takes_tags_and_sizes() -> None:
    match = (
        parse(routed("match: {tags: {team: a, run: [x, y]}, prompt_tokens: {at_least: 10, below: 20}}")).routes[0].match
    )
    assert dict(match.tags) == {"team": ("a",), "run": ("x", "y")}
    assert match.prompt_tokens is not None
    assert (match.prompt_tokens.at_least, match.prompt_tokens.below) == (10, 20)
    assert match.models == ("auto",)


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        ({}, {"tags": {"a": "1"}}),
        ({"tags": {"a": ["1", "2"]}}, {"tags": {"a": "1", "b": "2"}}),
        ({}, {"prompt_tokens": {"below": 5}}),
        ({"prompt_tokens": {"at_least": 5}}, {"prompt_tokens": {"at_least": 5, "below": 9}}),
        ({"prompt_tokens": {"at_least": 0}}, {}),
        ({"prompt_tokens": {"below": 9}}, {"prompt_tokens": {"at_least": 5, "below": 9}}),
        ({"tasks": ["code", "chat"]}, {"tasks": ["code"], "tags": {"a": "1"}}),
    ],
)
def test_a_route_is_unreachable_behind_a_wider_one_only(wider: dict[str, Any], narrower: dict[str, Any]) -> None:
    one, other = (Match.model_validate({"models": ["auto"], **each}) for each in (wider, narrower))
    assert one.covers(other, "auto")
    assert not one.covers(other, "another")
    if wider != {"prompt_tokens": {"at_least": 0}}:
        assert not other.covers(one, "auto")


def test_affinity_and_classification_can_be_off() -> None:
    tree = parse(routed("affinity: false") + "tasks: {classify: false}\n")
    assert (tree.routes[0].affinity, tree.tasks.classify) == (False, False)
    usual = parse(BASE)
    assert (usual.routes[0].affinity, usual.tasks.classify) == (True, True)


def test_a_route_scores_where_it_says_nothing() -> None:
    choose = parse(BASE).routes[0].choose
    assert (choose.by, dict(choose.settings)) == ("score", {})


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("{by: ordered}", {}),
        ("{by: least_busy}", {}),
        ("{weights: {quality: 1, cost: 0.5}}", {"weights": {"quality": 1.0, "cost": 0.5}}),
        ("{by: score, floor: {quality: 0.5}, explore: 0}", {"floor": {"quality": 0.5}, "explore": 0.0}),
        ("{by: fastest, latency: answer}", {"latency": "answer"}),
        ("{by: cheapest, floor: {quality: 0.4}}", {"floor": {"quality": 0.4}}),
        ("{by: weighted, weights: {mercury: 9, haiku: 1}}", {"weights": {"mercury": 9.0, "haiku": 1.0}}),
        ("{by: sticky, on: team}", {"on": "team"}),
    ],
)
def test_settings_are_the_policys_own(written: str, settings: dict[str, Any]) -> None:
    choose = parse(routed(f"choose: {written}")).routes[0].choose
    assert choose.settings == settings
    assert policies.load(choose.by)(**choose.settings)
    with pytest.raises(TypeError):
        choose.settings["by"] = 1  # type: ignore[index]


def test_an_experiment_becomes_its_policys_settings() -> None:
    tree = parse(BASE + EXPERIMENT)
    choose = tree.routes[0].choose
    assert (choose.by, choose.experiment) == ("experiment", "trial")
    assert choose.settings == {
        "arms": {"old": {"candidates": ("haiku",), "weight": 9.0}, "new": {"candidates": ("mercury",), "weight": 1.0}},
        "unit": "user",
        "salt": "trial",
    }
    assert policies.load("experiment")(**choose.settings)
    assert tree.hash != parse(BASE + EXPERIMENT.replace("weight: 9", "weight: 8")).hash
    assert parse(BASE + EXPERIMENT.replace("unit: user", "salt: x")).routes[0].choose.settings["salt"] == "x"
    with pytest.raises(ValidationError):
        tree.experiments["trial"].unit = "key"


BAD = [
    # the text, the line, the path, words of the message
    (modelled("quality: {overall: 1.5}"), 6, "models.mercury.quality.overall", "at most 1, not '1.5'"),
    (modelled("quality: {by_task: {coding: 0.5}}"), 6, "models.mercury.quality.by_task.coding", "did you mean 'code'?"),
    (modelled("quality: {by_tasks: {}}"), 6, "models.mercury.quality.by_tasks", "did you mean 'by_task'?"),
    (modelled("quality: {by_task: {code: good}}"), 6, "models.mercury.quality.by_task.code", "must be a number"),
    (modelled("quality: 0.5"), 6, "models.mercury.quality", "must be a mapping"),
    (modelled("quality: {source: ''}"), 6, "models.mercury.quality.source", "must not be empty"),
    (modelled("expect: {ttft_ms: 0}"), 6, "models.mercury.expect.ttft_ms", "more than 0"),
    (modelled("expect: {tokens_per_second: fast}"), 6, "models.mercury.expect.tokens_per_second", "must be a number"),
    (modelled("expect: {ttft: 9}"), 6, "models.mercury.expect.ttft", "did you mean 'ttft_ms'?"),
    (modelled("cache: on"), 6, "models.mercury.cache", "must be 'auto' or 'off', not 'on'"),
    (modelled("prices: []"), 6, "models.mercury.prices", "at least 1"),
    (modelled("prices: [cheap]"), 6, "models.mercury.prices[0]", "must be a mapping"),
    (modelled("prices: [{input: 1}, {input: 2}]"), 6, "models.mercury.prices[1]", "needs `valid_from`"),
    (modelled("prices: [{inputs: 1}]"), 6, "models.mercury.prices[0].inputs", "did you mean 'input'?"),
    (modelled("prices: [{input: -1}]"), 6, "models.mercury.prices[0].input", "at least 0"),
    (modelled("prices: {valid_from: 2026-13-01}"), 6, "models.mercury.prices.valid_from", "must be a day"),
    (modelled("prices: {valid_from: 1700000000}"), 6, "models.mercury.prices.valid_from", "such as 2026-10-01"),
    (
        modelled("prices: [{valid_from: 2026-10-01}, {valid_from: 2026-10-01}]"),
        6,
        "models.mercury.prices[1].valid_from",
        "2026-10-01 is not after",
    ),
    (classed("target_ms: 250"), 12, "latency_classes.realtime.target_ms", "nearest: 200 or 500 (all: 50, 100,"),
    (
        classed("target_ms: 400, target_of: first_token"),
        12,
        "latency_classes.realtime.target_ms",
        "nearest: 300 or 500",
    ),
    (classed("target_ms: 1"), 12, "latency_classes.realtime.target_ms", "nearest: 50 ("),
    (classed("target_ms: 20000"), 12, "latency_classes.realtime.target_ms", "more than deadline_ms, which is 10000"),
    (classed("target_ms: soon"), 12, "latency_classes.realtime.target_ms", "whole number"),
    (classed("target_of: token"), 12, "latency_classes.realtime.target_of", "'first_token' or 'answer'"),
    (classed("deadline_of: all"), 12, "latency_classes.realtime.deadline_of", "'first_token' or 'answer'"),
    (classed("on_no_candidate: wait"), 12, "latency_classes.realtime.on_no_candidate", "'fastest' or 'reject'"),
    (classed("objective: 1"), 12, "latency_classes.realtime.objective", "less than 1"),
    (classed("objective: 0"), 12, "latency_classes.realtime.objective", "more than 0"),
    (BASE + "tasks: {classify: on}\n", 12, "tasks.classify", "must be true or false"),
    (routed("affinity: 1"), 12, "routes[0].affinity", "must be true or false"),
    (routed("match: {tags: team}"), 12, "routes[0].match.tags", "must be a mapping"),
    (routed("match: {tags: {team: []}}"), 12, "routes[0].match.tags.team", "at least 1"),
    (routed("match: {tags: {team: [a, a]}}"), 12, "routes[0].match.tags.team", "more than once"),
    (routed("match: {tag: {team: a}}"), 12, "routes[0].match.tag", "did you mean 'tags'?"),
    (routed("match: {prompt_tokens: 9}"), 12, "routes[0].match.prompt_tokens", "must be a mapping"),
    (routed("match: {prompt_tokens: {above: 9}}"), 12, "routes[0].match.prompt_tokens.above", "known: at_least, below"),
    (routed("match: {prompt_tokens: {at_least: -1}}"), 12, "routes[0].match.prompt_tokens.at_least", "at least 0"),
    (
        routed("match: {prompt_tokens: {at_least: 9, below: 9}}"),
        12,
        "routes[0].match.prompt_tokens.below",
        "9 is not more than at_least, which is 9",
    ),
    (routed("choose: {by: scor}"), 12, "routes[0].choose.by", "did you mean 'score'?"),
    (routed("choose: {by: [score]}"), 12, "routes[0].choose.by", "must be text"),
    (routed("choose: score"), 12, "routes[0].choose", "must be a mapping"),
    (
        routed("choose: {weight: {cost: 1}}"),
        12,
        "routes[0].choose.weight",
        "unknown setting of score 'weight'; did you mean",
    ),
    (routed("choose: {settings: {}}"), 12, "routes[0].choose.settings", "unknown setting of score"),
    (routed("choose: {by: ordered, explore: 0}"), 12, "routes[0].choose.explore", "(known: none)"),
    (routed("choose: {weights: {quality: much}}"), 12, "routes[0].choose.weights.quality", "a number, not 'much'"),
    (routed("choose: {weights: {quality: -1}}"), 12, "routes[0].choose.weights.quality", "0 or more"),
    (routed("choose: {weights: {speed: 1}}"), 12, "routes[0].choose.weights", "quality, latency, cost"),
    (routed("choose: {weights: {cost: 0}}"), 12, "routes[0].choose.weights", "above 0"),
    (routed("choose: {floor: {quality: 2}}"), 12, "routes[0].choose.floor.quality", "from 0 to 1"),
    (routed("choose: {explore: .nan}"), 12, "routes[0].choose.explore", "a number"),
    (routed("choose: {latency: total}"), 12, "routes[0].choose.latency", "'auto', 'first_token' or 'answer'"),
    (
        routed("choose: {by: weighted, weights: {mercuri: 1, haiku: 1}}"),
        12,
        "routes[0].choose.weights.mercuri",
        "unknown candidate of this route 'mercuri'; did you mean 'mercury'?",
    ),
    (routed("choose: {by: experiment}"), 12, "routes[0].choose.experiment", "is missing"),
    (routed("choose: {by: experiment, arms: {}}"), 12, "routes[0].choose.arms", "(known: experiment)"),
    (routed("choose: {by: experiment, experiment: x}"), 12, "routes[0].choose.experiment", "unknown experiment 'x'"),
    (BASE + EXPERIMENT.replace("[haiku]", "[haik]"), 16, "experiments.trial.arms.old.candidates[0]", "'haiku'?"),
    (
        (BASE + EXPERIMENT).replace(ROUTE, "    candidates: [mercury]"),
        16,
        "experiments.trial.arms.old.candidates[0]",
        "'haiku' is no candidate of route 'auto' (known: mercury)",
    ),
    (
        BASE + EXPERIMENT.replace("weight: 9", "weight: 0").replace("[mercury]}", "[mercury], weight: 0}"),
        16,
        "experiments.trial.arms",
        "have weight 0 throughout",
    ),
    (BASE + EXPERIMENT.replace("weight: 9", "weight: -9"), 16, "experiments.trial.arms.old.weight", "at least 0"),
    (BASE + "experiments: {trial: {arms: {}}}\n", 12, "experiments.trial.arms", "at least 1"),
    (BASE + "experiments: {trial: {}}\n", 12, "experiments.trial.arms", "is missing"),
    (
        BASE + "experiments: {trial: {units: user, arms: {a: {candidates: [haiku]}}}}\n",
        12,
        "experiments.trial.units",
        "did you mean 'unit'?",
    ),
]


@pytest.mark.parametrize(("text", "line", "path", "words"), BAD, ids=[f"{bad[2]}: {bad[3]}" for bad in BAD])
def test_an_error_names_its_place_and_what_is_allowed(text: str, line: int, path: str, words: str) -> None:
    found = problems(text, "error")
    assert [(problem.path, problem.line) for problem in found] == [(path, line)], found
    assert words in found[0].message


def test_every_wrong_setting_is_said_at_once() -> None:
    text = routed("choose: {by: score, explore: much, latency: total}", "fallback: nothing")
    assert [problem.path for problem in problems(text, "error")] == [
        "routes[0].choose.explore",
        "routes[0].choose.latency",
        "routes[0].fallback",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            routed("choose: {floor: {quality: 0.9}}"),
            "talaria.yaml:12:22: warning: routes[0].choose.floor.quality: 0.9 is more than any candidate is known for; "
            "the best has 0.5",
        ),
        (
            BASE.replace("mercury, haiku", "mercury")
            + "    class: realtime\n    match: {tasks: [chat, autocomplete]}\n",
            "routes[0]: answers in 200 ms, the target of class realtime, are out of every candidate's reach for chat, "
            "autocomplete, as far as is known: mercury takes 600 ms to the first token and 69 ms for some 70 tokens",
        ),
        (
            BASE.replace("mercury, haiku", "mercury") + classed("target_ms: 500", "interactive").removeprefix(BASE),
            "routes[0]: first tokens in 500 ms, the target of class interactive, are out of every candidate's reach",
        ),
        (
            BASE + "fallbacks: {long: [haiku, mercury]}\n",
            "fallbacks.long[1]: mercury has a window of 128000 tokens, less than the 200000 of haiku",
        ),
        (
            modelled("fallback: alone") + "fallbacks: {alone: [mercury]}\n",
            "models.mercury.fallback: has no effect: chain alone has this model alone",
        ),
        (
            BASE + EXPERIMENT.replace("    choose: {by: experiment, experiment: trial}\n", ""),
            "experiments.trial: is used by no route",
        ),
        (
            BASE
            + "  - {name: b, match: {models: [auto], tags: {a: x}, prompt_tokens: {below: 9}}, candidates: [haiku]}\n",
            "routes[1]: is unreachable: what it would take is taken before it, by auto",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_about(text: str, words: str) -> None:
    found = [str(problem) for problem in problems(text, "warning")]
    assert any(words in warning for warning in found), found
    assert parse(text)


@pytest.mark.parametrize(
    "text",
    [
        # haiku's time to the first token is not known
        routed("class: realtime"),
        BASE.replace("mercury, haiku", "mercury") + "    class: background\n",
        modelled("quality: {overall: 0.2, by_task: {code: 0.95}}") + "    choose: {floor: {quality: 0.9}}\n",
        modelled("expect: {ttft_ms: 100}") + "    class: realtime\n",
    ],
)
def test_what_may_be_kept_is_not_warned_about(text: str) -> None:
    assert config.check(text, {}, today=TODAY) == []


def test_edges_are_those_of_the_histograms() -> None:
    from gateway import metrics

    assert [edge / 1000 for edge in rules.edges("answer")] == list(metrics.DURATION)
    assert [edge / 1000 for edge in rules.edges("first_token")] == list(metrics.TTFT)


def test_every_setting_of_every_policy_has_its_manual() -> None:
    for policy in rules.policies():
        for name, setting in rules.settings(policy).items():
            assert setting.manual, f"{policy}: {name}"


names = st.sampled_from(["mercury", "haiku"])
some = st.lists(names, min_size=1, max_size=2, unique=True)
shares = st.floats(0, 1).map(lambda share: round(share, 3))
ratios = st.integers(1, 9)
days = st.lists(st.dates(date(2025, 1, 1), date(2030, 1, 1)), min_size=1, max_size=3, unique=True).map(sorted)
price = st.fixed_dictionaries({}, optional={"input": st.integers(0, 9), "output": shares})
prices = price | days.flatmap(
    lambda found: st.tuples(
        *(price.map(lambda each, day=day: {**each, "valid_from": day.isoformat()}) for day in found)
    ).map(list)
)
model = st.fixed_dictionaries(
    {},
    optional={
        "prices": prices,
        "quality": st.fixed_dictionaries(
            {}, optional={"overall": shares, "by_task": st.dictionaries(st.sampled_from(["code", "chat"]), shares)}
        ),
        "expect": st.fixed_dictionaries({}, optional={"ttft_ms": ratios, "tokens_per_second": ratios}),
        "cache": st.sampled_from(["auto", "off"]),
    },
)
choose = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "by": st.just("score"),
            "weights": st.fixed_dictionaries({"quality": ratios}, optional={"cost": ratios}),
            "floor": st.fixed_dictionaries({"quality": shares}),
            "explore": shares,
            "latency": st.sampled_from(["auto", "answer"]),
        },
    ),
    st.fixed_dictionaries({"by": st.just("weighted")}, optional={"weights": st.just({"mercury": 1})}),
    st.fixed_dictionaries({"by": st.just("sticky")}, optional={"on": st.sampled_from(["user", "team"])}),
    st.fixed_dictionaries({"by": st.just("fastest")}, optional={"explore": shares}),
    st.sampled_from([{"by": "ordered"}, {"by": "cheapest"}, {"by": "experiment", "experiment": "trial"}]),
)
match = st.fixed_dictionaries(
    {},
    optional={
        "tasks": st.just(["code"]),
        "tags": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", ["x", "y"]])),
        "prompt_tokens": st.sampled_from([{}, {"at_least": 5}, {"below": 5}, {"at_least": 5, "below": 6}]),
    },
)
route = st.fixed_dictionaries({"choose": choose, "match": match}, optional={"affinity": st.booleans()})
latency_class = st.fixed_dictionaries(
    {},
    optional={
        "target_ms": st.sampled_from([None, 50, 200, 1000]),
        "target_of": st.just("answer"),
        "objective": st.sampled_from([0.5, 0.999]),
        "on_no_candidate": st.sampled_from(["fastest", "reject"]),
        "deadline_of": st.sampled_from(["answer", "first_token"]),
    },
)
arms = st.fixed_dictionaries(
    {"one": st.fixed_dictionaries({"candidates": some, "weight": ratios})},
    optional={"two": st.fixed_dictionaries({"candidates": some}, optional={"weight": st.integers(0, 9)})},
)
files = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "providers": st.just({"v": {"kind": "openai", "keys": []}}),
        "models": st.fixed_dictionaries({"mercury": model, "haiku": model}).map(
            lambda found: {name: {"provider": "v", **each} for name, each in found.items()}
        ),
        "latency_classes": st.dictionaries(st.sampled_from(["realtime", "own"]), latency_class),
        "tasks": st.fixed_dictionaries({}, optional={"classify": st.booleans()}),
        "experiments": st.fixed_dictionaries(
            {
                "trial": st.fixed_dictionaries(
                    {"arms": arms}, optional={"unit": st.sampled_from(["user", "team"]), "salt": st.just("s")}
                )
            }
        ),
        "routes": st.lists(route, max_size=3).map(
            lambda found: [
                {"name": f"r{index}", "candidates": ["mercury", "haiku"], **each} for index, each in enumerate(found)
            ]
        ),
    }
)


@pytest.fixture(scope="module")
def valid() -> Any:
    return pytest.importorskip("jsonschema_rs").Draft202012Validator(config.schema())


@given(files)
def test_what_is_valid_is_so_by_the_schema_and_by_check(valid: Any, file: dict[str, Any]) -> None:
    assert [error.message for error in valid.iter_errors(file)] == []
    text = json.dumps(file)
    assert problems(text, "error") == []
    told = json.loads(parse(text).model_dump_json(by_alias=True, exclude_none=True))
    again = config.parse(json.dumps({**told, "server": {}}), "again", {})
    assert again.routes == parse(text).routes
    assert again.latency_classes == parse(text).latency_classes or None in [
        each.get("target_ms", 0) for each in file["latency_classes"].values()
    ]


@pytest.mark.parametrize(
    "choose",
    [
        {"by": "scor"},
        {"weight": {}},
        {"by": "ordered", "weights": {}},
        {"by": "score", "weights": {"quality": "much"}},
        {"by": "experiment"},
        {"by": "experiment", "arms": {}},
        {"by": "weighted", "on": "user"},
        {"by": "sticky", "explore": 0.1},
    ],
)
def test_the_schema_refuses_settings_that_the_policy_has_not(valid: Any, choose: dict[str, Any]) -> None:
    file = {"version": 1, "routes": [{"name": "a", "candidates": ["b"], "choose": choose}]}
    assert not valid.is_valid(file)


def test_the_example_is_valid_by_the_schema(valid: Any) -> None:
    from ruamel.yaml import YAML

    plain = YAML(typ="safe", pure=True)
    plain.constructor.yaml_constructors = {
        **plain.constructor.yaml_constructors,
        "tag:yaml.org,2002:timestamp": type(plain.constructor).construct_yaml_str,
    }
    assert [error.message for error in valid.iter_errors(plain.load(EXAMPLE.read_text(encoding="utf-8")))] == []


def test_the_demo_is_the_example_in_front_of_the_simulator() -> None:
    example = config.load(EXAMPLE, {})
    shown = demo("http://127.0.0.1:9")
    assert shown.routes == example.routes
    assert shown.latency_classes == example.latency_classes
    assert {**shown.models, "gpt-4.1-nano": None} == {**example.models, "gpt-4.1-nano": None}
    assert all(
        provider.active and provider.base_url.startswith("http://127.0.0.1:9/") for provider in shown.providers.values()
    )
    assert (shown.server.auth, shown.server.admin.address) == ("none", None)


def test_the_examples_assistant_completes_with_mercury_and_explains_with_the_stronger_model() -> None:
    tree = config.load(EXAMPLE, {})
    typing, explaining = tree.routes[:2]
    assert (typing.match.tasks, typing.latency_class) == (("autocomplete",), "realtime")
    assert [tree.models[name].provider for name in typing.candidates] == ["inception", "inception"]
    assert "fim" in config.model_card(tree, typing.candidates[0]).serves
    assert (explaining.match.tasks or ())[0] == "explanation"
    assert (explaining.latency_class, explaining.choose.by) == ("interactive", "score")
    best = max(explaining.candidates, key=lambda name: tree.models[name].quality.by_task["explanation"])  # type: ignore[union-attr]
    assert best == "claude-sonnet"
