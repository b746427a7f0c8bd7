"""Rings of one value a second, and what is drawn of them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

NOTHING = math.nan
"""A second in which nothing was measured."""


class Ring:
    """The last `seconds` values of one figure, one a second; a second without a value is NaN."""

    def __init__(self, seconds: int) -> None:
        self._values = array("d", [NOTHING]) * seconds
        self._last: int | None = None

    def put(self, second: int, value: float) -> None:
        """The figure in that second; of several the highest, so that a peak is seen."""
        size = len(self._values)
        last = self._last
        if last is None:
            self._last = second
        elif second > last:
            for skipped in range(last + 1, min(second, last + size) + 1):
                self._values[skipped % size] = NOTHING
            self._last = second
        elif second <= last - size:
            return
        before = self._values[second % size]
        self._values[second % size] = value if math.isnan(before) else max(before, value)

    def read(self, until: int, seconds: int) -> list[float]:
        """The values of the `seconds` whole seconds that end with `until`, the oldest first."""
        size, last = len(self._values), self._last
        return [
            NOTHING if last is None or not last - size < at <= last else self._values[at % size]
            for at in range(until - seconds + 1, until + 1)
        ]


def thin(values: Sequence[float], points: int) -> list[float]:
    """At most `points` values in their place: of those that fall together the highest, so that peaks survive.

    Fewer values than points are padded with NaN at the front, so that the newest is always the last one.
    """
    count = len(values)
    if count <= points:
        return [NOTHING] * (points - count) + list(values)
    thinned = []
    for place in range(points):
        part = values[place * count // points : (place + 1) * count // points]
        measured = [value for value in part if not math.isnan(value)]
        thinned.append(max(measured) if measured else NOTHING)
    return thinned


def find_highest(values: Sequence[float]) -> float | None:
    """The highest of what was measured, None where nothing was."""
    measured = [value for value in values if not math.isnan(value)]
    return max(measured) if measured else None


def find_last(values: Sequence[float]) -> float | None:
    """The newest of what was measured, None where nothing was."""
    return next((value for value in reversed(values) if not math.isnan(value)), None)
