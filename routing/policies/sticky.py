"""What belongs together goes to one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from providers.types import Call
from routing import origin
from routing.outlook import Option
from routing.policies._hash import fraction


@dataclass(frozen=True, slots=True)
class Policy:
    """Tries the same candidate first for all calls that belong together.

    `on` says by what: `conversation` (the tag `conversation` or `session`, else what the user said first), `user`
    (OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`), `key` (the application key), or the name
    of a tag. Calls that say nothing of it get the candidates as the route lists them.

    By rendezvous hashing (Thaler and Ravishankar, 1998): nothing is remembered, every replica chooses alike, and when a
    candidate comes or goes only those calls move that it gains or had.
    """

    on: str = origin.CONVERSATION

    def __post_init__(self) -> None:
        if not isinstance(self.on, str) or not self.on or self.on == origin.REQUEST:
            raise ValueError(f"on: conversation, user, key or the name of a tag is expected, not {self.on!r}")

    def rank(self, call: Call, options: Sequence[Option], draw: Random) -> Sequence[Option]:
        value = origin.value(call, self.on)
        if value is None:
            return options
        return sorted(options, key=lambda option: fraction(value, option.name), reverse=True)

    def weigh(self, call: Call, options: Sequence[Option]) -> list[dict[str, float]]:
        value = origin.value(call, self.on)
        return [{} if value is None else {"hash": fraction(value, option.name)} for option in options]
