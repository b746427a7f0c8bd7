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
from service.core.charges import ChargeBook, DayCharge, find_charge
from service.core.outcome import Spent
from service.core.ports import Admit, Positions
from service.core.records import (
    Callback,
    Claim,
    Doubt,
    JournalEntry,
    JournalPage,
    OutboxEntry,
    ParkedCallback,
    Receipt,
    UsageEntry,
)
from service.queues.backlog import Backlog, Waiting, admit_all, name_model, name_provider
from service.queues.doubts import DoubtBook
from service.queues.lanes import Lanes
from service.queues.snapshot import QueueSnapshot
from service.queues.steps import Steps


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
        self._journal: list[JournalEntry] = []

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
        self._journal.extend(map(_note_delivery, entries))
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
            if doubt.event_id in standing:
                self._journal.append(_note_delivery(entry))
            else:
                self.append(dataclasses.replace(entry, stored_monotonic_seconds=None))
        self.changed.set()

    async def list_journal(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind a place, oldest first."""
        if after is not None and not after.isdecimal():
            raise ValueError("it is no place of this journal")
        start = int(after or 0)
        end = start + limit
        return JournalPage(tuple(self._journal[start:end]), str(end) if end < len(self._journal) else None)

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


def _note_delivery(entry: OutboxEntry) -> JournalEntry:
    callback = entry.callback
    return JournalEntry(
        callback.queue_id,
        callback.key,
        callback.topic,
        callback.success,
        callback.accepted_unix_seconds,
        entry.place,
        time.time(),
    )


class MemoryUsage:
    """`UsageEvents`: what requests have used, until it is told."""

    def __init__(self) -> None:
        self._entries: dict[int, UsageEntry] = {}
        self._arrived = asyncio.Event()

    def append(self, sequence: int, callback: Callback) -> None:
        """Adds a callback's event, where it has one."""
        if callback.usage is not None:
            self._entries[sequence] = UsageEntry(sequence, callback.key, callback.usage)
            self._arrived.set()

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        """The oldest of them, up to `limit`, waiting for the first."""
        while not self._entries:
            self._arrived.clear()
            await self._arrived.wait()
        return list(itertools.islice(self._entries.values(), limit))

    async def told(self, entries: Sequence[UsageEntry]) -> None:
        """Forgets those that stand on the topic."""
        for entry in entries:
            self._entries.pop(entry.sequence, None)

    def depth(self) -> int:
        """How many there are."""
        return len(self._entries)


class MemoryQueue:
    """Requests in the order of their priority and acceptance, together with their `outbox` and `usage`."""

    def __init__(self, *, idempotency_ttl_seconds: float = 86_400) -> None:
        self._idempotency_ttl_seconds = idempotency_ttl_seconds
        self._keys: dict[tuple[str | None, str], _Key] = {}
        self.outbox = MemoryOutbox()
        self.usage = MemoryUsage()
        self._backlog = Backlog()
        self._charges = ChargeBook()
        self._rows: dict[int, _Row] = {}
        self._claimed: set[int] = set()
        self._resting: set[int] = set()
        self._known: dict[str, int] = {}
        self._steps = Steps()
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
            request.caller,
            name_model(request),
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
        self._known[request.queue_id] = waiting.sequence
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

    def holds(self, queue_id: str, caller: str | None) -> bool:
        """Whether a request of this caller is held and has no outcome; None is every caller."""
        sequence = self._known.get(queue_id)
        return sequence is not None and caller in {None, self._rows[sequence].request.caller}

    async def claim_cancelled(self, queue_id: str) -> Claim | None:
        """Takes a request as soon as it waits, to end it; None where it reached its outcome first."""
        while (sequence := self._known.get(queue_id)) is not None:
            if self._backlog.discard(sequence) or sequence in self._resting:
                self._resting.discard(sequence)
                self._claimed.add(sequence)
                row = self._rows[sequence]
                return Claim(sequence, row.request, row.attempts, row.spent)
            await self._steps.wait(sequence)
        return None

    async def cancel_elsewhere(self, queue_id: str, caller: str | None) -> bool:  # noqa: ARG002
        """Nobody shares it."""
        return False

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        known = self._keys.get((caller, key))
        return None if known is None or self._is_over(known) else known.receipt

    async def list_journal(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind a place, oldest first."""
        return await self.outbox.list_journal(after, limit)

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
        self._charge(claim, spent)
        self._rows[claim.sequence].spent = spent
        self._rows[claim.sequence].attempts -= not counted
        self._resting.add(claim.sequence)
        self._steps.take(claim.sequence)
        asyncio.get_running_loop().call_later(after_seconds, self._rouse, claim.sequence)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request to the outbox."""
        self._charge(claim, callback.spent)
        del self._rows[claim.sequence]
        del self._known[claim.request.queue_id]
        self._claimed.discard(claim.sequence)
        self._steps.take(claim.sequence)
        if claim.request.idempotency_key is not None:
            known = self._keys[claim.request.caller, claim.request.idempotency_key]
            known.ended_unix_seconds = time.time()
        self.outbox.append(OutboxEntry(claim.sequence, callback, time.monotonic()))
        self.usage.append(claim.sequence, callback)

    async def list_charges(self, since: date) -> Sequence[DayCharge]:
        """What calls have used since a day."""
        return tuple(self._charges.list_since(since))

    async def spent_usd(self, day: date) -> float:
        """What all calls that ended on a day have cost, as far as it is known or estimated."""
        return self._charges.usd_of(day)

    def spent_elsewhere_usd(self, day: date) -> float:  # noqa: ARG002 - it is a `CostMemory`
        """Nothing: there is no other."""
        return 0.0

    def stats(self) -> QueueSnapshot:
        """How the queue stands at this moment."""
        return QueueSnapshot(
            waiting=len(self._backlog) + len(self._resting),
            claimed=len(self._claimed) - len(self._resting),
            find_oldest_unix_seconds=self._find_oldest,
            of_caller=self._backlog.count_of,
        )

    def _find_oldest(self) -> float | None:
        ages = [self._rows[sequence].waiting.accepted_unix_seconds for sequence in self._resting]
        head = self._backlog.oldest_accepted_unix_seconds()
        return min(ages if head is None else [*ages, head], default=None)

    def _charge(self, claim: Claim, spent: Spent) -> None:
        found = find_charge(claim.request.caller, claim.spent, spent)
        if found is not None:
            self._charges.add(datetime.now(UTC).date(), *found)

    def _is_over(self, known: _Key) -> bool:
        ended = known.ended_unix_seconds
        return ended is not None and ended + self._idempotency_ttl_seconds <= time.time()

    def _rouse(self, sequence: int) -> None:
        if sequence in self._resting:
            self._restore(sequence)

    def _restore(self, sequence: int) -> None:
        self._claimed.discard(sequence)
        self._resting.discard(sequence)
        self._backlog.restore(self._rows[sequence].waiting)
        self._steps.take(sequence)
        self._filled.set()
