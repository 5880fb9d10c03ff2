"""The shared words: what travels between the caller's dialect, routing and the vendors.

OpenAI's chat completion is the canonical form of a request and of an answer, as plain JSON; there are no message
classes. Token counts are whole tokens, times are seconds (monotonic clock) unless a name says otherwise, prices are
dollars per million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller says about the call, beside the request itself."""

    use_case: str | None = None
    latency_class: str | None = None
    task: str | None = None
    deadline_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    diffusing: str | None = None
    """What becomes of snapshots that replace each other: `raw` or `final`."""


@dataclass(slots=True)
class Written:
    """What the attempt under way asks with, where a prompt made it another body than the caller's."""

    body: Json | None = None


@dataclass(slots=True)
class Call:
    """One request on its way.

    `body` is the request's JSON, parsed once and never changed: each attempt encodes from it. `needs` maps each ability
    that the request cannot do without to the parameter that asks for it. `deadline` is on the monotonic clock.
    """

    id: str
    operation: str
    """What is asked for: chat, completions, ... Its `body` is in the form of that operation."""
    raw: bytes
    body: Json
    model: str
    stream: bool
    include_usage: bool
    needs: Mapping[str, str]
    hints: Hints
    started: float
    deadline: float
    snapshot: str
    """Hash of the configuration that the call runs under."""
    key_id: str | None = None
    """Which application key asked; None where the gateway asks for none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the caller's headers that their dialect passes on to a vendor that speaks it; names in lower case."""

    task: str = "general"
    """What it is for, as the caller says or as its form lets guess."""
    chars: int = 0
    """About how much text its prompt has, in characters."""

    written: Written = field(default_factory=Written)
    """Shared by all forms that one call takes on its way."""

    @property
    def max_output(self) -> int | None:
        """The caller's own limit, in tokens."""
        limit = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        return limit if isinstance(limit, int) else None

    @property
    def whole(self) -> bool:
        """Whether its answer comes at once when all of it is there, as one that is not streamed."""
        return not self.stream or ("diffusing" in self.needs and self.hints.diffusing != "raw")


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars per million tokens. None where no price is known."""

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What a model is and can do, as data (`catalog.toml`): read where code would otherwise ask for its name."""

    id: str
    kind: str
    context: int | None = None
    """Window in tokens, prompt and output together."""
    max_output: int | None = None
    serves: frozenset[str] = frozenset({"chat"})
    """Operations that the model is made for, among those that its vendor has."""
    abilities: frozenset[str] = frozenset()
    """Words of `Call.needs` that the model serves (tools, image, image_url, json_schema, n, ...), and what the adapter
    needs to know beside: `prefill`, `strict_tools`, `system_anywhere`."""
    accepts: frozenset[str] = frozenset()
    """Top-level request parameters that may be sent as they are; read only where `unknown` is `drop`."""
    drops: frozenset[str] = frozenset()
    """Parameters and abilities that are left out, and named to the caller, instead of being refused."""
    unknown: Literal["forward", "drop"] = "forward"
    """What becomes of a top-level parameter that is in no list."""
    temperature: tuple[float, float] | None = (0.0, 2.0)
    """Range; what lies outside is clamped and named to the caller. None: not taken at all."""
    top_p: tuple[float, float] | None = (0.0, 1.0)
    one_sampling: bool = False
    """Takes temperature or top_p, not both."""
    max_tokens_name: str | None = None
    """The one name under which the output limit must be sent; None: either."""
    reasoning: Mapping[str, str | int | None] = field(default_factory=dict)
    """OpenAI's `reasoning_effort` -> what this model is told: a word, a budget in tokens, None to switch it off.
    Empty: the model does not reason and the parameter is dropped."""
    reasons_by_default: bool = False
    max_images: int | None = None
    cache_from: int | None = None
    """The shortest prompt, in tokens, whose beginning its vendor caches where it is marked; None: nothing is marked."""
    prices: Prices = Prices()
    dated: tuple[tuple[str, Prices], ...] = ()
    """Where prices change: each list with the ISO date from which it holds, ascending from the first of all days."""
    ttft_ms: float | None = None
    """Published or typical time to first token, a prior until it is measured."""
    tokens_per_second: float | None = None
    released: str | None = None
    retired: str | None = None
    """ISO dates. A retired id is warned about with its successor."""
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A configured model: the name callers use, the vendor's id for it, and its card."""

    name: str
    provider: str
    upstream: str
    card: Card
    on_unsupported: Literal["error", "drop"] | None = None
    fim_template: str | None = None
    """How a prompt with a gap is written as one text: `{prefix}` and `{suffix}` stand for what is around the gap."""
    caches: bool = True
    """Whether what its vendor shall cache is marked where the caller marks nothing."""


@dataclass(slots=True)
class Usage:
    """Tokens of one answer, disjoint but for `reasoning`, which is a part of `output`."""

    input: int = 0
    """Prompt tokens neither read from nor written to a cache."""
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        """All prompt tokens, cached ones included: OpenAI's `prompt_tokens`."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None is no limit. `idle` is the longest silence on the wire once the request is sent."""

    connect: float = 5.0
    first_token: float | None = None
    idle: float | None = 60.0


@dataclass(slots=True)
class Tally:
    """What is known of an answer so far: filled while its events pass, whole at its end."""

    id: str | None = None
    usage: Usage | None = None
    """What the vendor billed, None until it says so."""
    finish: str | None = None
    """OpenAI's finish reason."""
    unknown_finish: str | None = None
    """The vendor's own word, where it has no counterpart."""
    begun: bool = False
    """Whether anything content-bearing has come (text, reasoning, a tool call, a refusal)."""
    chars: int = 0
    """Characters of text, reasoning and tool arguments so far, for estimates."""
    malformed: int = 0
    """Events that could not be read and were skipped."""
    prompt: str | None = None
    """Name and version of the prompt that the request was written with."""
    waited: float = 0.0
    """Seconds spent waiting for the vendor: until the whole answer, or the first content-bearing event of a stream."""


@dataclass(slots=True)
class Reply:
    """A whole answer in the caller's dialect, as bytes ready to send."""

    body: bytes
    tally: Tally
    headers: Mapping[str, str]
    """The vendor's response headers, names in lower case."""
    dropped: tuple[str, ...] = ()
    """Parameters that were left out or bent because the model cannot express them."""
    warnings: tuple[str, ...] = ()
