"""Every Prometheus instrument, named in one place, and filled from settled records and attempts.

Label values form a closed set: they come from the configuration, and what callers send beside it counts as `other`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.config import Config
from gateway.edges import DURATION, TTFT
from gateway.errors import face
from gateway.feedback import Answer
from gateway.record import Record
from providers.http import PooledTransport
from routing.target import Attempt
from routing.tasks import TASKS

TPOT = (
    *(0.0002, 0.0004, 0.0007, 0.001, 0.0014, 0.002, 0.0025, 0.0033, 0.005),
    *(0.0067, 0.01, 0.0133, 0.02, 0.033, 0.05, 0.1, 0.25, 1),
)
STALL = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
PHASE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)
DECISION = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)

DIRECT = "direct"
"""The route of calls that name a model."""
NONE = "none"
OTHER = "other"
MAX_REASONS = 16


class Metrics:
    """One registry. Children are bound once per combination of labels and kept."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"talaria_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"talaria_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"talaria_{name}", text, labels, registry=registry)

        self._requests = cache(
            counter(
                "requests",
                "Requests by how they ended.",
                *("route", "latency_class", "outcome", "error_type", "use_case"),
            ).labels
        )
        self._duration = cache(
            histogram(
                "request_duration_seconds",
                "From a request's arrival to the end of its answer.",
                DURATION,
                *("route", "latency_class", "stream"),
            ).labels
        )
        self._overhead = cache(
            histogram(
                "overhead_seconds",
                "The gateway's own part of the time until an answer, or its first event.",
                OVERHEAD,
                "route",
            ).labels
        )
        phase = histogram(
            "phase_seconds",
            "A request's time until its answer or first event: before the first try, waiting for vendors, the rest.",
            PHASE,
            "phase",
        ).labels
        self._phases = phase("pre"), phase("upstream"), phase("post")
        self.in_flight = cache(
            gauge("requests_in_flight", "Requests whose answer has not ended.", "latency_class").labels
        )
        self._attempts = cache(
            counter(
                "upstream_attempts",
                "Tries at vendors by how they ended.",
                *("provider", "model", "outcome", "error_type"),
            ).labels
        )
        self._upstream = cache(
            histogram(
                "upstream_duration_seconds",
                "From sending to a vendor until its whole answer, or the first event of its stream.",
                DURATION,
                *("provider", "model"),
            ).labels
        )
        self._ttft = cache(
            histogram(
                "time_to_first_token_seconds",
                "From a request's arrival to the first content-bearing event of its stream.",
                TTFT,
                *("provider", "model", "latency_class"),
            ).labels
        )
        self._tpot = cache(
            histogram(
                "time_per_output_token_seconds",
                "Time after the first event of a stream, by output token; one observation a request.",
                TPOT,
                *("provider", "model"),
            ).labels
        )
        self._stall = cache(
            histogram("stream_stall_seconds", "The largest gap in a stream.", STALL, *("provider", "model")).labels
        )
        self._retries = cache(
            counter("retries", "Further tries at the same target.", "provider", "model", "reason").labels
        )
        self._fallbacks = cache(
            counter("fallbacks", "Steps on to the next target.", "route", "from_model", "to_model", "reason").labels
        )
        self._tokens = cache(
            counter(
                "tokens",
                "Tokens by type; reasoning is a part of output.",
                *("provider", "model", "type", "use_case"),
            ).labels
        )
        self._estimated = cache(counter("estimated_tokens", "Tokens that no vendor counted, by rule.", "model").labels)
        self._cost = cache(
            counter(
                "cost_dollars", "Dollars, by the prices configured.", "provider", "model", "route", "use_case"
            ).labels
        )
        self._unpriced = cache(counter("unpriced_requests", "Answers whose price is unknown.", "model").labels)
        self._malformed = cache(
            counter("malformed_events", "Stream events that could not be read and were skipped.", "provider").labels
        )
        self._unknown_finish = cache(
            counter("unknown_finish_reason", "Finish reasons without a counterpart.", "provider", "reason").labels
        )
        self._decisions = cache(
            counter(
                "routing_decisions", "Calls by the model they went to first, and why.", "route", "model", "reason"
            ).labels
        )
        self._deciding = histogram(
            "routing_decision_seconds", "Finding a call's task, its route and its plan.", DECISION
        ).observe
        self._assignments = cache(
            counter("experiment_assignments", "Calls by the arm they were put in.", "experiment", "arm").labels
        )
        self._slo = cache(
            counter(
                "slo", "Calls by whether the target of their latency class was kept.", "latency_class", "kept"
            ).labels
        )
        self._slo_models = cache(
            counter(
                "slo_model", "The same by use case and model.", *("latency_class", "use_case", "model", "kept")
            ).labels
        )
        self._feedback = cache(
            counter(
                "feedback",
                "Answers that were judged, by each judge's first verdict.",
                *("model", "task", "experiment", "arm", "verdict"),
            ).labels
        )
        self._reasons: set[str] = set()
        self._in_use = gauge("upstream_pool_in_use", "Sockets to a vendor with a call under way.", "provider")
        self._waiters = gauge("upstream_pool_waiters", "Calls that wait for a socket to a vendor.", "provider")
        self._limit = gauge("upstream_pool_limit", "The most sockets to a vendor at a time.", "provider")
        self._auth_failures = cache(counter("auth_failures", "Requests without a valid key.", "reason").labels)
        gauge("build_info", "The version that runs.", "version").labels(version("talaria")).set(1)
        self._objectives = gauge(
            "slo_objective_ratio", "The share of calls that shall keep the target.", "latency_class"
        )
        self._config = gauge("config_info", "The configuration that runs.", "hash")
        self._reloads = cache(counter("config_reloads", "Readings of a changed configuration.", "result").labels)
        self._reload_ok = gauge("config_last_reload_successful", "1 where the last configuration read could be used.")
        self._reload_ok.set(1)
        self._reload_time = gauge("config_last_reload_success_timestamp_seconds", "When one was last taken up.")
        self._reload_time.set_to_current_time()

    def expose(self, transports: Iterable[PooledTransport] = ()) -> bytes:
        """Prometheus' text format, with the sockets of `transports` as they are now."""
        self._in_use.clear()
        self._waiters.clear()
        self._limit.clear()
        for transport in transports:
            self._in_use.labels(transport.provider).set(transport.in_use)
            self._waiters.labels(transport.provider).set(transport.waiters)
            self._limit.labels(transport.provider).set(transport.connections or math.inf)
        return generate_latest(self.registry)

    def configured(self, hash: str, objectives: Mapping[str, float]) -> None:
        """Hears which configuration runs, and what share of each latency class shall keep its target."""
        self._config.clear()
        self._config.labels(hash).set(1)
        self._objectives.clear()
        for name, share in objectives.items():
            self._objectives.labels(name).set(share)

    def reloaded(self, applied: bool) -> None:
        """Hears of each reload: whether the file could be used."""
        self._reload_ok.set(1 if applied else 0)
        self._reloads("ok" if applied else "error").inc()
        if applied:
            self._reload_time.set_to_current_time()

    def refused(self, reason: str) -> None:
        self._auth_failures(reason).inc()

    def judged(self, answer: Answer, verdict: str, config: Config) -> None:
        """Hears of verdicts. An answer may be older than the configuration, which names what there is."""
        experiment = config.experiments.get(answer.experiment or "")
        self._feedback(
            answer.model if answer.model in config.models else OTHER,
            answer.task if answer.task in (*TASKS, *config.tasks.names) else OTHER,
            (answer.experiment if experiment else OTHER) if answer.experiment else NONE,
            (answer.arm if experiment and answer.arm in experiment.arms else OTHER) if answer.arm else NONE,
            verdict,
        ).inc()

    def attempted(self, attempt: Attempt) -> None:
        """Listens to the router."""
        model, error = attempt.model, attempt.error
        if attempt.cancelled:
            outcome, label = "cancelled", NONE
        elif error is None:
            outcome, label = "ok", NONE
            self._upstream(model.provider, model.name).observe(attempt.seconds)
        else:
            found = face(error)
            outcome, label = found.outcome, found.label
        self._attempts(model.provider, model.name, outcome, label).inc()

    def settled(self, record: Record) -> None:
        """Listens for settled records."""
        journey = record.journey
        route = (journey.plan.route or DIRECT) if journey else NONE
        found = record.face
        label = found.label if found else NONE
        use_case = record.use_case
        self._requests(route, record.latency_class, record.outcome, label, use_case).inc()
        stream = record.call is not None and record.call.stream
        self._duration(route, record.latency_class, "true" if stream else "false").observe(record.seconds)
        kept = record.kept
        if kept is not None:
            said = "true" if kept else "false"
            self._slo(record.latency_class, said).inc()
            served_by = journey.served.name if journey and journey.served else NONE
            self._slo_models(record.latency_class, use_case, served_by, said).inc()
        if journey is None:
            return
        plan = journey.plan
        if plan.route is not None:
            self._deciding(record.deciding_seconds)
            self._decisions(route, plan.targets[0].name, plan.reason).inc()
        if plan.experiment and plan.arm:
            self._assignments(plan.experiment, plan.arm).inc()
        self._overhead(route).observe(record.overhead_seconds)
        for phase, seconds in zip(self._phases, record.phases, strict=True):
            phase.observe(seconds)
        for last, attempt in zip(journey.attempts, journey.attempts[1:], strict=False):
            reason = face(last.error).label if last.error else NONE
            if last.model.name == attempt.model.name:
                self._retries(attempt.model.provider, attempt.model.name, reason).inc()
            else:
                self._fallbacks(route, last.model.name, attempt.model.name, reason).inc()
        served = journey.served
        tally = record.tally
        if served is not None and tally is not None:
            self._served(record, served.model.provider, served.model.name, route)
        elif record.estimated:
            model = journey.attempts[-1].model
            self._spent(record, model.provider, model.name, route)

    def _served(self, record: Record, provider: str, model: str, route: str) -> None:
        call, tally = record.call, record.tally
        if call is None or tally is None:
            return
        if call.stream and record.answered is not None:
            self._ttft(provider, model, record.latency_class).observe(record.answered - record.started)
            if record.usage.output > 1:
                self._tpot(provider, model).observe((record.ended - record.answered) / (record.usage.output - 1))
            self._stall(provider, model).observe(record.stall_seconds)
        if tally.malformed:
            self._malformed(provider).inc(tally.malformed)
        if tally.unknown_finish:
            self._unknown_finish(provider, self._bounded(tally.unknown_finish)).inc()
        self._spent(record, provider, model, route)

    def _bounded(self, reason: str) -> str:
        # Vendors make these up: the first few are named, so that nobody can fill the memory with them.
        if len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
        return reason if reason in self._reasons else OTHER

    def _spent(self, record: Record, provider: str, model: str, route: str) -> None:
        usage, use_case = record.usage, record.use_case
        for kind, tokens in (
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write + usage.cache_write_1h),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
        ):
            if tokens:
                self._tokens(provider, model, kind, use_case).inc(tokens)
        if record.estimated:
            self._estimated(model).inc(usage.prompt + usage.output)
        if record.cost is None:
            self._unpriced(model).inc()
        else:
            self._cost(provider, model, route, use_case).inc(float(record.cost))
