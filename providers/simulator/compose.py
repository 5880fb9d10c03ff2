"""Decides what a model says: prose, JSON, tool calls, a refusal, thoughts; and where it is cut.

Nothing here knows a vendor's format. A dialect describes what was asked as a `Wish` and renders the `Answer`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from providers.simulator import prose, schema
from providers.simulator.tokens import split

CALL_TOKENS = 6
"""What a tool call costs beside its arguments."""


@dataclass(frozen=True)
class Tool:
    name: str
    parameters: schema.Schema
    custom: bool = False


@dataclass(frozen=True)
class Wish:
    prompt: str
    """The text of the last message from the user."""
    from_user: bool = True
    """Whether that message is the last one."""
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"
    """`auto`, `any`, `none`, or `=name` of one tool."""
    parallel: bool = True
    tool_results: Sequence[str] = ()
    json_schema: schema.Schema | None = None
    max_tokens: int = 4096
    stop: Sequence[str] = ()
    reasoning: int = 0
    """At most so many tokens of reasoning; 0 for none."""
    redacted: bool = False
    """Whether half of the reasoning is hidden."""
    prefilled: bool = False
    """Whether the answer continues a beginning that the caller wrote."""
    preamble: bool = False
    """Whether tool calls may be announced in words."""


Kind = Literal["thinking", "redacted", "text", "refusal", "call"]
Finish = Literal["stop", "stop_sequence", "length", "tool_calls", "refusal"]


@dataclass(frozen=True)
class Part:
    kind: Kind
    pieces: list[str]
    tool: Tool | None = None
    whole: bool = True

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        return len(self.pieces) + (CALL_TOKENS if self.tool else 0)


@dataclass(frozen=True)
class Answer:
    parts: list[Part] = field(default_factory=list)
    finish: Finish = "stop"
    stop: str | None = None
    """Which stop sequence ended it."""

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)

    @property
    def thinking_tokens(self) -> int:
        return sum(part.tokens for part in self.parts if part.kind in ("thinking", "redacted"))

    def text(self, kind: Kind = "text") -> str:
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> list[Part]:
        return [part for part in self.parts if part.kind == "call"]


def compose(wish: Wish, random: random.Random) -> Answer:
    thoughts = _thoughts(wish, random)
    if re.search(r"\brefuse\b", wish.prompt, re.IGNORECASE):
        said, finish = (
            [Part("refusal", split("I can't help with that, but I am glad to help with something else."))],
            "refusal",
        )
    elif called := _choose_tools(wish, random):
        said, finish = _call(called, wish, random), "tool_calls"
    else:
        said, finish = [Part("text", split(_say(wish, random)))], "stop"
    answer = Answer([*thoughts, *said], finish)  # type: ignore[arg-type]
    return _cut_to_length(_cut_at_stop(answer, wish.stop), wish.max_tokens)


def _thoughts(wish: Wish, random: random.Random) -> list[Part]:
    if not wish.reasoning:
        return []
    pieces = split(prose.thought(random, 1 + wish.reasoning // 8))[: wish.reasoning]
    if not wish.redacted:
        return [Part("thinking", pieces)]
    middle = len(pieces) // 2
    return [Part("thinking", pieces[:middle]), Part("redacted", pieces[middle:])]


def _choose_tools(wish: Wish, random: random.Random) -> list[Tool]:
    if not wish.tools or wish.tool_choice == "none":
        return []
    if wish.tool_choice.startswith("="):
        return [tool for tool in wish.tools if tool.name == wish.tool_choice[1:]]
    prompt = wish.prompt.lower()
    if wish.tool_choice == "auto" and (not wish.from_user or re.search(r"\b(no|without) tools?\b", prompt)):
        return []
    named = [tool for tool in wish.tools if re.search(rf"(?<![\w-]){re.escape(tool.name.lower())}(?![\w-])", prompt)]
    wanted = 2 if re.search(r"\bparallel\b|\b(two|several|both) (tools|calls)\b", prompt) else 1
    chosen = named or [random.choice(wish.tools)]
    if wanted > len(chosen):
        others = [tool for tool in wish.tools if tool not in chosen]
        chosen = [*chosen, *others, *chosen][:wanted]
    return chosen if wish.parallel else chosen[:1]


def _call(tools: Sequence[Tool], wish: Wish, random: random.Random) -> list[Part]:
    parts = []
    if wish.preamble and not wish.tool_choice.startswith("=") and random.random() < 0.5:
        parts.append(Part("text", split("Let me look that up.")))
    given = re.search(r"with arguments (\{.*\})", wish.prompt, re.DOTALL | re.IGNORECASE)
    for tool in tools:
        if tool.custom:
            arguments = prose.words(random, 6)
        elif given:
            arguments = given[1]
        else:
            arguments = _dump(schema.fit(_as_object(tool.parameters), random))
        parts.append(Part("call", split(arguments), tool))
    return parts


def _as_object(parameters: schema.Schema) -> schema.Schema:
    if isinstance(parameters, Mapping) and (parameters.get("properties") or len(parameters) > 3):
        return parameters
    refers = isinstance(parameters, Mapping) and any(key in parameters for key in ("$ref", "allOf", "anyOf", "oneOf"))
    return parameters if refers else {"type": "object", "additionalProperties": False}


def _say(wish: Wish, random: random.Random) -> str:
    exactly = re.search(r"say exactly: ?(.*)", wish.prompt, re.DOTALL | re.IGNORECASE)
    if wish.json_schema is not None:
        return exactly[1] if exactly and _is_json(exactly[1]) else _dump(schema.fit(wish.json_schema, random))
    if exactly:
        return exactly[1]
    if counted := re.search(r"\b(?:in|write) (?:exactly |about )?(\d{1,6}) words\b", wish.prompt, re.IGNORECASE):
        said = prose.words(random, int(counted[1]))
    elif wish.tool_results and not wish.from_user:
        quoted = "; ".join(result if len(result) <= 400 else result[:400] + "…" for result in wish.tool_results)
        said = f"Here is what came back: {quoted}. {prose.words(random, 12)}."
    else:
        said = prose.answer(random)
    return " " + said if wish.prefilled else said


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut_at_stop(answer: Answer, stops: Sequence[str]) -> Answer:
    for position, part in enumerate(answer.parts):
        if not stops or part.kind != "text":
            continue
        text = part.text
        found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
        if found:
            at, stop = min(found, key=lambda each: each[0])
            kept = replace(part, pieces=split(text[:at]))
            return Answer([*answer.parts[:position], kept], "stop_sequence", stop)
    return answer


def _cut_to_length(answer: Answer, most: int) -> Answer:
    if answer.tokens <= most:
        return answer
    parts: list[Part] = []
    left = most
    for part in answer.parts:
        if part.tokens <= left:
            parts.append(part)
            left -= part.tokens
            continue
        room = left - (part.tokens - len(part.pieces))
        # A hidden thought is sealed as one block, and a call without room for its name never begins.
        if room > 0 and part.kind != "redacted":
            parts.append(replace(part, pieces=part.pieces[:room], whole=False))
        break
    return Answer(parts, "length")
