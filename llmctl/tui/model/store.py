"""Everything the monitor knows, without a terminal: sources feed it, screens and `--once` read it.

Time is given from outside, in seconds since 1970 on one clock that never jumps: the live one, or a replay's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from llmctl.tui.model.advisor import Advice, advise
from llmctl.tui.model.alerts import Alert, find_firing
from llmctl.tui.model.counters import BucketWindow, Counter
from llmctl.tui.model.events import Event, Level, compare
from llmctl.tui.model.feed import CallbackFeed
from llmctl.tui.model.frames import (
    Bookmark,
    Callbacks,
    Figures,
    Frame,
    RunFigures,
    SourceState,
    TopicFigures,
)
from llmctl.tui.model.reading import LATENCIES, TOTALS, Reading, read_figures
from llmctl.tui.model.rows import CallbackRow
from llmctl.tui.model.series import Ring, find_last
from simulator.load.thresholds import Aggregate, Threshold

STALE_SECONDS = 3.0
"""Six times the stream's pace: older figures are shown as old."""
SMOOTH_SECONDS = 10
"""Over how long the growth of the queue is measured."""
EXACT_WINDOW_SECONDS = 60
"""The window over which the service itself tells percentiles, finer than its buckets."""
_SHARES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
"""The percentiles that are told, as shares of all values."""
_GAUGES = ("queue_depth", "in_flight", "outbox_depth", "oldest_age_seconds")
_METRIC_LATENCIES = {"e2e": "end_to_end"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is kept."""

    history_seconds: int = 3600
    callbacks: int = 10_000
    events: int = 2_000


class Store:
    """What was observed, what follows from it, and how old it is."""

    def __init__(self, alerts: Sequence[Threshold] = (), sizes: Sizes | None = None) -> None:
        sizes = sizes or Sizes()
        self.sizes = sizes
        self.reading: Reading | None = None
        self.feed = CallbackFeed(sizes.callbacks)
        self.topics: Mapping[str, Any] | None = None
        self.topics_at: float | None = None
        self.run: Mapping[str, Any] | None = None
        self.run_at: float | None = None
        self.alerts = [Alert(condition) for condition in alerts]
        self.events: deque[Event] = deque(maxlen=sizes.events)
        self.events_total = 0
        self.problems: dict[str, str] = {}
        """What is wrong with a source, by its name; nothing of those that are there."""
        self.advice: tuple[Advice, ...] = ()
        self._rings = {name: Ring(sizes.history_seconds) for name in self._ring_names()}
        self._windows = {name: BucketWindow(sizes.history_seconds) for name in LATENCIES}
        self._counters = {name: Counter() for name in TOTALS}
        self._counted: tuple[float, Mapping[str, float]] = (0.0, {})

    @staticmethod
    def _ring_names() -> tuple[str, ...]:
        spreads = tuple(f"{name}:{which}" for name in LATENCIES for which in ("p50", "p99"))
        return (*_GAUGES, *TOTALS, *spreads, "delivery", "sent", "lateness")

    def take(self, frame: Frame) -> None:
        """Takes one observation in."""
        match frame:
            case Figures(at, source, document):
                self._take_figures(read_figures(at, source, document))
            case Callbacks(at, rows):
                self._take_callbacks(at, rows)
            case TopicFigures(at, document):
                self._take_topics(at, document)
            case RunFigures(at, document):
                self._take_run(at, document)
            case SourceState(at, source, problem):
                self._take_source(at, source, problem)
            case Bookmark(at, text):
                self.note(Event(at, Level.INFO, f"bookmark: {text}"))

    def note(self, event: Event) -> None:
        """Adds to what happened."""
        self.events.append(event)
        self.events_total += 1

    def age(self, now: float) -> float | None:
        """How old the service's figures are, in seconds; None where there never were any."""
        return None if self.reading is None else max(0.0, now - self.reading.at)

    def is_stale(self, now: float) -> bool:
        """Whether the figures are too old to stand for the present."""
        age = self.age(now)
        return age is None or age > STALE_SECONDS

    def series(self, name: str, now: float, seconds: int) -> list[float]:
        """A figure by the second up to `now`: gauges as they were, totals as rates, latencies in seconds."""
        return self._rings[name].read(int(now), seconds)

    def percentile(self, latency: str, which: str, window_seconds: int) -> float | None:
        """`p50`, `p90` or `p99` of a latency over the window that ends with the last reading, in seconds."""
        reading = self.reading
        if reading is None:
            return None
        if window_seconds == EXACT_WINDOW_SECONDS and latency in reading.latency:
            exact = getattr(reading.latency[latency], which)
            if exact is not None:
                return float(exact)
        return self._windows[latency].percentile(_SHARES[which], int(reading.at), window_seconds)

    def rate(self, name: str) -> float | None:
        """How many a second: as the service tells it, else by its totals over the last seconds."""
        reading = self.reading
        if reading is None:
            return None
        if name in reading.rates:
            return reading.rates[name]
        measured = [each for each in self.series(name, reading.at, SMOOTH_SECONDS) if not isnan(each)]
        return sum(measured) / len(measured) if measured else None

    def growth(self) -> float | None:
        """By how much the queue grows, per second, over the last seconds; negative where it shrinks."""
        if self.reading is None:
            return None
        depths = self.series("queue_depth", self.reading.at, SMOOTH_SECONDS + 1)
        first = next((place for place, each in enumerate(depths) if not isnan(each)), None)
        last = find_last(depths)
        if first is None or last is None or first >= SMOOTH_SECONDS:
            return None
        return (last - depths[first]) / (SMOOTH_SECONDS - first)

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that fire."""
        return find_firing(self.alerts)

    def read_metric(self, condition: Threshold) -> float | None:
        """The value that an alert's condition is about, as it is now; None where it is not known."""
        reading, metric, aggregate = self.reading, condition.metric, condition.aggregate
        if reading is None:
            return None
        match metric:
            case "queue.depth":
                return float(reading.queue_depth)
            case "outbox.depth":
                return float(reading.outbox_depth)
            case "rate.accepted":
                return self.rate("accepted")
            case "error_rate":
                done, failed = self.rate("succeeded"), self.rate("failed")
                return (
                    None if done is None or failed is None or not done + failed else failed / (done + failed)
                )
            case "delivery":
                return find_last(self.series("delivery", reading.at, SMOOTH_SECONDS))
        if metric.startswith("ledger."):
            return self._read_ledger(metric.removeprefix("ledger."), aggregate)
        name = _METRIC_LATENCIES.get(metric, metric)
        if aggregate is Aggregate.RATE:
            return self._windows[name].count(int(reading.at), SMOOTH_SECONDS) / SMOOTH_SECONDS
        if aggregate is Aggregate.MAX:
            latency = reading.latency.get(name)
            return None if latency is None else latency.max
        return None if aggregate is None else self.percentile(name, aggregate.value, EXACT_WINDOW_SECONDS)

    def _read_ledger(self, verdict: str, aggregate: Aggregate | None) -> float | None:
        name = {"ok": "succeeded"}.get(verdict, verdict)
        if name in TOTALS:
            return self.rate(name) if aggregate else self._counters[name].grown
        return float(self.feed.duplicates if verdict == "duplicate" else self.feed.invalid)

    def _take_figures(self, reading: Reading) -> None:
        before, self.reading = self.reading, reading
        for event in compare(before, reading):
            self.note(event)
        second = int(reading.at)
        for name in _GAUGES:
            self._rings[name].put(second, float(getattr(reading, name)))
        self._count(reading)
        for name, latency in reading.latency.items():
            if name not in self._windows:
                continue
            self._windows[name].take(second, latency.buckets)
            for which in ("p50", "p99"):
                value = self.percentile(name, which, EXACT_WINDOW_SECONDS)
                if value is not None:
                    self._rings[f"{name}:{which}"].put(second, value)
        for alert in self.alerts:
            rung = alert.update(self.read_metric(alert.condition), reading.at)
            if rung is not None:
                self.note(rung)
        self.advice = tuple(advise(reading, self.growth()))

    def _count(self, reading: Reading) -> None:
        """Follows the totals; once a second, what they have risen by becomes a rate."""
        told = {name: reading.totals.get(name, 0.0) for name in TOTALS}
        if any(value < (self._counters[name].last or 0.0) for name, value in told.items()):
            # One total has fallen, so all began at zero again, those too that are higher than before.
            for counter in self._counters.values():
                counter.last = 0.0
        for name, value in told.items():
            self._counters[name].advance(value)
        at, before = self._counted
        if int(at) == int(reading.at):
            return
        now = {name: counter.grown for name, counter in self._counters.items()}
        if before:
            for name in TOTALS:
                self._rings[name].put(int(reading.at), (now[name] - before[name]) / (reading.at - at))
        self._counted = (reading.at, now)

    def _take_callbacks(self, at: float, rows: Sequence[CallbackRow]) -> None:
        self.feed.take(rows)
        if not rows:
            return
        self._rings["delivery"].put(int(at), max(max(0.0, row.at - row.written_at) for row in rows))

    def _take_topics(self, at: float, document: Mapping[str, Any]) -> None:
        before, passed = self.topics or {}, at - (self.topics_at or at)
        topics = add_paces(before.get("topics", ()), document.get("topics", ()), "end_total", passed)
        groups = add_paces(before.get("groups", ()), document.get("groups", ()), "lag", passed)
        self.topics, self.topics_at = {**document, "topics": topics, "groups": groups}, at

    def _take_run(self, at: float, document: Mapping[str, Any]) -> None:
        before, self.run, self.run_at = self.run, document, at
        for name, key in (("sent", "sent_per_second"), ("lateness", "lateness_p99")):
            value = document.get(key)
            if isinstance(value, int | float):
                self._rings[name].put(int(at), float(value))
        if before is None or before.get("run_id") != document.get("run_id"):
            self.note(
                Event(at, Level.INFO, f"load run {document.get('run_id', '')}: {document.get('shape', '')}")
            )
        elif before.get("phase") != document.get("phase"):
            self.note(Event(at, Level.INFO, f"load run: {document.get('phase', '')}"))
        earlier = {each.get("text"): each.get("state") for each in (before or {}).get("faults", ())}
        for fault in document.get("faults", ()):
            state = fault.get("state")
            if state != earlier.get(fault.get("text"), "ahead"):
                self.note(Event(at, Level.WARNING, f"fault {state}: {fault.get('text', '')}"))

    def _take_source(self, at: float, source: str, problem: str | None) -> None:
        before = self.problems.get(source)
        if problem is None:
            if self.problems.pop(source, None) is not None:
                self.note(Event(at, Level.GOOD, f"{source}: there again"))
        elif before != problem:
            self.problems[source] = problem
            self.note(Event(at, Level.BAD, f"{source}: {problem}"))

    def describe(self, now: float, window_seconds: int = EXACT_WINDOW_SECONDS) -> dict[str, Any]:
        """Everything at this moment as one JSON document, for `monitor --once`."""
        reading = self.reading
        return {
            "time": now,
            "age_seconds": self.age(now),
            "stale": self.is_stale(now),
            "source": None if reading is None else reading.source,
            "problems": dict(self.problems),
            "service": None if reading is None else _describe_service(reading),
            "rates": {name: self.rate(name) for name in TOTALS},
            "queue_growth_per_second": self.growth(),
            "latency": {
                name: {which: self.percentile(name, which, window_seconds) for which in _SHARES}
                for name in LATENCIES
            },
            "callbacks": {
                "seen": self.feed.total,
                "duplicates": self.feed.duplicates,
                "invalid": self.feed.invalid,
            },
            "topics": self.topics,
            "run": self.run,
            "alerts": [
                {"condition": str(alert.condition), "state": alert.state.value, "value": alert.value}
                for alert in self.alerts
            ],
            "advice": [
                {"level": each.level.value, "cause": each.cause, "knob": each.knob} for each in self.advice
            ],
            "events": [
                {"time": each.at, "level": each.level.value, "text": each.text} for each in self.events
            ],
        }


def add_paces(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], figure: str, passed: float
) -> list[dict[str, Any]]:
    """The rows with `per_second`, by how much a figure of theirs grows; None where that is not known yet."""
    earlier = {(row.get("group"), row.get("topic")): row.get(figure) for row in before}
    rows = []
    for row in now:
        last, value = earlier.get((row.get("group"), row.get("topic"))), row.get(figure)
        pace = None if last is None or value is None or passed <= 0 else (value - last) / passed
        rows.append({**row, "per_second": pace})
    return rows


def _describe_service(reading: Reading) -> dict[str, Any]:
    return {
        "version": reading.version,
        "phase": reading.phase,
        "accepting": reading.accepting,
        "broker": reading.broker,
        "queue": {
            "backend": reading.queue_backend,
            "depth": reading.queue_depth,
            "capacity": reading.queue_capacity,
            "oldest_age_seconds": reading.oldest_age_seconds,
        },
        "in_flight": reading.in_flight,
        "outbox": {"depth": reading.outbox_depth, "parked": reading.parked},
        "outstanding": reading.outstanding,
        "totals": dict(reading.totals),
        "drain": reading.drain.state,
        "providers": [
            {
                "name": each.name,
                "circuit": each.circuit,
                "held": each.held,
                "in_flight": each.in_flight,
                "calls": each.calls,
                "errors": each.errors,
                "last_error": each.last_error,
            }
            for each in reading.providers
        ],
    }
