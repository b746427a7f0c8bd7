"""The queue without a file, for the engine's own tests: it behaves the same and nothing survives."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from service.contracts.requests import QueuedRequest
from service.contracts.topics import derive_event_id
from service.core.outcome import Spent
from service.core.ports import Admit, Positions
from service.core.records import Callback, Claim, Doubt, OutboxEntry, ParkedCallback, Receipt
from service.queues.backlog import Backlog, Waiting, admit_all, name_provider
from service.queues.doubts import DoubtBook
from service.queues.lanes import Lanes


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
    """The callbacks whose outcome is fixed: to be sent, doubtful, or parked."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._lanes: Lanes[OutboxEntry] = Lanes()
        self._sending = 0
        self._doubts = DoubtBook()
        self._doubtful: dict[int, OutboxEntry] = {}
        self._written: dict[str, dict[int, int]] = {}
        self._parked: dict[int, tuple[OutboxEntry, ParkedCallback]] = {}

    async def take(self, limit: int, avoid: Collection[str] = ()) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks to send, at once and perhaps none."""
        taken = self._lanes.take(limit, avoid)
        self._sending += len(taken)
        return [entry for _, entry in taken]

    async def delivered(self, entries: Sequence[OutboxEntry], positions: Positions) -> None:
        """Forgets callbacks that the broker has acknowledged, and notes how far their topics were written."""
        for topic, ends in positions.items():
            if topic not in self._doubts:
                self._written.setdefault(topic, {}).update(ends)
        self._sending -= len(entries)

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available again after a failed send."""
        self._sending -= 1
        self.append(entry)

    async def park(self, entry: OutboxEntry, reason: str) -> None:
        """Sets a callback aside that the broker refused for good."""
        callback = entry.callback
        self._sending -= 1
        self._parked[entry.sequence] = (
            entry,
            ParkedCallback(
                sequence=entry.sequence,
                queue_id=callback.queue_id,
                correlation_id=callback.key,
                topic=callback.topic,
                reason=reason,
                success=callback.success,
                size_bytes=len(callback.sealed.value),
                accepted_unix_seconds=callback.accepted_unix_seconds,
                parked_unix_seconds=time.time(),
            ),
        )

    def append(self, entry: OutboxEntry) -> None:
        """Adds a callback."""
        self._lanes.append(entry.callback.topic, entry)
        self.changed.set()

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged; parked ones are left out."""
        return len(self._lanes) + self._sending + len(self._doubts)

    def doubt(self, entry: OutboxEntry) -> None:
        """Says that an entry may have been sent: it waits until its topic was read."""
        self._sending -= 1
        self._doubtful[entry.sequence] = entry
        event_id = str(derive_event_id(entry.callback.queue_id))
        self._doubts.add(entry.callback.topic, Doubt(entry.sequence, event_id))

    async def take_doubtful(self) -> tuple[str, Sequence[Doubt]]:
        """Takes all doubtful callbacks of one topic, waiting for the first."""
        return await self._doubts.take()

    def written_until(self, topic: str) -> Mapping[int, int] | None:
        """The offset of each partition before which none of them can stand; None where none was sent."""
        return self._written.get(topic)

    async def begin_topic(self, topic: str, ends: Mapping[int, int]) -> None:
        """Notes where a topic's partitions end, before the first callback is sent there."""
        self._written[topic] = dict(ends)

    async def settle(self, topic: str, doubts: Sequence[Doubt], standing: Collection[str]) -> None:
        """Forgets those whose event ids stand on the topic; the others may be taken and sent."""
        self._doubts.settle(topic, doubts)
        for doubt in doubts:
            entry = self._doubtful.pop(doubt.sequence)
            if doubt.event_id not in standing:
                self.append(dataclasses.replace(entry, stored_monotonic_seconds=None))
        self.changed.set()

    async def list_parked(self, after: int, limit: int) -> Sequence[ParkedCallback]:
        """Up to `limit` parked callbacks whose sequence is greater than `after`, in that order."""
        return [self._parked[sequence][1] for sequence in sorted(self._parked) if sequence > after][:limit]

    async def resend(self, queue_ids: Collection[str] | None) -> int:
        """Makes parked callbacks available again, None for all; returns how many."""
        freed = [
            sequence
            for sequence, (_, parked) in sorted(self._parked.items())
            if queue_ids is None or parked.queue_id in queue_ids
        ]
        for sequence in freed:
            entry, _ = self._parked.pop(sequence)
            self.append(dataclasses.replace(entry, stored_monotonic_seconds=None))
        return len(freed)

    def parked(self) -> int:
        """How many callbacks are parked."""
        return len(self._parked)


class MemoryQueue:
    """Requests in the order of their priority and acceptance, together with their `outbox`."""

    def __init__(self, *, idempotency_ttl_seconds: float = 86_400) -> None:
        self._idempotency_ttl_seconds = idempotency_ttl_seconds
        self._keys: dict[tuple[str | None, str], _Key] = {}
        self.outbox = MemoryOutbox()
        self._backlog = Backlog()
        self._spending: dict[date, float] = {}
        self._rows: dict[int, _Row] = {}
        self._claimed: set[int] = set()
        self._resting: set[int] = set()
        self._filled = asyncio.Event()
        self._sequences = itertools.count(1)

    async def put(self, request: QueuedRequest, estimated_tokens: int = 0) -> int:
        """Adds a request; returns its place in the queue, from 1."""
        waiting = Waiting(
            next(self._sequences),
            request.request_data.priority,
            request.queued_at.timestamp(),
            request.expires_at.timestamp(),
            name_provider(request),
            estimated_tokens,
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

    async def claim(self, limit: int, admit: Admit = admit_all) -> Sequence[Claim]:
        """Takes up to `limit` requests, waiting for the first."""
        while not (taken := self._backlog.take(limit, time.time(), admit)):
            self._filled.clear()
            await self._filled.wait()
        claims = []
        for waiting in taken:
            row = self._rows[waiting.sequence]
            row.attempts += 1
            self._claimed.add(waiting.sequence)
            claims.append(Claim(waiting.sequence, row.request, row.attempts, row.spent))
        return claims

    def nudge(self) -> None:
        """Says that `admit` may answer otherwise than before."""
        self._filled.set()

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

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent, *, counted: bool = True) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        self._spend(spent.cost_usd - claim.spent.cost_usd)
        self._rows[claim.sequence].spent = spent
        self._rows[claim.sequence].attempts -= not counted
        self._resting.add(claim.sequence)
        asyncio.get_running_loop().call_later(after_seconds, self._restore, claim.sequence)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request to the outbox."""
        self._spend(callback.cost_usd - claim.spent.cost_usd)
        del self._rows[claim.sequence]
        self._claimed.discard(claim.sequence)
        if claim.request.idempotency_key is not None:
            known = self._keys[claim.request.caller, claim.request.idempotency_key]
            known.ended_unix_seconds = time.time()
        self.outbox.append(OutboxEntry(claim.sequence, callback, time.monotonic()))

    async def spent_usd(self, day: date) -> float:
        """What all calls that ended on a day have cost, as far as it is known or estimated."""
        return self._spending.get(day, 0.0)

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

    def _spend(self, usd: float) -> None:
        today = datetime.now(UTC).date()
        self._spending[today] = self._spending.get(today, 0.0) + usd

    def _is_over(self, known: _Key) -> bool:
        ended = known.ended_unix_seconds
        return ended is not None and ended + self._idempotency_ttl_seconds <= time.time()

    def _restore(self, sequence: int) -> None:
        self._claimed.discard(sequence)
        self._resting.discard(sequence)
        self._backlog.restore(self._rows[sequence].waiting)
        self._filled.set()
