"""The configuration: what it takes, what it fills in, and what it says when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import config, document
from gateway.config import Config, ConfigError
from gateway.document import Problem
from providers.types import Prices

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "talaria.example.yaml"
REFERENCE = ROOT / "docs" / "configuration.md"
TODAY = date(2026, 11, 25)

SMALLEST = """\
version: 1
server: {listen: "127.0.0.1:8080", auth: none, redis: "${REDIS_URL:-}", ledger: "sqlite:///talaria.db"}
providers:
  inception: {kind: inception, base_url: "https://api.inceptionlabs.ai/v1", keys: [{id: main, value: "${INCEPTION_API_KEY:-}"}]}
  openai:    {kind: openai, base_url: "https://api.openai.com/v1", keys: [{id: main, value: "${OPENAI_API_KEY:-}"}]}
  anthropic: {kind: anthropic, base_url: "https://api.anthropic.com", keys: [{id: main, value: "${ANTHROPIC_API_KEY:-}"}]}
models:
  mercury:      {provider: inception, upstream: mercury-2, prices: {input: 0.25, cache_read: 0.025, output: 0.75}}
  gpt-4.1-nano: {provider: openai, upstream: gpt-4.1-nano, prices: {input: 0.10, cache_read: 0.025, output: 0.40}}
  claude-haiku: {provider: anthropic, upstream: claude-haiku-4-5-20251001, prices: {input: 1.00, cache_read: 0.10, cache_write: 1.25, output: 5.00}}
fallbacks:
  small: [mercury, gpt-4.1-nano, claude-haiku]
routes:
  - {name: auto, match: {models: [auto]}, candidates: [mercury, gpt-4.1-nano, claude-haiku], fallback: small}
"""

BASE = """\
version: 1
server:
  listen: "127.0.0.1:8080"
providers:
  openai: {kind: openai, keys: [{id: main, value: sk-secret-1}]}
  anthropic: {kind: anthropic, keys: [{id: main, value: sk-secret-2}]}
models:
  nano: {provider: openai, upstream: gpt-5.4-nano}
  haiku:
    provider: anthropic
    upstream: claude-haiku-4-5-20251001
    prices: {input: 1.00}
fallbacks:
  small: [nano, haiku]
routes:
  - name: auto
    candidates: [nano]
    fallback: small
"""


def parse(text: str, **environ: str) -> Config:
    return config.parse(text, "talaria.yaml", environ, today=TODAY)


def problems(text: str, **environ: str) -> list[Problem]:
    return config.check(text, environ, today=TODAY)


def errors(text: str, **environ: str) -> list[Problem]:
    return [problem for problem in problems(text, **environ) if problem.severity == "error"]


def warnings(text: str, **environ: str) -> list[str]:
    return [str(problem) for problem in problems(text, **environ) if problem.severity == "warning"]


def test_the_smallest_file_works_as_it_stands() -> None:
    tree = parse(SMALLEST)
    assert tree.server.address == ("127.0.0.1", 8080)
    assert tree.routes[0].candidates == ("mercury", "gpt-4.1-nano", "claude-haiku")
    assert tree.models["mercury"].prices.cache_read == Decimal("0.025")


def test_a_version_alone_is_a_configuration() -> None:
    tree = parse("version: 1")
    assert (tree.server.listen, tree.server.auth, tree.server.default_class) == (
        "127.0.0.1:8080",
        "keys",
        "interactive",
    )
    assert tree.server.max_body_bytes == 32 * 1024 * 1024
    assert tree.tasks.names == config.TASKS
    assert list(tree.latency_classes) == ["realtime", "interactive", "background"]
    assert tree.latency_classes["realtime"].model_dump() == config.CLASSES["realtime"]


def test_what_is_left_out_is_filled_in() -> None:
    tree = parse("version: 1\nproviders: {openai: {kind: openai, keys: []}}\nmodels: {gpt-6-luna: {provider: openai}}")
    assert tree.providers["openai"].base_url == "https://api.openai.com/v1"
    assert tree.models["gpt-6-luna"].upstream == "gpt-6-luna"


def test_a_route_takes_the_calls_of_its_own_name_unless_it_says_otherwise() -> None:
    tree = parse(BASE + "  - {name: ide, match: {tasks: [code]}, candidates: [nano]}\n")
    assert [route.match.models for route in tree.routes] == [("auto",), ("ide",)]
    assert (tree.routes[1].match.tasks, tree.routes[1].match.classes) == (("code",), None)


def test_a_class_of_ones_own_is_as_interactive_but_for_what_it_says() -> None:
    tree = parse("version: 1\nlatency_classes: {patient: {retries: 4}, interactive: {retries: 1}}")
    assert tree.latency_classes["patient"].retries == 4
    assert tree.latency_classes["patient"].deadline_ms == 600_000
    assert tree.latency_classes["interactive"].retries == 1


def test_a_shorter_deadline_shortens_what_the_file_leaves_out() -> None:
    tree = parse("version: 1\nlatency_classes: {realtime: {deadline_ms: 1500, idle_ms: 700}}")
    realtime = tree.latency_classes["realtime"]
    assert (realtime.first_token_ms, realtime.idle_ms, realtime.connect_ms) == (1500, 700, 1500)


def test_prices_never_pass_through_a_float() -> None:
    tree = parse(BASE.replace("input: 1.00", "input: 0.1000000000000000055"))
    assert tree.models["haiku"].prices.input == Decimal("0.1000000000000000055")


def test_the_card_is_the_catalogs_with_the_files_fields_over_it() -> None:
    card = config.model_card(parse(BASE.replace("input: 1.00", "input: 0.5, cache_write: 0")), "haiku")
    assert card.prices == Prices(
        input=Decimal("0.5"),
        output=Decimal("5.00"),
        cache_read=Decimal("0.10"),
        cache_write=Decimal("0"),
        cache_write_1h=Decimal("2.00"),
    )
    assert (card.id, card.context) == ("claude-haiku-4-5-20251001", 200_000)


def test_features_replace_the_catalogs_abilities() -> None:
    text = BASE.replace("    prices:", "    features: [tools]\n    context: 1000\n    max_output: 10\n    prices:")
    found = config.model(parse(text), "haiku")
    assert found.card.abilities == {"tools"}
    assert (found.card.context, found.card.max_output) == (1000, 10)
    assert (found.name, found.provider, found.upstream) == ("haiku", "anthropic", "claude-haiku-4-5-20251001")


def test_what_a_model_serves_replaces_what_the_catalog_says() -> None:
    text = BASE.replace(
        "    prices:", "    serves: [fim, completions]\n    fim_template: '{prefix}|{suffix}'\n    prices:"
    )
    found = config.model(parse(text), "haiku")
    assert found.card.serves == {"fim", "completions"}
    assert found.fim_template == "{prefix}|{suffix}"
    plain = config.model(parse(BASE), "haiku")
    assert "chat" in plain.card.serves
    assert plain.fim_template is None


@pytest.mark.parametrize(
    ("keys", "active", "secrets"),
    [
        ("[]", True, ()),
        ("[{id: a, value: ''}]", False, ()),
        ("[{id: a, value: ''}, {id: b, value: '${KEY}'}]", True, ("sk-key",)),
        ("[{id: a, value: ' sk-a\n '}]", True, ("sk-a",)),
    ],
)
def test_a_provider_is_on_with_a_key_or_where_none_is_asked_for(
    keys: str, active: bool, secrets: tuple[str, ...]
) -> None:
    tree = parse(f"version: 1\nproviders: {{local: {{kind: openai, keys: {keys}}}}}", KEY="sk-key")
    assert tree.active("local") is active
    assert tree.providers["local"].secrets == secrets


def test_an_empty_admin_key_is_no_key() -> None:
    assert parse('version: 1\nserver: {admin: {key: "${KEY:-}"}}').server.admin.key is None


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:80", "[::1]:8080", "localhost:8080", "LOCALHOST:1"])
def test_auth_none_is_taken_on_loopback(listen: str) -> None:
    assert parse(f'version: 1\nserver: {{listen: "{listen}", auth: none}}').server.loopback


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "example.org:80", "127.0.0.1.evil.org:1"]
)
def test_auth_none_is_refused_off_loopback(listen: str) -> None:
    [problem] = errors(f'version: 1\nserver: {{listen: "{listen}", auth: none}}')
    assert problem.path == "server.auth"
    assert "refused" in problem.message


def test_a_flag_may_not_do_what_the_file_may_not() -> None:
    tree = parse(SMALLEST)
    assert tree.listening(port=0).server.address == ("127.0.0.1", 0)
    assert tree.listening("::1").server.listen == "[::1]:8080"
    with pytest.raises(ConfigError, match="auth: none is refused"):
        tree.listening("0.0.0.0")


BAD = [
    # what is written instead of what, the line, the path, words of the message
    (
        "    prices: {input: 1.00}",
        "    colour: red",
        12,
        "models.haiku.colour",
        "'colour' (known: provider,",
    ),
    ("    prices:", "    price:", 12, "models.haiku.price", "did you mean 'prices'?"),
    ("{input: 1.00}", "{Input: 1.00}", 12, "models.haiku.prices.Input", "did you mean 'input'?"),
    ("{input: 1.00}", "{input: -1}", 12, "models.haiku.prices.input", "at least 0"),
    ("{input: 1.00}", "{input: 2500}", 12, "models.haiku.prices.input", "at most 1000"),
    ("{input: 1.00}", "{input: cheap}", 12, "models.haiku.prices.input", "must be a number, not 'cheap'"),
    ("{input: 1.00}", "{input: .nan}", 12, "models.haiku.prices.input", "must be a number"),
    ("{input: 1.00}", "1.00", 12, "models.haiku.prices", "must be a mapping"),
    ("    prices:", "    context: 1.5\n    prices:", 12, "models.haiku.context", "whole number, not '1.5'"),
    ("    prices:", "    context: 0\n    prices:", 12, "models.haiku.context", "more than 0"),
    ("    prices:", "    features: [tool]\n    prices:", 12, "models.haiku.features", "did you mean 'tools'?"),
    ("    prices:", "    features: tools\n    prices:", 12, "models.haiku.features", "must be a list"),
    ("    prices:", "    on_unsupported: no\n    prices:", 12, "models.haiku.on_unsupported", "'error' or 'drop'"),
    ("    prices:", "    serves: [chats]\n    prices:", 12, "models.haiku.serves", "did you mean 'chat'?"),
    ("    prices:", "    serves: []\n    prices:", 12, "models.haiku.serves", "at least 1"),
    (
        "    prices:",
        "    fim_template: '{prefix}'\n    prices:",
        12,
        "models.haiku.fim_template",
        "{suffix} in it, once",
    ),
    (
        "    prices:",
        "    fim_template: '{suffix}'\n    prices:",
        12,
        "models.haiku.fim_template",
        "{prefix} in it, once",
    ),
    ("    prices:", "    fallback: smal\n    prices:", 12, "models.haiku.fallback", "did you mean 'small'?"),
    ("    provider: anthropic\n", "", 9, "models.haiku.provider", "is missing"),
    ("provider: anthropic\n", "provider: antropic\n", 10, "models.haiku.provider", "did you mean 'anthropic'?"),
    ("  haiku:\n", "  my haiku:\n", 9, "models.my haiku", "is no name"),
    ("version: 1\n", "version: 2\n", 1, "version", "must be 1, not '2'"),
    ("version: 1\n", "", 1, "version", "is missing"),
    ("version: 1\n", "version: 1\nbudgets: {}\n", 2, "budgets", "unknown key"),
    ("version: 1\n", "version: 1\nslos: []\n", 2, "slos", "unknown key"),
    ("kind: openai,", "kind: opnai,", 5, "providers.openai.kind", "did you mean 'openai'?"),
    ("kind: openai,", "kind: base,", 5, "providers.openai.kind", "unknown provider kind 'base'"),
    ("kind: openai,", "kind: ../x,", 5, "providers.openai.kind", "unknown provider kind"),
    (", keys: [{id: main, value: sk-secret-1}]", "", 5, "providers.openai.keys", "is missing"),
    ("[{id: main, value: sk-secret-1}]", "sk-secret-1", 5, "providers.openai.keys", "must be a list"),
    ("[{id: main, value: sk-secret-1}]", "[sk-secret-1]", 5, "providers.openai.keys[0]", "must be a mapping"),
    ("value: sk-secret-1", "value: sk secret-1", 5, "providers.openai.keys[0].value", "no key has"),
    ("value: sk-secret-1", "vaule: sk-secret-1", 5, "providers.openai.keys[0].vaule", "did you mean 'value'?"),
    (
        "[{id: main, value: sk-secret-1}]",
        "[{id: a, value: b}, {id: a, value: c}]",
        5,
        "providers.openai.keys",
        "names a more than once",
    ),
    ("kind: openai,", "kind: openai, connections: -1,", 5, "providers.openai.connections", "at least 0"),
    ("kind: openai,", "kind: openai, base_url: 'api.x.org',", 5, "providers.openai.base_url", "http:// or https://"),
    ("kind: openai,", "kind: openai, base_url: 'https://u:p@x.org',", 5, "providers.openai.base_url", "credentials"),
    ("kind: openai,", "kind: openai, base_url: 'http://[x',", 5, "providers.openai.base_url", "http:// or https://"),
    ("  small: [nano, haiku]", "  small: []", 14, "fallbacks.small", "at least 1"),
    ("  small: [nano, haiku]", "  small: [nano, nano]", 14, "fallbacks.small", "names nano more than once"),
    ("  small: [nano, haiku]", "  small: [nano, haikoo]", 14, "fallbacks.small[1]", "did you mean 'haiku'?"),
    ("  small: [nano, haiku]", "  small: nano", 14, "fallbacks.small", "must be a list"),
    ("    candidates: [nano]", "    candidates: []", 17, "routes[0].candidates", "at least 1"),
    ("    candidates: [nano]", "    candidates: [nanno]", 17, "routes[0].candidates[0]", "did you mean 'nano'?"),
    ("    candidates: [nano]\n", "", 16, "routes[0].candidates", "is missing"),
    ("    fallback: small", "    fallback: smal", 18, "routes[0].fallback", "did you mean 'small'?"),
    ("    fallback: small", "    class: realtme", 18, "routes[0].class", "did you mean 'realtime'?"),
    ("    fallback: small", "    latency_class: realtime", 18, "routes[0].latency_class", "unknown key"),
    ("    fallback: small", "    choose: {by: order}", 18, "routes[0].choose.by", "did you mean 'ordered'?"),
    (
        "    fallback: small",
        "    choose: {by: ordered, weights: {}}",
        18,
        "routes[0].choose.weights",
        "unknown setting of ordered",
    ),
    ("    fallback: small", "    match: {task: [code]}", 18, "routes[0].match.task", "did you mean 'tasks'?"),
    ("    fallback: small", "    match: {tasks: [coding]}", 18, "routes[0].match.tasks[0]", "did you mean 'code'?"),
    ("    fallback: small", "    match: {use_cases: [a]}", 18, "routes[0].match.use_cases[0]", "unknown use case"),
    ("    fallback: small", "    match: {classes: [slow]}", 18, "routes[0].match.classes[0]", "unknown latency class"),
    ("    fallback: small", "    match: {models: []}", 18, "routes[0].match.models", "at least 1"),
    ("    fallback: small", "    match: any", 18, "routes[0].match", "must be a mapping"),
    ("    fallback: small", "  - {name: auto, candidates: [nano]}", 18, "routes[1].name", "routes[0] already"),
    ("- name: auto", "- name: nano", 16, "routes[0].name", "a model's name"),
    ('listen: "127.0.0.1:8080"', "listen: 8080", 3, "server.listen", "must be host:port"),
    ('listen: "127.0.0.1:8080"', "listen: '::1:8080'", 3, "server.listen", "must be host:port"),
    ('listen: "127.0.0.1:8080"', "listen: 'x:65536'", 3, "server.listen", "must be host:port"),
    ('listen: "127.0.0.1:8080"', f"listen: 'x:{'1' * 5000}'", 3, "server.listen", "must be host:port"),
    ('listen: "127.0.0.1:8080"', "listen: '[x]:80'", 3, "server.listen", "must be host:port"),
    ('listen: "127.0.0.1:8080"', "auth: off", 3, "server.auth", "must be 'keys' or 'none', not 'off'"),
    ('listen: "127.0.0.1:8080"', "redis: 'localhost:6379'", 3, "server.redis", "redis://"),
    ('listen: "127.0.0.1:8080"', "ledger: 'postgresql://x/y'", 3, "server.ledger", "no other database"),
    ('listen: "127.0.0.1:8080"', "ledger: 'sqlite:///'", 3, "server.ledger", "must name a file"),
    ('listen: "127.0.0.1:8080"', "default_class: fast", 3, "server.default_class", "unknown latency class"),
    ('listen: "127.0.0.1:8080"', "drain_seconds: soon", 3, "server.drain_seconds", "must be a number"),
    ('listen: "127.0.0.1:8080"', "drain_seconds: inf", 3, "server.drain_seconds", "at most 86400"),
    ('listen: "127.0.0.1:8080"', "max_body_bytes: 0", 3, "server.max_body_bytes", "more than 0"),
    ('listen: "127.0.0.1:8080"', "log: {level: loud}", 3, "server.log.level", "'debug', 'info', 'warning' or 'error'"),
    ('listen: "127.0.0.1:8080"', "admin: {token: x}", 3, "server.admin.token", "(known: listen, key)"),
    ('listen: "127.0.0.1:8080"', "admin: sk-secret-3", 3, "server.admin", "must be a mapping"),
    ("version: 1\n", "version: 1\nserver: {}\n", 3, "server", "twice"),
    (
        "version: 1\n",
        "version: 1\nlatency_classes: {a: {deadline_ms: 1000, idle_ms: 2000}}\n",
        2,
        "latency_classes.a.idle_ms",
        "2000 is more than deadline_ms, which is 1000",
    ),
    ("version: 1\n", "version: 1\nlatency_classes: {a: {retries: 99}}\n", 2, "latency_classes.a.retries", "at most 10"),
    ("version: 1\n", "version: 1\nlatency_classes: {a: {ttl: 9}}\n", 2, "latency_classes.a.ttl", "known: target_ms"),
    ("version: 1\n", "version: 1\ntasks: {names: []}\n", 2, "tasks.names", "at least 1"),
    ("version: 1\n", "version: 1\ntasks: {names: [a, a]}\n", 2, "tasks.names", "more than once"),
    ("version: 1\n", "version: 1\nuse_cases: [a, '']\n", 2, "use_cases[1]", "must be a name"),
    ("version: 1\n", "version: 1\nuse_cases:\n", 2, "use_cases", "but is empty"),
    ("value: sk-secret-1", "value: '${NOT_SET}'", 5, "providers.openai.keys[0].value", "NOT_SET is not set"),
]


@pytest.mark.parametrize(("old", "new", "line", "path", "words"), BAD, ids=[f"{bad[3]}: {bad[4]}" for bad in BAD])
def test_an_error_names_its_place_and_what_is_allowed(old: str, new: str, line: int, path: str, words: str) -> None:
    assert old in BASE
    text = BASE.replace(old, new, 1)
    found = errors(text)
    assert any(problem.path == path and problem.line == line and words in problem.message for problem in found), found
    said = "\n".join(map(str, problems(text)))
    assert "sk-secret" not in said
    assert not re.search(r"pydantic|https://errors|type=|Input should|Value error", said)


def test_a_problem_is_one_line_that_an_editor_can_follow() -> None:
    [problem] = errors(BASE.replace("    prices:", "    price:"))
    assert str(problem).startswith("talaria.yaml:12:5: models.haiku.price: unknown key 'price'; did you mean 'prices'?")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = BASE.replace("prices:", "price:").replace("[nano]", "[nanno]").replace("auto", "haiku", 1)
    text = text.replace("version: 1", "version: 1\nversion: 1")
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert [problem.path for problem in caught.value.problems] == [
        "version",
        "models.haiku.price",
        "routes[0].name",
        "routes[0].candidates[0]",
    ]


def test_all_unset_variables_are_named_at_once_beside_other_errors() -> None:
    text = BASE.replace("sk-secret-1", "${ONE}").replace("sk-secret-2", "'${TWO}'").replace("prices:", "price:")
    text = text.replace("value: ${ONE}", "value: '${ONE}'")
    assert [problem.path for problem in errors(text)] == [
        "providers.openai.keys[0].value",
        "providers.anthropic.keys[0].value",
        "models.haiku.price",
    ]


def test_secrets_are_in_no_message_no_repr_and_no_dump() -> None:
    text = BASE.replace("sk-secret-1", '"${KEY}"').replace(
        "  listen:", "  redis: 'redis://u:sk-secret@h:1/0'\n  admin: {key: sk-secret}\n  listen:"
    )
    tree = parse(text, KEY="sk-secret-env")
    assert tree.server.redis.get_secret_value() == "redis://u:sk-secret@h:1/0"
    for shown in (repr(tree), str(tree), str(tree.model_dump()), tree.model_dump_json()):
        assert "sk-secret" not in shown
    wrong = text.replace("kind: openai", 'kind: "${KEY}"').replace("fallback: small", 'fallback: "${KEY}"')
    for key in ("sk-secret-env", "sk-secret-" + "x" * 100):
        assert "sk-secret" not in "\n".join(map(str, problems(wrong, KEY=key)))


def test_the_hash_tells_configurations_apart_and_holds_no_secret() -> None:
    tree = parse(BASE)
    assert re.fullmatch("[0-9a-f]{12}", tree.hash)
    assert tree.hash == parse(BASE.replace("sk-secret-1", "sk-other")).hash
    assert tree.hash == parse("# a comment\n" + BASE).hash
    assert tree.hash != parse(BASE.replace("sk-secret-1", "''")).hash
    assert tree.hash != parse(BASE.replace("input: 1.00", "input: 1.01")).hash
    assert tree.hash != tree.listening(port=1).hash


def test_the_tree_is_frozen() -> None:
    tree = parse(BASE)
    with pytest.raises(ValidationError):
        tree.server.listen = "x:1"
    with pytest.raises(TypeError):
        tree.models["new"] = tree.models["nano"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpt-5.4-nano", "gpt-4.1-nano", "models.nano.upstream: gpt-4.1-nano was retired on 2026-10-23; its successor"),
        ("sk-secret-1", "''", "providers.openai: is off, because every key is empty; no candidates therefore: nano"),
        ("sk-secret-1", "''", "routes[0].candidates: are all off"),
        ("gpt-5.4-nano", "llama", "models.nano.prices: has no price for input or output"),
        ("gpt-5.4-nano", "gpt-5.4-nano, fim_template: '{prefix}{suffix}'", "models.nano.fim_template: has no effect"),
        ("    fallback: small", "", "fallbacks.small: is used by no model and no route"),
        ("provider: anthropic", "provider: openai", "fallbacks.small: has models of openai only"),
        (
            "    fallback: small",
            "    fallback: small\n  - {name: b, match: {models: [auto], tasks: [code]}, candidates: [nano]}",
            "routes[1]: is unreachable: what it would take is taken before it, by auto",
        ),
        ("  listen:", "  redis: 'redis://localhost'\n  listen:", "server.redis: is set, but this version"),
    ],
)
def test_what_is_hardly_meant_is_warned_about(old: str, new: str, words: str) -> None:
    text = BASE.replace(old, new, 1)
    assert any(words in warning for warning in warnings(text)), warnings(text)
    assert [str(problem) for problem in parse(text).warnings] == warnings(text)


def test_a_sound_file_gives_no_warning() -> None:
    assert problems(BASE) == []


def test_vectors_need_no_price_for_output() -> None:
    assert warnings(BASE.replace("gpt-5.4-nano", "text-embedding-3-large")) == []


def test_a_model_is_not_retired_before_its_day() -> None:
    text = BASE.replace("gpt-5.4-nano", "gpt-4.1-nano")
    assert "retired" not in "".join(map(str, config.check(text, {}, today=date(2026, 10, 22))))
    assert "retired" in "".join(map(str, config.check(text, {}, today=date(2026, 10, 23))))


def test_a_route_is_unreachable_too_when_several_before_it_share_its_calls() -> None:
    text = BASE + "  - {name: b, candidates: [nano]}\n  - {name: c, match: {models: [auto, b]}, candidates: [nano]}\n"
    assert "by auto, b" in warnings(text)[0]
    assert problems(text.replace("[auto, b]", "[auto, c]")) == []


def test_a_narrower_route_before_a_wider_one_leaves_it_reachable() -> None:
    text = BASE.replace(
        "  - name: auto", "  - {name: b, match: {models: [auto], tasks: [code]}, candidates: [nano]}\n  - name: auto"
    )
    assert problems(text) == []


def test_a_file_is_read_from_its_place(tmp_path: Path) -> None:
    file = tmp_path / "talaria.yaml"
    file.write_text(BASE)
    assert config.load(file, {}).hash == config.load(str(file), {}).hash
    file.write_text("version: 3")
    with pytest.raises(ConfigError, match=re.escape(f"{file}:1:1: version: must be 1")):
        config.load(file, {})


@pytest.mark.parametrize("name", ["nothing.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_problem_like_any_other(tmp_path: Path, name: str) -> None:
    [problem] = config.check(tmp_path / name, {})
    assert problem.message.startswith("cannot be read: ")


def spelled(part: dict[str, Any], whole: dict[str, Any], at: str = "") -> Iterator[str]:
    """Every key of the schema as a path; `*` stands for names and indices."""
    if "$ref" in part:
        part = whole["$defs"][part["$ref"].rpartition("/")[2]]
    for name, inner in part.get("properties", {}).items():
        yield f"{at}{name}"
        yield from spelled(inner, whole, f"{at}{name}.")
    tables = part.get("patternProperties", {}).values()
    for inner in (*tables, part.get("items"), *part.get("anyOf", ()), *part.get("oneOf", ())):
        if isinstance(inner, dict):
            yield from spelled(inner, whole, at)


FREE = (
    *(f"models.prompt.{key}" for key in ("roles", "stop.map", "defaults", "clamps")),
    *("models.quality.by_task", "routes.match.tags", "routes.choose.weights", "routes.choose.floor"),
)
"""Mappings whose keys are not ours, or a policy's own."""
NAMED = ("providers", "models", "latency_classes", "fallbacks", "experiments", "experiments.arms")


def written(found: Any, at: str = "") -> Iterator[str]:
    """Every key of a file, as `spelled` spells them."""
    if isinstance(found, list):
        for inner in found:
            yield from written(inner, at)
    elif isinstance(found, dict):
        for key, inner in found.items():
            path = f"{at}{key}"
            yield path
            yield from written(list(inner.values()) if path in (*NAMED, *FREE) else inner, f"{path}.")


def test_the_example_has_every_key_and_no_other_and_is_sound() -> None:
    schema = config.schema()
    used = set(written(document.read(EXAMPLE.read_bytes(), "x", {}).data))
    assert used == set(spelled(schema, schema))
    assert not [problem for problem in config.check(EXAMPLE, {}) if problem.severity == "error"]
    keys = {"INCEPTION_API_KEY": "k", "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    assert config.check(EXAMPLE, keys, today=TODAY) == []


def test_the_example_says_what_is_the_default_where_it_says_nothing_else() -> None:
    tree = config.load(EXAMPLE, {})
    plain = parse("version: 1")
    assert tree.latency_classes == plain.latency_classes
    assert tree.tasks == plain.tasks
    assert tree.server.model_copy(update={"admin": plain.server.admin}) == plain.server


def test_the_reference_has_every_key() -> None:
    schema = config.schema()
    text = REFERENCE.read_text(encoding="utf-8")
    sections = {top: part for part in text.split("\n## ")[1:] for top in re.findall(r"`(\w+)", part.partition("\n")[0])}
    for path in spelled(schema, schema):
        top, _, rest = path.partition(".")
        assert top in sections, path
        assert not rest or f"| `{rest}" in sections[top], path


def test_every_key_of_the_schema_is_described() -> None:
    schema = config.schema()
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            whole = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or whole.get("description"), (part["title"], name)


def test_the_schema_offers_the_words_there_are() -> None:
    definitions = config.schema()["$defs"]
    assert {"openai", "anthropic", "inception"} <= set(definitions["Provider"]["properties"]["kind"]["enum"])
    assert "ordered" in definitions["Choose"]["properties"]["by"]["enum"]
    assert "fim" in definitions["ModelEntry"]["properties"]["serves"]["anyOf"][0]["items"]["enum"]


def survives(text: str | bytes) -> None:
    found = document.read(text, "fuzz", {"A": "x"})
    assert all(isinstance(problem, Problem) for problem in found.problems)
    if isinstance(text, str):
        with suppress(ConfigError):
            assert config.parse(text, "fuzz", {"A": "x"}).hash


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("version: 1\nmodels{}[]'\"&*!|>-?,:#%@`\t ${}~\\x0\u0085\u2028\ufeff")))
def test_no_text_is_answered_with_a_traceback(text: str) -> None:
    survives(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_answered_with_a_traceback(raw: bytes) -> None:
    survives(raw)
    survives(b"version: 1\nmodels: " + raw)


TOKENS = re.findall(r"\s+|[\w.-]+|\S", SMALLEST)
ODD = ["", "-", "[", "]", "{", "}", ":", "~", "[]", "{}", "'", "*a", "&a ", "${A}", "${B}", "-1", "1e999", "x" * 300]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TOKENS) - 1), st.sampled_from(ODD + TOKENS)), min_size=1, max_size=4))
def test_no_damaged_file_is_answered_with_a_traceback(changes: list[tuple[int, str]]) -> None:
    tokens = list(TOKENS)
    for index, token in changes:
        tokens[index] = token
    survives("".join(tokens))


leaves = st.none() | st.sampled_from([*TOKENS, *ODD])
data = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves.map(str), inner))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        ["server", "providers", "models", "latency_classes", "tasks", "use_cases", "fallbacks", "routes", "experiments"]
    ),
    data,
)
def test_no_shape_is_answered_with_a_traceback(section: str, inner: Any) -> None:
    survives(f"version: 1\n{json.dumps(section)}: {json.dumps(inner)}\n")
