"""The order in which waiting requests are served: pure bookkeeping in memory, no I/O and no clock of its own.

Ten lanes, one a priority, each in the order of acceptance. A request gains one step of priority for every
`AGING_SECONDS` that it waits, so that a stream of urgent requests delays the others and never starves them.
"""

import heapq
from collections import deque
from dataclasses import dataclass

from service.contracts.requests import MAX_PRIORITY

AGING_SECONDS = 30.0
_SPARE_DEADLINES = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request that waits; its text stays in the durable queue."""

    sequence: int
    priority: int
    accepted_unix_seconds: float
    expires_unix_seconds: float


class Backlog:
    """Which requests wait, who is next, and whose deadline has passed."""

    def __init__(self) -> None:
        self._lanes: tuple[deque[Waiting], ...] = tuple(deque() for _ in range(MAX_PRIORITY + 1))
        # What left by its deadline is still in its lane until it comes to the head: it is known by not
        # being here.
        self._present: dict[int, Waiting] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._present)

    def append(self, waiting: Waiting) -> None:
        """Adds a request behind all others of its priority."""
        self._lanes[waiting.priority].append(waiting)
        self._enter(waiting)

    def restore(self, waiting: Waiting) -> None:
        """Puts a request that had been taken back before all others of its priority."""
        self._lanes[waiting.priority].appendleft(waiting)
        self._enter(waiting)

    def take(self, limit: int, now_unix_seconds: float) -> list[Waiting]:
        """Removes and returns up to `limit` requests, most urgent first."""
        taken: list[Waiting] = []
        while self._present and len(taken) < limit:
            lane = max(self._filled_lanes(), key=lambda lane: _urgency(lane[0], now_unix_seconds))
            waiting = lane.popleft()
            del self._present[waiting.sequence]
            taken.append(waiting)
        return taken

    def take_expired(self, limit: int, now_unix_seconds: float) -> list[Waiting]:
        """Removes and returns up to `limit` requests whose deadline has passed."""
        taken: list[Waiting] = []
        while self._deadlines and self._deadlines[0][0] <= now_unix_seconds and len(taken) < limit:
            waiting = self._present.pop(heapq.heappop(self._deadlines)[1], None)
            if waiting is not None:
                taken.append(waiting)
        return taken

    def oldest_accepted_unix_seconds(self) -> float | None:
        """When the request that waits longest was accepted; None where none waits."""
        return min((lane[0].accepted_unix_seconds for lane in self._filled_lanes()), default=None)

    def _enter(self, waiting: Waiting) -> None:
        self._present[waiting.sequence] = waiting
        heapq.heappush(self._deadlines, (waiting.expires_unix_seconds, waiting.sequence))
        if len(self._deadlines) > 2 * len(self._present) + _SPARE_DEADLINES:
            # Most deadlines are of requests that are long answered: drop those before they add up.
            self._deadlines = [(one.expires_unix_seconds, one.sequence) for one in self._present.values()]
            heapq.heapify(self._deadlines)

    def _filled_lanes(self) -> list[deque[Waiting]]:
        filled = []
        for lane in self._lanes:
            while lane and self._present.get(lane[0].sequence) is not lane[0]:
                lane.popleft()
            if lane:
                filled.append(lane)
        return filled


def _urgency(waiting: Waiting, now_unix_seconds: float) -> tuple[float, int]:
    # Between equals the one accepted first wins, whatever the wall clock did in between.
    age_seconds = max(0.0, now_unix_seconds - waiting.accepted_unix_seconds)
    return waiting.priority + age_seconds / AGING_SECONDS, -waiting.sequence
