"""Where a value stands on an axis, and the ticks that people expect there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from simulator.load.reports.figures import format_moment

_LEAST_SECONDS = 1e-6


@dataclass(frozen=True)
class Tick:
    """A place on an axis, from 0 to 1, and what is written there."""

    place: float
    label: str


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; what lies beyond stands at its end."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """From 0 at `low` to 1 at `high`."""
        return _place(value, self.low, self.high, logarithmic=self.logarithmic)


def choose_linear_scale(
    values: Iterable[float], write: Callable[[float], str], *, base: float = 1.0, most_ticks: int = 4
) -> Scale:
    """From 0 to a round number above all values; `base` is what a unit of the axis is, such as a MiB."""
    greatest = max(values, default=0.0) / base
    step = _round_up((greatest or 1.0) / most_ticks)
    count = max(1, math.ceil(greatest / step - 1e-9))
    ticks = tuple(Tick(number / count, write(number * step * base)) for number in range(count + 1))
    return Scale(0.0, count * step * base, ticks)


def choose_latency_scale(values: Iterable[float]) -> Scale:
    """Logarithmic seconds between two of the ticks that people know: 1ms, 10ms, 1s, 1m."""
    positive = [max(value, _LEAST_SECONDS) for value in values]
    least, greatest = min(positive, default=0.001), max(positive, default=1.0)
    low = max((tick for tick in _KNOWN_SECONDS if tick <= least * 1.0001), default=_KNOWN_SECONDS[0])
    high = min((tick for tick in _KNOWN_SECONDS if tick >= greatest), default=_KNOWN_SECONDS[-1])
    if low == high:
        low, high = low / 2, high * 2
    within = [tick for tick in _KNOWN_SECONDS if low <= tick <= high]
    majors = [tick for tick in within if tick in _MAJOR_SECONDS]
    ticks = tuple(
        Tick(_place(tick, low, high, logarithmic=True), format_moment(tick))
        for tick in (majors if len(majors) > 2 else within)
    )
    return Scale(low, high, ticks, logarithmic=True)


def choose_time_scale(begins: float, ends: float, *, most_ticks: int = 6) -> Scale:
    """Moments of a run, at whole seconds, minutes or hours."""
    length = max(ends - begins, 1.0)
    step = next((each for each in _TIME_STEPS if length / each <= most_ticks), _TIME_STEPS[-1])
    first = math.ceil(begins / step - 1e-9)
    numbers = range(first, math.floor((begins + length) / step + 1e-9) + 1)
    thinned = numbers[:: max(1, math.ceil(len(numbers) / (most_ticks + 1)))]
    ticks = tuple(Tick((number * step - begins) / length, format_moment(number * step)) for number in thinned)
    return Scale(begins, begins + length, ticks)


def choose_percentile_scale(count: int) -> Scale:
    """The axis of HdrHistogram's plots: each step to the right has a tenth of the values beyond it.

    Its unit is -log10(1 - percentile): 1 is the 90th, 2 the 99th. It reaches as far as `count` values can
    tell, at least to the 99th and at most to the 99.999th.
    """
    high = min(max(math.log10(max(count, 1)), 2.0), 5.0)
    ticks = tuple(
        Tick(-math.log10(1 - share) / high, label)
        for share, label in ((0.0, "0"), *_PERCENTILES)
        if -math.log10(1 - share) <= high + 1e-9
    )
    return Scale(0.0, high, ticks)


_PERCENTILES = (
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
)
_MINUTE, _HOUR = 60, 3600
_TIME_STEPS: Sequence[int] = (
    1, 2, 5, 10, 15, 30,
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 4, 6, 12, 24, 48, 168)),
)  # fmt: skip
_KNOWN_SECONDS: Sequence[float] = (
    *(round(digit * 10.0**power, 9) for power in range(-6, 1) for digit in (1, 2, 5)),
    10.0, 20.0, 30.0,
    *(_MINUTE * count for count in (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)),
    *(_HOUR * count for count in (1.0, 2.0, 5.0, 10.0, 24.0, 48.0)),
)  # fmt: skip
_MAJOR_SECONDS = frozenset((*(round(10.0**power, 9) for power in range(-6, 2)), 60.0, 600.0, 3600.0, 36000.0))


def _place(value: float, low: float, high: float, *, logarithmic: bool) -> float:
    bounded = min(max(value, low), high)
    if logarithmic:
        return math.log(bounded / low) / math.log(high / low)
    return (bounded - low) / (high - low)


def _round_up(number: float) -> float:
    """The next 1, 2 or 5 times a power of ten, from 1 on: no ticks between whole things."""
    number = max(number, 1.0)
    power = 10.0 ** math.floor(math.log10(number))
    return next(digit * power for digit in (1.0, 2.0, 5.0, 10.0) if digit * power >= number * (1 - 1e-9))
