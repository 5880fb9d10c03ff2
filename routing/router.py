"""The one loop of attempts: this target again, the next one, or back to the caller with the failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from providers.base import Stream
from providers.errors import (
    BadReply,
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    ModelGone,
    ProviderError,
    TalariaError,
    TimedOut,
    Unavailable,
    Unsupported,
)
from providers.types import Call, Card, Reply
from routing import retry
from routing.health import Health
from routing.latency import Flight
from routing.latency_class import LatencyClass
from routing.outlook import Outlook
from routing.planner import Plan
from routing.target import Attempt, Target


@dataclass(slots=True)
class Journey:
    """A call's way through the attempts: filled as it goes, and true at every moment of it."""

    plan: Plan
    attempts: list[Attempt] = field(default_factory=list)
    served: Target | None = None
    """The target whose answer goes to the caller."""
    flight: Flight | None = None
    """Its call under way there, until it is told what came of it."""

    @property
    def upstream_seconds(self) -> float:
        return sum(attempt.waited for attempt in self.attempts)


Listener = Callable[[Attempt], None]

USUAL_TOKENS = 4096
"""What an answer without a limit of its own is given time for, where another model could be asked."""
USUAL_SPEED = 50.0
"""Tokens per second of a model of which nothing is known."""

log = logging.getLogger("talaria")


class Router:
    """Serves calls from plans. `listeners` hear every attempt once, as soon as its outcome is known."""

    def __init__(self, health: Health, listeners: Sequence[Listener] = (), outlook: Outlook | None = None) -> None:
        self._health = health
        self._outlook = outlook or Outlook()
        self._listeners = tuple(listeners)

    async def serve(self, call: Call, journey: Journey, latency_class: LatencyClass) -> Reply | Stream:
        """The whole answer, or a stream whose first content-bearing event is there: the commit point.

        Every failure before that leads where `routing.retry` says. Raises the last failure when no way is left,
        DeadlineExceeded when the call's time is up.
        """
        targets = journey.plan.targets
        failures: list[TalariaError] = []
        window = 0
        for position, target in enumerate(targets):
            if window and (target.model.card.context or 0) <= window:
                continue
            last_resort = position == len(targets) - 1
            tries = 0
            while True:
                tries += 1
                error = await self._attempt(call, journey, target, latency_class, last_resort)
                if not isinstance(error, TalariaError):
                    return error
                failures.append(error)
                steps = retry.steps(error)
                made = len(journey.attempts)
                spent = made >= retry.MAX_ATTEMPTS
                # Another try here must leave one for each target that is still to come.
                room = retry.MAX_ATTEMPTS - made > len(targets) - 1 - position
                if not room or not steps.again or tries > latency_class.retries:
                    break
                pause = retry.pause(error, tries)
                if pause > retry.PATIENCE_SECONDS or time.monotonic() + pause >= call.deadline:
                    break
                await asyncio.sleep(pause)
            if spent or not steps.onward:
                break
            if time.monotonic() >= call.deadline:
                raise DeadlineExceeded("The deadline passed before any model had answered.", code="timeout")
            if isinstance(error, ContextTooLong):
                window = target.model.card.context or 0
        raise _verdict(failures, journey.plan)

    async def _attempt(
        self, call: Call, journey: Journey, target: Target, latency_class: LatencyClass, last_resort: bool
    ) -> Reply | Stream | TalariaError:
        attempt = Attempt(target.model, time.monotonic())
        flight = self._depart(call, journey.plan, target, attempt.started)
        call.written.body = None
        journey.attempts.append(attempt)
        stream: Stream | None = None
        try:
            async with asyncio.timeout_at(_limit(call, target.model.card, attempt.started, latency_class, last_resort)):
                endpoint = target.endpoints[call.operation]
                if call.stream:
                    stream = await endpoint.stream(call, target.model, latency_class.timeouts)
                    await stream.begin()
                    answer: Reply | Stream = stream
                else:
                    answer = await endpoint.complete(call, target.model, latency_class.whole)
        except TimeoutError:
            attempt.error = TimedOut(f"{target.model.provider}: no answer in time", provider=target.model.provider)
        except TalariaError as error:
            attempt.error = error
        except Exception as error:
            # An answer that no adapter foresaw is the vendor's failure, not the caller's.
            name = target.model.provider
            log.error("%s an answer of %s could not be read: %s", call.id, name, type(error).__name__)
            attempt.error = BadReply(f"{name}: the answer cannot be read", provider=name)
        except asyncio.CancelledError:
            attempt.cancelled = True
            attempt.tally = stream.tally if stream else None
            if stream is not None:
                stream.close()
            flight.ended()
            self._tell(attempt)
            raise
        else:
            journey.served = target
            journey.flight = flight
            if stream is not None:
                flight.first(time.monotonic())
            self._tell(attempt, answer.tally.waited)
            return answer
        if stream is not None:
            attempt.tally = stream.tally
            stream.close()
        if isinstance(attempt.error, ProviderError) and not isinstance(attempt.error, ContentRefused):
            flight.failed(time.monotonic())
        else:
            flight.ended()
        self._tell(attempt)
        return attempt.error

    def _depart(self, call: Call, plan: Plan, target: Target, now: float) -> Flight:
        for option in plan.options:
            if option.target is target:
                return self._outlook.sent(call, option, now)
        (option,) = self._outlook.options(call, call.task, (target,), {}, now, call.chars)
        return self._outlook.sent(call, option, now)

    def _tell(self, attempt: Attempt, waited: float | None = None) -> None:
        now = time.monotonic()
        attempt.seconds = now - attempt.started
        attempt.waited = attempt.seconds if waited is None else waited
        self._health.learn(attempt, now)
        for listener in self._listeners:
            listener(attempt)


def _limit(call: Call, card: Card, now: float, latency_class: LatencyClass, last_resort: bool) -> float:
    """When an attempt is given up, on the monotonic clock.

    With nowhere left to go, waiting is better than giving up, so the last target may use all the time there is. Another
    gets the first-token limit, and where its answer comes whole also the time to write it at the model's usual speed;
    but then never more than half of what is left, so that another can still be asked.
    """
    if last_resort:
        return call.deadline
    limit = latency_class.timeouts.first_token or call.deadline - now
    if not call.whole:
        return min(call.deadline, now + limit)
    writing = (call.max_output or USUAL_TOKENS) / (card.tokens_per_second or USUAL_SPEED)
    return now + min(limit + writing, (call.deadline - now) / 2)


def _verdict(failures: Sequence[TalariaError], plan: Plan) -> TalariaError:
    """The error that goes to the caller when every target failed: the last one's class.

    A target that could not take the request at all says less than one that tried. The soonest known rest goes along.
    """
    tried = [error for error in failures if not isinstance(error, (Unsupported, ModelGone))]
    error = (tried or failures)[-1]
    if isinstance(error, ModelGone) and plan.route is not None:
        return Unavailable(f"No model of route `{plan.route}` is served any more.", provider=error.provider, status=503)
    rests = [each.retry_after for each in failures if isinstance(each, ProviderError) and each.retry_after is not None]
    if rests and isinstance(error, ProviderError) and error.retry_after is None:
        error.retry_after = min(rests)
    return error
