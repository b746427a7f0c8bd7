"""Which callbacks may stand on their topic already; pure bookkeeping in memory."""

import asyncio
from collections.abc import Sequence

from service.core.records import Doubt


class DoubtBook:
    """Doubts by topic, from the moment they arise until the topic was read."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Doubt]] = {}
        self._open: dict[str, int] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return sum(self._open.values())

    def __contains__(self, topic: object) -> bool:
        return topic in self._open

    def add(self, topic: str, doubt: Doubt) -> None:
        """A callback may stand on this topic."""
        self._waiting.setdefault(topic, []).append(doubt)
        self._open[topic] = self._open.get(topic, 0) + 1
        self._arrived.set()

    async def take(self) -> tuple[str, Sequence[Doubt]]:
        """All doubts of one topic that nobody looks into yet, waiting for the first."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popitem()

    def settle(self, topic: str, doubts: Sequence[Doubt]) -> None:
        """These are cleared up."""
        self._open[topic] -= len(doubts)
        if not self._open[topic]:
            del self._open[topic]
