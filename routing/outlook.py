"""What each candidate is expected to do for a call: how soon, how much, at what price and how well.

Everything that is learned while calls are served comes together here, and policies see nothing else. It knows models by
their configured names and outlives every configuration.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Literal

from providers.types import Call, Usage
from routing.latency import USUAL_FIRST, USUAL_PACE, Flight, Latency, Live, Prior, bucket
from routing.lengths import TOKENS_PER_CHAR, Conversations, Length, Lengths
from routing.target import Target

UNKNOWN_QUALITY = 0.5
LONG = 3.0
"""A long answer over the usual one: the 95th percentile over the mean is 2.1 and 3.2 in Azure's traces."""
_EMBEDS = frozenset({"embeddings"})


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a model does, from 0 to 1; `by_task` stands before `overall`."""

    overall: float = UNKNOWN_QUALITY
    by_task: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Option:
    """One candidate, and what is expected of it for this call. Times are seconds."""

    target: Target
    ttft: float
    """To the first token."""
    ttft_p95: float
    seconds: float
    """To the whole answer."""
    prompt_tokens: float
    output_tokens: float
    cached_tokens: float
    """Of the prompt, what its vendor is expected to have in its cache."""
    cost: float | None
    """Dollars; None where a price is missing."""
    quality: float
    samples: float
    """Answers that the latency rests on; fewer as they age."""
    live: Live

    @property
    def name(self) -> str:
        return self.target.model.name

    @property
    def in_flight(self) -> int:
        """Calls that are there now, not when the option was worked out: many may choose from it in between."""
        return self.live.in_flight


@dataclass(frozen=True, slots=True)
class _Facts:
    """A target's card, as this arithmetic wants it."""

    target: Target
    prior: Prior
    live: Live
    length: Length
    max_output: float
    priced: bool
    input: float
    """Dollars per token, as the other prices."""
    cache_read: float
    output: float


@dataclass(slots=True)
class Outlook:
    latency: Latency = field(default_factory=Latency)
    lengths: Lengths = field(default_factory=Lengths)
    conversations: Conversations = field(default_factory=Conversations)
    _facts: dict[str, _Facts] = field(default_factory=dict)

    def options(
        self,
        call: Call,
        task: str,
        targets: Iterable[Target],
        qualities: Mapping[str, Quality],
        now: float,
        size_chars: int,
        conversation: Hashable | None = None,
    ) -> list[Option]:
        """The targets with what is expected of them, in the same order.

        `size_chars` is all text of the prompt; `conversation` is what tells this one from others, where it is one.
        """
        stream = not call.whole
        limit = call.max_output
        writes = call.operation != "embeddings"
        keeper, kept = self.conversations.kept(conversation, now) if conversation is not None else (None, 0.0)
        size = bucket(size_chars * TOKENS_PER_CHAR)
        facts_of, quality_of = self._facts.get, qualities.get
        found = []
        for target in targets:
            name = target.model.name
            facts = facts_of(name)
            if facts is None or facts.target is not target:
                facts = self._facts[name] = self._read(target)
            prompt = size_chars * facts.length.tokens_per_char
            ttft, p95, pace, samples = facts.live.expect(size, stream, facts.prior, now)
            output = facts.length.output(task) if writes else 0.0
            most = limit or facts.max_output
            if output > most:
                output = most
            cached = min(kept, prompt) if name == keeper else 0.0
            cost: float | None = None
            if facts.priced:
                cost = (prompt - cached) * facts.input + cached * facts.cache_read + output * facts.output
            quality = quality_of(name)
            found.append(
                Option(
                    target,
                    ttft,
                    p95,
                    ttft + output * pace,
                    prompt,
                    output,
                    cached,
                    cost,
                    UNKNOWN_QUALITY if quality is None else quality.by_task.get(task, quality.overall),
                    samples,
                    facts.live,
                )
            )
        return found

    def sent(self, call: Call, option: Option, now: float) -> Flight:
        """The call goes to that one now. What it meets there is to be told to the flight."""
        facts = self._facts[option.name]
        stream = not call.whole
        due = option.ttft_p95
        if not stream:
            longest = LONG * option.output_tokens
            if call.max_output:
                longest = min(longest, call.max_output)
            due += longest * (option.seconds - option.ttft) / max(option.output_tokens, 1.0)
        size = bucket(option.prompt_tokens / facts.length.tokens_per_char * TOKENS_PER_CHAR)
        return facts.live.started(size, stream, facts.prior, due, now)

    def settled(
        self, model: str, task: str, size_chars: int, usage: Usage, now: float, conversation: Hashable | None = None
    ) -> None:
        """An answer is complete, and its vendor has said what it bills."""
        self.lengths.of(model).learn(task, size_chars, usage)
        if conversation is not None:
            self.conversations.served(conversation, model, usage.prompt, usage.cache_read, now)

    def _read(self, target: Target) -> _Facts:
        card = target.model.card
        prices = card.prices
        writes = card.serves != _EMBEDS
        return _Facts(
            target=target,
            prior=Prior(
                card.ttft_ms / 1000 if card.ttft_ms else USUAL_FIRST,
                1 / card.tokens_per_second if card.tokens_per_second else USUAL_PACE,
            ),
            live=self.latency.of(target.name),
            length=self.lengths.of(target.name, card.reasons_by_default),
            max_output=float(card.max_output or inf),
            priced=prices.input is not None and (prices.output is not None or not writes),
            input=_per_token(prices.input),
            cache_read=_per_token(prices.input if prices.cache_read is None else prices.cache_read),
            output=_per_token(prices.output),
        )


def _per_token(price: Decimal | None) -> float:
    return float(price or 0) / 1e6


def fits(option: Option, target_seconds: float, on: Literal["first_token", "answer"]) -> bool:
    """Whether the option is expected to keep a latency class's target."""
    return (option.ttft if on == "first_token" else option.seconds) <= target_seconds
