"""Tallies of what happened, one a second and coarser where a run is long: bounded, and exact to merge."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from simulator.load.histogram import Histogram

_OPEN_SLICES = 16
"""Events come a little out of order; older slices are packed, which takes a third of the memory."""

TallyRow = tuple[Mapping[str, int], Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]
"""A tally as plain data: counts, packed histograms, and gauges as total, readings, greatest; each by name."""


@dataclass(slots=True)
class Gauge:
    """A value that was read now and then."""

    total: float = 0.0
    readings: int = 0
    greatest: float = -math.inf

    @property
    def mean(self) -> float:
        """Of all readings."""
        return self.total / self.readings

    def add(self, total: float, readings: int, greatest: float) -> None:
        """Takes readings in."""
        self.total += total
        self.readings += readings
        self.greatest = max(self.greatest, greatest)


@dataclass(slots=True)
class Tally:
    """Counts, latencies and gauges of one stretch of time, by name."""

    counts: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, Gauge] = field(default_factory=dict)
    _histograms: dict[str, Histogram] = field(default_factory=dict)
    _packed: dict[str, array[float]] = field(default_factory=dict)
    """Histograms as `seal` put them away; what came later stands in `_histograms` again."""

    def count(self, name: str, amount: int = 1) -> None:
        """Something happened."""
        self.counts[name] = self.counts.get(name, 0) + amount

    def time(self, name: str, seconds: float) -> None:
        """Something took so long."""
        if name not in self._histograms:
            self._histograms[name] = Histogram()
        self._histograms[name].record(seconds)

    def gauge(self, name: str, value: float) -> None:
        """Something was read off."""
        self.gauges.setdefault(name, Gauge()).add(value, 1, value)

    def find_count(self, name: str) -> int:
        """How often it happened."""
        return self.counts.get(name, 0)

    def find_histogram(self, name: str) -> Histogram | None:
        """All that was timed by that name, None if nothing was."""
        if name not in self._packed:
            return self._histograms.get(name)
        found = Histogram.unpack(self._packed[name])
        if name in self._histograms:
            found.merge(self._histograms[name])
        return found

    def seal(self) -> None:
        """Takes less memory from now on; more can still come in."""
        self._packed = {name: array("d", row) for name, row in self._pack_histograms().items()}
        self._histograms = {}

    def merge(self, row: TallyRow) -> None:
        """Takes in another one, given as a row, as if all had happened here."""
        counts, latency, gauges = row
        for name, amount in counts.items():
            self.count(name, amount)
        for name, numbers in latency.items():
            self._histograms.setdefault(name, Histogram()).merge(Histogram.unpack(numbers))
        for name, (total, readings, greatest) in gauges.items():
            self.gauges.setdefault(name, Gauge()).add(total, int(readings), greatest)

    def to_row(self) -> TallyRow:
        """All of it as plain data."""
        gauges = {name: (each.total, each.readings, each.greatest) for name, each in self.gauges.items()}
        return dict(self.counts), self._pack_histograms(), gauges

    def _pack_histograms(self) -> dict[str, list[float]]:
        found = ((name, self.find_histogram(name)) for name in {**self._packed, **self._histograms})
        return {name: histogram.pack() for name, histogram in found if histogram is not None}


class Slices:
    """Tallies by time, never more than some number of them from the first to the last.

    Where they would be more, two neighbours become one, twice as wide. Slices begin at multiples of their
    width, so what was before 0 and after it never becomes one.
    """

    def __init__(self, most: int) -> None:
        """ValueError where there is no room for a slice before 0 and one after it."""
        if most < 2:
            raise ValueError(f"figures need at least 2 slices; got {most}")
        self._most = most
        self._seconds = 1.0
        self._tallies: dict[int, Tally] = {}
        self._open: set[int] = set()

    def __iter__(self) -> Iterator[tuple[float, Tally]]:
        """When each slice begins, and its tally; ascending, without those in which nothing happened."""
        return ((place * self._seconds, tally) for place, tally in sorted(self._tallies.items()))

    @property
    def seconds(self) -> float:
        """How wide each of them is: 1, 2, 4, …"""
        return self._seconds

    @property
    def begin(self) -> float:
        """Where the first one begins; 0 where there is none."""
        return min(self._tallies, default=0) * self._seconds

    @property
    def end(self) -> float:
        """Where the last one ends; 0 where there is none."""
        return (max(self._tallies, default=-1) + 1) * self._seconds

    def at(self, moment: float) -> Tally:
        """The tally of the slice of a moment, to be added to."""
        place = int(moment // self._seconds)
        if place not in self._tallies:
            place = self._begin(moment)
        self._open.add(place)
        return self._tallies[place]

    def find(self, moment: float) -> Tally:
        """The same to be looked at; an empty one where nothing happened."""
        return self._tallies.get(int(moment // self._seconds)) or Tally()

    def _begin(self, moment: float) -> int:
        while True:
            place = int(moment // self._seconds)
            first, last = min(self._tallies, default=place), max(self._tallies, default=place)
            if max(last, place) - min(first, place) < self._most:
                break
            self._coarsen()
        for old in [each for each in self._open if each < place - _OPEN_SLICES]:
            self._tallies[old].seal()
            self._open.remove(old)
        self._tallies.setdefault(place, Tally())
        return place

    def _coarsen(self) -> None:
        pairs: dict[int, Tally] = {}
        for place, tally in self._tallies.items():
            pairs.setdefault(place // 2, Tally()).merge(tally.to_row())
        for tally in pairs.values():
            tally.seal()
        self._tallies = pairs
        self._open.clear()
        self._seconds *= 2
