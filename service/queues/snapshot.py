"""How a queue stands at a moment."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.core.records import Quarantined


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """`QueueStats` of every queue. The oldest request is looked for only when somebody asks."""

    waiting: int
    claimed: int
    find_oldest_unix_seconds: Callable[[], float | None]
    of_caller: Callable[[str | None], int]
    """How many requests of a caller wait for their turn."""
    usable: bool = True
    elsewhere: int = 0
    """What other replicas hold, as they have last committed it."""
    settled: bool = True
    """Whether it is known what of the queue falls to this process: not while replicas share it out."""
    quarantined: Quarantined = field(default_factory=Quarantined)
    """The stored rows that cannot be read."""

    @property
    def oldest_accepted_at(self) -> datetime | None:
        """When the request that waits longest was accepted."""
        oldest = self.find_oldest_unix_seconds()
        return None if oldest is None else datetime.fromtimestamp(oldest, UTC)
