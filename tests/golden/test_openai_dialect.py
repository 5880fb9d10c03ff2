"""Every case under `golden/openai` and `golden/inception`, in whichever direction it goes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from providers import catalog, errors
from providers.sse import Splitter
from providers.types import Call, Hints, Model, Tally, Usage

CASES = sorted(path for vendor in ("openai", "inception") for path in Path(__file__).parent.glob(f"{vendor}/*.json"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    direction = metafunc.function.__name__.split("_")[1]
    cases = {path: json.loads(path.read_text(encoding="utf-8")) for path in CASES}
    metafunc.parametrize(
        ("vendor", "case"),
        [
            pytest.param(path.parent.name, case, id=f"{path.parent.name}/{path.stem}")
            for path, case in cases.items()
            if direction in case
        ],
    )


def adapter(vendor: str, case: dict[str, Any]) -> Any:
    return importlib.import_module(f"providers.{vendor}").Provider.forms[case.get("operation", "chat")]


def a_model(vendor: str, case: dict[str, Any]) -> Model:
    card = catalog.lookup(vendor, case["upstream_model"])
    return Model("configured", vendor, case["upstream_model"], card, case.get("on_unsupported"))


def a_call(case: dict[str, Any]) -> Call:
    return Call(
        id="1",
        operation=case.get("operation", "chat"),
        raw=b"",
        body=case["request"],
        model=case["request"]["model"],
        stream=case.get("stream", False),
        include_usage=False,
        needs=case.get("needs", {}),
        hints=Hints(),
        started=0.0,
        deadline=60.0,
        snapshot="",
    )


def test_request_is_encoded(vendor: str, case: dict[str, Any]) -> None:
    call, before = a_call(case), json.dumps(case["request"])
    if "refused" in case:
        with pytest.raises(errors.Unsupported) as refused:
            adapter(vendor, case).encode(call, a_model(vendor, case), call.stream)
        assert refused.value.param == case["refused"]
    else:
        body, dropped = adapter(vendor, case).encode(call, a_model(vendor, case), call.stream)
        assert json.loads(body) == case["upstream"]
        assert sorted(dropped) == sorted(case["dropped"])
    assert json.dumps(case["request"]) == before


def test_reply_is_decoded(vendor: str, case: dict[str, Any]) -> None:
    body = json.dumps(case["reply"]).encode()
    if "error" in case:
        with pytest.raises(getattr(errors, case["error"])) as raised:
            adapter(vendor, case).decode("vendor", a_model(vendor, case), {}, body)
        assert type(raised.value).__name__ == case["error"]
        return
    reply = adapter(vendor, case).decode("vendor", a_model(vendor, case), {}, body)
    assert json.loads(reply.body) == case["answer"]
    assert reply.tally.usage == (Usage(**case["usage"]) if "usage" in case else None)
    assert (reply.tally.finish, list(reply.warnings)) == (case["finish"], case.get("warnings", []))


@pytest.mark.parametrize("compact", [True, False], ids=["compact", "spaced"])
def test_events_become_chunks(vendor: str, case: dict[str, Any], compact: bool) -> None:
    separators = (",", ":") if compact else (", ", ": ")
    texts = [
        event if isinstance(event, str) else json.dumps(event, separators=separators, ensure_ascii=False)
        for event in case["events"]
    ]
    tally = Tally()
    reader = adapter(vendor, case).reader("vendor", a_model(vendor, case), case["include_usage"], tally)
    batch = reader.read(Splitter().feed("".join(f"data: {text}\n\n" for text in texts).encode()))
    if not (reader.done or reader.failure):
        reader.end(batch, whole=reader.finished)

    assert [json.loads(chunk) for chunk in batch] == case["chunks"]
    assert type(reader.failure).__name__ == case.get("error", "NoneType")
    assert tally.usage == (Usage(**case["usage"]) if "usage" in case else None)
    assert (tally.finish, tally.unknown_finish) == (case.get("finish"), case.get("unknown_finish"))
    assert (tally.chars, tally.malformed) == (case["chars"], case.get("malformed", 0))
    assert tally.begun == (tally.chars > 0)
