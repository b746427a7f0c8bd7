"""The figures of a run, as totals of its active phase and as slices of time, in bounded memory.

What happened is told by its moments: seconds within the run, so that the active phase begins at 0 and the
warm-up is negative. An event stands in the slice of its own moment, and counts in the totals where its
request was *intended* in the active phase, however much later it came.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from simulator.load.histogram import Histogram
from simulator.load.run_document import LATENCIES, Distribution, Slice
from simulator.load.thresholds import SHARES, Aggregate, Series, Threshold
from simulator.load.validity import GeneratorFigures

MOST_SLICES = 3600
"""By default: an hour of seconds. What is longer has slices of 2, 4, … seconds."""
SEND_GRACE_SECONDS = 0.05
"""What was intended at the very end of the active phase is sent in time when it is sent so long after it."""
_SLICED = ("accept", "e2e", "e2e_corrected")
"""The latencies that every slice keeps a histogram of."""
_OPEN_SLICES = 16
"""Events come a little out of order; older slices are packed, which takes a fifth of the memory."""
_SLICE_COUNTS = ("intended", "sent", "accepted", "rejected", "called_back", "failed")
_GAUGE_OF_DEPTH = {"queue.depth": "queue_depth", "outbox.depth": "outbox_depth"}


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
        """From accepted to received; below 0 where the callback overtook the 202."""
        return None if self.accepted_at is None else self.at - self.accepted_at

    @property
    def e2e_corrected(self) -> float:
        """From intended to received."""
        return self.at - self.intended_at


_TOLD_BY_CALLBACKS = ("queue_wait", "provider", "publish", "delivery", "e2e", "e2e_corrected")


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """What the service was like at a moment; None where it did not say."""

    queue_depth: int | None = None
    in_flight: int | None = None
    outbox_depth: int | None = None
    cpu_percent: float | None = None
    """Of one core."""
    memory_bytes: int | None = None


TallyRow = tuple[Mapping[str, int], Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]
"""Counts, packed histograms and gauges (sum, number and greatest of the readings), each by name."""


@dataclass(frozen=True)
class FiguresPart:
    """What a process measured, as plain data for pickle or JSON: `FiguresPart(**json.loads(…))`."""

    slice_seconds: float
    totals: TallyRow
    slices: Sequence[tuple[int, TallyRow]]
    """By place: a slice begins at its place times `slice_seconds`."""


@dataclass(slots=True)
class _Tally:
    """Counts, histograms and gauges of one stretch of time; two of them merge exactly."""

    counts: dict[str, int] = field(default_factory=dict)
    latency: dict[str, Histogram] = field(default_factory=dict)
    packed: dict[str, array[float]] = field(default_factory=dict)
    """Histograms that `seal` put away; what comes later stands in `latency` again."""
    gauges: dict[str, tuple[float, int, float]] = field(default_factory=dict)

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def time(self, name: str, seconds: float) -> None:
        if name not in self.latency:
            self.latency[name] = Histogram()
        self.latency[name].record(seconds)

    def gauge(self, name: str, total: float, readings: int, greatest: float) -> None:
        old = self.gauges.get(name, (0.0, 0, -math.inf))
        self.gauges[name] = (old[0] + total, old[1] + readings, max(old[2], greatest))

    def find(self, name: str) -> Histogram | None:
        """The histogram of a latency, None where there is none."""
        if name not in self.packed:
            return self.latency.get(name)
        found = Histogram.unpack(self.packed[name])
        if name in self.latency:
            found.merge(self.latency[name])
        return found

    def seal(self) -> None:
        for name in self.latency:
            found = self.find(name)
            assert found is not None
            self.packed[name] = array("d", found.pack())
        self.latency.clear()

    def merge(self, row: TallyRow) -> None:
        counts, latency, gauges = row
        for name, amount in counts.items():
            self.count(name, amount)
        for name, numbers in latency.items():
            self.latency.setdefault(name, Histogram()).merge(Histogram.unpack(numbers))
        for name, (total, readings, greatest) in gauges.items():
            self.gauge(name, total, int(readings), greatest)

    def to_row(self) -> TallyRow:
        names = {*self.latency, *self.packed}
        histograms = {name: found.pack() for name in names if (found := self.find(name)) is not None}
        return dict(self.counts), histograms, dict(self.gauges)


class Figures:
    """Collects what a run, or one process of it, measures."""

    def __init__(
        self,
        active_seconds: float,
        thresholds: Sequence[Threshold] = (),
        *,
        most_slices: int = MOST_SLICES,
    ) -> None:
        """`active_seconds` is how long the active phase is to be.

        The thresholds say what a good request is, and of which latencies slices are needed. ValueError where
        there is no time, or no room for a slice before and one after its beginning.
        """
        if active_seconds <= 0:
            raise ValueError(f"an active phase takes more than 0 seconds; got {active_seconds:g}")
        if most_slices < 2:
            raise ValueError(f"figures need at least 2 slices; got {most_slices}")
        self._active_seconds = active_seconds
        self._limits = tuple(each for each in thresholds if each.limits_each)
        watched = {each.metric for each in thresholds if each.for_seconds is not None}
        self._sliced = frozenset({*_SLICED, *watched.intersection(LATENCIES)})
        self._most_slices = most_slices
        self._clear()

    # --- what happens ---

    def intended(self, at: float) -> None:
        """A request is due now."""
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
        """The run's own end cut the request off: it counts neither as good nor as bad."""
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
        for each in fields(reading):
            value = getattr(reading, each.name)
            if value is not None:
                self._slice(at).gauge(each.name, value, 1, value)
                if at >= 0:
                    self._totals.gauge(each.name, value, 1, value)

    def cut_short(self, at: float) -> None:
        """The active phase ended earlier than it was to."""
        self._active_seconds = min(self._active_seconds, at)

    # --- between processes ---

    def take_part(self) -> FiguresPart:
        """All that was measured since the last call, which is then forgotten here."""
        slices = [(place, tally.to_row()) for place, tally in sorted(self._slices.items())]
        part = FiguresPart(self._slice_seconds, self._totals.to_row(), slices)
        self._clear()
        return part

    def fold(self, part: FiguresPart) -> None:
        """Takes in what another process measured, as if it had been measured here."""
        while self._slice_seconds < part.slice_seconds:
            self._coarsen()
        self._totals.merge(part.totals)
        for place, row in part.slices:
            self._slice(place * part.slice_seconds).merge(row)

    # --- what it came to ---

    @property
    def active_seconds(self) -> float:
        """How long the active phase is, or was."""
        return self._active_seconds

    @property
    def slice_seconds(self) -> float:
        """How wide the slices are: 1, or a power of 2 where the run is long."""
        return self._slice_seconds

    @property
    def totals(self) -> Mapping[str, int]:
        """Of the active phase: intended, sent, sent_in_time, skipped, accepted, rejected, cancelled,
        called_back; of these failed, good, and unjudged where a limit's latency is not known. Absent is 0.
        """
        return self._totals.counts

    @property
    def offered_per_second(self) -> float:
        """Intended sends over the active phase."""
        return self._total("intended") / self._active_seconds

    @property
    def achieved_per_second(self) -> float:
        """Sends that were made while it went on."""
        return self._total("sent_in_time") / self._active_seconds

    @property
    def goodput(self) -> float | None:
        """The share of intended requests that were answered well and within every limit; None without any.

        By the rules of guidellm: a failed or unanswered one is not good; one that the run's end cut off, or
        whose limits could not be judged, counts on neither side.
        """
        judged = self._total("intended") - self._total("cancelled") - self._total("unjudged")
        return self._total("good") / judged if judged > 0 else None

    @property
    def error_rate(self) -> float | None:
        """The share of intended requests that were rejected, failed or not answered yet; None without any."""
        due = self._total("intended") - self._total("cancelled")
        succeeded = self._total("called_back") - self._total("failed")
        return (due - succeeded) / due if due > 0 else None

    @property
    def peaks(self) -> ServiceReading:
        """The highest readings of the service since the active phase began."""
        peaks = {name: greatest for name, (_, _, greatest) in self._totals.gauges.items()}
        return ServiceReading(**peaks)  # type: ignore[arg-type]  # each is what `observe_service` was given

    def latency(self) -> dict[str, Distribution]:
        """What was timed, by the names of `LATENCIES`; what never was is left out."""
        found = ((name, self._totals.find(name)) for name in LATENCIES)
        return {name: histogram.to_distribution() for name, histogram in found if histogram is not None}

    def slices(self, last: int | None = None) -> tuple[Slice, ...]:
        """All slices without a gap, or the last of them. Their counts are of `slice_seconds`, not of one."""
        if not self._slices:
            return ()
        end = max(self._slices) + 1
        begin = min(self._slices)
        if last is not None:
            begin = max(begin, end - last)
        return tuple(self._write_slice(place) for place in range(begin, end))

    def generator_figures(self, busiest_cpu_share: float | None = None) -> GeneratorFigures:
        """What the validity of the run is judged by."""
        return GeneratorFigures(
            offered_per_second=self.offered_per_second,
            achieved_per_second=self.achieved_per_second,
            rejected_per_second=self._total("rejected") / self._active_seconds,
            lateness_p50=_summarize(self._totals, "lateness", Aggregate.P50),
            lateness_p99=_summarize(self._totals, "lateness", Aggregate.P99),
            e2e_p50=_summarize(self._totals, "e2e", Aggregate.P50),
            skipped=self._total("skipped"),
            busiest_cpu_share=busiest_cpu_share,
        )

    def read(self, metric: str, aggregate: Aggregate | None) -> float | None:
        """What a metric of thresholds came to, None where nothing was measured or where it is not known here.

        Depths are those from the beginning of the active phase on; their percentiles are of slices' peaks.
        """
        match metric:
            case "goodput":
                return self.goodput
            case "error_rate":
                return self.error_rate
            case "rate.accepted":
                return self._total("accepted") / self._active_seconds
            case "queue.depth" | "outbox.depth":
                return self._read_depth(_GAUGE_OF_DEPTH[metric], aggregate)
        if aggregate is Aggregate.RATE:
            histogram = self._totals.find(metric)
            return None if histogram is None else histogram.count / self._active_seconds
        return _summarize(self._totals, metric, aggregate)

    def series(self, metric: str, aggregate: Aggregate | None) -> Series:
        """The same, slice by slice: rates within the active phase, all else from its beginning on.

        A share is of what ended in the slice; any percentile of a depth is the slice's peak. ValueError for a
        latency of which no slices are kept.
        """
        if metric in LATENCIES and metric not in self._sliced:
            raise ValueError(
                f"no slices of {metric} are kept; its threshold was not known from the beginning"
            )
        if metric == "rate.accepted" or aggregate is Aggregate.RATE:
            return self._follow_rate(metric)
        values = (
            (place * self._slice_seconds, self._read_slice(tally, metric, aggregate))
            for place, tally in sorted(self._slices.items())
            if place >= 0
        )
        return [(at, value) for at, value in values if value is not None]

    # --- inside ---

    def _clear(self) -> None:
        self._totals = _Tally()
        self._slices: dict[int, _Tally] = {}
        self._open: set[int] = set()
        self._slice_seconds = 1.0

    def _count(self, name: str, intended_at: float, at: float) -> None:
        self._slice(at).count(name)
        if intended_at >= 0:
            self._totals.count(name)

    def _time(self, name: str, intended_at: float, at: float, seconds: float) -> None:
        if name in self._sliced:
            self._slice(at).time(name, seconds)
        if intended_at >= 0:
            self._totals.time(name, seconds)

    def _total(self, name: str) -> int:
        return self._totals.counts.get(name, 0)

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

    def _slice(self, at: float) -> _Tally:
        place = math.floor(at / self._slice_seconds)
        if place not in self._slices:
            place = self._begin_slice(at)
        self._open.add(place)
        return self._slices[place]

    def _begin_slice(self, at: float) -> int:
        while True:
            place = math.floor(at / self._slice_seconds)
            first, last = min(self._slices, default=place), max(self._slices, default=place)
            if max(last, place) - min(first, place) < self._most_slices:
                break
            self._coarsen()
        for old in [each for each in self._open if each < place - _OPEN_SLICES]:
            self._slices[old].seal()
            self._open.remove(old)
        self._slices[place] = _Tally()
        return place

    def _coarsen(self) -> None:
        """Makes one slice of each two neighbours. Those before and after 0 never are."""
        pairs: dict[int, _Tally] = {}
        for place, tally in self._slices.items():
            if place // 2 in pairs:
                pairs[place // 2].merge(tally.to_row())
            else:
                pairs[place // 2] = tally
        for tally in pairs.values():
            tally.seal()
        self._slices = pairs
        self._open.clear()
        self._slice_seconds *= 2

    def _write_slice(self, place: int) -> Slice:
        tally = self._slices.get(place, _Tally())
        peak = {name: greatest for name, (_, _, greatest) in tally.gauges.items()}
        cpu = tally.gauges.get("cpu_percent")
        return Slice(
            at=place * self._slice_seconds,
            **{name: tally.counts.get(name, 0) for name in _SLICE_COUNTS},
            accept_p99=_summarize(tally, "accept", Aggregate.P99),
            e2e_p50=_summarize(tally, "e2e", Aggregate.P50),
            e2e_p99=_summarize(tally, "e2e", Aggregate.P99),
            e2e_corrected_p99=_summarize(tally, "e2e_corrected", Aggregate.P99),
            queue_depth=peak.get("queue_depth"),
            in_flight=peak.get("in_flight"),
            outbox_depth=peak.get("outbox_depth"),
            service_cpu_percent=None if cpu is None else cpu[0] / cpu[1],
            service_memory_bytes=peak.get("memory_bytes"),
        )

    def _read_depth(self, name: str, aggregate: Aggregate | None) -> float | None:
        """Over the slices from the beginning of the active phase on."""
        peaks = sorted(
            tally.gauges[name][2]
            for place, tally in self._slices.items()
            if place >= 0 and name in tally.gauges
        )
        if not peaks:
            return None
        match aggregate:
            case Aggregate.MEAN:
                total, readings, _ = self._totals.gauges[name]
                return total / readings
            case None | Aggregate.MAX:
                return peaks[-1]
        return peaks[max(0, math.ceil(len(peaks) * SHARES[aggregate]) - 1)]

    def _follow_rate(self, metric: str) -> Series:
        """Events per second in each whole slice of the active phase."""
        places = range(int(self._active_seconds / self._slice_seconds))
        found = ((place, self._slices.get(place, _Tally())) for place in places)
        return [
            (place * self._slice_seconds, _count_events(tally, metric) / self._slice_seconds)
            for place, tally in found
        ]

    def _read_slice(self, tally: _Tally, metric: str, aggregate: Aggregate | None) -> float | None:
        """What a metric was in one slice, None where nothing was measured in it."""
        if metric in _GAUGE_OF_DEPTH:
            gauge = tally.gauges.get(_GAUGE_OF_DEPTH[metric])
            if gauge is None:
                return None
            return gauge[0] / gauge[1] if aggregate is Aggregate.MEAN else gauge[2]
        if metric in ("goodput", "error_rate"):
            counts = tally.counts
            bad = counts.get("failed", 0) + counts.get("rejected", 0)
            ended = counts.get("called_back", 0) + counts.get("rejected", 0)
            if metric == "goodput":
                ended -= counts.get("unjudged", 0)
                return counts.get("good", 0) / ended if ended > 0 else None
            return bad / ended if ended > 0 else None
        return _summarize(tally, metric, aggregate)


def _summarize(tally: _Tally, name: str, aggregate: Aggregate | None) -> float | None:
    """One number for a latency, None where there is no value of it."""
    histogram = tally.find(name)
    if histogram is None or not histogram.count:
        return None
    match aggregate:
        case Aggregate.MEAN:
            return histogram.mean
        case Aggregate.MAX:
            return histogram.greatest
        case None | Aggregate.RATE:
            raise ValueError(f"{name} is summarized by a percentile, the mean or the maximum")
    return histogram.percentile(SHARES[aggregate])


def _count_events(tally: _Tally, metric: str) -> int:
    """How many values of a metric there were; for `rate.accepted` how many acceptances."""
    if metric == "rate.accepted":
        return tally.counts.get("accepted", 0)
    histogram = tally.find(metric)
    return 0 if histogram is None else histogram.count
