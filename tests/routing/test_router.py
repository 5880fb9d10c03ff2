"""The one loop of attempts, on hand-made targets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from providers.base import Batch, Stream
from providers.errors import (
    BadReply,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    DeadlineExceeded,
    InvalidRequest,
    ModelGone,
    Overwhelmed,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    TalariaError,
    TimedOut,
    Unavailable,
    Unsupported,
)
from providers.types import Call, Card, Hints, Model, Reply, Tally, Timeouts, Usage
from routing import retry
from routing.health import LocalHealth
from routing.latency_class import LatencyClass
from routing.planner import Plan
from routing.router import Journey, Router
from routing.target import Attempt, Target

pytestmark = pytest.mark.anyio

Script = list[TalariaError | float | str]
"""What each try meets: an error, seconds of silence, or a text."""


@dataclass
class Vendor:
    script: Script
    calls: list[float] = field(default_factory=list)
    closed: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, call: Call, model: Model, timeouts: Timeouts) -> Reply:
        text = await self._next()
        return Reply(text.encode(), Tally(finish="stop", usage=Usage(input=1, output=1), begun=True), {})

    async def stream(self, call: Call, model: Model, timeouts: Timeouts) -> Stream:
        tally = Tally()

        async def events() -> AsyncIterator[Batch]:
            yield [b"role"]
            text = await self._next()
            tally.begun = True
            yield [text.encode()]
            tally.finish = "stop"

        return Stream(events(), self._close, tally, {})

    def _close(self) -> None:
        self.closed += 1

    async def _next(self) -> str:
        self.calls.append(time.monotonic())
        self.asked.set()
        step = self.script[min(len(self.calls), len(self.script)) - 1]
        if isinstance(step, TalariaError):
            raise step
        if isinstance(step, float):
            await asyncio.sleep(step)
            return "late"
        return step


def target(name: str, vendor: Vendor, context: int | None = None) -> Target:
    return Target(Model(name, f"{name}-inc", name, Card(id=name, kind="openai", context=context)), {"chat": vendor})


def call(*, stream: bool = False, seconds: float = 30.0) -> Call:
    now = time.monotonic()
    return Call(
        id="req_1",
        operation="chat",
        raw=b"{}",
        body={},
        model="m",
        stream=stream,
        include_usage=False,
        needs={},
        hints=Hints(),
        started=now,
        deadline=now + seconds,
        snapshot="none",
    )


async def go(
    *targets: Target,
    stream: bool = False,
    seconds: float = 30.0,
    retries: int = 2,
    first_token: float | None = 10.0,
    heard: Callable[[Attempt], None] = lambda _: None,
    route: str | None = None,
) -> tuple[Reply | Stream, Journey]:
    journey = Journey(Plan(targets, route))
    router = Router(LocalHealth(), [heard])
    budget = LatencyClass(Timeouts(first_token=first_token), retries)
    return await router.serve(call(stream=stream, seconds=seconds), journey, budget), journey


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_backoff", lambda state: 0.0)


async def test_the_first_target_that_answers_serves() -> None:
    answer, journey = await go(target("a", Vendor(["hello"])), target("b", Vendor(["other"])))
    assert isinstance(answer, Reply)
    assert answer.body == b"hello"
    assert journey.served is not None
    assert journey.served.name == "a"
    assert len(journey.attempts) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "tries_first", "falls_over"),
    [
        (InvalidRequest("no"), 1, False),
        (ContentRefused("no"), 1, False),
        (Unsupported("no"), 1, True),
        (ContextTooLong("no"), 1, True),
        (CredentialsRejected("no", status=401), 1, True),
        (QuotaExhausted("no", status=429), 1, True),
        (ModelGone("no", status=404), 1, True),
        (TimedOut("no"), 1, True),
        (RateLimited("no", status=429), 3, True),
        (RateLimited("no", status=429, retry_after=60.0), 1, True),
        (Overwhelmed("no", status=529), 3, True),
        (Unavailable("no", status=500), 3, True),
        (BadReply("no"), 3, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_each_error_leads_where_the_table_says(
    error: TalariaError, tries_first: int, falls_over: bool, stream: bool
) -> None:
    first, second = Vendor([error]), Vendor(["rescued"])
    targets = (target("a", first, context=1000), target("b", second, context=2000))
    if falls_over:
        _, journey = await go(*targets, stream=stream)
        assert journey.served is not None
        assert journey.served.name == "b"
    else:
        with pytest.raises(type(error)):
            await go(*targets, stream=stream)
        assert second.calls == []
    assert len(first.calls) == tries_first


async def test_a_failure_that_passes_is_mended_at_the_same_target() -> None:
    vendor = Vendor([Unavailable("reset"), "mended"])
    answer, journey = await go(target("a", vendor), target("b", Vendor(["other"])))
    assert isinstance(answer, Reply)
    assert answer.body == b"mended"
    assert [type(attempt.error) for attempt in journey.attempts] == [Unavailable, type(None)]


async def test_the_rest_that_the_latest_answer_asks_for_is_kept() -> None:
    vendor = Vendor([RateLimited("1", retry_after=0.0), RateLimited("2", retry_after=0.2), "fine"])
    await go(target("a", vendor))
    assert vendor.calls[1] - vendor.calls[0] < 0.15
    assert vendor.calls[2] - vendor.calls[1] >= 0.2


async def test_no_more_attempts_than_the_bound_over_all_targets() -> None:
    vendors = [Vendor([Unavailable("down")]) for _ in range(4)]
    with pytest.raises(Unavailable):
        await go(*(target(str(i), vendor) for i, vendor in enumerate(vendors)))
    # Each of them has its turn.
    assert [len(vendor.calls) for vendor in vendors] == [3, 1, 1, 1]


async def test_retries_of_the_class_are_kept() -> None:
    vendor = Vendor([Unavailable("down")])
    with pytest.raises(Unavailable):
        await go(target("a", vendor), retries=0)
    assert len(vendor.calls) == 1


async def test_a_silent_stream_is_left_for_the_next_target_after_the_first_token_limit() -> None:
    silent = Vendor([30.0])
    started = time.monotonic()
    _, journey = await go(target("a", silent), target("b", Vendor(["here"])), stream=True, first_token=0.05)
    assert time.monotonic() - started < 5
    assert [type(attempt.error) for attempt in journey.attempts] == [TimedOut, type(None)]
    assert silent.closed == 1
    assert len(silent.calls) == 1


async def test_a_silent_whole_answer_leaves_half_of_the_time_to_the_next_target() -> None:
    _, journey = await go(target("a", Vendor([30.0])), target("b", Vendor(["here"])), seconds=0.4)
    assert journey.served is not None
    assert journey.served.name == "b"


async def test_the_last_target_may_use_all_the_time_there_is() -> None:
    answer, _ = await go(target("a", Vendor([0.2])), stream=True, first_token=0.05)
    assert isinstance(answer, Stream)


async def test_the_deadline_ends_everything() -> None:
    with pytest.raises((TimedOut, DeadlineExceeded)):
        await go(target("a", Vendor([30.0])), target("b", Vendor([30.0])), seconds=0.1)


async def test_an_error_after_the_deadline_tries_nobody_else() -> None:
    second = Vendor(["late"])
    first = Vendor([CredentialsRejected("no")])
    with pytest.raises(DeadlineExceeded):
        await go(target("a", first), target("b", second), seconds=-1.0)
    assert second.calls == []


async def test_what_came_before_the_first_content_is_held_and_passed_on() -> None:
    answer, _ = await go(target("a", Vendor(["text"])), stream=True)
    assert isinstance(answer, Stream)
    assert [batch async for batch in answer] == [[b"role"], [b"text"]]


async def test_a_context_that_is_too_long_goes_only_to_a_larger_window() -> None:
    small, large = Vendor(["small"]), Vendor(["large"])
    _, journey = await go(
        target("a", Vendor([ContextTooLong("long")]), context=1000),
        target("b", small, context=1000),
        target("c", large, context=4000),
    )
    assert small.calls == []
    assert journey.served is not None
    assert journey.served.name == "c"


async def test_the_verdict_is_the_last_failure_with_the_soonest_rest() -> None:
    with pytest.raises(Overwhelmed) as caught:
        await go(
            target("a", Vendor([RateLimited("later", retry_after=40.0)])),
            target("b", Vendor([Overwhelmed("busy")])),
            retries=0,
        )
    assert caught.value.retry_after == 40.0


async def test_a_route_whose_models_are_gone_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        await go(target("a", Vendor([ModelGone("gone")])), route="auto")
    assert caught.value.status == 503
    with pytest.raises(ModelGone):
        await go(target("a", Vendor([ModelGone("gone")])))


async def test_every_attempt_is_told_once() -> None:
    heard: list[Attempt] = []
    _, journey = await go(target("a", Vendor([TimedOut("silent")])), target("b", Vendor(["fine"])), heard=heard.append)
    assert heard == journey.attempts
    assert all(attempt.seconds >= 0 for attempt in heard)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_ends_the_attempt(stream: bool) -> None:
    vendor = Vendor([30.0])
    heard: list[Attempt] = []
    work = asyncio.ensure_future(go(target("a", vendor), stream=stream, heard=heard.append))
    await vendor.asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert [attempt.cancelled for attempt in heard] == [True]
    assert vendor.closed == (1 if stream else 0)


def test_every_error_has_its_steps() -> None:
    kinds = [InvalidRequest, ProviderError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        assert retry.steps(kind("x")) is not None
