"""The metrics of thresholds, out of what figures have counted and timed.

Each comes from the totals of the active phase, and slice by slice. Depths are those from the beginning of the
active phase on, and their percentiles those of the slices' peaks. None is: nothing was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from simulator.load.histogram import Histogram
from simulator.load.slices import Slices, Tally
from simulator.load.thresholds import SHARES, Aggregate, Series

_GAUGES: Mapping[str, str] = {"queue.depth": "queue_depth", "outbox.depth": "outbox_depth"}


def find_goodput(totals: Tally) -> float | None:
    """The share of intended requests that were answered well and within every limit.

    By the rules of guidellm: a failed or unanswered one is not good; one that the run's end cut off, or whose
    limits could not be judged, counts on neither side.
    """
    judged = totals.find_count("intended") - totals.find_count("cancelled") - totals.find_count("unjudged")
    return _divide(totals.find_count("good"), judged)


def find_error_rate(totals: Tally) -> float | None:
    """The share of intended requests that were rejected, failed or not answered."""
    due = totals.find_count("intended") - totals.find_count("cancelled")
    succeeded = totals.find_count("called_back") - totals.find_count("failed")
    return _divide(due - succeeded, due)


def summarize(histogram: Histogram | None, aggregate: Aggregate | None) -> float | None:
    """One figure of a latency; ValueError for an aggregate that is none of the values themselves."""
    if histogram is None:
        return None
    match aggregate:
        case Aggregate.MAX:
            return histogram.greatest
        case Aggregate.MEAN:
            return histogram.mean
        case Aggregate.P50 | Aggregate.P90 | Aggregate.P99 | Aggregate.P999:
            return histogram.percentile(SHARES[aggregate])
    raise ValueError(f"a latency cannot be summarized as {aggregate}")


def read_metric(
    metric: str, aggregate: Aggregate | None, totals: Tally, slices: Slices, active_seconds: float
) -> float | None:
    """What a metric came to."""
    match metric:
        case "goodput":
            return find_goodput(totals)
        case "error_rate":
            return find_error_rate(totals)
        case "rate.accepted":
            return totals.find_count("accepted") / active_seconds
        case "queue.depth" | "outbox.depth":
            return _read_depth(_GAUGES[metric], aggregate, slices)
    histogram = totals.find_histogram(metric)
    if histogram is not None and aggregate is Aggregate.RATE:
        return histogram.count / active_seconds
    return summarize(histogram, aggregate)


def follow_metric(metric: str, aggregate: Aggregate | None, slices: Slices, active_seconds: float) -> Series:
    """The same, slice by slice: rates within the active phase, all else from its beginning on.

    A share is that of what ended in the slice, whenever it was intended.
    """
    if metric == "rate.accepted" or aggregate is Aggregate.RATE:
        return _follow_rate(metric, slices, active_seconds)
    values = [(at, _read_slice(metric, aggregate, tally, slices.seconds)) for at, tally in slices if at >= 0]
    return [(at, value) for at, value in values if value is not None]


def _read_depth(name: str, aggregate: Aggregate | None, slices: Slices) -> float | None:
    gauges = [tally.gauges[name] for at, tally in slices if at >= 0 and name in tally.gauges]
    if not gauges:
        return None
    if aggregate is Aggregate.MEAN:
        return sum(each.total for each in gauges) / sum(each.readings for each in gauges)
    peaks = sorted(each.greatest for each in gauges)
    share = 1.0 if aggregate is None else SHARES.get(aggregate, 1.0)
    return peaks[math.ceil(round(share * len(peaks), 6)) - 1]


def _follow_rate(metric: str, slices: Slices, active_seconds: float) -> Series:
    """Slices in which nothing happened have a rate of 0; the last may be cut off by the end of the phase."""
    end = min(active_seconds, slices.end)
    moments = [place * slices.seconds for place in range(math.ceil(end / slices.seconds))]
    counts = [_count_events(metric, slices.find(at)) for at in moments]
    return [(at, count / min(slices.seconds, end - at)) for at, count in zip(moments, counts, strict=True)]


def _count_events(metric: str, tally: Tally) -> int:
    if metric == "rate.accepted":
        return tally.find_count("accepted")
    histogram = tally.find_histogram(metric)
    return 0 if histogram is None else histogram.count


def _read_slice(metric: str, aggregate: Aggregate | None, tally: Tally, seconds: float) -> float | None:
    ended = tally.find_count("rejected") + tally.find_count("called_back")
    match metric:
        case "error_rate":
            return _divide(tally.find_count("rejected") + tally.find_count("failed"), ended)
        case "goodput":
            return _divide(tally.find_count("good"), ended - tally.find_count("unjudged"))
        case "cpu_per_request":
            cpu = tally.gauges.get("cpu_percent")
            return None if cpu is None else _divide(cpu.mean / 100 * seconds, ended)
        case "queue.depth" | "outbox.depth":
            gauge = tally.gauges.get(_GAUGES[metric])
            if gauge is None:
                return None
            return gauge.mean if aggregate is Aggregate.MEAN else gauge.greatest
    return summarize(tally.find_histogram(metric), aggregate)


def _divide(part: float, whole: int) -> float | None:
    return part / whole if whole > 0 else None
