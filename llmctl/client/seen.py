"""Which events were seen lately."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

REMEMBERED_EVENTS = 10_000
"""As many as a service keeps undelivered unless told otherwise: what it sends twice lies no further apart."""


class SeenEvents:
    """Remembers the last so many different events."""

    def __init__(self, limit: int = REMEMBERED_EVENTS) -> None:
        self._limit = limit
        self._ids: OrderedDict[UUID, None] = OrderedDict()

    def is_copy(self, event_id: UUID) -> bool:
        """Whether the event is remembered; from now on it is."""
        known = event_id in self._ids
        self._ids[event_id] = None
        self._ids.move_to_end(event_id)
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return known
