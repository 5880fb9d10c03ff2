"""How soon an answer is wanted, and what it may take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from providers.types import Timeouts

Until = Literal["first_token", "answer"]


@dataclass(frozen=True, slots=True)
class LatencyClass:
    """A class of calls. Times are seconds.

    `target` is what routing aims for and what is counted, `deadline` where a call is cut: each on the first token or on
    the whole answer.
    """

    timeouts: Timeouts
    retries: int
    name: str = ""
    deadline: float = 600.0
    deadline_of: Until = "answer"
    target: float | None = None
    target_of: Until = "first_token"
    rejects: bool = False
    """Whether a call is refused where no candidate is expected to keep the target; else the fastest takes it."""

    whole: Timeouts = field(init=False)
    """For an answer that comes whole: a vendor is silent while it writes one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", replace(self.timeouts, idle=None))
