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
from service.core.records import Callback, Claim, OutboxEntry, Receipt
from service.queues.backlog import Backlog, Waiting


@dataclass(frozen=True, slots=True)
class MemoryQueueStats:
    """How the queue stands at this moment."""

    waiting: int
    claimed: int
    oldest_accepted_at: datetime | None
    usable: bool = True


@dataclass(slots=True)
class _Row:
    waiting: Waiting
    request: QueuedRequest
    attempts: int = 0
    spent: Spent = dataclasses.field(default_factory=Spent)


@dataclass(slots=True)
class _Key:
    receipt: Receipt
    ended_unix_seconds: float | None = None


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

    def __init__(self, *, idempotency_ttl_seconds: float = 86_400) -> None:
        self._idempotency_ttl_seconds = idempotency_ttl_seconds
        self._keys: dict[tuple[str | None, str], _Key] = {}
        self.outbox = MemoryOutbox()
        self._backlog = Backlog()
        self._rows: dict[int, _Row] = {}
        self._claimed: set[int] = set()
        self._resting: set[int] = set()
        self._filled = asyncio.Event()
        self._sequences = itertools.count(1)

    async def put(self, request: QueuedRequest) -> int:
        """Adds a request; returns its place in the queue, from 1."""
        waiting = Waiting(
            next(self._sequences),
            request.request_data.priority,
            request.queued_at.timestamp(),
            request.expires_at.timestamp(),
        )
        if request.idempotency_key is not None:
            receipt = Receipt(
                request.queue_id,
                request.correlation_id,
                request.callback_topic,
                request.body_digest or "",
            )
            self._keys[request.caller, request.idempotency_key] = _Key(receipt)
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

    async def claim_expired(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` waiting requests whose deadline has passed; counts no attempt."""
        claims = []
        for waiting in self._backlog.take_expired(limit, time.time()):
            row = self._rows[waiting.sequence]
            self._claimed.add(waiting.sequence)
            claims.append(Claim(waiting.sequence, row.request, row.attempts, row.spent))
        return claims

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        known = self._keys.get((caller, key))
        return None if known is None or self._is_over(known) else known.receipt

    async def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        over = [scope for scope, known in self._keys.items() if self._is_over(known)]
        for scope in over:
            del self._keys[scope]
        return len(over)

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start."""
        self._rows[claim.sequence].attempts -= 1
        self._restore(claim.sequence)

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        self._rows[claim.sequence].spent = spent
        self._resting.add(claim.sequence)
        asyncio.get_running_loop().call_later(after_seconds, self._restore, claim.sequence)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request to the outbox."""
        del self._rows[claim.sequence]
        self._claimed.discard(claim.sequence)
        if claim.request.idempotency_key is not None:
            known = self._keys[claim.request.caller, claim.request.idempotency_key]
            known.ended_unix_seconds = time.time()
        self.outbox.append(OutboxEntry(claim.sequence, callback, time.monotonic()))

    def stats(self) -> MemoryQueueStats:
        """How the queue stands at this moment."""
        ages = [self._rows[sequence].waiting.accepted_unix_seconds for sequence in self._resting]
        head = self._backlog.oldest_accepted_unix_seconds()
        oldest = min(ages if head is None else [*ages, head], default=None)
        return MemoryQueueStats(
            waiting=len(self._backlog) + len(self._resting),
            claimed=len(self._claimed) - len(self._resting),
            oldest_accepted_at=None if oldest is None else datetime.fromtimestamp(oldest, UTC),
        )

    def _is_over(self, known: _Key) -> bool:
        ended = known.ended_unix_seconds
        return ended is not None and ended + self._idempotency_ttl_seconds <= time.time()

    def _restore(self, sequence: int) -> None:
        self._claimed.discard(sequence)
        self._resting.discard(sequence)
        self._backlog.restore(self._rows[sequence].waiting)
        self._filled.set()
