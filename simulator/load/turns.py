"""What a sender is to send next: a schedule known beforehand, or what somebody releases one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class Arrivals(Protocol):
    """What is to be sent, in the order of its moments."""

    @property
    def is_open(self) -> bool:
        """Whether something may still come where nothing is known now."""

    def next_due(self) -> float | None:
        """When the next one is due, on the monotonic clock; None where nothing is known now."""

    def take(self) -> int:
        """The number of that one, which is then past."""


class Schedule:
    """Arrivals known beforehand; of several workers each takes every n-th."""

    is_open = False

    def __init__(
        self, chunks: Iterable[Sequence[float]], begin: float, worker: int = 0, workers: int = 1
    ) -> None:
        """`chunks` hold ascending seconds from `begin`, a moment of the monotonic clock."""
        self._begin = begin
        self._turns = _take_turns(chunks, worker, workers)
        self._next = next(self._turns, None)

    def next_due(self) -> float | None:
        """Its moment."""
        return None if self._next is None else self._begin + self._next[1]

    def take(self) -> int:
        """Its place in the whole schedule."""
        assert self._next is not None
        number = self._next[0]
        self._next = next(self._turns, None)
        return number


class Releases:
    """Arrivals that somebody releases: a closed loop. Of several workers each numbers every n-th."""

    is_open = True

    def __init__(self, worker: int = 0, workers: int = 1) -> None:
        self._number = worker
        self._step = workers
        self._moments: deque[float] = deque()

    def add(self, count: int, at: float) -> None:
        """So many more, due at a moment of the monotonic clock."""
        self._moments.extend([at] * count)

    def next_due(self) -> float | None:
        """When it was released."""
        return self._moments[0] if self._moments else None

    def take(self) -> int:
        """The next number of this worker's."""
        self._moments.popleft()
        number = self._number
        self._number += self._step
        return number


def _take_turns(chunks: Iterable[Sequence[float]], worker: int, workers: int) -> Iterator[tuple[int, float]]:
    """Number and moment of each arrival that is this worker's."""
    number, begin = worker, 0
    for chunk in chunks:
        for moment in chunk[(worker - begin) % workers :: workers]:
            yield number, moment
            number += workers
        begin += len(chunk)
