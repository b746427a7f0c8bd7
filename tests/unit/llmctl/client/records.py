"""Records as the consumer returns them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from llmctl.client.arrivals import Arrival

KEY = UUID(int=7)


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0


def make_arrival(queue_id: str | None, *, offset: int = 0, key: UUID = KEY, value: bytes = b"{") -> Arrival:
    """A record of the topic `t` for a request; its value is not a callback unless one is given."""
    headers = [] if queue_id is None else [("request_id", queue_id.encode())]
    return Arrival(Record("t", 0, offset, str(key).encode(), value, headers))
