"""Live callbacks on their way to one listener, never more than a few."""

from __future__ import annotations

import asyncio
from collections import deque

from llmctl.client.arrivals import Arrival

MAX_WAITING_ARRIVALS = 1_000


class Feed:
    """Holds what has come; a listener that is too slow loses its place here and reads on by itself."""

    def __init__(self, limit: int = MAX_WAITING_ARRIVALS) -> None:
        self._limit = limit
        self._arrivals: deque[Arrival] = deque()
        self._changed = asyncio.Event()
        self._problem: Exception | None = None
        self._overflowed = False

    def offer(self, arrival: Arrival) -> None:
        """Takes one more, or from now on none."""
        if self._overflowed or self._problem is not None:
            return
        if len(self._arrivals) < self._limit:
            self._arrivals.append(arrival)
        else:
            self._overflowed = True
        self._changed.set()

    def fail(self, problem: Exception) -> None:
        """Nothing comes any more."""
        self._problem = self._problem or problem
        self._changed.set()

    async def take(self) -> tuple[Arrival, ...]:
        """What has come, as soon as there is something; empty where the rest has to be read elsewhere."""
        await self._changed.wait()
        found = tuple(self._arrivals)
        self._arrivals.clear()
        if found:
            if not self._overflowed and self._problem is None:
                self._changed.clear()
            return found
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        return ()
