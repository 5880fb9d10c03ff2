"""What policies have in common: how soon an option is there, which of several equals is taken, what settings may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from random import Random
from typing import Any, Literal

from providers.types import Call
from routing.outlook import Option

NEAR = 0.1
"""What differs by less is equal."""
KNOWN_SAMPLES = 5.0
"""An option whose latency rests on fewer is unknown, for the first time or again."""

Until = Literal["auto", "first_token", "answer"]
UNTIL = ("auto", "first_token", "answer")


def soon(call: Call, options: Sequence[Option], until: Until) -> list[float]:
    """Expected seconds until the first token, or until the whole answer; `auto` is what the caller waits for."""
    if until == "first_token" or (until == "auto" and not call.whole):
        return [option.ttft for option in options]
    return [option.seconds for option in options]


def one_of(equals: Sequence[Option], draw: Random) -> Option:
    """The one with less to do of two at random: nearly as even as the least of all, and no herd (power of two choices).

    But a conversation stays where its beginning is cached.
    """
    if len(equals) == 1:
        return equals[0]
    for option in equals:
        if option.cached_tokens:
            return option
    first = int(draw.random() * len(equals))
    second = int(draw.random() * (len(equals) - 1))
    one, other = equals[first], equals[second + (second >= first)]
    return one if _work(one) <= _work(other) else other


def explore(part: float, first: Option, options: Sequence[Option], draw: Random) -> Option:
    """In that part of all calls one of which little is known instead, where nobody is there already."""
    if not part or first.cached_tokens or draw.random() >= part:
        return first
    unknown = [option for option in options if option.samples < KNOWN_SAMPLES and not option.in_flight]
    return draw.choice(unknown) if unknown else first


def parted(options: Sequence[Option], least: float) -> tuple[Sequence[Option], Sequence[Option]]:
    """Those that have the least quality that is asked for; and those that have not, the best first."""
    if not least:
        return options, ()
    good = [option for option in options if option.quality >= least]
    poor = [option for option in options if option.quality < least]
    return good, sorted(poor, key=_quality, reverse=True)


def ahead(option: Option, options: Sequence[Option]) -> list[Option]:
    """With the option before all others."""
    return [option, *(other for other in options if other is not option)]


def number(name: str, found: Any, most: float = inf) -> float:
    """The setting, if it is a number from 0 to `most`. Raises ValueError."""
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= most or found == inf:
        wanted = "of 0 or more" if most == inf else f"from 0 to {most:g}"
        raise ValueError(f"{name}: a number {wanted} is expected, not {found!r}")
    return float(found)


def ratios(name: str, table: Any) -> dict[str, float]:
    """The setting, if it maps words to numbers, and not all of them to 0. Raises ValueError."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{name}: a mapping of words to numbers is expected, not {table!r}")
    found = {word: number(f"{name}.{word}", each) for word, each in table.items()}
    if found and not any(found.values()):
        raise ValueError(f"{name}: one number at least must be above 0")
    return found


def word(name: str, found: Any, known: Sequence[str]) -> None:
    """Raises ValueError where the setting is none of the words."""
    if found not in known:
        raise ValueError(f"{name}: one of {', '.join(known)} is expected, not {found!r}")


def floor(table: Any) -> float:
    """The least quality that the setting `floor` asks for; 0 where it is left out. Raises ValueError."""
    if table is None:
        return 0.0
    if not isinstance(table, Mapping) or set(table) != {"quality"}:
        raise ValueError(f"floor: {{quality: <a number from 0 to 1>}} is expected, not {table!r}")
    return number("floor.quality", table["quality"], most=1.0)


def _quality(option: Option) -> float:
    return option.quality


def _work(option: Option) -> float:
    return option.ttft * (option.in_flight + 1)
