"""The order in which waiting requests are served: pure bookkeeping in memory, no I/O and no clock of its own.

A lane for each provider and priority, in the order of acceptance. A request gains one step of priority for
every `AGING_SECONDS` that it waits, so that a stream of urgent requests delays the others and never starves
them. A provider that admits no call now keeps its lanes, and those of the others are served.
"""

import heapq
from collections import deque
from dataclasses import dataclass

from service.contracts.requests import QueuedRequest
from service.core.ports import Admit

AGING_SECONDS = 30.0
_SPARE_DEADLINES = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request that waits; its text stays in the durable queue."""

    sequence: int
    priority: int
    accepted_unix_seconds: float
    expires_unix_seconds: float
    provider: str | None = None
    """Who is to be asked; None is the default provider of whoever serves it."""
    estimated_tokens: int = 0


def admit_all(sequence: int, provider: str | None, tokens: int) -> bool:  # noqa: ARG001 - it is an `Admit`
    """No provider has to be waited for."""
    return True


def name_provider(request: QueuedRequest) -> str | None:
    """Whom a request wants to be asked, None where it leaves that to the service."""
    overrides = request.request_data.llm_config_overrides
    provider = overrides.provider_override if overrides else None
    return None if provider is None else provider.value


class Backlog:
    """Which requests wait, who is next, and whose deadline has passed."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str | None, int], deque[Waiting]] = {}
        # What left by its deadline is still in its lane until it comes to the head: it is known by not
        # being here.
        self._present: dict[int, Waiting] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._present)

    def append(self, waiting: Waiting) -> None:
        """Adds a request behind all others of its provider and priority."""
        self._lane_of(waiting).append(waiting)
        self._enter(waiting)

    def restore(self, waiting: Waiting) -> None:
        """Puts a request that had been taken back before all others of its provider and priority."""
        self._lane_of(waiting).appendleft(waiting)
        self._enter(waiting)

    def take(self, limit: int, now_unix_seconds: float, admit: Admit = admit_all) -> list[Waiting]:
        """Removes and returns up to `limit` requests, most urgent first, of providers that admit them."""
        taken: list[Waiting] = []
        refused: set[str | None] = set()
        while len(taken) < limit:
            heads = [lane for key, lane in self._filled_lanes() if key[0] not in refused]
            if not heads:
                break
            lane = max(heads, key=lambda lane: _urgency(lane[0], now_unix_seconds))
            waiting = lane[0]
            if not admit(waiting.sequence, waiting.provider, waiting.estimated_tokens):
                refused.add(waiting.provider)
                continue
            lane.popleft()
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
        return min((lane[0].accepted_unix_seconds for _, lane in self._filled_lanes()), default=None)

    def _lane_of(self, waiting: Waiting) -> deque[Waiting]:
        key = waiting.provider, waiting.priority
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
        return lane

    def _enter(self, waiting: Waiting) -> None:
        self._present[waiting.sequence] = waiting
        heapq.heappush(self._deadlines, (waiting.expires_unix_seconds, waiting.sequence))
        if len(self._deadlines) > 2 * len(self._present) + _SPARE_DEADLINES:
            # Most deadlines are of requests that are long answered: drop those before they add up.
            self._deadlines = [(one.expires_unix_seconds, one.sequence) for one in self._present.values()]
            heapq.heapify(self._deadlines)

    def _filled_lanes(self) -> list[tuple[tuple[str | None, int], deque[Waiting]]]:
        filled = []
        for key, lane in tuple(self._lanes.items()):
            while lane and self._present.get(lane[0].sequence) is not lane[0]:
                lane.popleft()
            if lane:
                filled.append((key, lane))
            else:
                del self._lanes[key]
        return filled


def _urgency(waiting: Waiting, now_unix_seconds: float) -> tuple[float, int]:
    # Between equals the one accepted first wins, whatever the wall clock did in between.
    age_seconds = max(0.0, now_unix_seconds - waiting.accepted_unix_seconds)
    return waiting.priority + age_seconds / AGING_SECONDS, -waiting.sequence
