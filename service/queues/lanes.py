"""The order in which callbacks are handed out: a lane for each topic, and the topics take turns."""

from collections import deque
from collections.abc import Collection
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Lanes(Generic[ItemT]):
    """What waits to be sent, first come first served within a topic; pure bookkeeping in memory."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[ItemT]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, topic: str, item: ItemT) -> None:
        """Adds an item behind all others of its topic."""
        self._lanes.setdefault(topic, deque()).append(item)
        self._length += 1

    def restore(self, topic: str, items: Collection[ItemT]) -> None:
        """Puts items that had been taken back before all others of their topic, in this order."""
        self._lanes.setdefault(topic, deque()).extendleft(reversed(tuple(items)))
        self._length += len(items)

    def take(self, limit: int, avoid: Collection[str] = ()) -> list[tuple[str, ItemT]]:
        """Removes and returns up to `limit` items, an equal share of each topic that is not in `avoid`."""
        taken: list[tuple[str, ItemT]] = []
        turns = [topic for topic in self._lanes if topic not in avoid]
        while turns and len(taken) < limit:
            share = max(1, (limit - len(taken)) // len(turns))
            for topic in turns[: limit - len(taken)]:
                lane = self._lanes[topic]
                taken.extend((topic, lane.popleft()) for _ in range(min(share, len(lane))))
                # Whoever had a turn is last in the next one, also in the next call.
                del self._lanes[topic]
                if lane:
                    self._lanes[topic] = lane
            turns = [topic for topic in turns if topic in self._lanes]
        self._length -= len(taken)
        return taken
