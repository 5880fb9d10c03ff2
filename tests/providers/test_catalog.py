from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from providers import abilities, catalog
from providers.catalog import cost, lookup, parse
from providers.errors import Unsupported
from providers.types import Call, Card, Hints, Model, Prices, Usage


def a_call(needs: dict[str, str], **fields: Any) -> Call:
    body = {"model": "m", "messages": [], **fields}
    return Call("1", "chat", b"", body, "m", False, False, needs, Hints(), 0.0, 60.0, "")


def a_model(on_unsupported: Any = None, **card: Any) -> Model:
    return Model("m", "acme", "acme-1", Card("acme-1", "acme", **card), on_unsupported)


# --- Finding a card ---


@pytest.mark.parametrize(
    ("kind", "upstream", "id"),
    [
        ("openai", "gpt-4.1-nano", "gpt-4.1-nano"),
        ("openai", "gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("anthropic", "claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-haiku-4-5-20260301", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("inception", "mercury-2.5", "mercury-2.5"),
        ("openai", "gpt-9", "gpt-9"),
        ("openai", "gpt-4o-audio-preview", "gpt-4o-audio-preview"),
        ("openai", "mercury-2", "mercury-2"),
        ("acme", "gpt-4.1-nano", "gpt-4.1-nano"),
    ],
)
def test_card_is_found_by_id_alias_or_id_without_date(kind: str, upstream: str, id: str) -> None:
    card = lookup(kind, upstream)
    assert (card.id, card.kind) == (id, kind)


def test_unlisted_model_has_its_kinds_manners_and_no_price() -> None:
    card = lookup("inception", "mercury-9")
    assert (card.prices, card.context, card.max_output) == (Prices(), None, None)
    assert (card.unknown, card.temperature) == ("drop", (0.5, 1.0))
    assert "tools" in card.abilities


def test_unlisted_kind_speaks_openai() -> None:
    assert lookup("acme", "x") == replace(lookup("openai", "x"), kind="acme")


@pytest.mark.parametrize(
    ("kind", "id", "serves"),
    [
        ("openai", "gpt-4.1-nano", {"chat"}),
        ("openai", "gpt-3.5-turbo-instruct", {"completions"}),
        ("openai", "text-embedding-3-small", {"embeddings"}),
        ("inception", "mercury-edit-2", {"fim"}),
        ("openai", "an-unlisted-one", {"chat", "completions", "embeddings"}),
        ("inception", "an-unlisted-one", {"chat"}),
    ],
)
def test_a_model_serves_what_it_is_made_for(kind: str, id: str, serves: set[str]) -> None:
    assert lookup(kind, id).serves == serves


PUBLISHED = {
    ("inception", "mercury"): (128000, 16384, "0.25", "0.025", None, "1.00"),
    ("inception", "mercury-coder-small"): (32000, 16384, "0.25", None, None, "1.00"),
    ("inception", "mercury-2"): (128000, 50000, "0.25", "0.025", None, "0.75"),
    ("inception", "mercury-2.5"): (260000, 65536, "0.20", "0.02", None, "0.75"),
    ("inception", "mercury-3"): (1000000, 131072, "0.10", "0.01", None, "0.35"),
    ("inception", "mercury-edit-2"): (32000, 8192, "0.25", "0.025", None, "0.75"),
    ("openai", "gpt-4.1-nano"): (1047576, 32768, "0.10", "0.025", None, "0.40"),
    ("openai", "gpt-5.4-nano"): (None, None, "0.20", "0.02", None, "1.25"),
    ("openai", "gpt-3.5-turbo-instruct"): (4096, 4096, "1.50", None, None, "2.00"),
    ("openai", "text-embedding-3-small"): (8191, None, "0.02", None, None, None),
    ("openai", "text-embedding-3-large"): (8191, None, "0.13", None, None, None),
    ("openai", "gpt-6-luna"): (1050000, 128000, "0.10", "0.01", "0.125", "0.50"),
    ("anthropic", "claude-3-5-haiku-20241022"): (200000, 8192, "0.80", "0.08", "1.00", "4.00"),
    ("anthropic", "claude-haiku-4-5-20251001"): (200000, 64000, "1.00", "0.10", "1.25", "5.00"),
    ("anthropic", "claude-haiku-5-5"): (1000000, 128000, "0.10", "0.01", "0.125", "0.50"),
    ("anthropic", "claude-sonnet-4-5-20250929"): (200000, 64000, "3.00", "0.30", "3.75", "15.00"),
}


@pytest.mark.parametrize(("kind", "id"), PUBLISHED)
def test_limits_and_prices_are_the_published_ones(kind: str, id: str) -> None:
    context, max_output, *prices = PUBLISHED[kind, id]
    card = lookup(kind, id)
    assert (card.context, card.max_output) == (context, max_output)
    read = (card.prices.input, card.prices.cache_read, card.prices.cache_write, card.prices.output)
    assert read == tuple(None if price is None else Decimal(price) for price in prices)


@pytest.mark.parametrize(
    ("kind", "id", "retired", "successor"),
    [
        ("openai", "gpt-4.1-nano", "2026-10-23", "gpt-6-luna"),
        ("anthropic", "claude-3-5-haiku-20241022", "2026-02-19", "claude-haiku-4-5-20251001"),
        ("inception", "mercury", "2026-04-15", "mercury-2"),
        ("anthropic", "claude-haiku-4-5-20251001", None, None),
    ],
)
def test_retired_models_name_a_successor(kind: str, id: str, retired: str | None, successor: str | None) -> None:
    card = lookup(kind, id)
    assert (card.retired, card.successor) == (retired, successor)


# --- A file that is wrong says where ---

KINDS = '[kinds.acme]\nabilities = ["tools"]\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[kind.acme]", "unknown 'kind'"),
        ('[kinds.acme]\nprice = "x"', "kinds.acme: unknown 'price'"),
        ('[kinds.acme]\nabilities = ["flight"]', "kinds.acme.abilities: unknown 'flight'"),
        (KINDS + '[models.a]\nkind = "acne"', 'models."a".kind'),
        (KINDS + '[models.a]\nkind = "acme"\nprices = {inptu = 1}', "models.\"a\".prices: unknown 'inptu'"),
        (KINDS + '[models.a]\nkind = "acme"\nprices = {input = 2000}', 'models."a".prices.input'),
        (KINDS + '[models.a]\nkind = "acme"\nprices = {input = "1"}', 'models."a".prices.input'),
        (KINDS + '[models.a]\nkind = "acme"\nlacks = ["image"]', 'models."a".lacks'),
        (KINDS + '[models.a]\nkind = "acme"\ncontext = 1.5', 'models."a".context'),
        (KINDS + '[models.a]\nkind = "acme"\ntemperature = [1, 0]', 'models."a".temperature'),
        (KINDS + '[models.a]\nkind = "acme"\ntemperature = true', 'models."a".temperature'),
        (KINDS + '[models.a]\nkind = "acme"\nunknown = "keep"', 'models."a".unknown'),
        (KINDS + '[models.a]\nkind = "acme"\nreasoning = {low = true}', 'models."a".reasoning.low'),
        (KINDS + '[models.a]\nkind = "acme"\nretired = "soon"', 'models."a".retired'),
        (KINDS + '[models.a]\nkind = "acme"\nsuccessor = "b"', 'models."a".successor'),
        (KINDS + '[models.a]\nkind = "acme"\n[models.b]\nkind = "acme"\naliases = ["a"]', "the name 'a' is taken"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(text)
    assert place in str(raised.value)


def test_lists_add_to_the_kinds_and_lacks_takes_away() -> None:
    text = (
        '[kinds.acme]\nabilities = ["tools", "n"]\naccepts = ["a"]\n[models.x]\nkind = "acme"\nabilities = ["image"]\n'
    )
    _, models = parse(
        text + 'lacks = ["n"]\naccepts = ["b"]\ntemperature = false\nreasoning = {none = false, low = 1024}'
    )
    card = models["acme", "x"]
    assert (card.abilities, card.accepts) == ({"tools", "image"}, {"a", "b"})
    assert (card.temperature, card.reasoning) == (None, {"none": None, "low": 1024})


# --- What an answer costs ---

HAIKU = Prices(Decimal("1"), Decimal("5"), Decimal("0.10"), Decimal("1.25"), Decimal("2"))


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(), "0"),
        (Usage(input=1), "0.000001"),
        (Usage(input=1000, output=200), "0.002"),
        (Usage(input=3, cache_read=30000, cache_write=1200, cache_write_1h=100, output=500), "0.007203"),
        (Usage(output=100, reasoning=90), "0.0005"),
    ],
)
def test_cost_is_exact(usage: Usage, dollars: str) -> None:
    assert cost(usage, HAIKU) == Decimal(dollars)


def test_a_vector_costs_its_prompt() -> None:
    assert cost(Usage(input=1_000_000), lookup("openai", "text-embedding-3-small").prices) == Decimal("0.02")


def test_cost_is_unknown_where_a_price_that_matters_is() -> None:
    prices = Prices(input=Decimal("0.25"), output=Decimal("1"))
    assert cost(Usage(input=10, output=10), prices) == Decimal("0.0000125")
    assert cost(Usage(input=10, cache_write=1), prices) is None
    assert cost(Usage(input=10), Prices()) is None
    assert cost(Usage(), Prices()) == 0


def test_cached_tokens_without_a_price_cost_what_fresh_ones_do() -> None:
    assert cost(Usage(cache_read=1_000_000), Prices(input=Decimal("0.25"))) == Decimal("0.25")
    free = Prices(input=Decimal("0.25"), cache_read=Decimal(0))
    assert cost(Usage(cache_read=1_000_000), free) == 0


# --- What a request needs and a model has ---

NEEDS = {"tools": "tools", "logprobs": "logprobs", "prediction": "prediction"}


@pytest.mark.parametrize(
    ("on_unsupported", "left"),
    [
        (None, {"tools": "tools", "logprobs": "logprobs"}),
        ("drop", {"tools": "tools"}),
        ("error", NEEDS),
    ],
)
def test_missing_is_what_neither_ability_nor_leave_covers(on_unsupported: Any, left: dict[str, str]) -> None:
    assert abilities.missing(a_call(NEEDS), a_model(on_unsupported, drops=frozenset({"prediction"}))) == left


def test_nothing_is_missing_where_all_is_there() -> None:
    assert abilities.missing(a_call(NEEDS), a_model("error", abilities=frozenset(NEEDS))) == {}


def test_fit_refuses_by_parameter() -> None:
    with pytest.raises(Unsupported) as raised:
        abilities.fit(a_call({"image": "messages[0].content[1]"}), a_model("drop"))
    assert raised.value.param == "messages[0].content[1]"


def test_fit_leaves_out_and_names_what_may_go() -> None:
    call = a_call({"logprobs": "logprobs"}, logprobs=True, top_logprobs=3, n=1)
    body, dropped = abilities.fit(call, a_model("drop"))
    assert body == {"model": "m", "messages": [], "n": 1}
    assert dropped == ["logprobs", "top_logprobs"]
    assert call.body["logprobs"] is True


def test_every_ability_that_may_go_is_a_known_one() -> None:
    assert set(abilities.PARAMETERS) <= catalog.ABILITIES
