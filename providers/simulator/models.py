"""The models that the pretend vendors serve: limits, abilities and speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    id: str
    vendor: str
    context: int
    max_output: int
    created: int
    first_token: float
    """Seconds to the first token of a short prompt, at speed 1."""
    per_second: float
    """Tokens a second once it speaks, at speed 1."""
    prefill: float = 0.03
    """Further seconds to the first token for every thousand prompt tokens."""
    block: tuple[int, int] = (1, 1)
    """Least and most tokens in one stream event."""
    alias: str | None = None
    abilities: frozenset[str] = frozenset()
    shutdown: str | None = None
    min_cacheable: int = 1024
    prices: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Dollars per million tokens of input, cached input and output."""

    def can(self, ability: str) -> bool:
        return ability in self.abilities


def _mercury(id: str, context: int, max_output: int, speed: float, *abilities: str, **more: object) -> Model:
    return Model(
        id, "inception", context, max_output, 1_771_900_000, 0.25, speed,
        prefill=0.015, block=(8, 16), abilities=frozenset(abilities), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _gpt(id: str, context: int, max_output: int, first: float, speed: float, *abilities: str, **more: object) -> Model:
    return Model(
        id, "openai", context, max_output, 1_744_316_542, first, speed,
        prefill=0.2, abilities=frozenset(abilities), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _claude(
    id: str, context: int, max_output: int, first: float, speed: float, *abilities: str, **more: object
) -> Model:
    return Model(
        id, "anthropic", context, max_output, 1_761_000_000, first, speed,
        prefill=0.04, block=(2, 6), abilities=frozenset(abilities), **more,  # type: ignore[arg-type]
    )  # fmt: skip


_MODELS = (
    _mercury("mercury", 128_000, 16_384, 708, "sampling", prices=(0.25, 0.025, 1.00)),
    _mercury("mercury-coder-small", 32_000, 16_384, 737, "sampling", prices=(0.25, 0.25, 1.00)),
    _mercury("mercury-2", 128_000, 50_000, 1009, "images", "reasoning", prices=(0.25, 0.025, 0.75)),
    _mercury("mercury-2.5", 260_000, 65_536, 1107, "images", "reasoning", prices=(0.20, 0.02, 0.75)),
    _mercury("mercury-3", 1_000_000, 131_072, 1050, "images", "reasoning", prices=(0.10, 0.01, 0.35)),
    _mercury("mercury-edit-2", 32_000, 8_192, 900, "fim", prices=(0.25, 0.025, 0.75)),
    _gpt(
        "gpt-4.1-nano-2025-04-14", 1_047_576, 32_768, 0.35, 200, "images",
        alias="gpt-4.1-nano", shutdown="2026-10-23",
    ),
    _gpt(
        "gpt-4.1-mini-2025-04-14", 1_047_576, 32_768, 0.45, 80, "images",
        alias="gpt-4.1-mini", shutdown="2027-01-14",
    ),
    _gpt("gpt-4.1-2025-04-14", 1_047_576, 32_768, 0.6, 60, "images", alias="gpt-4.1", shutdown="2027-01-14"),
    _gpt("gpt-4o-2024-08-06", 128_000, 16_384, 0.6, 70, "images", alias="gpt-4o", shutdown="2027-01-14"),
    _gpt("gpt-4o-mini-2024-07-18", 128_000, 16_384, 0.5, 59, "images", alias="gpt-4o-mini", shutdown="2027-01-14"),
    _gpt("gpt-3.5-turbo-0125", 16_385, 4_096, 0.4, 110, alias="gpt-3.5-turbo"),
    _gpt(
        "gpt-5-nano-2025-08-07", 400_000, 128_000, 0.5, 120, "images", "reasoning",
        alias="gpt-5-nano", shutdown="2026-12-11",
    ),
    _gpt("gpt-5.4-nano", 400_000, 128_000, 0.5, 130, "images", "reasoning", shutdown="2027-04-01"),
    _gpt("gpt-5.6-luna", 400_000, 128_000, 0.5, 140, "images", "reasoning"),
    _gpt("gpt-6-luna", 1_050_000, 128_000, 0.45, 160, "images", "reasoning", "paid_cache_writes"),
    _gpt("gpt-3.5-turbo-instruct", 4_096, 4_096, 0.3, 120, "completions"),
    _gpt("text-embedding-3-small", 8_191, 1, 0.1, 1000, "embeddings"),
    _gpt("text-embedding-3-large", 8_191, 1, 0.15, 1000, "embeddings"),
    _claude("claude-3-5-haiku-20241022", 200_000, 8_192, 0.7, 61, "prefill",
            alias="claude-3-5-haiku-latest", min_cacheable=2048),
    _claude("claude-haiku-4-5-20251001", 200_000, 64_000, 0.55, 89, "prefill", "budget", "structured", "one_sampling",
            alias="claude-haiku-4-5", min_cacheable=4096),
    _claude("claude-haiku-5-5", 1_000_000, 128_000, 0.45, 120, "adaptive", "effort", "structured", "fixed_sampling",
            "mid_system", min_cacheable=512),
    _claude("claude-sonnet-4-5-20250929", 200_000, 64_000, 1.1, 62, "prefill", "budget", "structured", "one_sampling",
            alias="claude-sonnet-4-5", min_cacheable=1024),
    _claude("claude-sonnet-5", 1_000_000, 128_000, 1.0, 75, "adaptive", "effort", "structured", "fixed_sampling",
            min_cacheable=1024),
)  # fmt: skip


def served_by(vendor: str) -> Mapping[str, Model]:
    """Every id and alias of one vendor's models."""
    models = [model for model in _MODELS if model.vendor == vendor]
    return {model.id: model for model in models} | {model.alias: model for model in models if model.alias}
