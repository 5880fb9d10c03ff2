"""How fast each model answers just now: learned from every attempt, read at once, in constant memory.

Time to the first token and time per output token are kept apart, and never their total: an answer that took long may
only have been long. The seconds expected until a model's first token are a sum, each part for what the others miss:

- `usual`: the median of its latest answers to prompts of that size. The fewer and the older they are, the more it leans
  on those to all sizes, and these on what was known beforehand: no model is ever thought to take no time, and one that
  was slow for long is tried again.
- `excess`: how far its very latest answers exceed what is nothing unusual. A peak-EWMA, as the balancers of Finagle
  (PeakEwma.scala) and linkerd have it: it jumps to a larger sample and falls back slowly. But models have long tails:
  an answer that is slow while others are quick is no news.
- `lost`: what its failures cost, as a mean over its latest attempts. Each counts 5 s, as in linkerd, or the time it
  took if that was longer: a model that refuses at once must not look quick.
- `late`: by how much its next answer is overdue. A model that stalls gives no samples; this speaks before the first.

Excess and loss pass by themselves, so that the model is tried again, but not while somebody is trying it: one call at a
time finds out.

Linkerd multiplies by the calls in flight. That holds for a server that works off a queue, while a hosted model serves
fifty calls as fast as one. So the factor here is `crowd`: the calls in flight over as many as were in flight while its
answers were not slow. Samples are divided by the factor that their call met with, so that nothing is counted twice.

Times are seconds, `now` is monotonic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from math import exp, inf, sqrt
from typing import Any, NamedTuple

from routing.track import LEAST_WEIGHT, TAU_SECONDS, WINDOW_SAMPLES, Track, newest

PENALTY_SECONDS = 5.0
GIVEN_UP_SECONDS = 3600.0
"""An answer that is overdue for longer is not waited for any more."""

USUAL_FIRST = 0.6
USUAL_PACE = 0.02
"""Of a model of which nothing is known: seconds to the first token, and per output token."""
USUAL_SPREAD = 2.0
"""The 95th percentile over the median: 1.5 to 1.8 in routerbench-mini's measurements, which know no bad days."""

SIZES = (512, 2048, 8192, 32768)
"""Prompt tokens at which the next bucket begins."""
EXTRA = (0.0, 0.0, 0.06, 0.8, 3.7)
"""Seconds that prompts of each bucket take beyond the usual, until it is measured: 60 us for each token above 3,000,
between what was measured of Mercury 2 and of GPT-4.1 nano (0.6 s for 3,000 tokens; 0.9 s and 5 s for 21,000)."""

LEAST_TOKENS = 16
"""A stream of fewer says nothing of the pace."""
LEAST_ROOM = 3.0
"""Calls that any model serves at once without being slower for it."""
SLOW = 1.5
"""Times what was expected: by such an answer, a model has too much to do."""
ENOUGH_SAMPLES = 5.0
"""With as many of its own, a size of prompts no longer leans on the others."""
FRESH_SECONDS = 1.0
"""For as long an estimate stands, unless something is heard."""
LESSON_SECONDS = 0.01
"""What is nothing unusual is learned from this often at most: a hundred answers a second say as much as a thousand."""
FLEETING_SECONDS = 0.1
"""The same while something in it passes."""

_LEAST_FIRST, _LEAST_PACE = 1e-3, 1e-5
_VERSION = 1


class Expectation(NamedTuple):
    ttft: float
    """Seconds to the first token."""
    ttft_p95: float
    pace: float
    """Seconds per output token."""
    samples: float
    """Answers of the model that this rests on; fewer as they age, and failures are none."""


class Prior(NamedTuple):
    """What is known of a model beforehand."""

    ttft: float = USUAL_FIRST
    """Seconds to the first token."""
    pace: float = USUAL_PACE
    """Seconds per output token."""


def bucket(prompt_tokens: float) -> int:
    """Which of the sizes of prompts that latencies are kept apart by."""
    return bisect_right(SIZES, prompt_tokens)


def split(seconds: float, tokens: float, ttft: float, pace: float) -> tuple[float, float | None]:
    """The time of an answer that came whole, in time to its first token and per token, by what was expected of them.

    They add up. A short answer says nothing of the pace (None); a long one scales both alike.
    """
    writing = tokens * pace
    if writing < ttft:
        return max(seconds - writing, seconds / 10), None
    factor = seconds / (ttft + writing)
    return ttft * factor, pace * factor


class _Cell:
    """A model's answers to prompts of one size, streamed or whole, and what was last worked out from them."""

    __slots__ = ("found", "news", "passing", "prior", "track", "until", "waiting")

    def __init__(self) -> None:
        self.track = Track(_LEAST_FIRST)
        self.waiting = 0
        """Calls that wait for their first token."""
        self.found = Expectation(0.0, 0.0, 0.0, 0.0)
        self.passing = False
        """Whether something in it passes with time."""
        self.prior: Prior | None = None
        self.news = -1
        self.until = -inf


class Flight:
    """A call on its way to a model: what it meets there is learned from."""

    __slots__ = (
        "_answered",
        "_cell",
        "_crowd",
        "_flying",
        "_live",
        "_load",
        "_prior",
        "_size",
        "started",
        "stream",
        "waiting",
    )

    def __init__(self, live: Live, cell: _Cell, size: int, stream: bool, prior: Prior, now: float) -> None:
        live.in_flight += 1
        cell.waiting += 1
        self._live = live
        self._cell = cell
        self._size = size
        self._prior = prior
        self._load = live.in_flight
        self._crowd = live.crowd
        self._flying = True
        self._answered = now
        self.started = now
        self.stream = stream
        self.waiting = True

    def first(self, now: float) -> None:
        """The first token of its stream is there."""
        if self.waiting:
            self._heard()
            self._answered = now
            self._live.learn_first(self._size, True, now - self.started, now, self._load, self._crowd)

    def done(self, tokens: float, now: float) -> None:
        """Its whole answer is there, of as many tokens."""
        if not self._flying:
            return
        if not self.stream:
            self._heard()
            seconds = now - self.started
            self._live.learn_whole(self._size, seconds, tokens, self._prior, now, self._load, self._crowd)
        elif tokens >= LEAST_TOKENS and now > self._answered and not self.waiting:
            self._live.learn_pace(now - self._answered, tokens, now)
        self.ended()

    def failed(self, now: float) -> None:
        """It failed, or ran out of time, before there was anything."""
        if self._flying:
            self._live.learn_failure(now - self.started, now)
            self.ended()

    def ended(self) -> None:
        """It is over, and nothing is to be learned from how."""
        self._waits_no_more()
        if self._flying:
            self._flying = False
            self._live.in_flight -= 1

    def _heard(self) -> None:
        """Nothing that was sent up to then is overdue any more."""
        self._live.heard = max(self._live.heard, self.started)
        self._waits_no_more()

    def _waits_no_more(self) -> None:
        if self.waiting:
            self.waiting = False
            self._cell.waiting -= 1


class Live:
    """One model, live. `size` is one of `bucket`."""

    __slots__ = (
        *("_all", "_cells", "_lesson", "_load", "_lost", "_news", "_outcome", "_pace", "_room", "_unshared", "_watch"),
        *("heard", "in_flight"),
    )

    def __init__(self) -> None:
        self.in_flight = 0
        """Calls that were sent and have not ended."""
        self.heard = -inf
        """When the latest of them was sent of which something was heard."""
        self._watch: list[tuple[float, int, Flight]] = []
        """A heap of those that wait for their first token, by the time at which it is due."""
        self._cells: dict[tuple[int, bool], _Cell] = {}
        self._all = Track(_LEAST_FIRST)
        """Of all cells, less what their size takes extra."""
        self._pace = Track(_LEAST_PACE)
        self._lesson = -inf
        """Until when nothing usual is learned from again."""
        self._lost = 0.0
        self._outcome = -inf
        """When an attempt last succeeded or failed."""
        self._unshared = (0, 0.0)
        """Attempts since the last export, and the seconds lost to those that failed."""
        self._load = 0.0
        """Calls in flight while answers came that were not slow, in the mean."""
        self._room = LEAST_ROOM
        """As many do not make it slower, as far as is known."""
        self._news = 0
        """How often something was learned."""

    def expect(self, size: int, stream: bool, prior: Prior, now: float) -> Expectation:
        """What the next call may expect; the prior where nobody has been there yet."""
        cell = self._cells.get((size, stream)) or self._cell(size, stream)
        if cell.news != self._news or now >= cell.until or cell.prior is not prior:
            self._work_out(cell, size, prior, now)
        late = self._late(now) if self._watch else 0.0
        if not late and self.in_flight <= self._room:
            return cell.found
        ttft, p95, pace, samples = cell.found
        return Expectation(ttft * self.crowd + late, p95 * self.crowd + late, pace, samples)

    @property
    def crowd(self) -> float:
        """How many times as many calls are in flight as it serves without being slower; 1 where there are fewer."""
        return max(1.0, self.in_flight / self._room)

    def started(self, size: int, stream: bool, prior: Prior, due: float, now: float) -> Flight:
        """A call was sent, of which something is to be heard in `due` seconds; `inf` where nobody knows."""
        cell = self._cells.get((size, stream)) or self._cell(size, stream)
        flight = Flight(self, cell, size, stream, prior, now)
        if cell.passing:
            cell.until = now
        if due < inf:
            watch = self._watch
            heappush(watch, (now + due, next(_order), flight))
            if len(watch) > 64 + 2 * self.in_flight:
                watch[:] = [each for each in watch if each[2].waiting]
                heapify(watch)
        return flight

    def learn_first(
        self, size: int, stream: bool, seconds: float, now: float, load: int = 0, crowd: float = 1.0
    ) -> None:
        """The first token came after as long. `load` and `crowd` are those of the time at which the call was sent."""
        cell = self._cells.get((size, stream)) or self._cell(size, stream)
        if not self._usual(cell, seconds, 0.0, now, load):
            self._learn_first(cell, size, seconds, now, load, crowd)

    def _learn_first(self, cell: _Cell, size: int, seconds: float, now: float, load: int, crowd: float) -> None:
        if load < self._load or seconds < SLOW * cell.found.ttft:
            self._bore(load)
        uncrowded = seconds / crowd
        cell.track.learn(uncrowded, seconds, now)
        self._all.learn(max(uncrowded - EXTRA[size], uncrowded / 10), seconds, now)
        self._learn_outcome(0.0, now)

    def _bore(self, load: int) -> None:
        """It was not slow with as many calls in flight."""
        self._load += (load - self._load) / WINDOW_SAMPLES
        self._room = LEAST_ROOM + self._load + 2 * sqrt(self._load)

    def _usual(self, cell: _Cell, seconds: float, tokens: float, now: float, load: int) -> bool:
        """Whether an answer after as many seconds says nothing new, so soon after another, but of the load it met."""
        if now >= self._lesson:
            self._lesson = now + LESSON_SECONDS
            return False
        if self._lost > 0.001 or seconds > SLOW * (cell.found.ttft + tokens * cell.found.pace):
            return False
        self._bore(load)
        return True

    def learn_pace(self, seconds: float, tokens: float, now: float) -> None:
        """So many tokens took as long, the time to the first aside."""
        self._pace.learn(seconds / tokens, seconds, now)
        self._news += 1

    def learn_whole(
        self, size: int, seconds: float, tokens: float, prior: Prior, now: float, load: int = 0, crowd: float = 1.0
    ) -> None:
        """An answer of as many tokens came whole after as many seconds."""
        cell = self._cells.get((size, False)) or self._cell(size, False)
        if self._usual(cell, seconds, tokens, now, load):
            return
        usual, spread, *_ = self._all.read(prior.ttft, USUAL_SPREAD, now)
        ttft, *_ = cell.track.read(usual + EXTRA[size], spread, now)
        pace, *_ = self._pace.read(prior.pace, USUAL_SPREAD, now)
        first, each = split(seconds, tokens, ttft * crowd, pace)
        self._learn_first(cell, size, first, now, load, crowd)
        if each is not None:
            self.learn_pace(each * tokens, tokens, now)

    def learn_failure(self, seconds: float, now: float) -> None:
        """An attempt failed, or ran out of time, after as long."""
        self._learn_outcome(max(PENALTY_SECONDS, seconds), now)

    def export(self, now: float) -> dict[str, Any]:
        told: dict[str, Any] = {key: found for key, track in self._tracks() if (found := track.export(now))}
        attempts, lost = self._unshared
        if attempts:
            told["outcomes"] = (attempts, lost, round(now - self._outcome, 3))
            self._unshared = (0, 0.0)
        return told

    def merge(self, told: Mapping[str, Any], now: float) -> None:
        for size in range(len(EXTRA)):
            for stream in (False, True):
                if _name(size, stream) in told:
                    self._cell(size, stream)
        for key, track in self._tracks():
            if key in told:
                track.merge(told[key], now)
        if "outcomes" in told:
            attempts, lost, age = told["outcomes"]
            weight = max(newest(max(0.0, now - age - self._outcome)), 1 - (1 - LEAST_WEIGHT) ** attempts)
            self._lost += (lost / attempts - self._lost) * weight
            self._outcome = max(self._outcome, now - age)
        self._news += 1

    def _tracks(self) -> Iterator[tuple[str, Track]]:
        yield "all", self._all
        yield "pace", self._pace
        for (size, stream), cell in self._cells.items():
            yield _name(size, stream), cell.track

    def _cell(self, size: int, stream: bool) -> _Cell:
        cell = self._cells.get((size, stream))
        if cell is None:
            cell = self._cells[size, stream] = _Cell()
        return cell

    def _learn_outcome(self, lost: float, now: float) -> None:
        self._lost += (lost - self._lost) * newest(max(0.0, now - self._outcome))
        self._outcome = max(self._outcome, now)
        attempts, before = self._unshared
        self._unshared = (attempts + 1, before + lost)
        self._news += 1

    def _work_out(self, cell: _Cell, size: int, prior: Prior, now: float) -> None:
        held = cell.waiting > 0
        usual, spread, excess, samples = cell.track.read(prior.ttft + EXTRA[size], USUAL_SPREAD, now, held)
        if samples < ENOUGH_SAMPLES:
            all, spread, elsewhere, samples = self._all.read(prior.ttft, USUAL_SPREAD, now, held)
            usual, spread, excess, own = cell.track.read(all + EXTRA[size], spread, now, held)
            excess = max(excess, elsewhere / (1 + own))
        pace, _, slower, _ = self._pace.read(prior.pace, USUAL_SPREAD, now)
        lost = self._lost
        if lost and not held:
            lost *= exp(-max(0.0, now - self._outcome) / TAU_SECONDS)
        more = excess + lost
        cell.found = Expectation(usual + more, usual * spread + more, pace + slower, samples)
        cell.passing = bool(more or slower)
        cell.until = now + (FLEETING_SECONDS if cell.passing else FRESH_SECONDS)
        cell.prior, cell.news = prior, self._news

    def _late(self, now: float) -> float:
        """Seconds for which the first token of some call is overdue, though of none that was sent later it is there."""
        watch = self._watch
        while watch:
            due, _, flight = watch[0]
            if flight.waiting and flight.started >= self.heard and now - due < GIVEN_UP_SECONDS:
                return max(0.0, now - due)
            heappop(watch)
        return 0.0


class Latency:
    """All models by the names that they are configured under, so that what is known outlives a configuration."""

    def __init__(self) -> None:
        self._models: dict[str, Live] = {}

    def of(self, model: str) -> Live:
        live = self._models.get(model)
        if live is None:
            live = self._models[model] = Live()
        return live

    def export(self, now: float) -> dict[str, Any]:
        """What this process has learned since the last export, as JSON for the others to merge."""
        models = {name: found for name, live in self._models.items() if (found := live.export(now))}
        return {"version": _VERSION, "models": models}

    def merge(self, told: Mapping[str, Any], now: float) -> None:
        """Takes in what another process has learned; nothing of one of another version."""
        if told.get("version") == _VERSION:
            for name, found in told["models"].items():
                self.of(name).merge(found, now)


def _name(size: int, stream: bool) -> str:
    return f"{'stream' if stream else 'whole'}{size}"


_order = count()
"""Tells calls apart that are due at the same moment."""
