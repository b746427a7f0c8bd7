"""Thresholds as people write them, `e2e:p99 < 2s`, and whether figures keep them.

`metric[:aggregate] operator value[unit] [for DURATION]`; a threshold says what is to hold.

| metric | aggregates (the first if none is given) | value |
|---|---|---|
| `accept`, `accept_corrected`, `queue_wait`, `provider`, `publish`, `delivery`, `e2e`, `e2e_corrected` | `p99` `p50` `p90` `p999` `max` `mean`; `rate` | `300ms` `5s` `10m` `2h`; `200/s` |
| `ledger.ok`, `ledger.missing`, and the ledger's other verdicts | the count itself; `rate` | `0`; `1/m` |
| `queue.depth`, `outbox.depth` | `max` `p50` `p90` `p99` `p999` `mean` | `1000` |
| `goodput`, `error_rate` | none | `98%` or `0.98` |
| `rate.accepted` | none | `200/s` `1000/m` |
| `cpu_per_request` | none | `2ms` |

`rate` is how many there were a second. With `for`, a threshold is broken only where its condition was violated
for so long without a break, seen by slices of time: a slice in which nothing was measured breaks nothing off,
but violations reach only from the first to the last slice that showed one. What was never measured keeps no
threshold, except that a count of the ledger is 0 then.

Where figures come from is not known here: a run has its own `MetricSource`, a monitor another.
"""  # noqa: E501 - a table

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from itertools import groupby
from typing import Protocol

from simulator.load.run_document import LATENCIES, ThresholdResult
from simulator.quantities import parse_duration, parse_rate

LEDGER_COUNTS = (
    "ok",
    "failed",
    "missing",
    "duplicate",
    "late",
    "orphan",
    "wrong_topic",
    "wrong_key",
    "corrupt",
    "rejected",
)
"""What `ledger.…` can be asked for."""


class Aggregate(StrEnum):
    """What becomes of many values."""

    P50 = "p50"
    P90 = "p90"
    P99 = "p99"
    P999 = "p999"
    MAX = "max"
    MEAN = "mean"
    RATE = "rate"
    """How many values there were a second."""


SHARES: Mapping[Aggregate, float] = {
    Aggregate.P50: 0.5,
    Aggregate.P90: 0.9,
    Aggregate.P99: 0.99,
    Aggregate.P999: 0.999,
}
"""The percentiles as shares of all values."""


class Operator(StrEnum):
    """How a value has to stand to the bound."""

    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    EQUAL = "=="
    UNEQUAL = "!="

    def holds(self, value: float, bound: float) -> bool:
        """Whether it does."""
        match self:
            case Operator.LESS:
                return value < bound
            case Operator.AT_MOST:
                return value <= bound
            case Operator.MORE:
                return value > bound
            case Operator.AT_LEAST:
                return value >= bound
            case Operator.EQUAL:
                return value == bound
            case Operator.UNEQUAL:
                return value != bound

    def find_worst(self, values: Iterable[float], bound: float) -> float:
        """Of some values the one that keeps the condition least."""
        match self:
            case Operator.LESS | Operator.AT_MOST:
                return max(values)
            case Operator.MORE | Operator.AT_LEAST:
                return min(values)
            case Operator.EQUAL:
                return max(values, key=lambda value: abs(value - bound))
            case Operator.UNEQUAL:
                return min(values, key=lambda value: abs(value - bound))


Series = Sequence[tuple[float, float]]
"""Moments, ascending, and the value of a metric from each of them on."""


class MetricSource(Protocol):
    """Where the values of metrics come from; None and empty where nothing was measured.

    Times are in seconds, shares from 0 to 1, rates per second. `aggregate` is None where the metric has none.
    """

    @property
    def slice_seconds(self) -> float:
        """How long each value of a series speaks for, from its moment on."""

    def read(self, metric: str, aggregate: Aggregate | None) -> float | None:
        """What the metric came to."""

    def series(self, metric: str, aggregate: Aggregate | None) -> Series:
        """The same, slice by slice; slices without a value are left out."""


@dataclass(frozen=True)
class Stretch:
    """A time in which every value met some condition."""

    begins: float
    ends: float
    values: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ends - self.begins


def find_stretches(
    series: Series, condition: Callable[[float], bool], slice_seconds: float
) -> tuple[Stretch, ...]:
    """All stretches, as long as they can be, in which no value failed the condition."""
    found: list[Stretch] = []
    for meets, group in groupby(series, key=lambda sample: condition(sample[1])):
        if meets:
            moments, values = zip(*group, strict=True)
            found.append(Stretch(moments[0], moments[-1] + slice_seconds, values))
    return tuple(found)


@dataclass(frozen=True)
class _Metric:
    """What may be said about a metric."""

    unit: str
    """`s`, `/s`, `` or `%`, as in `ThresholdResult`."""
    aggregates: tuple[Aggregate, ...] = ()
    default: Aggregate | None = None
    over_time: bool = True
    """Whether it has a value in every slice of a run, which `for` needs."""


_SPREAD = (*SHARES, Aggregate.MAX, Aggregate.MEAN)
_METRICS: Mapping[str, _Metric] = {
    **{
        name: _Metric("s", (*_SPREAD, Aggregate.RATE), Aggregate.P99)
        for name in LATENCIES
        if name != "lateness"
    },
    **{f"ledger.{count}": _Metric("", (Aggregate.RATE,), over_time=False) for count in LEDGER_COUNTS},
    "goodput": _Metric("%"),
    "error_rate": _Metric("%"),
    "rate.accepted": _Metric("/s"),
    "queue.depth": _Metric("", _SPREAD, Aggregate.MAX),
    "outbox.depth": _Metric("", _SPREAD, Aggregate.MAX),
    "cpu_per_request": _Metric("s"),
}
METRICS = tuple(_METRICS)
"""The names of all metrics."""


@dataclass(frozen=True)
class Threshold:
    """A condition on a metric; made by `parse_threshold`, and `str` writes it in one way only."""

    metric: str
    aggregate: Aggregate | None
    operator: Operator
    bound: float
    """In seconds, per second, as a count or as a share from 0 to 1."""
    for_seconds: float | None = None

    def __str__(self) -> str:
        named = self.metric if self.aggregate is None else f"{self.metric}:{self.aggregate}"
        lasting = "" if self.for_seconds is None else f" for {_write_quantity(self.for_seconds, 's')}"
        return f"{named} {self.operator} {_write_quantity(self.bound, self.unit)}{lasting}"

    @property
    def unit(self) -> str:
        """`s`, `/s`, `` for counts, `%` for shares."""
        return "/s" if self.aggregate is Aggregate.RATE else _METRICS[self.metric].unit

    @property
    def limits_each(self) -> bool:
        """Whether the bound is one for every single request too, as goodput needs it.

        So are upper bounds of a latency's maximum and of its percentiles from p90 on. The median and the mean
        speak about requests as a whole.
        """
        return (
            self.metric in LATENCIES
            and self.operator in (Operator.LESS, Operator.AT_MOST)
            and self.aggregate in (Aggregate.P90, Aggregate.P99, Aggregate.P999, Aggregate.MAX)
        )

    def holds(self, value: float) -> bool:
        """Whether a value meets the condition; what is no number does not."""
        return not math.isnan(value) and self.operator.holds(value, self.bound)

    def evaluate(self, source: MetricSource) -> ThresholdResult:
        """How it was kept.

        The value is the metric's; with `for`, that of the worst slice in the longest stretch of violations,
        or of the worst slice of all where there was none.
        """
        value = self._read(source) if self.for_seconds is None else None
        met = value is not None and self.holds(value)
        if self.for_seconds is not None:
            met, value = self._follow(source, self.for_seconds)
        return ThresholdResult(threshold=str(self), met=met, value=value, unit=self.unit)

    def _read(self, source: MetricSource) -> float | None:
        value = source.read(self.metric, self.aggregate)
        return 0.0 if value is None and self.metric.startswith("ledger.") else value

    def _follow(self, source: MetricSource, for_seconds: float) -> tuple[bool, float | None]:
        series = source.series(self.metric, self.aggregate)
        if not series:
            return False, None
        broken = find_stretches(series, lambda value: not self.holds(value), source.slice_seconds)
        longest = max(broken, key=lambda stretch: stretch.seconds, default=None)
        values = [value for _, value in series] if longest is None else longest.values
        # Sums of slices are a little off: 0.1 + 0.2 is not 0.3.
        met = longest is None or longest.seconds < for_seconds - 1e-9
        return met, self.operator.find_worst(values, self.bound)


_THRESHOLD = re.compile(
    r"\s*(?P<metric>\w[\w.]*)\s*(?::\s*(?P<aggregate>\w+))?"
    r"\s*(?P<operator><=|>=|==|!=|<|>)"
    r"\s*(?P<number>\d{1,9}(?:\.\d{1,6})?)\s*(?P<unit>[a-z%/]*)"
    r"(?:\s+for\s+(?P<lasting>\S+))?\s*",
    re.ASCII,
)


def parse_threshold(text: str) -> Threshold:
    """The threshold that `text` says; ValueError with one sentence where it is none."""
    found = _THRESHOLD.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no threshold; write for example 'e2e:p99 < 2s', 'ledger.missing == 0' or "
            "'error_rate < 1% for 10s'"
        )
    name = found["metric"]
    if name not in _METRICS:
        nearest = ", ".join(get_close_matches(name, METRICS, n=3, cutoff=0.0))
        raise ValueError(f"{name!r} in {text!r} is no metric; the nearest are {nearest}")
    metric = _METRICS[name]
    aggregate = metric.default
    if found["aggregate"] is not None:
        aggregate = _read_aggregate(name, found["aggregate"], text)
    unit = "/s" if aggregate is Aggregate.RATE else metric.unit
    try:
        bound = _read_quantity(found["number"], found["unit"], unit)
        lasting = None if found["lasting"] is None else _read_lasting(found["lasting"])
    except ValueError as error:
        raise ValueError(f"in the threshold {text!r}, {error}") from None
    if lasting is not None and not metric.over_time:
        raise ValueError(f"{text!r} cannot be judged: {name} is one figure for all, so leave out 'for'")
    return Threshold(name, aggregate, Operator(found["operator"]), bound, lasting)


def _read_aggregate(name: str, written: str, text: str) -> Aggregate:
    allowed = _METRICS[name].aggregates
    if written in allowed:
        return Aggregate(written)
    if not allowed:
        raise ValueError(f"{name} in {text!r} is one figure; leave out ':{written}'")
    raise ValueError(f"{name} in {text!r} has no aggregate {written!r}; it has {', '.join(allowed)}")


def _read_lasting(written: str) -> float:
    seconds = parse_duration(written)
    if seconds == 0:
        raise ValueError(f"'for {written}' is no time at all; leave it out or write for example 'for 10s'")
    return seconds


def _read_quantity(number: str, written_unit: str, unit: str) -> float:
    """The bound in seconds, per second, as a count or as a share; `unit` says which is due."""
    written = number + written_unit
    match unit:
        case "s":
            return parse_duration(written)
        case "/s":
            return parse_rate(written)
        case "%":
            # Rounded, because 99.9 / 100 is a little more than 0.999.
            share = round(float(number) / 100, 8) if written_unit == "%" else float(number)
            if written_unit not in ("", "%") or not 0 <= share <= 1:
                raise ValueError(f"{written!r} is no share; write for example 98% or 0.98")
            return share
    if written_unit:
        raise ValueError(f"{written!r} is no count, which has no unit; write for example {number}")
    return float(number)


_WRITTEN_UNITS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "s": (("s", 1.0), ("ms", 0.001), ("m", 60.0), ("h", 3600.0)),
    "/s": (("/s", 1.0), ("/m", 1 / 60), ("/h", 1 / 3600)),
    "%": (("%", 0.01), ("", 1.0)),
    "": (("", 1.0),),
}


def _write_quantity(value: float, unit: str) -> str:
    """The plainest text that reads as exactly that value."""
    units = _WRITTEN_UNITS[unit]
    if unit == "s":
        plainest = _choose_time_unit(value)
        units = tuple(sorted(units, key=lambda each: each[0] != plainest))
    for name, size in units:
        number = f"{value / size:.6f}".rstrip("0").rstrip(".")
        try:
            if _read_quantity(number, name, unit) == value:
                return number + name
        except ValueError:
            # Too many digits for this unit.
            continue
    return f"{value!r}{unit}"


def _choose_time_unit(value: float) -> str:
    """`300ms` is plainer than 0.3s, and `2h` than 7200s, but `90s` than 1.5m."""
    if 0 < value < 1:
        return "ms"
    for name, size in (("h", 3600), ("m", 60)):
        if value > 0 and value % size == 0:
            return name
    return "s"
