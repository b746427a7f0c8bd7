"""The stages of a load shape: how fast requests are meant to come, and how a stage is written.

All moments are seconds from the beginning of the stage. A stage that has a rate (`Flow`) tells three things:
its rate at a moment, the arrivals it comes to in all (the integral of the rate), and the moments at which the
integral reaches given levels. Whether arrivals come evenly or by chance is one figure, the coefficient of
variation `cv` of the gaps between them, measured on the scale of the integral: 0 is evenly, 1 is Poisson.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from simulator.quantities import parse_duration, parse_rate

EVEN = 0.0
POISSON = 1.0

_SECOND = 1.0
"""How wide a chart looks for arrivals where a stage has none but at single moments."""
_SLACK = 1e-6
"""The part of an arrival by which one that falls on the end of an on-period belongs to the next."""
_LEAST_LOSS = math.nextafter(-1.0, 0.0)
"""What falls by a rate, even to a trillionth, falls by less than all of it."""
_KEPLER_STEPS = 100
_KEPLER_PRECISION = 1e-12
_BARE_FILE = re.compile(r'(?:(?!->)[^\s;"=→])+')
_DURATION_UNITS = {"s": 1.0, "m": 1 / 60, "h": 1 / 3600, "ms": 1000.0}
_RATE_UNITS = {"/s": 1.0, "/m": 60.0, "/h": 3600.0}


@dataclass(frozen=True)
class Level:
    """One rate throughout."""

    per_second: float
    seconds: float
    cv: float = EVEN

    @property
    def total(self) -> float:
        """The integral of the rate."""
        return self.per_second * self.seconds

    @property
    def count(self) -> int:
        """The arrivals."""
        return round(self.total)

    def rate_at(self, moment: float) -> float:  # noqa: ARG002 - every stage is asked so
        """Arrivals per second."""
        return self.per_second

    def reach(self, levels: Sequence[float]) -> list[float]:
        """When the integral of the rate comes to each of the ascending levels."""
        return [level / self.per_second for level in levels]

    def __str__(self) -> str:
        length = f"{write_rate(self.per_second)} {write_duration(self.seconds)}"
        if self.cv in (EVEN, POISSON):
            return f"{'constant' if self.cv == EVEN else 'poisson'} {length}"
        return f"gamma {length} cv={write_number(self.cv)}"


@dataclass(frozen=True)
class Ramp:
    """From one rate to another: in a straight line, or by the same factor in equal times."""

    first: float
    last: float
    seconds: float
    exponential: bool = False
    """Both rates are more than 0 then."""
    cv: float = EVEN

    @property
    def total(self) -> float:
        """The integral of the rate."""
        if not self.exponential or self._growth == 0:
            return (self.first + self.last) / 2 * self.seconds
        return (self.last - self.first) / self._growth

    @property
    def count(self) -> int:
        """The arrivals."""
        return round(self.total)

    @property
    def _growth(self) -> float:
        return math.log(self.last / self.first) / self.seconds

    def rate_at(self, moment: float) -> float:
        """Arrivals per second."""
        if self.exponential:
            return self.first * math.exp(self._growth * moment)
        return self.first + (self.last - self.first) * moment / self.seconds

    def reach(self, levels: Sequence[float]) -> list[float]:
        """When the integral of the rate comes to each of the ascending levels.

        In a straight line that is the root of a*t + slope*t²/2 = level, in the form that loses no digits.
        """
        if self.exponential and self._growth != 0:
            growth = self._growth
            return _ascend(
                math.log1p(max(level * growth / self.first, _LEAST_LOSS)) / growth for level in levels
            )
        square, slope = self.first**2, (self.last - self.first) / self.seconds
        roots = (math.sqrt(max(square + 2 * slope * level, 0.0)) for level in levels)
        return _ascend(
            2 * level / (self.first + root) if level > 0 else 0.0
            for level, root in zip(levels, roots, strict=True)
        )

    def __str__(self) -> str:
        rates = f"{write_rate(self.first)}→{write_rate(self.last)}"
        curve = " exponential" if self.exponential else ""
        return f"ramp {rates} {write_duration(self.seconds)}{curve}{_write_process(self.cv)}"


@dataclass(frozen=True)
class Sine:
    """Swings around a mean, beginning there and upwards: mean + amplitude * sin(2 pi t / period)."""

    mean: float
    amplitude: float
    """At most the mean."""
    period: float
    seconds: float
    cv: float = EVEN

    @property
    def total(self) -> float:
        """The integral of the rate."""
        swing = self.amplitude / self._speed * (1 - math.cos(self._speed * self.seconds))
        return self.mean * self.seconds + swing

    @property
    def count(self) -> int:
        """The arrivals."""
        return round(self.total)

    @property
    def _speed(self) -> float:
        return math.tau / self.period

    def rate_at(self, moment: float) -> float:
        """Arrivals per second."""
        return self.mean + self.amplitude * math.sin(self._speed * moment)

    def reach(self, levels: Sequence[float]) -> list[float]:
        """When the integral of the rate comes to each of the ascending levels.

        With x for the angle so far and e for amplitude / mean, x + e*(1 - cos x) = level*speed/mean; that is
        Kepler's equation a quarter turn on.
        """
        speed, quarter, eccentricity = self._speed, math.pi / 2, self.amplitude / self.mean
        scale, shift = speed / self.mean, quarter - eccentricity
        angles = (_solve_kepler(level * scale + shift, eccentricity) - quarter for level in levels)
        return _ascend(max(angle, 0.0) / speed for angle in angles)

    def __str__(self) -> str:
        rates = f"mean={write_rate(self.mean)} amp={write_rate(self.amplitude)}"
        times = f"period={write_duration(self.period)} {write_duration(self.seconds)}"
        return f"sine {rates} {times}{_write_process(self.cv)}"


@dataclass(frozen=True)
class OnOff:
    """Rates that take turns."""

    parts: tuple[tuple[float, float], ...]
    """Rate and seconds of each; 0 is silence."""
    seconds: float
    cv: float = EVEN

    @property
    def total(self) -> float:
        """The integral of the rate."""
        turns, rest = divmod(self.seconds, self._period)
        begun = sum(
            rate * min(max(rest - begins, 0.0), lasts)
            for (rate, lasts), begins in zip(self.parts, self._beginnings, strict=True)
        )
        return turns * self._levels[-1] + begun

    @property
    def count(self) -> int:
        """The arrivals."""
        return round(self.total)

    @property
    def _period(self) -> float:
        return sum(lasts for _, lasts in self.parts)

    @property
    def _beginnings(self) -> list[float]:
        return list(accumulate((lasts for _, lasts in self.parts[:-1]), initial=0.0))

    @property
    def _levels(self) -> list[float]:
        """What the integral is at the beginning of each part of the first turn, and at its end."""
        return list(accumulate((rate * lasts for rate, lasts in self.parts), initial=0.0))

    def rate_at(self, moment: float) -> float:
        """Arrivals per second."""
        return self.parts[bisect_right(self._beginnings, moment % self._period) - 1][0]

    def reach(self, levels: Sequence[float]) -> list[float]:
        """When the integral of the rate comes to each of the ascending levels.

        It stands still in silence; what falls there comes at its end.
        """
        period, beginnings, reached = self._period, self._beginnings, self._levels
        per_turn, starts = reached[-1], reached[:-1]
        moments = []
        for level in levels:
            turns, rest = divmod(level + _SLACK, per_turn)
            part = bisect_right(starts, rest) - 1
            inside = max(rest - _SLACK - starts[part], 0.0) / self.parts[part][0]
            moments.append(turns * period + beginnings[part] + inside)
        return _ascend(moments)

    def __str__(self) -> str:
        parts = " ".join(f"{write_rate(rate)}:{write_duration(lasts)}" for rate, lasts in self.parts)
        return f"onoff {parts} {write_duration(self.seconds)}{_write_process(self.cv)}"


@dataclass(frozen=True)
class Burst:
    """So many at once, at the beginning and again and again."""

    size: int
    every: float | None
    """Seconds from one burst to the next; None is once."""
    seconds: float
    """0 is a burst and nothing after it."""

    @property
    def bursts(self) -> int:
        """How many begin before the stage ends."""
        return 1 if self.every is None else max(math.ceil(self.seconds / self.every - _SLACK), 1)

    @property
    def count(self) -> int:
        """The arrivals."""
        return self.size * self.bursts

    def rate_at(self, moment: float) -> float:
        """The arrivals of the second that begins at that moment."""
        if self.every is None:
            return float(self.size * (moment == 0))
        first = math.ceil(moment / self.every)
        beyond = min(math.ceil((moment + _SECOND) / self.every), self.bursts)
        return float(self.size * max(beyond - first, 0))

    def __str__(self) -> str:
        again = "" if self.every is None else f" every {write_duration(self.every)}"
        length = f" {write_duration(self.seconds)}" if self.seconds else ""
        return f"burst {self.size}{again}{length}"


@dataclass(frozen=True)
class Trace:
    """The moments that a file holds, faster or slower; `trace.read_traces` fills them in."""

    file: str
    speed: float = 1.0
    moments: tuple[float, ...] | None = field(default=None, repr=False)
    """Seconds from the first one on, ascending, as recorded; None where the file has not been read."""

    @property
    def recorded(self) -> tuple[float, ...]:
        """The moments; ValueError where nobody has read them."""
        if self.moments is None:
            raise ValueError(f"the trace {self.file} has not been read yet; read_traces does it")
        return self.moments

    @property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        return self.recorded[-1] / self.speed

    @property
    def count(self) -> int:
        """The arrivals."""
        return len(self.recorded)

    def rate_at(self, moment: float) -> float:
        """The arrivals of the second that begins at that moment."""
        first = bisect_left(self.recorded, moment * self.speed)
        return float(bisect_left(self.recorded, (moment + _SECOND) * self.speed) - first)

    def __str__(self) -> str:
        file = self.file if _BARE_FILE.fullmatch(self.file) else f'"{self.file}"'
        return f"trace {file}" + ("" if self.speed == 1.0 else f" speed={write_number(self.speed)}")


@dataclass(frozen=True)
class Closed:
    """Each caller keeps so many requests outstanding, and sends the next when a callback arrives."""

    callers: int
    outstanding: int
    seconds: float

    def __str__(self) -> str:
        return f"closed callers={self.callers} outstanding={self.outstanding} {write_duration(self.seconds)}"


Flow = Level | Ramp | Sine | OnOff
"""The stages that have a rate at every moment."""
Scheduled = Flow | Burst | Trace
"""The stages whose arrivals can be told beforehand."""
Stage = Scheduled | Closed


def write_number(value: float) -> str:
    """With at most six decimals, as the language reads it."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def write_rate(per_second: float) -> str:
    """The shortest of the nearest ways to write a rate: `200/s`, `1000/m`."""
    return "0/s" if per_second == 0 else _write(per_second, _RATE_UNITS, parse_rate)


def write_duration(seconds: float) -> str:
    """The shortest of the nearest ways to write a duration: `90s`, `2m`."""
    return _write(seconds, _DURATION_UNITS, parse_duration)


def _write(value: float, units: Mapping[str, float], read: Callable[[str], float]) -> str:
    """Any value that was read is written so that it reads as the same to the bit.

    What is too great or too small to be written comes out as it is, for the parser to refuse.
    """
    numbers = {
        unit: write_number(value * factor) for unit, factor in units.items() if 0 < value * factor < 1e9
    }
    texts = [number + unit for unit, number in numbers.items() if number != "0"]
    if not texts:
        return f"{value:g}{next(iter(units))}"
    return min(texts, key=lambda text: (abs(read(text) - value), len(text)))


def _write_process(cv: float) -> str:
    return " poisson" if cv == POISSON else ""


def _ascend(moments: Iterable[float]) -> list[float]:
    """Rounding may put one moment before the last; it may not."""
    return list(accumulate(moments, max))


def _solve_kepler(mean_anomaly: float, eccentricity: float) -> float:
    """E of E - e*sin(E) = M, for e from 0 to 1.

    Between 0 and pi the left side is convex, so Newton's steps from above come down and never pass the root.
    """
    whole_turns = math.tau * round(mean_anomaly / math.tau)
    rest = mean_anomaly - whole_turns
    anomaly = min(abs(rest) + eccentricity, math.pi)
    for _ in range(_KEPLER_STEPS):
        slope = 1 - eccentricity * math.cos(anomaly)
        excess = anomaly - eccentricity * math.sin(anomaly) - abs(rest)
        if excess <= _KEPLER_PRECISION * slope:
            break
        anomaly -= excess / slope
    return whole_turns + math.copysign(anomaly, rest)
