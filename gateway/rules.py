"""Where calls go: latency classes, tasks, routes with their policies, and experiments."""

from __future__ import annotations

import dataclasses
import importlib.util
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from gateway.edges import DURATION, TTFT
from gateway.fields import (
    Flag,
    Milliseconds,
    Name,
    Names,
    Part,
    Table,
    Texts,
    Weight,
    frozen,
    nothing,
    thawed,
)
from gateway.wording import said, unknown, wrong
from routing import origin
from routing import policies as ranking

DEFAULT_POLICY = "score"

USUAL: dict[str, dict[str, Any]] = {
    "realtime": {
        "target_ms": 200,
        "target_of": "answer",
        "objective": 0.99,
        "on_no_candidate": "fastest",
        "deadline_ms": 10_000,
        "deadline_of": "answer",
        "first_token_ms": 2_000,
        "idle_ms": 5_000,
        "connect_ms": 2_000,
        "retries": 0,
    },
    "interactive": {
        "target_ms": 2_000,
        "target_of": "first_token",
        "objective": 0.95,
        "on_no_candidate": "fastest",
        "deadline_ms": 600_000,
        "deadline_of": "answer",
        "first_token_ms": 15_000,
        "idle_ms": 60_000,
        "connect_ms": 5_000,
        "retries": 2,
    },
    "background": {
        "target_ms": None,
        "target_of": "first_token",
        "objective": 0.95,
        "on_no_candidate": "fastest",
        "deadline_ms": 3_600_000,
        "deadline_of": "answer",
        "first_token_ms": 60_000,
        "idle_ms": 120_000,
        "connect_ms": 10_000,
        "retries": 2,
    },
}
"""The latency classes that are always there."""

OWN: dict[str, Any] = {**USUAL["interactive"], "target_ms": None}
"""What a class of one's own leaves out."""

TASKS = (
    *("autocomplete", "code", "explanation", "reasoning", "math", "summarization", "extraction"),
    *("classification", "writing", "chat", "general"),
)

Until = Literal["first_token", "answer"]


def edges(until: Any) -> tuple[int, ...]:
    """What a target may be, in milliseconds: where the histogram that it is read from has its edges."""
    return tuple(round(edge * 1000) for edge in (DURATION if until == "answer" else TTFT))


@cache
def _policies() -> tuple[str, ...]:
    package = importlib.util.find_spec("routing.policies")
    places = package.submodule_search_locations if package else None
    return tuple(sorted(info.name for info in pkgutil.iter_modules(places) if not info.name.startswith("_")))


def policies() -> list[str]:
    """The words that `choose.by` takes: one for each file in `routing/policies/`."""
    return list(_policies())


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a policy, as `choose` takes it."""

    type: TypeAdapter[Any]
    needed: bool
    manual: str
    """What the policy's docstring says of it."""


@cache
def settings(policy: str) -> Mapping[str, Setting]:
    """The settings of a policy: the fields of its dataclass."""
    found = ranking.load(policy)
    hints = get_type_hints(found)
    return {
        field.name: Setting(
            type=TypeAdapter(hints[field.name]),
            needed=field.default is field.default_factory is dataclasses.MISSING,
            manual=_manual(found.__doc__ or "", field.name),
        )
        for field in dataclasses.fields(found)  # type: ignore[arg-type]
        if field.init
    }


def _manual(text: str, name: str) -> str:
    sentences = " ".join(text.split()).replace(". ", ".\n").splitlines()
    return " ".join(sentence for sentence in sentences if f"`{name}" in sentence)


class LatencyClass(Part):
    """How soon an answer is wanted, how long a call may take, and how often it is tried again."""

    target_ms: Milliseconds | None = Field(
        description="What routing aims for, and what is counted as kept: an edge of the histogram; empty for none."
    )
    target_of: Until = Field(description="Until when `target_ms` counts: the first token, or the whole answer.")
    objective: Annotated[float, Field(gt=0, lt=1)] = Field(description="The share of calls that shall keep the target.")
    on_no_candidate: Literal["fastest", "reject"] = Field(
        description="Where no candidate is expected to keep the target, the fastest is asked, or nobody."
    )
    deadline_ms: Milliseconds = Field(description="All of the call, every attempt included.")
    deadline_of: Until = Field(description="Until when `deadline_ms` counts: the whole answer, or its first token.")
    first_token_ms: Milliseconds = Field(description="From sending a request to the first content of its answer.")
    idle_ms: Milliseconds = Field(description="The longest silence within an answer.")
    connect_ms: Milliseconds = Field(description="Opening a connection to the vendor.")
    retries: int = Field(ge=0, le=10, description="Further attempts at the same model before the next one's turn.")

    @model_validator(mode="after")
    def _within_the_deadline(self) -> Self:
        for name in _bounded(self.target_of, self.deadline_of):
            value = getattr(self, name)
            if value is not None and value > self.deadline_ms:
                raise wrong(f"{value} is more than deadline_ms, which is {self.deadline_ms}", name)
        return self


def _bounded(target_of: Any, deadline_of: Any) -> tuple[str, ...]:
    """What is never more than the deadline; one on the first token says nothing of what comes after."""
    times = ("first_token_ms", "connect_ms")
    if deadline_of == "first_token":
        return times if target_of == "answer" else ("target_ms", *times)
    return ("target_ms", *times, "idle_ms")


def over(usual: Mapping[str, Any], data: Any) -> Any:
    """A class's fields over the usual ones, which never exceed a deadline that the file gives."""
    if not isinstance(data, dict):
        return data
    filled = {**usual, **data}
    try:
        deadline = int(filled["deadline_ms"])
    except (TypeError, ValueError):
        return filled
    for name in _bounded(filled["target_of"], filled["deadline_of"]):
        if name not in data and usual[name] is not None and usual[name] > deadline:
            filled[name] = deadline
    if "target_ms" not in data and filled["target_ms"] is not None:
        within = [edge for edge in edges(filled["target_of"]) if edge <= filled["target_ms"]]
        filled["target_ms"] = max(within, default=None)
    return filled


class Tasks(Part):
    """What sorts of work calls are told apart by."""

    names: Names = Field(default=TASKS, description="The tasks that hints and routes may name.")
    classify: Flag = Field(
        default=True, description="Whether calls that name no task get one from what they look like."
    )


class PromptTokens(Part):
    """A range of prompts by their size."""

    at_least: int | None = Field(default=None, ge=0, description="Prompts of as many tokens or more; left out, any.")
    below: int | None = Field(default=None, gt=0, description="Prompts of fewer tokens; left out, any.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise wrong(f"{self.below} is not more than at_least, which is {self.at_least}", "below")
        return self

    def covers(self, other: PromptTokens | None) -> bool:
        """Whether every size in the other's range is in this one; None stands for all sizes."""
        other = other or PromptTokens()
        above = (self.at_least or 0) <= (other.at_least or 0)
        return above and (self.below is None or (other.below is not None and other.below <= self.below))


class Match(Part):
    """Which calls a route takes: those that fit everything it gives."""

    models: Names = Field(description="Words callers put into `model`: any, or a configured model's name.")
    use_cases: Names | None = Field(default=None, description="Use cases; left out, any.")
    tasks: Names | None = Field(default=None, description="Tasks; left out, any.")
    classes: Names | None = Field(default=None, description="Latency classes; left out, any.")
    tags: Table[Texts] = Field(
        default_factory=nothing, description="Tags, each with a value or a list of values; others do not matter."
    )
    prompt_tokens: PromptTokens | None = Field(
        default=None, description="How large the prompt is, as far as can be told from its text; left out, any."
    )

    def covers(self, other: Match, model: str) -> bool:
        """Whether every call for `model` that fits `other` fits here."""
        pairs = ((self.use_cases, other.use_cases), (self.tasks, other.tasks), (self.classes, other.classes))
        return (
            model in self.models
            and all(mine is None or (theirs is not None and set(mine) >= set(theirs)) for mine, theirs in pairs)
            and all(name in other.tags and set(values) >= set(other.tags[name]) for name, values in self.tags.items())
            and (self.prompt_tokens is None or self.prompt_tokens.covers(other.prompt_tokens))
        )


class Arm(Part):
    """One of the things that an experiment compares."""

    candidates: Names = Field(description="Models, in the order in which they are tried.")
    weight: Weight = Field(default=1, description="Its share of the traffic; a ratio to the others', 0 for none.")


class Experiment(Part):
    """Arms that are compared: each unit of the traffic always gets the same."""

    unit: Name = Field(
        default=origin.CONVERSATION,
        description="What is assigned: `user`, `key`, `conversation`, `request`, or the name of a tag.",
    )
    salt: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="Another one makes a new assignment; left out, the experiment's name."
    )
    arms: Annotated[Table[Arm], Field(min_length=1)] = Field(description="What is compared, by name.")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not any(arm.weight for arm in self.arms.values()):
            raise wrong("have weight 0 throughout; one at least must be above 0", "arms")
        return self

    def settings(self, name: str) -> dict[str, Any]:
        """Those of the policy that carries it out."""
        arms = {each: {"candidates": arm.candidates, "weight": arm.weight} for each, arm in self.arms.items()}
        return {"arms": arms, "unit": self.unit, "salt": name if self.salt is None else self.salt}


def _policy(name: str) -> str:
    if name not in _policies():
        raise wrong(unknown("policy", name, _policies()))
    return name


COMPARING = "experiment"
"""The policy whose settings stand under `experiments`."""


class Choose(Part):
    """How a route orders its candidates: the policy, and its settings beside it."""

    by: Annotated[str, AfterValidator(_policy)] = Field(
        default=DEFAULT_POLICY, description="A file name in `routing/policies/`."
    )
    experiment: Name | None = Field(default=None, description="For policy experiment: which of `experiments`.")
    settings: Annotated[Mapping[str, Any], AfterValidator(frozen)] = Field(
        default_factory=nothing, description="The policy's fields, as it takes them."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_policy_takes_it(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        by = data.get("by", DEFAULT_POLICY)
        if by not in _policies():
            return {"by": by}
        given = {name: value for name, value in data.items() if name != "by"}
        if by == COMPARING:
            _all_known(by, given, ("experiment",))
            if "experiment" not in given:
                raise wrong("is missing: which of `experiments`", "experiment")
            return {"by": by, **given}
        return {"by": by, "settings": _settled(by, given)}

    @model_serializer(mode="plain")
    def _as_written(self) -> dict[str, Any]:
        if self.experiment is not None:
            return {"by": self.by, "experiment": self.experiment}
        return {"by": self.by, **thawed(self.settings)}


def _all_known(policy: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    _refuse(
        InitErrorDetails(type=wrong(unknown(f"setting of {policy}", name, known)), loc=(name,), input=None)
        for name in given
        if name not in known
    )


def _refuse(errors: Any) -> None:
    found = list(errors)
    if found:
        raise ValidationError.from_exception_data("Choose", found)


def _settled(policy: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings as the policy takes them. Raises what says which it does not take."""
    known = settings(policy)
    _all_known(policy, given, tuple(known))
    found: dict[str, Any] = {}
    errors: list[InitErrorDetails] = []
    for name, setting in known.items():
        if name in given:
            try:
                found[name] = setting.type.validate_python(given[name])
            except ValidationError as error:
                errors += (
                    InitErrorDetails(type=wrong(said(each)), loc=(name, *each["loc"]), input=None)
                    for each in error.errors(include_url=False)
                )
        elif setting.needed:
            errors.append(InitErrorDetails(type=wrong(f"is missing: {setting.manual}"), loc=(name,), input=None))
    _refuse(errors)
    try:
        ranking.load(policy)(**found)
    except ValueError as error:
        path, _, words = str(error).partition(": ")
        at = path.split(".")
        if words and at[0] in known:
            raise wrong(words, *at) from None
        raise wrong(str(error)) from None
    return found


class Route(Part):
    """Which models a sort of call may go to."""

    name: Name = Field(description="What callers may put into `model`, and what metrics call it.")
    match: Match = Field(description="Which calls it takes; left out, those whose `model` is its name.")
    # `class` is a word of Python's own
    latency_class: Name | None = Field(
        default=None, alias="class", description="Latency class of its calls, where the caller names none."
    )
    candidates: Names = Field(description="Models to choose from.")
    fallback: Name | None = Field(default=None, description="Which of `fallbacks` is tried after the candidates.")
    choose: Choose = Field(default_factory=Choose, description="How the candidates are ordered.")
    affinity: Flag = Field(
        default=True,
        description="Whether a conversation stays with the model that has it in its vendor's cache, where that pays.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(name := data.get("name"), str):
            match = data.get("match", {})
            if isinstance(match, dict) and "models" not in match:
                return {**data, "match": {"models": [name], **match}}
        return data

    def comparing(self, experiments: Mapping[str, Experiment]) -> Route:
        """The same with the settings of the experiment that it takes part in, if there is such a one."""
        name = self.choose.experiment
        if name is None or name not in experiments:
            return self
        settings = frozen(experiments[name].settings(name))
        return self.model_copy(update={"choose": self.choose.model_copy(update={"settings": settings})})
