"""The order in which waiting requests are served: pure bookkeeping in memory, no I/O and no clock of its own.

Ten lanes, one a priority, each in the order of acceptance. A request gains one step of priority for every
`AGING_SECONDS` that it waits, so that a stream of urgent requests delays the others and never starves them.
"""

from collections import deque
from dataclasses import dataclass

from service.contracts.requests import MAX_PRIORITY

AGING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request that waits; its text stays in the durable queue."""

    sequence: int
    priority: int
    accepted_unix_seconds: float


class Backlog:
    """Which requests wait, and who is next."""

    def __init__(self) -> None:
        self._lanes: tuple[deque[Waiting], ...] = tuple(deque() for _ in range(MAX_PRIORITY + 1))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, waiting: Waiting) -> None:
        """Adds a request behind all others of its priority."""
        self._lanes[waiting.priority].append(waiting)
        self._size += 1

    def restore(self, waiting: Waiting) -> None:
        """Puts a request that had been taken back before all others of its priority."""
        self._lanes[waiting.priority].appendleft(waiting)
        self._size += 1

    def take(self, limit: int, now_unix_seconds: float) -> list[Waiting]:
        """Removes and returns up to `limit` requests, most urgent first."""
        taken: list[Waiting] = []
        while self._size and len(taken) < limit:
            lane = max(
                (lane for lane in self._lanes if lane), key=lambda lane: _urgency(lane[0], now_unix_seconds)
            )
            taken.append(lane.popleft())
            self._size -= 1
        return taken

    def oldest_accepted_unix_seconds(self) -> float | None:
        """When the request that waits longest was accepted; None where none waits."""
        heads = [lane[0].accepted_unix_seconds for lane in self._lanes if lane]
        return min(heads, default=None)


def _urgency(waiting: Waiting, now_unix_seconds: float) -> tuple[float, int]:
    # Between equals the one accepted first wins, whatever the wall clock did in between.
    age_seconds = max(0.0, now_unix_seconds - waiting.accepted_unix_seconds)
    return waiting.priority + age_seconds / AGING_SECONDS, -waiting.sequence
