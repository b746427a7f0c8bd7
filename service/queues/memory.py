"""The queue without a file, for the engine's own tests: it behaves the same and nothing survives."""

import asyncio
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.contracts.requests import QueuedRequest
from service.core.outcome import Spent
from service.core.records import Callback, Claim, OutboxEntry
from service.queues.backlog import Backlog, Waiting


@dataclass(frozen=True, slots=True)
class MemoryQueueStats:
    """How the queue stands at this moment."""

    waiting: int
    claimed: int
    oldest_accepted_at: datetime | None


@dataclass(slots=True)
class _Row:
    waiting: Waiting
    request: QueuedRequest
    attempts: int = 0
    spent: Spent = dataclasses.field(default_factory=Spent)


class MemoryOutbox:
    """Callbacks in the order in which their outcomes were stored."""

    def __init__(self) -> None:
        self._pending: deque[OutboxEntry] = deque()
        self._sending = 0
        self._filled = asyncio.Event()

    async def take(self, limit: int) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks, waiting for the first."""
        while not self._pending:
            self._filled.clear()
            await self._filled.wait()
        taken = [self._pending.popleft() for _ in range(min(limit, len(self._pending)))]
        self._sending += len(taken)
        return taken

    async def delivered(self, entries: Sequence[OutboxEntry]) -> None:
        """Forgets callbacks that the broker has acknowledged."""
        self._sending -= len(entries)

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available again after a failed send."""
        self._sending -= 1
        self.append(entry)

    def append(self, entry: OutboxEntry) -> None:
        """Adds a callback."""
        self._pending.append(entry)
        self._filled.set()

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged."""
        return len(self._pending) + self._sending


class MemoryQueue:
    """Requests in the order of their priority and acceptance, together with their `outbox`."""

    def __init__(self) -> None:
        self.outbox = MemoryOutbox()
        self._backlog = Backlog()
        self._rows: dict[int, _Row] = {}
        self._claimed: set[int] = set()
        self._filled = asyncio.Event()
        self._sequences = itertools.count(1)

    async def put(self, request: QueuedRequest) -> int:
        """Adds a request; returns its place in the queue, from 1."""
        waiting = Waiting(next(self._sequences), request.request_data.priority, request.queued_at.timestamp())
        self._rows[waiting.sequence] = _Row(waiting, request)
        self._backlog.append(waiting)
        self._filled.set()
        return len(self._backlog)

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` requests, waiting for the first."""
        while not self._backlog:
            self._filled.clear()
            await self._filled.wait()
        claims = []
        for waiting in self._backlog.take(limit, time.time()):
            row = self._rows[waiting.sequence]
            row.attempts += 1
            self._claimed.add(waiting.sequence)
            claims.append(Claim(waiting.sequence, row.request, row.attempts, row.spent))
        return claims

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start."""
        self._rows[claim.sequence].attempts -= 1
        self._restore(claim.sequence)

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        self._rows[claim.sequence].spent = spent
        asyncio.get_running_loop().call_later(after_seconds, self._restore, claim.sequence)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request to the outbox."""
        del self._rows[claim.sequence]
        self._claimed.discard(claim.sequence)
        self.outbox.append(OutboxEntry(claim.sequence, callback, time.monotonic()))

    def stats(self) -> MemoryQueueStats:
        """How the queue stands at this moment."""
        oldest = self._backlog.oldest_accepted_unix_seconds()
        return MemoryQueueStats(
            waiting=len(self._backlog),
            claimed=len(self._claimed),
            oldest_accepted_at=None if oldest is None else datetime.fromtimestamp(oldest, UTC),
        )

    def _restore(self, sequence: int) -> None:
        self._claimed.discard(sequence)
        self._backlog.restore(self._rows[sequence].waiting)
        self._filled.set()
