"""Counters that only rise, until the process that counts starts anew."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Counter:
    """One counter followed over restarts: after one it counts from zero, and what it then says is all new."""

    last: float | None = None
    grown: float = 0.0
    """By how much it has risen since it was first seen, restarts included."""

    def advance(self, value: float) -> float:
        """Takes the next reading in; by how much it has risen since the one before, 0 for the first."""
        last, self.last = self.last, value
        if last is None:
            return 0.0
        risen = value - last if value >= last else value
        self.grown += risen
        return risen


class BucketWindow:
    """Percentiles of any window of the past, out of a histogram's buckets that are counted since the start.

    The counts at its two ends are subtracted, as `histogram_quantile(rate(…))` of Prometheus does it, and a
    value is placed within its bucket in proportion; so it is as fine as the buckets are.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._bounds: tuple[float, ...] = ()
        self._counters: list[Counter] = []
        self._readings: deque[tuple[int, tuple[float, ...]]] = deque()

    def take(self, second: int, buckets: Mapping[str, float]) -> None:
        """A reading: upper bound (`+Inf` is the last) → how many values there were up to it."""
        bounds = tuple(sorted(math.inf if bound == "+Inf" else float(bound) for bound in buckets))
        if bounds != self._bounds:  # another version of the service: its counts cannot be compared
            self._bounds = bounds
            self._counters = [Counter() for _ in bounds]
            self._readings.clear()
        counts = sorted(buckets.values())  # cumulative, so in the order of their bounds
        if any(count < (each.last or 0.0) for each, count in zip(self._counters, counts, strict=True)):
            for each in self._counters:  # a restart is one for all, also where a bucket has caught up
                each.last = 0.0
        for counter, count in zip(self._counters, counts, strict=True):
            counter.advance(count)
        grown = tuple(counter.grown for counter in self._counters)
        if self._readings and self._readings[-1][0] == second:
            self._readings[-1] = (second, grown)
        else:
            self._readings.append((second, grown))
        while self._readings[0][0] < second - self._seconds:
            self._readings.popleft()

    def count(self, until: int, seconds: int) -> float:
        """How many values there were in the window."""
        counts = self._subtract(until, seconds)
        return counts[-1] if counts else 0.0

    def percentile(self, share: float, until: int, seconds: int) -> float | None:
        """The value below which `share` of those in the window lie, in seconds; None of none."""
        counts = self._subtract(until, seconds)
        if not counts or counts[-1] <= 0:
            return None
        wanted = share * counts[-1]
        below_bound, below_count = 0.0, 0.0
        for bound, count in zip(self._bounds, counts, strict=True):
            if count >= wanted and count > below_count:
                if bound == math.inf:
                    return below_bound  # all that is known is that it is longer
                return below_bound + (bound - below_bound) * (wanted - below_count) / (count - below_count)
            below_bound, below_count = bound, count
        return below_bound

    def _subtract(self, until: int, seconds: int) -> Sequence[float]:
        if not self._readings:
            return ()
        begins = until - seconds
        first = self._readings[0][1]
        for second, counts in reversed(self._readings):
            if second <= begins:
                first = counts
                break
        return [now - before for now, before in zip(self._readings[-1][1], first, strict=True)]
