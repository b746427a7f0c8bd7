"""How much a vendor can do at once: places that are worked on, places that wait, and no more."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from simulator.provider.faults import Fault


@dataclass(frozen=True)
class Capacity:
    """What a vendor's machines can do."""

    slots: int
    """Calls that are worked on at once."""
    queue: int
    """Calls that wait for a slot."""
    overflow: Fault
    """What the next one meets."""
    slowdown_when_full: float = 1.0
    """How many times as long a call takes when all slots are taken; less in proportion before."""


class Slots:
    """Who is worked on and who waits, first come first served; the capacity may change in between."""

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def is_full(self, capacity: Capacity) -> bool:
        """Whether one more would overflow."""
        return self._busy >= capacity.slots and len(self._waiting) >= capacity.queue

    async def enter(self, capacity: Capacity) -> float:
        """Waits for a slot; returns how many times as long as usual the call takes. Ends with `leave`."""
        if self._busy >= capacity.slots:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif turn.done() and not turn.cancelled():
                    self._pass_on()  # the slot was handed over in the same moment
                raise
        else:
            self._busy += 1
        return 1.0 + (capacity.slowdown_when_full - 1.0) * min(1.0, self._busy / capacity.slots)

    def leave(self, capacity: Capacity | None) -> None:
        """Hands the slot to the next, or gives it back where there are fewer slots now."""
        if capacity is not None and self._busy > capacity.slots:
            self._busy -= 1
            return
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
