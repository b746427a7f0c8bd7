"""The figures of a run, as totals of its active phase and as slices of time, in bounded memory.

What happened is told by its moments: seconds within the run, so that the active phase begins at 0 and the
warm-up is negative. An event stands in the slice of its own moment, and counts in the totals where its
request was *intended* in the active phase, however much later it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.load.metrics import find_error_rate, find_goodput, follow_metric, read_metric, summarize
from simulator.load.run_document import LATENCIES, Distribution, Slice
from simulator.load.slices import Slices, Tally
from simulator.load.thresholds import Aggregate, Series, Threshold
from simulator.load.validity import GeneratorFigures

MOST_SLICES = 3600
"""By default: an hour of seconds. What is longer has slices of 2, 4, … seconds."""
SEND_GRACE_SECONDS = 0.05
"""What was intended at the very end of the active phase is sent in time when it is sent so long after it."""
SLICED = ("accept", "e2e", "e2e_corrected")
"""The latencies that slices hold in any case; others where a threshold with `for` asks for them."""
_TOLD_BY_CALLBACKS = ("queue_wait", "provider", "publish", "delivery", "e2e", "e2e_corrected")


@dataclass(frozen=True, slots=True)
class Callback:
    """The first callback of a request: its moments, and its way as far as it is known; seconds."""

    intended_at: float
    at: float
    """When it was received."""
    success: bool
    sent_at: float | None = None
    accepted_at: float | None = None
    """None where the 202 never came, and so neither `accept` nor `e2e` is known."""
    queue_wait: float | None = None
    provider: float | None = None
    publish: float | None = None
    delivery: float | None = None

    @property
    def accept(self) -> float | None:
        """From sent to accepted."""
        if self.accepted_at is None or self.sent_at is None:
            return None
        return self.accepted_at - self.sent_at

    @property
    def accept_corrected(self) -> float | None:
        """From intended to accepted."""
        return None if self.accepted_at is None else self.accepted_at - self.intended_at

    @property
    def e2e(self) -> float | None:
        """From accepted to received; below 0, which counts as 0, where the callback overtook the 202."""
        return None if self.accepted_at is None else self.at - self.accepted_at

    @property
    def e2e_corrected(self) -> float:
        """From intended to received."""
        return self.at - self.intended_at


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """What the service was like at a moment, or at its peaks; None where it did not say."""

    queue_depth: int | None = None
    in_flight: int | None = None
    outbox_depth: int | None = None
    cpu_percent: float | None = None
    """Of one core."""
    memory_bytes: int | None = None

    @classmethod
    def from_peaks(cls, tally: Tally) -> ServiceReading:
        """The highest readings of a stretch of time."""
        peak = {name: gauge.greatest for name, gauge in tally.gauges.items()}
        whole = {name: int(value) for name, value in peak.items() if name != "cpu_percent"}
        return cls(
            queue_depth=whole.get("queue_depth"),
            in_flight=whole.get("in_flight"),
            outbox_depth=whole.get("outbox_depth"),
            cpu_percent=peak.get("cpu_percent"),
            memory_bytes=whole.get("memory_bytes"),
        )


class Figures:
    """Collects what a run measures."""

    def __init__(
        self, active_seconds: float, thresholds: Sequence[Threshold] = (), *, most_slices: int = MOST_SLICES
    ) -> None:
        """`active_seconds` is how long the active phase is to be; ValueError where it is no time at all.

        The thresholds say what a good request is, and of which latencies slices are needed.
        """
        _require_time(active_seconds)
        self._active_seconds = active_seconds
        self._limits = tuple(each for each in thresholds if each.limits_each)
        watched = {each.metric for each in thresholds if each.for_seconds is not None}
        self._sliced = frozenset({*SLICED, *watched.intersection(LATENCIES)})
        self._totals = Tally()
        self._slices = Slices(most_slices)

    def intended(self, at: float) -> None:
        """A request is due."""
        self._count("intended", at, at)

    def sent(self, intended_at: float, at: float) -> None:
        """A request was handed to a connection, for the first time."""
        self._count("sent", intended_at, at)
        self._time("lateness", intended_at, at, at - intended_at)
        if intended_at >= 0 and at <= self._active_seconds + SEND_GRACE_SECONDS:
            self._totals.count("sent_in_time")

    def skipped(self, intended_at: float) -> None:
        """A guard held a request back: it was never sent."""
        self._count("skipped", intended_at, intended_at)

    def accepted(self, intended_at: float, sent_at: float, at: float) -> None:
        """The 202 came."""
        self._count("accepted", intended_at, at)
        self._time("accept", intended_at, at, at - sent_at)
        self._time("accept_corrected", intended_at, at, at - intended_at)

    def rejected(self, intended_at: float, at: float) -> None:
        """A clear answer came that was no 202."""
        self._count("rejected", intended_at, at)

    def cancelled(self, intended_at: float) -> None:
        """The run's own end cut an unanswered request off: it counts neither as good nor as bad."""
        self._count("cancelled", intended_at, intended_at)

    def called_back(self, callback: Callback) -> None:
        """The first callback of a request came; further ones are the ledger's business."""
        intended_at, at = callback.intended_at, callback.at
        self._count("called_back", intended_at, at)
        for name in _TOLD_BY_CALLBACKS:
            seconds = getattr(callback, name)
            if seconds is not None:
                self._time(name, intended_at, at, seconds)
        if not callback.success:
            self._count("failed", intended_at, at)
            return
        verdict = self._judge(callback)
        if verdict is not False:
            self._count("good" if verdict else "unjudged", intended_at, at)

    def observe_service(self, at: float, reading: ServiceReading) -> None:
        """The service was asked how it is."""
        stretches = [self._slices.at(at)] if at < 0 else [self._slices.at(at), self._totals]
        for name in ServiceReading.__slots__:
            value = getattr(reading, name)
            if value is not None:
                for stretch in stretches:
                    stretch.gauge(name, value)

    def cut_short(self, at: float) -> None:
        """The active phase ended earlier than it was to; ValueError where it had not begun."""
        _require_time(at)
        self._active_seconds = min(self._active_seconds, at)

    @property
    def active_seconds(self) -> float:
        """How long the active phase is to be, or was."""
        return self._active_seconds

    @property
    def offered_per_second(self) -> float:
        """Intended sends over the active phase."""
        return self.total("intended") / self._active_seconds

    @property
    def achieved_per_second(self) -> float:
        """Sends that were made while it went on."""
        return self.total("sent_in_time") / self._active_seconds

    @property
    def goodput(self) -> float | None:
        """The share of intended requests that were answered well and within every limit; None without any.

        One that the run's end cut off, or whose limits could not be judged, counts on neither side.
        """
        return find_goodput(self._totals)

    @property
    def error_rate(self) -> float | None:
        """The share of intended requests that were rejected, failed or not answered yet; None without any."""
        return find_error_rate(self._totals)

    @property
    def peaks(self) -> ServiceReading:
        """The highest readings of the service since the active phase began."""
        return ServiceReading.from_peaks(self._totals)

    def total(self, name: str) -> int:
        """How many requests of the active phase were intended, sent, sent_in_time, skipped, accepted,
        rejected, cancelled or called_back; and of these last, failed, good, or unjudged, as a latency that
        has a limit is not known of them.
        """
        return self._totals.find_count(name)

    def latency(self) -> dict[str, Distribution]:
        """What was timed, by the names of `LATENCIES`; what never was is left out."""
        found = ((name, self._totals.find_histogram(name)) for name in LATENCIES)
        return {name: histogram.to_distribution() for name, histogram in found if histogram is not None}

    @property
    def slice_seconds(self) -> float:
        """How wide the slices are: 1, or 2, 4, … where the run is long."""
        return self._slices.seconds

    def slices(self, last: int | None = None) -> tuple[Slice, ...]:
        """All slices without a gap, or the last of them; counts are those of `slice_seconds`, not of one."""
        width = self._slices.seconds
        begin, end = round(self._slices.begin / width), round(self._slices.end / width)
        if last is not None:
            begin = max(begin, end - last)
        moments = [place * width for place in range(begin, end)]
        return tuple(_write_slice(at, self._slices.find(at)) for at in moments)

    def generator_figures(self, busiest_cpu_share: float | None = None) -> GeneratorFigures:
        """What the validity of the run is judged by."""
        lateness = self._totals.find_histogram("lateness")
        return GeneratorFigures(
            offered_per_second=self.offered_per_second,
            achieved_per_second=self.achieved_per_second,
            rejected_per_second=self.total("rejected") / self._active_seconds,
            lateness_p50=summarize(lateness, Aggregate.P50),
            lateness_p99=summarize(lateness, Aggregate.P99),
            e2e_p50=summarize(self._totals.find_histogram("e2e"), Aggregate.P50),
            skipped=self.total("skipped"),
            busiest_cpu_share=busiest_cpu_share,
        )

    def read(self, metric: str, aggregate: Aggregate | None) -> float | None:
        """What a metric of thresholds came to, for all but those of the ledger and of the CPU.

        None where nothing was measured.
        """
        return read_metric(metric, aggregate, self._totals, self._slices, self._active_seconds)

    def series(self, metric: str, aggregate: Aggregate | None) -> Series:
        """The same, slice by slice, and for the CPU too; ValueError for a latency that slices do not hold."""
        if metric in LATENCIES and metric not in self._sliced:
            raise ValueError(f"slices hold no {metric}; its threshold must be known from the beginning")
        return follow_metric(metric, aggregate, self._slices, self._active_seconds)

    def _count(self, name: str, intended_at: float, at: float) -> None:
        self._slices.at(at).count(name)
        if intended_at >= 0:
            self._totals.count(name)

    def _time(self, name: str, intended_at: float, at: float, seconds: float) -> None:
        if name in self._sliced:
            self._slices.at(at).time(name, seconds)
        if intended_at >= 0:
            self._totals.time(name, seconds)

    def _judge(self, callback: Callback) -> bool | None:
        """Whether an answer kept every limit; None where that is not known."""
        verdict: bool | None = True
        for limit in self._limits:
            seconds = getattr(callback, limit.metric)
            if seconds is None:
                verdict = None
            elif not limit.holds(seconds):
                return False
        return verdict


def _require_time(active_seconds: float) -> None:
    if active_seconds <= 0:
        raise ValueError(f"an active phase takes more than 0 seconds; got {active_seconds:g}")


def _write_slice(at: float, tally: Tally) -> Slice:
    peaks = ServiceReading.from_peaks(tally)
    cpu = tally.gauges.get("cpu_percent")
    e2e = tally.find_histogram("e2e")
    return Slice(
        at=at,
        intended=tally.find_count("intended"),
        sent=tally.find_count("sent"),
        accepted=tally.find_count("accepted"),
        rejected=tally.find_count("rejected"),
        called_back=tally.find_count("called_back"),
        failed=tally.find_count("failed"),
        accept_p99=summarize(tally.find_histogram("accept"), Aggregate.P99),
        e2e_p50=summarize(e2e, Aggregate.P50),
        e2e_p99=summarize(e2e, Aggregate.P99),
        e2e_corrected_p99=summarize(tally.find_histogram("e2e_corrected"), Aggregate.P99),
        queue_depth=peaks.queue_depth,
        in_flight=peaks.in_flight,
        outbox_depth=peaks.outbox_depth,
        service_cpu_percent=None if cpu is None else cpu.mean,
        service_memory_bytes=peaks.memory_bytes,
    )
