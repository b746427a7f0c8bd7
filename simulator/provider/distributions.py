"""Distributions of response times, and the notation in which scenarios give them.

A distribution is written as its shape and its parameters, `gamma mean=1s cv=0.4`, or as a mapping of the same
names. The shape may be left out where the parameters tell it:

| written | is |
|---|---|
| `250ms` | constant |
| `normal mean=1s sd=200ms` | normal, nothing below zero |
| `p50=800ms p99=6s` | lognormal through both percentiles |
| `gamma mean=1s cv=0.4` | gamma; cv is the standard deviation over the mean |
| `pareto min=20s alpha=1.5` | a heavy tail from `min` on |
| `mean=1610ms p95=2231ms p99=2323ms` | the simplest one of that mean and those percentiles |
| `empirical file=seconds.csv`, `{values = ["90ms", "1s"]}` | measured values |
| a list of `{weight = 0.99, latency = …}` | a mixture |
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

LONGEST_SECONDS = 3600.0
"""Nothing takes longer, however heavy the tail."""
LEAST_PARETO_SHAPE = 0.1

_Z_P99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""
_MEDIAN_DRAWS = 4001
_SECONDS_OF_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)", re.ASCII)


class Distribution(Protocol):
    """Response times in seconds."""

    def sample(self, rng: Random) -> float:
        """One of them, from 0 to `LONGEST_SECONDS`."""

    def scale(self, factor: float) -> Distribution:
        """The same shape, slower or faster."""


@dataclass(frozen=True)
class Constant:
    """Always the same."""

    seconds: float

    def sample(self, rng: Random) -> float:  # noqa: ARG002 - every distribution is given one
        """That."""
        return self.seconds

    def scale(self, factor: float) -> Constant:
        """Another constant."""
        return Constant(self.seconds * factor)


@dataclass(frozen=True)
class Normal:
    """The bell curve; what would be negative is 0."""

    mean: float
    sd: float

    def sample(self, rng: Random) -> float:
        """One draw."""
        return _bound(rng.gauss(self.mean, self.sd))

    def scale(self, factor: float) -> Normal:
        """Mean and deviation by the same factor."""
        return Normal(self.mean * factor, self.sd * factor)


@dataclass(frozen=True)
class Lognormal:
    """A long right tail, given by median and 99th percentile: p50 * exp(sigma * z)."""

    p50: float
    p99: float

    def sample(self, rng: Random) -> float:
        """One draw; a median of 0 is no time at all."""
        if self.p50 == 0:
            return 0.0
        sigma = math.log(self.p99 / self.p50) / _Z_P99
        return _bound(self.p50 * math.exp(rng.gauss(0.0, sigma)))

    def scale(self, factor: float) -> Lognormal:
        """Both percentiles by the same factor."""
        return Lognormal(self.p50 * factor, self.p99 * factor)


@dataclass(frozen=True)
class Gamma:
    """Waiting for several steps in a row; `cv` is the standard deviation over the mean."""

    mean: float
    cv: float

    def sample(self, rng: Random) -> float:
        """One draw, of shape 1 / cv² and scale mean * cv²."""
        return _bound(rng.gammavariate(self.cv**-2, self.mean * self.cv**2))

    def scale(self, factor: float) -> Gamma:
        """The mean by that factor."""
        return Gamma(self.mean * factor, self.cv)


@dataclass(frozen=True)
class Pareto:
    """A tail so heavy that for alpha up to 1 it has no mean: P(longer than x) = (least / x) ** alpha."""

    least: float
    alpha: float

    def sample(self, rng: Random) -> float:
        """One draw."""
        return _bound(self.least * rng.paretovariate(self.alpha))

    def scale(self, factor: float) -> Pareto:
        """The least one by that factor."""
        return Pareto(self.least * factor, self.alpha)


@dataclass(frozen=True)
class Empirical:
    """A quantile function through known points, straight in between (inverse transform sampling).

    `shares` rises from 0 to 1, and `seconds` says which response time so large a share stays below.
    """

    shares: tuple[float, ...]
    seconds: tuple[float, ...]

    @classmethod
    def through(cls, values: Sequence[float]) -> Empirical:
        """The distribution of measured values: the least is its 0th percentile, the greatest its 100th."""
        ordered = sorted(values) if len(values) > 1 else [*values, *values]
        last = len(ordered) - 1
        return cls(tuple(place / last for place in range(last + 1)), tuple(ordered))

    def sample(self, rng: Random) -> float:
        """One draw."""
        share = rng.random()
        place = min(bisect_right(self.shares, share), len(self.shares) - 1)
        left, right = self.shares[place - 1], self.shares[place]
        low, high = self.seconds[place - 1], self.seconds[place]
        return _bound(low + (high - low) * (share - left) / (right - left))

    def scale(self, factor: float) -> Empirical:
        """Every value by that factor."""
        return Empirical(self.shares, tuple(value * factor for value in self.seconds))


@dataclass(frozen=True)
class Mixture:
    """Now one distribution, now another, as often as its weight says; the weights add up to 1."""

    parts: tuple[tuple[float, Distribution], ...]

    def sample(self, rng: Random) -> float:
        """One draw of the part that chance picks."""
        share = rng.random()
        for weight, part in self.parts:
            share -= weight
            if share < 0:
                return part.sample(rng)
        return self.parts[-1][1].sample(rng)

    def scale(self, factor: float) -> Mixture:
        """Every part by that factor."""
        return Mixture(tuple((weight, part.scale(factor)) for weight, part in self.parts))


def scale_to_median(distribution: Distribution, seconds: float) -> Distribution:
    """The same shape around another median; 0 is no time at all.

    The median is taken from a fixed sample, as a mixture has none in closed form.
    """
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"A median latency is 0 to {LONGEST_SECONDS:g} seconds; got {seconds:g}.")
    rng = Random(0)  # noqa: S311 - to be repeated, not to be secret
    median = sorted(distribution.sample(rng) for _ in range(_MEDIAN_DRAWS))[_MEDIAN_DRAWS // 2]
    if isinstance(distribution, Lognormal):
        median = distribution.p50
    return Constant(seconds) if seconds == 0 or median == 0 else distribution.scale(seconds / median)


def read_duration(value: Any) -> float:
    """The seconds that `300ms`, `5s`, `10m` or `2h` says; raises `ValueError` with what is allowed."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = float(found[1]) * _SECONDS_OF_UNIT[found[2]] if found else math.inf
    if seconds > 24 * LONGEST_SECONDS:
        raise ValueError(f"{value!r} is no duration up to a day; write for example 300ms, 5s, 10m or 2h")
    return seconds


def read_distribution(value: Any, folder: Path | None) -> Distribution:
    """A distribution as it is written in a scenario; files are looked for from `folder`, None reads none.

    Raises `ValueError` with what is wrong and what is allowed.
    """
    if isinstance(value, list):
        return _read_mixture(value, folder)
    parts = _split(value) if isinstance(value, str) else value
    given = dict(parts) if isinstance(parts, Mapping) else {}
    shape = given.pop("shape", None) or _SHAPE_OF_NAMES.get(frozenset(given))
    if not isinstance(shape, str) or shape not in _READERS:
        raise ValueError(
            f"{value!r} is no distribution; write for example '250ms', 'p50=800ms p99=6s' or a shape, "
            f"one of {', '.join(_READERS)}, and its parameters"
        )
    names, read = _READERS[shape]
    if frozenset(given) not in names:
        wanted = " or ".join(" and ".join(sorted(each)) for each in names)
        raise ValueError(f"the distribution {shape} needs exactly {wanted}")
    return read(given, folder)


def _split(text: str) -> dict[str, Any]:
    """`shape name=value …` as a mapping."""
    words = text.split()
    if len(words) == 1 and "=" not in words[0] and words[0][:1].isdigit():
        return {"shape": "constant", "value": words[0]}
    shape = words.pop(0) if words and "=" not in words[0] else None
    if shape == "constant" and len(words) == 1 and "=" not in words[0]:
        return {"shape": shape, "value": words[0]}
    parts = dict(word.split("=", 1) for word in words if "=" in word)
    if len(parts) < len(words):
        raise ValueError(f"{text!r} is no distribution; write for example '250ms' or 'p50=800ms p99=6s'")
    return parts if shape is None else {"shape": shape, **parts}


def _read_constant(given: Mapping[str, Any], _: Path | None) -> Distribution:
    return Constant(_read_latency(given["value"]))


def _read_normal(given: Mapping[str, Any], _: Path | None) -> Distribution:
    return Normal(_read_latency(given["mean"]), _read_latency(given["sd"]))


def _read_lognormal(given: Mapping[str, Any], _: Path | None) -> Distribution:
    p50, p99 = _read_latency(given["p50"]), _read_latency(given["p99"])
    if p50 > p99:
        raise ValueError(f"a p50 of {given['p50']} is more than a p99 of {given['p99']}")
    return Lognormal(p50, p99)


def _read_gamma(given: Mapping[str, Any], _: Path | None) -> Distribution:
    return Gamma(_read_latency(given["mean"]), _read_number(given, "cv", 0.01, 10.0))


def _read_pareto(given: Mapping[str, Any], _: Path | None) -> Distribution:
    return Pareto(_read_latency(given["min"]), _read_number(given, "alpha", LEAST_PARETO_SHAPE, 100.0))


def _read_percentiles(given: Mapping[str, Any], _: Path | None) -> Distribution:
    """Rises steadily to the 95th and to the 99th percentile and ends as steeply.

    Where a steady rise would have to begin below zero it follows a power instead, so that the mean is right
    all the same. Of three figures this is the simplest distribution that has all of them.
    """
    mean, p95, p99 = (_read_latency(given[name]) for name in ("mean", "p95", "p99"))
    greatest = p99 + (p99 - p95) / 4
    tail = 0.04 * (p95 + p99) / 2 + 0.01 * (p99 + greatest) / 2
    body = (mean - tail) / 0.95
    if not 0 < body <= p95 <= p99:
        raise ValueError("mean, p95 and p99 contradict each other: the mean must lie below the p95")
    least = 2 * body - p95
    if least >= 0:
        return Empirical((0.0, 0.95, 0.99, 1.0), (least, p95, p99, greatest))
    power, steps = p95 / body - 1, 256
    shares = [place / steps for place in range(steps + 1)]
    return Empirical(
        (*(0.95 * share for share in shares), 0.99, 1.0),
        (*(p95 * share**power for share in shares), p99, greatest),
    )


def _read_empirical(given: Mapping[str, Any], folder: Path | None) -> Distribution:
    values = given.get("values")
    if "file" in given:
        if folder is None:
            raise ValueError("values are read from a file only where the scenario itself is one")
        path = folder / str(given["file"])
        try:
            values = [word for word in path.read_text(encoding="utf-8").replace(",", "\n").split() if word]
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the values of {path} cannot be read: {error}") from error
    if not isinstance(values, list) or not values:
        raise ValueError("an empirical distribution needs at least one value")
    return Empirical.through([_read_value(value) for value in values])


def _read_mixture(parts: list[Any], folder: Path | None) -> Distribution:
    found: list[tuple[float, Distribution]] = []
    for part in parts:
        if not isinstance(part, Mapping) or set(part) != {"weight", "latency"}:
            raise ValueError("each part of a mixture is {weight = …, latency = …}")
        weight = _read_number(part, "weight", 0.0, math.inf)
        found.append((weight, read_distribution(part["latency"], folder)))
    total = sum(weight for weight, _ in found)
    if not 0 < total < math.inf:
        raise ValueError("the weights of a mixture must add up to more than 0")
    return Mixture(tuple((weight / total, part) for weight, part in found))


def _read_latency(value: Any) -> float:
    seconds = read_duration(value)
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"{value} is longer than an hour, the longest latency")
    return seconds


def _read_value(value: Any) -> float:
    """A measured value: a duration, or a plain number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(float(value))
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value, re.ASCII):
        seconds = float(value)
        if seconds <= LONGEST_SECONDS:
            return seconds
    return _read_latency(value)


def _read_number(given: Mapping[str, Any], name: str, least: float, greatest: float) -> float:
    try:
        number = float(given[name])
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= greatest:
        bounds = f"from {least:g} to {greatest:g}" if greatest < math.inf else f"from {least:g} on"
        raise ValueError(f"{name} must be a number {bounds}; got {given[name]!r}")
    return number


def _bound(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_SECONDS)


_Reader = Callable[[Mapping[str, Any], Path | None], Distribution]
_READERS: dict[str, tuple[tuple[frozenset[str], ...], _Reader]] = {
    "constant": ((frozenset({"value"}),), _read_constant),
    "normal": ((frozenset({"mean", "sd"}),), _read_normal),
    "lognormal": ((frozenset({"p50", "p99"}),), _read_lognormal),
    "gamma": ((frozenset({"mean", "cv"}),), _read_gamma),
    "pareto": ((frozenset({"min", "alpha"}),), _read_pareto),
    "percentiles": ((frozenset({"mean", "p95", "p99"}),), _read_percentiles),
    "empirical": ((frozenset({"values"}), frozenset({"file"})), _read_empirical),
}
_SHAPE_OF_NAMES = {
    frozenset({"p50", "p99"}): "lognormal",
    frozenset({"mean", "p95", "p99"}): "percentiles",
    frozenset({"values"}): "empirical",
    frozenset({"file"}): "empirical",
}
