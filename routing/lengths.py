"""How long prompts and answers will be, and what of a prompt a vendor still has: what the true cost is made from.

Models differ in how they cut text into tokens, in how much they say, and in how much they think before it. So all of it
is kept per model, and learned from what vendors bill.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from providers.types import Usage

OUTPUT = {
    "autocomplete": 28.0,
    "code": 400.0,
    "explanation": 400.0,
    "reasoning": 600.0,
    "math": 500.0,
    "summarization": 250.0,
    "extraction": 150.0,
    "classification": 5.0,
    "writing": 500.0,
    "chat": 211.0,
    "general": 250.0,
}
"""Tokens of an answer, thoughts aside, before any was seen. Autocomplete and chat are the means of Azure's traces of
2023 (code: 28, half of them up to 13; conversation: 211, half of them up to 129). The others are guesses.
"""
REASONING = 2.5
"""By how much models that reason by default say more, thoughts included, before any was seen."""
TOKENS_PER_CHAR = 0.25
PRIOR_ANSWERS = 2.0
"""For as many answers counts what was expected beforehand."""
PRIOR_CHARS = 2000.0
MEMORY = 100.0
"""After as many more, an answer counts for 1/e."""
_FADE = 1 - 1 / MEMORY

TTL_SECONDS = 300.0
"""For as long vendors keep the beginning of a prompt: five minutes at Anthropic, five to ten at OpenAI."""
LEAST_CACHED = 1024
"""Prompts shorter than that are kept by neither."""
PRIOR_HITS = 0.5
"""The share of what could be read from a cache that is, until a vendor's bills say more."""
MOST_CONVERSATIONS = 5_000


class Ratio:
    """What was found for each unit of what was expected, over the latest: a mean weighted by size."""

    __slots__ = ("_expected", "_found", "value")

    def __init__(self, prior: float, weight: float) -> None:
        self._found = prior * weight
        self._expected = weight
        self.value = prior

    def learn(self, found: float, expected: float) -> None:
        self._found = self._found * _FADE + found
        self._expected = self._expected * _FADE + expected
        self.value = self._found / self._expected


class Length:
    """Prompts and answers of one model; `reasons` where it does by default."""

    __slots__ = ("_answers", "_expected", "_tokens", "_verbosity", "tokens_per_char")

    def __init__(self, reasons: bool = False) -> None:
        self.tokens_per_char = TOKENS_PER_CHAR
        """Of its prompts."""
        self._tokens = Ratio(TOKENS_PER_CHAR, PRIOR_CHARS)
        self._verbosity = Ratio(REASONING if reasons else 1.0, PRIOR_ANSWERS * OUTPUT["general"])
        """Output tokens for each that the task lets expect, over all tasks."""
        self._answers: dict[str, Ratio] = {}
        """The same within each task that it was given."""
        self._expected: dict[str, float] = {}

    def learn(self, task: str, prompt_chars: int, usage: Usage) -> None:
        """Takes in what a whole answer was billed."""
        # More tokens than characters: most of that prompt were images.
        if 0 < usage.prompt <= prompt_chars:
            self._tokens.learn(usage.prompt, prompt_chars)
            self.tokens_per_char = self._tokens.value
        if usage.output:
            usual = OUTPUT.get(task, OUTPUT["general"])
            answers = self._answers.get(task)
            if answers is None:
                answers = self._answers[task] = Ratio(self._verbosity.value, PRIOR_ANSWERS * usual)
            answers.learn(usage.output, usual)
            self._verbosity.learn(usage.output, usual)
            self._expected.clear()

    def output(self, task: str) -> float:
        """Tokens of an answer, reasoning included, where nothing limits it."""
        expected = self._expected.get(task)
        if expected is None:
            ratio = self._answers.get(task, self._verbosity)
            expected = self._expected[task] = OUTPUT.get(task, OUTPUT["general"]) * ratio.value
        return expected


class Lengths:
    """All models by the names that they are configured under."""

    def __init__(self) -> None:
        self._models: dict[str, Length] = {}

    def of(self, model: str, reasons: bool = False) -> Length:
        """`reasons` matters where the model was not seen before."""
        length = self._models.get(model)
        if length is None:
            length = self._models[model] = Length(reasons)
        return length


class Conversations:
    """Which model has a conversation's beginning in its vendor's cache, and how many tokens of it."""

    def __init__(self, most: int = MOST_CONVERSATIONS, ttl: float = TTL_SECONDS) -> None:
        self._most = most
        self._ttl = ttl
        self._kept: OrderedDict[Hashable, tuple[str, float, float]] = OrderedDict()
        self._hits: dict[str, Ratio] = {}
        """Tokens read from a vendor's cache, for each that could have been."""

    def served(self, key: Hashable, model: str, prompt_tokens: int, cache_read: int, now: float) -> None:
        """A model answered in a conversation; so many tokens of its prompt were read from a cache."""
        before = self._kept.pop(key, None)
        if before is not None and before[0] == model and now < before[2] and before[1] >= LEAST_CACHED:
            self._hit(model).learn(min(cache_read, before[1]), before[1])
        self._kept[key] = (model, prompt_tokens, now + self._ttl)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def kept(self, key: Hashable, now: float) -> tuple[str | None, float]:
        """The model that has it, and the tokens that are expected to be read from the cache there."""
        found = self._kept.get(key)
        if found is None or now >= found[2] or found[1] < LEAST_CACHED:
            return None, 0.0
        return found[0], found[1] * self._hit(found[0]).value

    def _hit(self, model: str) -> Ratio:
        ratio = self._hits.get(model)
        if ratio is None:
            ratio = self._hits[model] = Ratio(PRIOR_HITS, PRIOR_ANSWERS * LEAST_CACHED)
        return ratio
