"""What a request needs, what a model has, and what may be left out in between."""

from __future__ import annotations

from typing import Any

from providers.errors import Unsupported
from providers.types import Call, Json, Model

HINTS = frozenset({"use_case", "latency_class", "task", "deadline_ms", "tags", "diffusing"})
"""Keys under `metadata` that are meant for the gateway and go no further."""

PARAMETERS = {
    "n": ("n",),
    "logprobs": ("logprobs", "top_logprobs"),
    "prediction": ("prediction",),
    "diffusing": ("diffusing",),
    "web_search": ("web_search_options",),
    "audio_output": ("modalities", "audio"),
    "json_object": ("response_format",),
    "json_schema": ("response_format",),
}
"""Abilities that can be left out of a request and leave one that can be answered, with the parameters to leave out."""

MOST_NAMED = 64

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "temperature": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "stream": (False,),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto",),
    "verbosity": ("medium",),
    "modalities": (["text"],),
    "metadata": ({},),
    "diffusing": (False,),
}


def missing(call: Call, model: Model) -> dict[str, str]:
    """The abilities that `call` needs and `model` lacks, each with the parameter that asks for it.

    What may be left out instead is not missing: the card says what by default; `on_unsupported: drop` adds all that can
    be, `on_unsupported: error` forbids it.
    """
    card = model.card
    lacking = {ability: param for ability, param in call.needs.items() if ability not in card.abilities}
    if not lacking or model.on_unsupported == "error":
        return lacking
    if call.hints.diffusing != "raw":
        # The finished text is the same from a model that writes it another way.
        lacking.pop("diffusing", None)
    return {
        ability: param
        for ability, param in lacking.items()
        if ability not in card.drops and not (model.on_unsupported == "drop" and ability in PARAMETERS)
    }


def fit(call: Call, model: Model) -> tuple[Json, list[str]]:
    """A copy of the request, one level deep, without the gateway's own hints and without what `model` lacks but may be
    left out; and the names of what was left out.

    Raises Unsupported, naming the parameter, for what cannot be.
    """
    for ability, param in missing(call, model).items():
        raise Unsupported(f"{model.name} does not support {ability}, which {param} asks for", param=param)
    body = dict(call.body)
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and not HINTS.isdisjoint(metadata):
        rest = {key: value for key, value in metadata.items() if key not in HINTS}
        if rest:
            body["metadata"] = rest
        else:
            del body["metadata"]
    dropped: list[str] = []
    for ability in call.needs:
        if ability not in model.card.abilities:
            for param in PARAMETERS.get(ability, ()):
                if param in body:
                    leave_out(body, param, dropped)
    return body, dropped


def leave_out(body: Json, param: str, dropped: list[str]) -> None:
    """Takes `param` out of `body`, and names it where that makes a difference."""
    value = body.pop(param)
    if not neutral(param, value):
        name_dropped(param, dropped)


def name_dropped(name: str, dropped: list[str]) -> None:
    """Names what was left out or bent; once each, and no more than a caller would read."""
    if len(dropped) < MOST_NAMED and name not in dropped:
        dropped.append(name)


def neutral(param: str, value: Any) -> bool:
    """Whether a request says the same without it."""
    return value is None or value in _NEUTRAL.get(param, ())


def refuse_dropped(model: Model, dropped: list[str]) -> None:
    """Raises Unsupported where the configuration wants an error rather than anything left out or bent."""
    if dropped and model.on_unsupported == "error":
        raise Unsupported(f"{model.name} does not support {dropped[0]} as given", param=dropped[0])
