"""A model's prompt as the configuration has it: what each key may say, and the `providers.prompt.Prompt` it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from gateway.wire.openai import CHECKS
from gateway.wording import unknown, wrong
from providers import prompt, prompt_output
from providers.errors import InvalidRequest
from providers.prompt_template import LONGEST, WrongTemplate, compiled
from providers.types import Card

ROLES = ("system", "developer", "user", "assistant")


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


PARAMETERS: Mapping[str, Callable[[str], Any]] = {
    "temperature": _number,
    "top_p": _number,
    "top_k": int,
    "min_p": _number,
    "max_completion_tokens": int,
    "max_tokens": int,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "repetition_penalty": _number,
    "seed": int,
    "reasoning_effort": str,
    "verbosity": str,
    "service_tier": str,
    "realtime": _flag,
}
"""What may have a default, and how its text is read."""

NUMBERS = tuple(name for name, read in PARAMETERS.items() if read in (_number, int))
"""What may be clamped."""


def _value(name: str, found: Any) -> Any:
    """The text of a parameter's value as the value. Raises what says that it is none."""
    try:
        value = PARAMETERS[name](found) if isinstance(found, str) else found
        CHECKS.get(name, _anything)(name, value)
    except (KeyError, ValueError):
        raise wrong("is no value of this parameter", name) from None
    except InvalidRequest as error:
        raise wrong(error.message, name) from None
    return value


def _anything(name: str, value: Any) -> None:
    if isinstance(value, list | dict | None):
        raise InvalidRequest(f"Invalid type for '{name}'.", param=name)


def _defaults(found: Any) -> Any:
    if not isinstance(found, Mapping):
        raise wrong("must be a mapping of parameters to values")
    for name in found:
        if name not in PARAMETERS:
            raise wrong(unknown("parameter", str(name), PARAMETERS), str(name))
    if all(name in found for name in prompt.LIMITS):
        raise wrong("is the same parameter as max_completion_tokens: give one of them", "max_tokens")
    return {name: _value(name, value) for name, value in found.items()}


def _clamps(found: Any) -> Any:
    if not isinstance(found, Mapping):
        raise wrong("must be a mapping of parameters to [least, most]")
    clamps: dict[str, tuple[Any, ...]] = {}
    for name, ends in found.items():
        if name not in NUMBERS:
            raise wrong(unknown("parameter with a range", str(name), NUMBERS), str(name))
        if not isinstance(ends, list | tuple) or len(ends) != 2:
            raise wrong("must be a range: [least, most]", name)
        clamps[name] = least, most = tuple(_value(name, each) for each in ends)
        if least > most:
            raise wrong(f"{least} is more than {most}", name)
    return clamps


def _roles(found: Any) -> Any:
    if not isinstance(found, Mapping):
        raise wrong("must be a mapping of roles to roles")
    for theirs, ours in found.items():
        for role in (theirs, ours):
            if role not in ROLES:
                raise wrong(unknown("role", str(role), ROLES), str(theirs))
    return dict(found)


def _template(text: str) -> str:
    try:
        compiled(text)
    except WrongTemplate as error:
        raise wrong(f"is no template that can be used: {error}") from None
    return text


Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Text = Annotated[str, StringConstraints(max_length=65_536)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=prompt_output.LONGEST_STOP)]
_FROZEN = (AfterValidator(MappingProxyType), PlainSerializer(dict))


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Stop(_Part):
    """Where answers stop, beside what the caller says."""

    map: Annotated[Mapping[Word, Word], *_FROZEN] = Field(
        default_factory=_nothing, description="Stop words of the caller's, each with the one that is sent instead."
    )
    add: tuple[Word, ...] = Field(default=(), max_length=4, description="Stop words that are always sent too.")


class Output(_Part):
    """What is taken off answers, streamed or not."""

    strip_fences: Literal["json", "always"] | None = Field(
        default=None,
        description="The code fence that an answer opens with: `json` where the caller asked for JSON, or `always`.",
    )
    trim: bool = Field(default=False, description="The space before and after an answer.")
    remove_stop: bool = Field(default=False, description="The first stop word in an answer, and what follows it.")


class Prompt(_Part):
    """What is put around a model's conversations."""

    name: Label = Field(description="What records, logs and the header call it.")
    version: Label = Field(description="To be changed with every change of it: records hold it beside the name.")
    system_prefix: Text = Field(default="", description="Before the caller's system message, or in place of none.")
    system_suffix: Text = Field(default="", description="After the caller's system message, or in place of none.")
    roles: Annotated[Mapping[str, str], BeforeValidator(_roles), *_FROZEN] = Field(
        default_factory=_nothing, description="Roles of the caller's, each with the one that is sent instead."
    )
    stop: Stop = Field(default_factory=Stop, description="Where answers stop, beside what the caller says.")
    defaults: Annotated[Mapping[str, Any], BeforeValidator(_defaults), *_FROZEN] = Field(
        default_factory=_nothing, description="Parameters with the value they have where the caller gives none."
    )
    clamps: Annotated[Mapping[str, tuple[Any, ...]], BeforeValidator(_clamps), *_FROZEN] = Field(
        default_factory=_nothing, description="Parameters with [least, most]: what lies outside is brought within."
    )
    template: Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(_template)] | None = Field(
        default=None,
        description="A Jinja2 template that writes the conversation as one text, for a model that serves completions.",
    )
    output: Output = Field(default_factory=Output, description="What is taken off answers, streamed or not.")

    @model_validator(mode="after")
    def _defaults_within_clamps(self) -> Self:
        for name, (least, most) in self.clamps.items():
            for other in prompt.LIMITS if name in prompt.LIMITS else (name,):
                if other in self.defaults and not least <= self.defaults[other] <= most:
                    raise wrong(
                        f"{self.defaults[other]} is outside the range that clamps has for it", "defaults", other
                    )
        return self

    def build(self) -> prompt.Prompt:
        """The rules, ready to use."""
        return prompt.Prompt(
            name=self.name,
            version=self.version,
            system_prefix=self.system_prefix,
            system_suffix=self.system_suffix,
            roles=self.roles,
            stop_map=self.stop.map,
            stop_add=self.stop.add,
            defaults=self.defaults,
            clamps={name: (least, most) for name, (least, most) in self.clamps.items()},
            output=prompt_output.Output(self.output.strip_fences, self.output.trim, self.output.remove_stop),
            template=None if self.template is None else compiled(self.template),
        )


def served(card: Card, entry: Prompt) -> Card:
    """What a model can do under its prompt: through a template, no more than a text can ask for."""
    if entry.template is None:
        return card
    abilities = {"n", *(["tools"] if compiled(entry.template).takes_tools else [])}
    return replace(card, serves=frozenset({"completions"}), abilities=frozenset(abilities))
