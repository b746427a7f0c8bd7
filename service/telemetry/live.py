"""Figures of the last seconds, for the snapshot: rates over 10 s, latency percentiles over 60 s.

A latency is counted in a log-linear bucket of the second in which it was seen (the idea of HdrHistogram,
Tene 2012, with a fixed relative error instead of digits), so a percentile comes from one small
dictionary and is off by at most 1 %. Memory is bounded by the range of values, not by their number.
"""

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

RATE_WINDOW_SECONDS = 10
LATENCY_WINDOW_SECONDS = 60
_GROWTH = 1.02
_LOG_GROWTH = math.log(_GROWTH)
_LEAST_SECONDS = 1e-6
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(slots=True)
class _Slice:
    second: int
    counts: dict[int, int] = field(default_factory=dict)
    highest: float = 0.0


class WindowedLatency:
    """One latency: its percentiles over the last minute, and its buckets since the start."""

    def __init__(self, bounds: Sequence[float], now: Callable[[], float] = time.monotonic) -> None:
        self._bounds = tuple(bounds)
        self._since_start = [0] * (len(bounds) + 1)
        self._slices: deque[_Slice] = deque()
        # The sum of all slices, kept as they come and go: a snapshot need not merge sixty of them.
        self._window: dict[int, int] = {}
        self._now = now

    def observe(self, seconds: float) -> None:
        """Counts one value."""
        self._since_start[bisect_left(self._bounds, seconds)] += 1
        second = int(self._now())
        if not self._slices or self._slices[-1].second != second:
            self._slices.append(_Slice(second))
            self._forget(second)
        current = self._slices[-1]
        index = math.ceil(math.log(max(seconds, _LEAST_SECONDS)) / _LOG_GROWTH)
        current.counts[index] = current.counts.get(index, 0) + 1
        self._window[index] = self._window.get(index, 0) + 1
        current.highest = max(current.highest, seconds)

    def summarize(self) -> dict[str, object]:
        """`p50`, `p90`, `p99`, `max` in seconds (None where nothing was seen), and `buckets`, cumulative."""
        self._forget(int(self._now()))
        highest = max((one.highest for one in self._slices), default=None)
        summary: dict[str, object] = {
            name: _quantile(self._window, quantile, highest) for name, quantile in QUANTILES.items()
        }
        summary["max"] = highest
        summary["buckets"] = self._accumulate()
        return summary

    def _accumulate(self) -> dict[str, int]:
        total = 0
        buckets = {}
        for bound, count in zip((*self._bounds, math.inf), self._since_start, strict=True):
            total += count
            buckets["+Inf" if bound == math.inf else f"{bound:g}"] = total
        return buckets

    def _forget(self, second: int) -> None:
        while self._slices and self._slices[0].second <= second - LATENCY_WINDOW_SECONDS:
            for index, count in self._slices.popleft().counts.items():
                left = self._window[index] - count
                if left:
                    self._window[index] = left
                else:
                    del self._window[index]


class WindowedCount:
    """One counter: its total since the start and its rate over the last ten seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._now = now
        self._slices: deque[tuple[int, int]] = deque()

    def add(self, amount: int = 1) -> None:
        """Counts."""
        self.total += amount
        second = int(self._now())
        if self._slices and self._slices[-1][0] == second:
            self._slices[-1] = (second, self._slices[-1][1] + amount)
        else:
            self._slices.append((second, amount))
            self._forget(second)

    def rate(self) -> float:
        """How many a second, over the last ten whole seconds."""
        second = int(self._now())
        self._forget(second)
        return sum(count for at, count in self._slices if at < second) / RATE_WINDOW_SECONDS

    def _forget(self, second: int) -> None:
        while self._slices and self._slices[0][0] < second - RATE_WINDOW_SECONDS:
            self._slices.popleft()


def _quantile(counts: Mapping[int, int], quantile: float, highest: float | None) -> float | None:
    wanted = math.ceil(sum(counts.values()) * quantile)
    seen = 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= wanted:
            # The middle of the bucket, and never beyond what was really seen.
            value = math.exp(_LOG_GROWTH * (index - 0.5))
            return value if highest is None else min(value, highest)
    return None
