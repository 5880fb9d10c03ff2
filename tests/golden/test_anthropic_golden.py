"""Ours and Anthropic's, case by case: `anthropic/*.json` are lists of

name      what the case shows
request   OpenAI's request; `needs` beside it: what the gateway read out of it
model     fields of the card that differ, `card` (one of CARDS), `on_unsupported`
upstream  Anthropic's request; `model` and `max_tokens` are the card's where they are not given
dropped   names of what was left out or bent
error     class and param, where there is no request
reply     Anthropic's answer, or the list of its events
answer    message and choice of OpenAI's answer, or its chunks; usage as
          [prompt, completion, cached, written to the cache, reasoning]
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers import errors
from providers.anthropic import Decoder, decode, encode
from providers.types import Call, Card, Hints, Model, Tally

BUDGETS = {"none": None, "minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
WORDS = {
    "none": None,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
HAIKU = Card(
    id="claude-haiku-4-5-20251001",
    kind="anthropic",
    max_output=64000,
    abilities=frozenset(
        {"tools", "image", "image_url", "file", "json_object", "json_schema", "prefill", "strict_tools", "reasoning"}
    ),
    unknown="drop",
    temperature=(0.0, 1.0),
    one_sampling=True,
    reasoning=BUDGETS,
)
CARDS = {
    "haiku-4.5": HAIKU,
    "haiku-3.5": replace(
        HAIKU,
        id="claude-3-5-haiku-20241022",
        max_output=8192,
        abilities=HAIKU.abilities - {"json_schema", "strict_tools", "reasoning"},
        one_sampling=False,
        reasoning={},
    ),
    "haiku-5.5": replace(
        HAIKU,
        id="claude-haiku-5-5",
        max_output=128000,
        abilities=HAIKU.abilities - {"prefill"},
        temperature=None,
        top_p=None,
        one_sampling=False,
        reasoning=WORDS,
        reasons_by_default=True,
    ),
}
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(Path(__file__).with_name("anthropic").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]


def model_of(case: dict[str, Any]) -> Model:
    given = dict(case.get("model", {}))
    card = CARDS[given.pop("card", "haiku-4.5")]
    on_unsupported = given.pop("on_unsupported", None)
    abilities = (card.abilities | set(given.pop("abilities+", ()))) - set(given.pop("abilities-", ()))
    card = replace(card, abilities=frozenset(abilities), **given)
    return Model("claude-haiku", "anthropic", card.id, card, on_unsupported)


def call_of(case: dict[str, Any]) -> Call:
    body = {"model": "claude-haiku", **case["request"]}
    return Call(
        id="call-1",
        operation="chat",
        raw=orjson.dumps(body),
        body=body,
        model="claude-haiku",
        stream=bool(body.get("stream")),
        include_usage=True,
        needs=case.get("needs", {}),
        hints=Hints(),
        started=0.0,
        deadline=600.0,
        snapshot="s",
    )


def usage_of(counts: list[int]) -> dict[str, Any]:
    prompt, completion, cached, written, reasoning = counts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize("case", CASES)
def test_ours_and_theirs(case: dict[str, Any]) -> None:
    model, call = model_of(case), call_of(case)
    before = orjson.dumps(call.body)

    if "error" in case:
        with pytest.raises(errors.TalariaError) as caught:
            encode(call, model)
        assert {"class": type(caught.value).__name__, "param": caught.value.param} == case["error"]
        return

    encoded = encode(call, model)
    assert orjson.dumps(call.body) == before, "each attempt encodes from the original"
    if "upstream" in case:
        defaults = {"model": model.upstream, "max_tokens": model.card.max_output}
        assert orjson.loads(orjson.dumps(encoded.body)) == {**defaults, **case["upstream"]}
    assert sorted(encoded.dropped) == sorted(case.get("dropped", encoded.dropped))

    reply = case.get("reply")
    if isinstance(reply, list):
        check_stream(case, model, encoded.reading)
    elif reply is not None:
        check_answer(case, model, encoded.reading)


def check_answer(case: dict[str, Any], model: Model, reading: Any) -> None:
    body, tally = decode(orjson.dumps(case["reply"]), model, reading)
    answer = orjson.loads(body)
    expected = dict(case["answer"])
    choice = {"index": 0, "message": expected.pop("message"), "logprobs": None}
    choice |= {key: expected.pop(key) for key in ("finish_reason", "stop_sequence") if key in expected}
    assert tally.unknown_finish == expected.pop("unknown_finish", None)
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "id": case["reply"]["id"],
        "object": "chat.completion",
        "model": "claude-haiku",
        "choices": [choice],
        "system_fingerprint": None,
        "usage": usage_of(expected.pop("usage")),
        **expected,
    }
    assert tally.finish == choice["finish_reason"]
    assert tally.id == case["reply"]["id"]


def check_stream(case: dict[str, Any], model: Model, reading: Any) -> None:
    tally = Tally()
    decoder = Decoder(model, reading, tally, include_usage=True)
    events = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in case["reply"])
    chunks = [orjson.loads(chunk) for chunk in decoder.read(events) + decoder.end()]
    assert decoder.trouble is None
    assert decoder.done
    common = {"id": case["reply"][0]["message"]["id"], "object": "chat.completion.chunk", "model": "claude-haiku"}
    common["created"] = chunks[0]["created"]
    expected = [
        {
            **common,
            "choices": [{"index": 0, "logprobs": None, "finish_reason": None, **chunk}],
            "usage": None,
        }
        for chunk in case["answer"]["chunks"]
    ]
    expected.append({**common, "choices": [], "usage": usage_of(case["answer"]["usage"])})
    assert chunks == expected
    assert tally.finish == expected[-2]["choices"][0]["finish_reason"]
    assert tally.usage is not None
    assert tally.malformed == 0
