"""Who serves: vendors with their keys, and models with what they cost, can do, and are known for."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

import providers
from gateway.fields import (
    Day,
    Dollars,
    HttpUrl,
    Name,
    Part,
    Positive,
    Share,
    Table,
    Text,
    VendorKey,
    nothing,
    unique,
)
from gateway.prompts import Prompt
from gateway.wording import MANY, ONE, unknown, wrong
from providers import catalog, compatible
from routing.outlook import UNKNOWN_QUALITY

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "inception": "https://api.inceptionlabs.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
"""What `base_url` is where the file does not say."""


def kinds() -> list[str]:
    """The words that `kind` takes: one for each vendor's file in `providers/`."""
    return [name for name in providers.kinds() if not getattr(providers.load(name), "_is_protocol", False)]


def _kind(name: str) -> str:
    try:
        if not getattr(providers.load(name), "_is_protocol", False):
            return name
    except LookupError:
        pass
    raise wrong(unknown("provider kind", name, kinds()))


def _vendor(name: str) -> str:
    if name not in compatible.rows():
        raise wrong(unknown("vendor", name, compatible.rows()))
    return name


def _abilities(words: frozenset[str]) -> frozenset[str]:
    for word in sorted(words - catalog.ABILITIES):
        raise wrong(unknown("ability", word, sorted(catalog.ABILITIES)))
    return words


def _operations(words: frozenset[str]) -> frozenset[str]:
    for word in sorted(words - catalog.OPERATIONS):
        raise wrong(unknown("operation", word, sorted(catalog.OPERATIONS)))
    return words


def _template(text: str) -> str:
    for gap in ("{prefix}", "{suffix}"):
        if text.count(gap) != 1:
            raise wrong(f"must have {gap} in it, once")
    return text


class Key(Part):
    """One key of ours with a vendor."""

    id: Name = Field(description="What logs and metrics call it.")
    value: VendorKey = Field(description="The key itself, best as a variable; an empty one is off.")


class Provider(Part):
    """A vendor, or a server that speaks like one."""

    kind: Annotated[str, AfterValidator(_kind)] = Field(description="Whose wire format: a file name in `providers/`.")
    vendor: Annotated[str, AfterValidator(_vendor)] | None = Field(
        default=None, description="For kind compatible: whose OpenAI dialect, a row of `providers/compatible.toml`."
    )
    base_url: HttpUrl = Field(
        default="",
        description="What the vendor's official SDK takes as base URL; left out, the kind's or the vendor's own.",
        validate_default=True,
    )
    keys: tuple[Key, ...] = Field(
        description="Keys that calls take in turn. With every one empty it is off; `[]` says that it asks for none."
    )
    connections: int = Field(
        default=1000, ge=0, le=100_000, description="Most sockets to the vendor at a time; 0 for no bound."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(kind := data.get("kind"), str):
            return data
        usual: dict[str, Any] = {"base_url": BASE_URLS[kind]} if kind in BASE_URLS else {}
        if kind == "compatible" and data.get("vendor") is None:
            data = {**data, "vendor": compatible.GENERIC}
        if isinstance(vendor := data.get("vendor"), str) and (row := compatible.rows().get(vendor)):
            usual = ({"base_url": row.base_url} if row.base_url else {}) | ({"keys": []} if row.keyless else {})
        return {**usual, **data}

    @model_validator(mode="after")
    def _vendor_of_its_kind(self) -> Self:
        if self.vendor is not None and self.kind != "compatible":
            raise wrong(f"is for kind compatible; kind {self.kind} is a vendor's own", "vendor")
        return self

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        unique(tuple(key.id for key in keys))
        return keys

    @property
    def active(self) -> bool:
        """Whether calls can be made: it asks for no key, or has one."""
        return not self.keys or bool(self.secrets)

    @property
    def settings(self) -> dict[str, str]:
        """What is said for its kind alone."""
        return {} if self.vendor is None else {"vendor": self.vendor}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys that are on."""
        return tuple(value for key in self.keys if (value := key.value.get_secret_value()))


class PriceList(Part):
    """Dollars per million tokens; what is left out is as in the catalog."""

    valid_from: Day | None = Field(
        default=None, description="The day (UTC) from which they hold; before the first, the catalog's do."
    )
    input: Dollars | None = Field(default=None, description="Prompt tokens, in dollars per million.")
    output: Dollars | None = Field(default=None, description="Answer tokens, reasoning included.")
    cache_read: Dollars | None = Field(default=None, description="Prompt tokens that the vendor had in its cache.")
    cache_write: Dollars | None = Field(
        default=None, description="Prompt tokens put into the vendor's cache for five minutes."
    )
    cache_write_1h: Dollars | None = Field(
        default=None, description="Prompt tokens put into the vendor's cache for an hour."
    )

    @property
    def given(self) -> dict[str, Any]:
        """The prices that it says."""
        found = {name: getattr(self, name) for name in PriceList.model_fields if name != "valid_from"}
        return {name: price for name, price in found.items() if price is not None}


def _one_or_many(found: Any) -> str:
    return MANY if isinstance(found, list | tuple) else ONE


def _one_after_another(lists: tuple[PriceList, ...]) -> tuple[PriceList, ...]:
    if not lists:
        raise wrong("must name at least 1")
    latest: date | None = None
    for index, each in enumerate(lists):
        if index and each.valid_from is None:
            raise wrong("needs `valid_from`: only the first list may be without", index)
        if latest is not None and each.valid_from is not None and each.valid_from <= latest:
            raise wrong(f"{each.valid_from} is not after the list before it, {latest}", index, "valid_from")
        latest = each.valid_from
    return lists


PriceLists = Annotated[
    Annotated[PriceList, Tag(ONE)] | Annotated[tuple[PriceList, ...], AfterValidator(_one_after_another), Tag(MANY)],
    Discriminator(_one_or_many),
]


class Quality(Part):
    """How well a model does, from 0 to 1: a prior, until answers are judged."""

    overall: Share = Field(default=UNKNOWN_QUALITY, description="At tasks of which `by_task` says nothing.")
    by_task: Table[Share] = Field(default_factory=nothing, description="At each task.")
    source: Text | None = Field(default=None, description="Where the figures are from, for those who read them.")


class Expect(Part):
    """How fast a model is: a prior, until it is measured. What is left out is as in the catalog."""

    ttft_ms: Positive | None = Field(default=None, description="Milliseconds to the first token of a short prompt.")
    tokens_per_second: Positive | None = Field(default=None, description="Output tokens a second from then on.")


class ModelEntry(Part):
    """A model that callers can name and routes can choose."""

    provider: Name = Field(description="Which of `providers` serves it.")
    upstream: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        default="", description="The vendor's id for it; left out, its name here.", validate_default=True
    )
    prices: PriceLists = Field(
        default=PriceList(),
        description="Dollars per million tokens, each over the catalog's; or a list of such, each from a day on.",
    )
    context: int | None = Field(default=None, gt=0, description="Window in tokens, prompt and answer together.")
    max_output: int | None = Field(default=None, gt=0, description="Most tokens it can answer with.")
    features: Annotated[frozenset[str], AfterValidator(_abilities), PlainSerializer(sorted)] | None = Field(
        default=None, description="What it can do, in place of what the catalog says."
    )
    serves: (
        Annotated[frozenset[str], Field(min_length=1), AfterValidator(_operations), PlainSerializer(sorted)] | None
    ) = Field(default=None, description="The endpoints it has at its vendor, in place of what the catalog says.")
    fim_template: Annotated[str, StringConstraints(max_length=4096), AfterValidator(_template)] | None = Field(
        default=None,
        description="How fill-in-the-middle is written as one prompt for its completions: {prefix} and {suffix} stand "
        "for what is around the gap.",
    )
    quality: Quality | None = Field(
        default=None, description="How well it does, as far as is known before its answers are judged."
    )
    expect: Expect = Field(default=Expect(), description="How fast it is, as far as is known before it is measured.")
    cache: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto` marks what its vendor shall cache where the vendor wants marks and the caller sets none.",
    )
    prompt: Prompt | None = Field(default=None, description="What is put around its conversations.")
    fallback: Name | None = Field(
        default=None, description="Which of `fallbacks` serves when it is called by name and fails."
    )
    on_unsupported: Literal["error", "drop"] | None = Field(
        default=None,
        description="What becomes of a parameter it cannot express; left out, that depends on the parameter.",
    )

    @property
    def price_lists(self) -> tuple[PriceList, ...]:
        """All of them, by the days from which they hold."""
        return self.prices if isinstance(self.prices, tuple) else (self.prices,)
