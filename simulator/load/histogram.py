"""A log-linear histogram of seconds: small, exact to merge, and off by less than 0.8 % in any percentile.

Every power of two is cut into 128 buckets of one width (the idea of HdrHistogram, Tene 2012), and only those
that are not empty are kept. The bounds are the same in every histogram and exact as floating point numbers,
so histograms of several processes, or of files, merge without any loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from math import frexp
from typing import Self

from simulator.load.run_document import Distribution

LEAST_SECONDS = 2.0**-20
"""A microsecond, about: what is shorter shares one bucket."""
LONGEST_SECONDS = 2.0**17
"""A day and a half: what took longer counts as so long."""
RELATIVE_ERROR = 2.0**-7
"""By how much a percentile may lie above the value that was recorded, from `LEAST_SECONDS` on."""

_NANOSECONDS = 1e9


class Histogram:
    """How often which number of seconds was recorded.

    It never has more than 4,738 buckets. Count, sum (in whole nanoseconds per value), least and greatest
    value are exact, so histograms are equal where the same values went in, in whatever order and parts.
    """

    __slots__ = ("_counts", "_greatest", "_least", "_nanoseconds")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._nanoseconds = 0
        self._least = math.inf
        self._greatest = -math.inf

    def record(self, seconds: float, count: int = 1) -> None:
        """Counts a value. What is negative, as stamps of two clocks can make it, counts as 0.

        ValueError where it is no finite number.
        """
        if LEAST_SECONDS <= seconds < LONGEST_SECONDS:
            mantissa, exponent = frexp(seconds)
            place = (exponent << 7) + int(mantissa * 256.0)
        else:
            seconds, place = _place_outlier(seconds)
        counts = self._counts
        counts[place] = counts.get(place, 0) + count
        self._nanoseconds += int(seconds * _NANOSECONDS + 0.5) * count
        if seconds > self._greatest:
            self._greatest = seconds
        if seconds < self._least:
            self._least = seconds

    def merge(self, other: Histogram) -> None:
        """Takes another one in, as if its values had been recorded here."""
        counts = self._counts
        for place, count in other._counts.items():
            counts[place] = counts.get(place, 0) + count
        self._nanoseconds += other._nanoseconds
        self._least = min(self._least, other._least)
        self._greatest = max(self._greatest, other._greatest)

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self._counts.values())

    @property
    def sum(self) -> float:
        """All values together."""
        return self._nanoseconds / _NANOSECONDS

    @property
    def mean(self) -> float:
        """Their mean; ValueError where there is none."""
        return self.sum / self._require_values()

    @property
    def least(self) -> float:
        """The shortest; ValueError where there is none."""
        self._require_values()
        return self._least

    @property
    def greatest(self) -> float:
        """The longest; ValueError where there is none."""
        self._require_values()
        return self._greatest

    def percentile(self, share: float) -> float:
        """The value that so large a share (above 0, up to 1) of all values does not exceed, by nearest rank.

        It is the upper bound of that value's bucket, or the greatest value where this is less: never below
        the true one, so that no threshold is kept by rounding, and at most `RELATIVE_ERROR` above it.
        """
        count = self._require_values()
        if not 0 < share <= 1:
            raise ValueError(f"a percentile is asked for as a share above 0, up to 1; got {share:g}")
        # Rounded first: 0.07 * 100 is a little more than 7, and its ceiling 8.
        rank = math.ceil(round(share * count, 6))
        seen = 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            if seen >= rank:
                return min(_find_lower_bound(place + 1), self._greatest)
        raise AssertionError("the ranks end with the count")

    def to_distribution(self) -> Distribution:
        """The figures and buckets for `run.json`; ValueError where nothing was recorded."""
        return Distribution(
            count=self.count,
            mean=self.mean,
            p50=self.percentile(0.5),
            p90=self.percentile(0.9),
            p99=self.percentile(0.99),
            p999=self.percentile(0.999),
            max=self.greatest,
            buckets=tuple(
                (_find_lower_bound(place + 1), count) for place, count in sorted(self._counts.items())
            ),
        )

    @classmethod
    def from_buckets(cls, buckets: Iterable[tuple[float, int]], *, mean: float, greatest: float) -> Self:
        """The histogram behind a `Distribution`: upper bounds and counts, mean and greatest value.

        The least value is not kept there; here it is the lower bound of the first bucket. ValueError where a
        bound is none of ours, because that could not merge exactly, or a count is not positive.
        """
        histogram = cls()
        for bound, count in buckets:
            place = _find_place_below(bound)
            if count < 1:
                raise ValueError(f"the bucket up to {bound:g} s counts {count}; it must be at least 1")
            histogram._counts[place] = histogram._counts.get(place, 0) + count
        if histogram._counts:
            histogram._nanoseconds = round(mean * histogram.count * _NANOSECONDS)
            histogram._least = min(_find_lower_bound(min(histogram._counts)), greatest)
            histogram._greatest = greatest
        return histogram

    def pack(self) -> list[float]:
        """All of it as one row of numbers, for JSON or pickle; empty where nothing was recorded.

        Sum in nanoseconds, least, greatest, then place and count of each bucket.
        """
        if not self._counts:
            return []
        row: list[float] = [self._nanoseconds, self._least, self._greatest]
        for pair in self._counts.items():
            row.extend(pair)
        return row

    @classmethod
    def unpack(cls, row: Sequence[float]) -> Self:
        """The histogram that `pack` made the row of."""
        histogram = cls()
        if row:
            histogram._nanoseconds = int(row[0])
            histogram._least, histogram._greatest = row[1], row[2]
            histogram._counts = {
                int(place): int(count) for place, count in zip(row[3::2], row[4::2], strict=True)
            }
        return histogram

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and (
            (self._counts, self._nanoseconds, self._least, self._greatest)
            == (other._counts, other._nanoseconds, other._least, other._greatest)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _require_values(self) -> int:
        if not self._counts:
            raise ValueError("nothing was recorded, so there is no such figure")
        return self.count


def _find_place(seconds: float) -> int:
    mantissa, exponent = frexp(seconds)
    return (exponent << 7) + int(mantissa * 256.0)


_LEAST_PLACE = _find_place(LEAST_SECONDS) - 1
_LAST_PLACE = _find_place(LONGEST_SECONDS)


def _place_outlier(seconds: float) -> tuple[float, int]:
    """The value as it counts and its place, for what lies outside the range."""
    if not math.isfinite(seconds):
        raise ValueError(f"a histogram takes finite numbers of seconds; got {seconds}")
    if seconds < LEAST_SECONDS:
        return max(seconds, 0.0), _LEAST_PLACE
    return LONGEST_SECONDS, _LAST_PLACE


def _find_lower_bound(place: int) -> float:
    """Where a bucket begins, which is where the one before it ends."""
    if place <= _LEAST_PLACE:
        return 0.0
    exponent, step = divmod(place - 128, 128)
    return math.ldexp(128 + step, exponent - 8)


def _find_place_below(bound: float) -> int:
    """The place whose bucket ends at `bound`."""
    if math.isfinite(bound) and bound >= LEAST_SECONDS:
        place = _find_place(bound) - 1
        if place <= _LAST_PLACE and _find_lower_bound(place + 1) == bound:
            return place
    raise ValueError(f"{bound!r} s is no bound of a bucket of this histogram; its buckets cannot be merged")
