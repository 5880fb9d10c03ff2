"""Verdicts on answers: who may give them, what is kept and counted of them, and what a failing database leaves."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import feedback
from gateway.api.feedback import CHECKS, decode
from gateway.config import parse
from gateway.feedback import Answer, Feedback, SqliteVerdicts, Standing, Verdict
from gateway.keys import LocalKeys
from gateway.metrics import Metrics
from gateway.record import Record
from providers.errors import InvalidRequest
from providers.types import Call, Card, Hints, Model
from routing.planner import Plan
from routing.router import Journey
from routing.target import Target
from tests import fleet
from tests.fleet import THREE_VENDORS, Serving, Simulator, http

PATH = "/v1/feedback"
MESSAGES = [{"role": "user", "content": "say exactly: hello"}]
COMPARED = """\
  - {name: compared, candidates: [mercury, claude-haiku], choose: {by: experiment, experiment: speed}}
experiments:
  speed:
    unit: request
    arms: {diffusion: {candidates: [mercury]}, autoregression: {candidates: [claude-haiku], weight: 0}}
"""


def text(simulator: Simulator, folder: Path, auth: str = "none") -> str:
    found = THREE_VENDORS.format(simulator=simulator.url) + COMPARED
    return found.replace("auth: none", f'auth: {auth}, ledger: "sqlite:///{folder}/talaria.db"')


@pytest.fixture
def served(simulator: Simulator, tmp_path: Path) -> Iterator[Serving]:
    """A gateway of its own, with an experiment, whose ledger is in `tmp_path`."""
    with fleet.serving(text(simulator, tmp_path)) as gateway:
        yield gateway


def answer(gateway: Serving, headers: dict[str, str] | None = None, **changes: Any) -> str:
    """The id of an answer."""
    body = {"model": "mercury", "messages": MESSAGES, "metadata": {"task": "chat"}, **changes}
    response = http.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    return response.headers["x-request-id"]


def judge(gateway: Serving, request_id: str, headers: dict[str, str] | None = None, **said: Any) -> httpx.Response:
    return http.post(gateway.url + PATH, json={"request_id": request_id, **said}, headers=headers, timeout=30)


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def counted(gateway: Serving, **labels: str) -> float:
    return gateway.metric("talaria_feedback_total", **labels)


def rows(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "talaria.db")) as database:
        return database.execute("SELECT judge, score, label, comment FROM feedback ORDER BY created").fetchall()


def test_a_verdict_says_what_it_is_on(served: Serving, tmp_path: Path) -> None:
    id = answer(served, model="compared")
    response = judge(served, id, score=0.9, by="editor", comment="Ça va")
    assert response.status_code == 201
    told = response.json()
    assert told.pop("id").startswith("fb_")
    assert told == {
        "object": "feedback",
        "request_id": id,
        "model": "mercury",
        "task": "chat",
        "route": "compared",
        "arm": "diffusion",
    }
    assert rows(tmp_path) == [("editor", 0.9, None, "Ça va")]
    labels = {"model": "mercury", "task": "chat", "experiment": "speed", "arm": "diffusion", "verdict": "good"}
    assert counted(served, **labels) == counted(served) == 1


def test_streams_and_direct_calls_can_be_judged(served: Serving) -> None:
    body = {"model": "claude-haiku", "messages": MESSAGES, "stream": True, "metadata": {"task": "code"}}
    response = http.post(f"{served.url}/v1/chat/completions", json=body, timeout=30)
    told = judge(served, response.headers["x-request-id"], label="bad").json()
    assert (told["model"], told["task"], told["route"], told["arm"]) == ("claude-haiku", "code", "direct", None)
    labels = {"model": "claude-haiku", "task": "code", "experiment": "none", "arm": "none", "verdict": "bad"}
    assert counted(served, **labels) == counted(served) == 1


def test_the_model_that_served_is_judged_not_the_one_that_failed(served: Serving, simulator: Simulator) -> None:
    simulator.faults({"vendor": "inception", "model": "*", "kind": "status", "status": 500})
    assert judge(served, answer(served, model="auto"), score=1).json()["model"] == "gpt-4.1-nano"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({"score": 1}, "good"),
        ({"score": 0.6}, "good"),
        ({"score": 0.59}, "neutral"),
        ({"score": 0.41}, "neutral"),
        ({"score": 0.4}, "bad"),
        ({"score": 0}, "bad"),
        ({"label": "Good"}, "good"),
        ({"label": "neutral"}, "neutral"),
        ({"label": "bad"}, "bad"),
        ({"label": "too long"}, "other"),
        ({"label": "bad", "score": 0.8}, "good"),
        ({"label": "too long", "score": 0.2}, "bad"),
        ({"label": "bad", "score": None, "by": None, "comment": None}, "bad"),
    ],
)
def test_scores_and_known_labels_become_one_of_four_words(said: dict[str, Any], verdict: str) -> None:
    assert decode(json.dumps({"request_id": "req_1", **said}).encode()).word == verdict


def test_a_judges_next_verdict_takes_the_place_of_the_last(served: Serving, tmp_path: Path) -> None:
    id = answer(served)
    first = judge(served, id, score=1, comment="fine")
    again = judge(served, id, score=1, comment="fine")
    other = judge(served, id, label="bad")
    second = judge(served, id, score=0.5, by="grader")
    assert [each.status_code for each in (first, again, other, second)] == [201, 200, 200, 201]
    assert first.json() == again.json() == other.json() != second.json()
    assert rows(tmp_path) == [("user", None, "bad", None), ("grader", 0.5, None, None)]
    assert (counted(served), counted(served, verdict="good"), counted(served, verdict="neutral")) == (2, 1, 1)


def test_one_judge_at_many_places_at_once_counts_once(served: Serving, tmp_path: Path) -> None:
    id = answer(served)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: judge(served, id, score=i / 40).status_code, range(40)))
    assert sorted(found) == [200] * 39 + [201]
    assert len(rows(tmp_path)) == counted(served) == 1


def test_an_answer_has_a_bounded_number_of_judges(served: Serving, tmp_path: Path) -> None:
    id = answer(served)
    for i in range(feedback.MAX_JUDGES):
        assert judge(served, id, score=1, by=f"judge {i}").status_code == 201
    assert error(judge(served, id, score=1, by="one more"), 400)["param"] == "by"
    assert judge(served, id, score=0, by="judge 0").status_code == 200
    assert len(rows(tmp_path)) == counted(served) == feedback.MAX_JUDGES


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"request_id": "req_1", "score": NaN}', None),
        (b'{"request_id": "req_1", "label": "\\ud800"}', None),
        (b"{}", "request_id"),
        (b'{"request_id": null, "score": 1}', "request_id"),
        (b'{"request_id": 5, "score": 1}', "request_id"),
        (b'{"request_id": "", "score": 1}', "request_id"),
        (b'{"request_id": "req_1"}', "score"),
        (b'{"request_id": "req_1", "comment": "fine"}', "score"),
        (b'{"request_id": "req_1", "score": 1.01}', "score"),
        (b'{"request_id": "req_1", "score": -1}', "score"),
        (b'{"request_id": "req_1", "score": true}', "score"),
        (b'{"request_id": "req_1", "score": "1"}', "score"),
        (b'{"request_id": "req_1", "label": ""}', "label"),
        (b'{"request_id": "req_1", "label": ["good"]}', "label"),
        (b'{"request_id": "req_1", "label": "' + b"x" * 65 + b'"}', "label"),
        (b'{"request_id": "req_1", "score": 1, "by": ""}', "by"),
        (b'{"request_id": "req_1", "score": 1, "comment": "' + b"x" * 4097 + b'"}', "comment"),
        (b'{"request_id": "req_1", "score": 1, "rating": 5}', "rating"),
        (b'{"request_id": "req_1", "score": 1, "base_url": "x"}', "base_url"),
    ],
)
def test_what_is_wrong_is_named(gateway: Serving, body: bytes, param: str | None) -> None:
    response = http.post(gateway.url + PATH, content=body, headers={"content-type": "application/json"})
    found = error(response, 400)
    assert found["type"] == "invalid_request_error"
    assert found["param"] == param


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80)
_JSON = st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner), max_leaves=8)


@settings(max_examples=100)
@given(
    st.binary(max_size=200) | st.dictionaries(st.sampled_from([*CHECKS, "x"]), _JSON).map(json.dumps).map(str.encode)
)
def test_no_body_is_more_than_wrong(body: bytes) -> None:
    try:
        verdict = decode(body)
    except InvalidRequest:
        return
    assert verdict.word in ("good", "bad", "neutral", "other")


@pytest.fixture(scope="module")
def fuzzed(_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, str]]:
    with fleet.serving(text(_simulator, tmp_path_factory.mktemp("fuzzed"))) as gateway:
        yield gateway, answer(gateway)


def test_no_body_is_a_server_error(fuzzed: tuple[Serving, str]) -> None:
    gateway, id = fuzzed
    texts = st.text(min_size=1, max_size=64)
    likely = st.fixed_dictionaries(
        {"request_id": st.just(id) | texts, "score": st.floats(0, 1) | _JSON},
        optional={"label": texts | _JSON, "by": st.sampled_from("abc") | _JSON, "comment": st.text() | _JSON},
    )
    told = set()
    with httpx.Client(base_url=gateway.url) as client:

        @settings(max_examples=150)
        @given(likely.map(json.dumps).map(str.encode) | st.binary(max_size=300))
        def check(body: bytes) -> None:
            response = client.post(PATH, content=body, headers={"content-type": "application/json"})
            told.add(response.status_code)
            assert response.status_code in (200, 201, 400, 404), response.text

        check()
    assert {201, 400, 404} <= told


def test_other_methods_types_and_sizes_are_refused(gateway: Serving) -> None:
    url = gateway.url + PATH
    assert error(http.get(url), 405)["type"] == "invalid_request_error"
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        assert (
            "application/json" in error(http.post(url, content=b"{}", headers={"content-type": kind}), 415)["message"]
        )
    large = b'{"request_id": "req_1", "score": 1, "comment": "' + b"x" * 65536 + b'"}'
    for content in (large, iter([large[:40000], large[40000:]])):
        response = http.post(url, content=content, headers={"content-type": "application/json"})
        assert error(response, 413)["code"] == "request_too_large"


def test_a_longest_comment_fits(served: Serving, tmp_path: Path) -> None:
    comment = "😀" * 4096
    assert judge(served, answer(served), score=1, label="x" * 64, by="y" * 64, comment=comment).status_code == 201
    assert rows(tmp_path)[0][3] == comment


def test_of_what_was_never_answered_nothing_is_known(served: Serving, tmp_path: Path) -> None:
    refused = http.post(f"{served.url}/v1/chat/completions", json={"model": "nobody", "messages": MESSAGES})
    listed = http.get(f"{served.url}/v1/models")
    for id in ("req_0", refused.headers["x-request-id"], listed.headers["x-request-id"]):
        found = error(judge(served, id, score=1), 404)
        assert (found["param"], found["code"]) == ("request_id", "request_not_found")
    assert not (tmp_path / "talaria.db").exists()
    assert counted(served) == 0


def test_a_key_judges_its_own_answers_alone(simulator: Simulator, tmp_path: Path) -> None:
    keys = LocalKeys()
    mine, other = ({"authorization": f"Bearer {keys.create(name)[1]}"} for name in ("mine", "other"))
    config = text(simulator, tmp_path, auth="keys")
    with fleet.serving(config, keys=keys) as gateway:
        id = answer(gateway, mine)
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert error(judge(gateway, id, headers, score=1), 401)["type"] == "invalid_request_error"
        unknown = error(judge(gateway, "req_unknown", other, score=0), 404)
        others = error(judge(gateway, id, other, score=0), 404)
        assert others == {**unknown, "message": unknown["message"].replace("req_unknown", id)}
        assert judge(gateway, id, mine, score=1).status_code == 201
        assert judge(gateway, id, {"x-api-key": mine["authorization"][7:]}, score=1).status_code == 200
    with fleet.serving(config, keys=keys) as gateway:
        error(judge(gateway, id, other, score=0), 404)
        assert judge(gateway, id, mine, score=1).status_code == 200
    with fleet.serving(text(simulator, tmp_path)) as open_to_all:
        error(judge(open_to_all, id, score=0), 404)
    assert rows(tmp_path) == [("user", 1.0, None, None)]


def test_verdicts_outlast_the_process(simulator: Simulator, tmp_path: Path) -> None:
    with fleet.serving(text(simulator, tmp_path)) as gateway:
        judged, unjudged = answer(gateway, model="compared"), answer(gateway)
        first = judge(gateway, judged, score=1).json()
    with fleet.serving(text(simulator, tmp_path)) as gateway:
        again = judge(gateway, judged, score=0)
        assert (again.status_code, again.json()) == (200, first)
        assert counted(gateway) == 0
        assert judge(gateway, judged, by="grader", score=0).status_code == 201
        assert counted(gateway, model="mercury", arm="diffusion", verdict="bad") == 1
        error(judge(gateway, unjudged, score=1), 404)
    assert [row[:2] for row in rows(tmp_path)] == [("user", 0.0), ("grader", 0.0)]


def test_names_that_are_configured_no_more_count_as_other(simulator: Simulator, tmp_path: Path) -> None:
    with fleet.serving(text(simulator, tmp_path)) as gateway:
        id = answer(gateway, model="compared")
        judge(gateway, id, score=1)
    with closing(sqlite3.connect(tmp_path / "talaria.db")) as database, database:
        database.execute("UPDATE feedback SET model = 'gone', task = 'gone', experiment = 'gone'")
    with fleet.serving(text(simulator, tmp_path)) as gateway:
        assert judge(gateway, id, score=1, by="grader").json()["model"] == "gone"
        assert counted(gateway, model="other", task="other", experiment="other", arm="other", verdict="good") == 1


def test_labels_that_callers_make_up_make_no_series(served: Serving) -> None:
    id = answer(served)
    for i in range(10):
        judge(served, id, label=f"word {i}", by=f"judge {i}")
    series = {tuple(sample.labels.items()) for family in served.gateway.metrics.registry.collect()
              if family.name == "talaria_feedback" for sample in family.samples if sample.name.endswith("_total")}  # fmt: skip
    assert len(series) == 1
    assert counted(served, verdict="other") == 10


def test_what_is_said_is_in_no_log_and_no_metric(
    served: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    id = answer(served)
    judge(served, id, label="secret-label", by="secret-judge", comment="secret-comment")
    (tmp_path / "talaria.db").unlink()
    _junk(tmp_path / "talaria.db")
    assert judge(served, id, label="secret-label", by="secret-judge", comment="secret-comment").status_code == 503
    assert "server.ledger" in caplog.text
    assert "secret" not in caplog.text + http.get(f"{served.url}/metrics").text


def _junk(file: Path) -> None:
    file.write_bytes(b"no database at all, but long enough to look like a file" * 20)


def _folder(file: Path) -> None:
    file.mkdir()


def _foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE feedback (id TEXT)")


@pytest.mark.parametrize("spoil", [_junk, _folder, _foreign])
def test_a_database_that_fails_is_told_and_may_be_mended(
    served: Serving, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    file = tmp_path / "talaria.db"
    id = answer(served)
    spoil(file)
    response = judge(served, id, score=1)
    found = error(response, 503)
    assert found["type"] == "server_error"
    assert str(tmp_path) not in response.text
    assert response.headers["retry-after"] == "1"
    assert judge(served, "req_unknown", score=1).status_code == 503
    assert counted(served) == 0
    assert answer(served)
    if file.is_dir():
        file.rmdir()
    else:
        file.unlink()
    assert judge(served, id, score=1).status_code == 201
    assert counted(served) == 1


def test_a_locked_database_changes_nothing(served: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "LOCKED_SECONDS", 0.05)
    monkeypatch.setattr(feedback, "PATIENCE_SECONDS", 0.2)
    id, other = answer(served), answer(served)
    judge(served, id, score=1)
    with closing(sqlite3.connect(tmp_path / "talaria.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(judge, served, id, score=0) for _ in range(4)]
            sent += [pool.submit(judge, served, other, score=0) for _ in range(4)]
            assert {each.result().status_code for each in sent} == {503}
            assert answer(served)
        database.execute("ROLLBACK")
    assert rows(tmp_path) == [("user", 1.0, None, None)]
    assert counted(served) == 1
    assert judge(served, other, score=0).status_code == 201


def test_the_ledger_is_in_wal_mode_beside_other_tables(served: Serving, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "talaria.db")) as database, database:
        database.execute("CREATE TABLE keys (id TEXT)")
    judge(served, answer(served), score=1)
    with closing(sqlite3.connect(tmp_path / "talaria.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        assert tables == [("feedback",), ("keys",)]


def test_verdicts_add_up_by_model_task_and_arm(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/talaria.db"
    kept, found = SqliteVerdicts(url), Feedback(url, lambda answer, verdict: None)
    assert anyio.run(found.tallies) == []
    assert not (tmp_path / "talaria.db").exists()
    plain = Answer(None, "mercury", "chat", "auto", None, None)
    arm = Answer(None, "mercury", "chat", "compared", "speed", "diffusion")
    for i, (on, said) in enumerate(
        [
            (plain, {"score": 1.0}),
            (plain, {"score": 0.2, "label": "good"}),
            (plain, {"label": "too long"}),
            (arm, {"label": "good"}),
            (arm, {"label": "neutral"}),
            (plain._replace(model="claude-haiku"), {"label": "own word"}),
        ]
    ):
        assert kept.keep(Verdict(f"req_{i}", "user", **said), on, None)  # type: ignore[arg-type]
    kept.keep(Verdict("req_0", "user", score=0.8), plain, None)
    assert anyio.run(found.tallies) == [
        Standing("claude-haiku", "chat", None, None, 1, None),
        Standing("mercury", "chat", None, None, 3, 0.5),
        Standing("mercury", "chat", "speed", "diffusion", 2, 0.75),
    ]


def record(i: int) -> Record:
    """As a call leaves it: its id, key and task are texts of its own."""
    key, task = f"key{i % 50:05}", "".join(["autocom", "plete"])
    call = Call(f"req_{i:024x}", "chat", b"", {}, "mercury", False, False, {}, Hints(), 0.0, 0.0, "", key, task=task)
    return Record(call.id, 0.0, call=call, journey=Journey(PLAN, served=TARGET))


TARGET = Target(Model("mercury", "inception", "mercury-2", Card("mercury-2", "inception")), {})
PLAN = Plan((TARGET,), route="auto", experiment="speed", arm="diffusion")


def test_the_newest_answers_are_remembered_in_bounded_memory(tmp_path: Path, figure: Callable[[str], None]) -> None:
    found = Feedback(f"sqlite:///{tmp_path}/talaria.db", lambda answer, verdict: None)
    count = feedback.REMEMBERED
    for i in range(3 * count):
        found.settled(record(i))
    assert len(found._answers) == len(found._order) == count
    assert f"req_{2 * count:024x}" in found._answers
    assert f"req_{2 * count - 1:024x}" not in found._answers

    tracemalloc.start()
    found = Feedback(f"sqlite:///{tmp_path}/talaria.db", lambda answer, verdict: None)
    for i in range(2 * count):
        found.settled(record(i))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    figure(f"{count} answers that may be judged: {size / 1e6:.2f} MB")
    assert size < 2.5e6


def test_remembering_an_answer_costs_next_to_nothing(tmp_path: Path, figure: Callable[[str], None]) -> None:
    found = Feedback(f"sqlite:///{tmp_path}/talaria.db", lambda answer, verdict: None)
    records = [record(i) for i in range(3 * feedback.REMEMBERED)]
    best = 1.0
    for start in range(0, len(records), 1000):
        began = time.perf_counter()
        for each in records[start : start + 1000]:
            found.settled(each)
        if start >= feedback.REMEMBERED:
            best = min(best, (time.perf_counter() - began) / 1000)
    figure(f"remembering an answer: {best * 1e6:.2f} µs")
    assert best < 2e-6


def test_records_without_an_answer_are_passed_over(tmp_path: Path) -> None:
    found = Feedback(f"sqlite:///{tmp_path}/talaria.db", lambda answer, verdict: None)
    unread, unserved, failed = Record("req_1", 0.0), record(2), record(3)
    unserved.journey = None
    failed.journey = Journey(PLAN)
    for each in (unread, unserved, failed):
        found.settled(each)
    assert not found._answers


def test_metrics_name_what_is_configured_alone() -> None:
    metrics = Metrics()
    config = parse(THREE_VENDORS.format(simulator="http://127.0.0.1:1") + COMPARED, "test.yaml")
    for answer in (
        Answer(None, "mercury", "chat", "auto", "speed", "diffusion"),
        Answer(None, "mercury", "chat", "auto", "speed", "gone"),
        Answer(None, "gone", "gone", "gone", "gone", "diffusion"),
        Answer(None, "mercury", "chat", "direct", None, None),
    ):
        metrics.judged(answer, "good", config)
    text = metrics.expose().decode()
    for labels in (
        'arm="diffusion",experiment="speed",model="mercury",task="chat"',
        'arm="other",experiment="speed",model="mercury",task="chat"',
        'arm="other",experiment="other",model="other",task="other"',
        'arm="none",experiment="none",model="mercury",task="chat"',
    ):
        assert f'talaria_feedback_total{{{labels},verdict="good"}} 1.0' in text
