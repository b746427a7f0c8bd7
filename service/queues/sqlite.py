"""The default queue: requests and callbacks in one SQLite file that one process owns.

A row is in one of three states: it stands in `request` (accepted), it has moved to `callback` (its outcome
is fixed), or it is gone (the broker has acknowledged the callback). A callback that the broker refused for
good stays in `callback`, marked as parked. Which requests are being worked on is known in memory alone: at
the start nothing is running, so every row is free, and no clock or lease is in the protocol.
"""

import asyncio
import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
import structlog
from pydantic import TypeAdapter

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import QueuedRequest
from service.contracts.topics import derive_event_id
from service.core.outcome import AttemptRecord, Spent, Usage
from service.core.ports import Admit, Positions
from service.core.records import Callback, Claim, Doubt, OutboxEntry, ParkedCallback, Receipt
from service.queues.backlog import Backlog, Waiting, admit_all, name_provider
from service.queues.doubts import DoubtBook
from service.queues.lanes import Lanes
from service.queues.sqlite_file import Row, SqliteFile, Statement
from service.queues.unread import UnreadRequests

MAX_CALLBACKS_IN_MEMORY = 2000
"""Beyond this many, a callback is read back from the file when its turn has come."""

DAYS_OF_SPENDING = 40

_PUT = (
    "INSERT INTO request "
    "(sequence, accepted_unix_seconds, expires_unix_seconds, priority, provider, estimated_tokens, attempts, "
    "payload) VALUES (?, ?, ?, ?, ?, ?, 0, ?)"
)
_REMEMBER = (
    "INSERT OR REPLACE INTO idempotency "
    "(caller, key, queue_id, correlation_id, callback_topic, body_digest) VALUES (?, ?, ?, ?, ?, ?)"
)
_RECALL = (
    "SELECT queue_id, correlation_id, callback_topic, body_digest FROM idempotency "
    "WHERE caller = ? AND key = ? AND (ended_unix_seconds IS NULL OR ended_unix_seconds > ?)"
)
_END_KEY = "UPDATE idempotency SET ended_unix_seconds = ? WHERE caller = ? AND key = ?"
_FORGET_KEYS = "DELETE FROM idempotency WHERE ended_unix_seconds <= ? RETURNING key"
_COUNT_ATTEMPT = "UPDATE request SET attempts = attempts + 1 WHERE sequence = ?"
_UNCOUNT_ATTEMPT = "UPDATE request SET attempts = attempts - 1 WHERE sequence = ?"
_SPEND = "UPDATE request SET spent = ? WHERE sequence = ?"
_READ_REQUESTS = (
    "SELECT sequence, attempts, spent, payload FROM request "
    "WHERE sequence IN (SELECT value FROM json_each(?)) ORDER BY sequence"
)
_SPEND_ON_DAY = (
    "INSERT INTO spending (day, usd) VALUES (?, ?) ON CONFLICT (day) DO UPDATE SET usd = usd + excluded.usd"
)
_READ_DAY = "SELECT usd FROM spending WHERE day = ?"
_FORGET_DAYS = "DELETE FROM spending WHERE day < ?"
_LEAVE_QUEUE = "DELETE FROM request WHERE sequence = ?"
_ENTER_OUTBOX = (
    "INSERT INTO callback (sequence, accepted_unix_seconds, queue_id, topic, key, success, headers, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LEAVE_OUTBOX = "DELETE FROM callback WHERE sequence = ?"
_READ_CALLBACKS = (
    "SELECT sequence, accepted_unix_seconds, queue_id, topic, key, success, headers, value FROM callback "
    "WHERE sequence IN (SELECT value FROM json_each(?))"
)


_WRITTEN = "INSERT OR REPLACE INTO written (topic, partition, offset) VALUES (?, ?, ?)"
_READ_WRITTEN = "SELECT topic, partition, offset FROM written"
_READ_UNSENT = "SELECT sequence, topic, queue_id FROM callback WHERE parked_reason IS NULL ORDER BY sequence"
_READ_TOTALS = "SELECT count(parked_reason), coalesce(max(sequence), 0) FROM callback"
_PARK = "UPDATE callback SET parked_reason = ?, parked_unix_seconds = ? WHERE sequence = ?"
_UNPARK = (
    "UPDATE callback SET parked_reason = NULL, parked_unix_seconds = NULL WHERE parked_reason IS NOT NULL "
    "AND (? IS NULL OR queue_id IN (SELECT value FROM json_each(?))) RETURNING sequence, topic"
)
_READ_PARKED = (
    "SELECT sequence, queue_id, key, topic, parked_reason, success, length(value), accepted_unix_seconds, "
    "parked_unix_seconds FROM callback WHERE parked_reason IS NOT NULL AND sequence > ? "
    "ORDER BY sequence LIMIT ?"
)


_REQUESTS = TypeAdapter(QueuedRequest)
"""Writes a request as bytes, without a text between."""


@dataclass(frozen=True, slots=True)
class SqliteQueueStats:
    """How the queue stands at this moment."""

    waiting: int
    claimed: int
    oldest_accepted_at: datetime | None
    usable: bool


_log = structlog.get_logger("service.queue")


class _Pending(NamedTuple):
    sequence: int
    stored_monotonic_seconds: float | None
    callback: Callback | None
    """None where it has to be read back from the file."""


class SqliteOutbox:
    """The callbacks in the file: to be sent, doubtful, or parked."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.changed = asyncio.Event()
        self._lanes: Lanes[_Pending] = Lanes()
        self._in_memory = 0
        self._sending = 0
        self._doubts = DoubtBook()
        self._written: dict[str, dict[int, int]] = {}
        self._parked = 0

    async def open(self) -> int:
        """Takes up what stands in the file; returns the greatest sequence in it."""
        for topic, partition, offset in await self._query(Statement(_READ_WRITTEN)):
            self._written.setdefault(topic, {})[partition] = offset
        ((self._parked, last),) = await self._query(Statement(_READ_TOTALS))
        for sequence, topic, queue_id in await self._query(Statement(_READ_UNSENT)):
            if topic in self._written:
                # It may have been sent by the process before this one.
                self._doubts.add(topic, Doubt(sequence, str(derive_event_id(queue_id))))
            else:
                self._lanes.append(topic, _Pending(sequence, None, None))
        return int(last)

    async def take(self, limit: int, avoid: Collection[str] = ()) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks to send, at once and perhaps none."""
        taken = self._lanes.take(limit, avoid)
        if not taken:
            return ()
        self._sending += len(taken)
        absent = [pending.sequence for _, pending in taken if pending.callback is None]
        self._in_memory -= len(taken) - len(absent)
        try:
            read_back = await self._read(absent) if absent else {}
        except BaseException:
            self._sending -= len(taken)
            self._in_memory += len(taken) - len(absent)
            for topic, pending in reversed(taken):
                self._lanes.restore(topic, [pending])
            raise
        return [
            OutboxEntry(
                pending.sequence,
                pending.callback or read_back[pending.sequence],
                pending.stored_monotonic_seconds,
            )
            for _, pending in taken
        ]

    async def delivered(self, entries: Sequence[OutboxEntry], positions: Positions) -> None:
        """Deletes callbacks that the broker has acknowledged, and notes how far their topics were written."""
        reached = {topic: ends for topic, ends in positions.items() if topic not in self._doubts}
        await self._file.submit(
            [
                *(Statement(_LEAVE_OUTBOX, (entry.sequence,)) for entry in entries),
                *_write_positions(reached),
            ]
        )
        for topic, ends in reached.items():
            self._written.setdefault(topic, {}).update(ends)
        self._sending -= len(entries)

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available again after a failed send."""
        self._sending -= 1
        self.append(entry.sequence, entry.stored_monotonic_seconds, entry.callback)

    async def park(self, entry: OutboxEntry, reason: str) -> None:
        """Sets a callback aside that the broker refused for good."""

        def count() -> None:
            self._sending -= 1
            self._parked += 1

        await self._file.submit([Statement(_PARK, (reason, time.time(), entry.sequence))], on_commit=count)

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged; parked ones are left out."""
        return len(self._lanes) + self._sending + len(self._doubts)

    def append(self, sequence: int, stored_monotonic_seconds: float | None, callback: Callback) -> None:
        """Adds a callback that stands in the file; keeps it in memory only while there are few."""
        kept = callback if self._in_memory < MAX_CALLBACKS_IN_MEMORY else None
        self._in_memory += kept is not None
        self._lanes.append(callback.topic, _Pending(sequence, stored_monotonic_seconds, kept))
        self.changed.set()

    def doubt(self, entry: OutboxEntry) -> None:
        """Says that an entry may have been sent: it waits until its topic was read."""
        self._sending -= 1
        callback = entry.callback
        self._doubts.add(callback.topic, Doubt(entry.sequence, str(derive_event_id(callback.queue_id))))

    async def take_doubtful(self) -> tuple[str, Sequence[Doubt]]:
        """Takes all doubtful callbacks of one topic, waiting for the first."""
        return await self._doubts.take()

    def written_until(self, topic: str) -> Mapping[int, int] | None:
        """The offset of each partition before which none of them can stand; None where none was sent."""
        return self._written.get(topic)

    async def begin_topic(self, topic: str, ends: Mapping[int, int]) -> None:
        """Notes where a topic's partitions end, before the first callback is sent there."""
        await self._file.submit(_write_positions({topic: ends}))
        self._written[topic] = dict(ends)

    async def settle(self, topic: str, doubts: Sequence[Doubt], standing: Collection[str]) -> None:
        """Forgets those whose event ids stand on the topic; the others may be taken and sent."""
        forgotten = [
            Statement(_LEAVE_OUTBOX, (doubt.sequence,)) for doubt in doubts if doubt.event_id in standing
        ]
        await self._file.submit(forgotten)
        self._doubts.settle(topic, doubts)
        for doubt in doubts:
            if doubt.event_id not in standing:
                self._lanes.append(topic, _Pending(doubt.sequence, None, None))
        self.changed.set()

    async def list_parked(self, after: int, limit: int) -> Sequence[ParkedCallback]:
        """Up to `limit` parked callbacks whose sequence is greater than `after`, in that order."""
        rows = await self._query(Statement(_READ_PARKED, (after, limit)))
        return [_read_parked(row) for row in rows]

    async def resend(self, queue_ids: Collection[str] | None) -> int:
        """Makes parked callbacks available again, None for all; returns how many."""
        # What the file has let go must come into memory, also where whoever asked has gone away.
        return await asyncio.shield(asyncio.ensure_future(self._unpark(queue_ids)))

    async def _unpark(self, queue_ids: Collection[str] | None) -> int:
        wanted = None if queue_ids is None else orjson.dumps(list(queue_ids)).decode()
        freed = await self._query(Statement(_UNPARK, (wanted, wanted)))
        for sequence, topic in sorted(freed):
            self._lanes.append(topic, _Pending(sequence, None, None))
        self._parked -= len(freed)
        self.changed.set()
        return len(freed)

    def parked(self) -> int:
        """How many callbacks are parked."""
        return self._parked

    async def _read(self, sequences: list[int]) -> dict[int, Callback]:
        rows = await self._query(Statement(_READ_CALLBACKS, (orjson.dumps(sequences).decode(),)))
        return {row[0]: _read_callback(row) for row in rows}

    async def _query(self, query: Statement) -> list[Row]:
        return await self._file.submit((), query=query)


def _read_parked(row: Row) -> ParkedCallback:
    (
        sequence,
        queue_id,
        key,
        topic,
        reason,
        success,
        size_bytes,
        accepted_unix_seconds,
        parked_unix_seconds,
    ) = row
    return ParkedCallback(
        sequence=sequence,
        queue_id=queue_id,
        correlation_id=key,
        topic=topic,
        reason=reason,
        success=bool(success),
        size_bytes=size_bytes,
        accepted_unix_seconds=accepted_unix_seconds,
        parked_unix_seconds=parked_unix_seconds,
    )


def _write_positions(positions: Positions) -> list[Statement]:
    return [
        Statement(_WRITTEN, (topic, partition, offset))
        for topic, ends in positions.items()
        for partition, offset in ends.items()
    ]


class SqliteQueue:
    """The requests in the file. One instance owns it, together with its `outbox`."""

    def __init__(self, path: Path, *, idempotency_ttl_seconds: float = 86_400) -> None:
        self._file = SqliteFile(path)
        self._idempotency_ttl_seconds = idempotency_ttl_seconds
        self.outbox = SqliteOutbox(self._file)
        self._backlog = Backlog()
        self._filled = asyncio.Event()
        self._claimed: dict[int, Waiting] = {}
        self._resting: dict[int, Waiting] = {}
        self._unread = UnreadRequests()
        self._sequences: Iterator[int] = itertools.count(1)

    async def open(self) -> None:
        """Opens the file and takes up what stands in it. Raises `QueueUnavailable`."""
        await self._file.open()
        requests = await self._file.submit(
            (),
            query=Statement(
                "SELECT sequence, priority, accepted_unix_seconds, expires_unix_seconds, provider, "
                "estimated_tokens FROM request ORDER BY sequence"
            ),
        )
        last = await self.outbox.open()
        for row in requests:
            self._offer(Waiting(*row))
            last = max(last, row[0])
        self._sequences = itertools.count(last + 1)

    async def close(self) -> None:
        """Writes what was handed over and gives the file back."""
        await self._file.close()

    async def put(self, request: QueuedRequest, estimated_tokens: int = 0) -> int:
        """Makes a request durable; returns its place in the queue, from 1."""
        waiting = Waiting(
            next(self._sequences),
            request.request_data.priority,
            request.queued_at.timestamp(),
            request.expires_at.timestamp(),
            name_provider(request),
            estimated_tokens,
        )
        payload = _REQUESTS.dump_json(request)
        statements = [
            Statement(
                _PUT,
                (
                    waiting.sequence,
                    waiting.accepted_unix_seconds,
                    waiting.expires_unix_seconds,
                    waiting.priority,
                    waiting.provider,
                    waiting.estimated_tokens,
                    payload,
                ),
            )
        ]
        if request.idempotency_key is not None:
            statements.append(
                Statement(
                    _REMEMBER,
                    (
                        request.caller or "",
                        request.idempotency_key,
                        request.queue_id,
                        str(request.correlation_id),
                        request.callback_topic,
                        request.body_digest,
                    ),
                )
            )

        def offer() -> None:
            self._unread.keep(waiting.sequence, request, len(payload))
            self._offer(waiting)

        await self._file.submit(statements, on_commit=offer)
        return max(1, len(self._backlog))

    async def claim(self, limit: int, admit: Admit = admit_all) -> Sequence[Claim]:
        """Takes up to `limit` requests, waiting for the first; each attempt is counted durably."""
        while not (taken := self._backlog.take(limit, time.time(), admit)):
            self._filled.clear()
            await self._filled.wait()
        return await self._claim(taken, _COUNT_ATTEMPT)

    def nudge(self) -> None:
        """Says that `admit` may answer otherwise than before."""
        self._filled.set()

    async def claim_expired(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` waiting requests whose deadline has passed; counts no attempt."""
        expired = self._backlog.take_expired(limit, time.time())
        return await self._claim(expired, None) if expired else ()

    async def _claim(self, taken: list[Waiting], counting: str | None) -> Sequence[Claim]:
        self._claimed.update((waiting.sequence, waiting) for waiting in taken)
        sequences = [waiting.sequence for waiting in taken]
        attempt = 0 if counting is None else 1
        claims = {
            sequence: Claim(sequence, request, attempt, Spent())
            for sequence in sequences
            if (request := self._unread.take(sequence)) is not None
        }
        absent = [sequence for sequence in sequences if sequence not in claims]
        read = self._file.submit(
            [Statement(counting, (sequence,)) for sequence in sequences] if counting else (),
            query=Statement(_READ_REQUESTS, (orjson.dumps(absent).decode(),)) if absent else None,
        )
        try:
            rows = await asyncio.shield(read)
        except asyncio.CancelledError:
            read.add_done_callback(
                lambda done: self._abandon(taken, uncount=counting is not None and done.exception() is None)
            )
            raise
        except BaseException:
            self._restore(taken)
            raise
        for row in rows:
            if (claim := _try_read_claim(row)) is not None:
                claims[claim.sequence] = claim
        return [claims[sequence] for sequence in sequences if sequence in claims]

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start."""
        waiting = self._claimed[claim.sequence]
        await self._file.submit(
            [Statement(_UNCOUNT_ATTEMPT, (claim.sequence,))], on_commit=lambda: self._restore([waiting])
        )

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent, *, counted: bool = True) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        waiting = self._claimed[claim.sequence]

        def restore_later() -> None:
            self._resting[claim.sequence] = waiting
            asyncio.get_running_loop().call_later(after_seconds, self._restore, [waiting])

        statements = [Statement(_SPEND, (_write_spent(spent), claim.sequence))]
        if not counted:
            statements.append(Statement(_UNCOUNT_ATTEMPT, (claim.sequence,)))
        statements.extend(_spend(spent.cost_usd - claim.spent.cost_usd))
        await self._file.submit(statements, on_commit=restore_later)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request's row from the queue to the outbox, in one transaction."""

        def enter_outbox() -> None:
            self._claimed.pop(claim.sequence, None)
            self.outbox.append(claim.sequence, time.monotonic(), callback)

        statements = [
            Statement(_LEAVE_QUEUE, (claim.sequence,)),
            Statement(_ENTER_OUTBOX, _write_callback(claim.sequence, callback)),
        ]
        request = claim.request
        if request.idempotency_key is not None:
            statements.append(
                Statement(_END_KEY, (time.time(), request.caller or "", request.idempotency_key))
            )
        statements.extend(_spend(callback.cost_usd - claim.spent.cost_usd))
        await self._file.submit(statements, on_commit=enter_outbox)

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        closed_before = time.time() - self._idempotency_ttl_seconds
        rows = await self._file.submit((), query=Statement(_RECALL, (caller or "", key, closed_before)))
        if not rows:
            return None
        queue_id, correlation_id, callback_topic, body_digest = rows[0]
        return Receipt(queue_id, UUID(correlation_id), callback_topic, body_digest)

    async def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        closed_before = time.time() - self._idempotency_ttl_seconds
        oldest_day = (datetime.now(UTC) - timedelta(days=DAYS_OF_SPENDING)).date()
        await self._file.submit([Statement(_FORGET_DAYS, (oldest_day.isoformat(),))])
        return len(await self._file.submit((), query=Statement(_FORGET_KEYS, (closed_before,))))

    async def spent_usd(self, day: date) -> float:
        """What all calls that ended on a day have cost, as far as it is known or estimated."""
        rows = await self._file.submit((), query=Statement(_READ_DAY, (day.isoformat(),)))
        return float(rows[0][0]) if rows else 0.0

    def stats(self) -> SqliteQueueStats:
        """How the queue stands at this moment."""
        ages = [waiting.accepted_unix_seconds for waiting in self._resting.values()]
        head = self._backlog.oldest_accepted_unix_seconds()
        oldest = min(ages if head is None else [*ages, head], default=None)
        return SqliteQueueStats(
            waiting=len(self._backlog) + len(self._resting),
            claimed=len(self._claimed) - len(self._resting),
            oldest_accepted_at=None if oldest is None else datetime.fromtimestamp(oldest, UTC),
            usable=self._file.usable,
        )

    def _offer(self, waiting: Waiting) -> None:
        self._backlog.append(waiting)
        self._filled.set()

    def _restore(self, taken: Sequence[Waiting]) -> None:
        for waiting in reversed(taken):
            self._claimed.pop(waiting.sequence, None)
            self._resting.pop(waiting.sequence, None)
            self._backlog.restore(waiting)
        self._filled.set()

    def _abandon(self, taken: Sequence[Waiting], *, uncount: bool) -> None:
        # Whoever asked was cancelled after the attempts had been counted: they did not start.
        self._file.submit(
            [Statement(_UNCOUNT_ATTEMPT, (waiting.sequence,)) for waiting in taken] if uncount else (),
            on_commit=lambda: self._restore(taken),
        )


def _try_read_claim(row: Row) -> Claim | None:
    """A row that another version wrote stays in the file, claimed, and holds up no other."""
    try:
        return _read_claim(row)
    except (ValueError, TypeError, KeyError) as error:
        _log.critical(
            "queued request cannot be read and stays in the file", sequence=row[0], error=type(error).__name__
        )
        return None


def _read_claim(row: Row) -> Claim:
    sequence, attempts, spent, payload = row
    return Claim(
        sequence=sequence,
        request=QueuedRequest.model_validate_json(payload),
        attempt=attempts,
        spent=Spent() if spent is None else _read_spent(spent),
    )


def _spend(usd: float) -> list[Statement]:
    """Adds to what this day has cost, in the transaction that stores what it was spent on."""
    today = datetime.now(UTC).date().isoformat()
    return [Statement(_SPEND_ON_DAY, (today, usd))] if usd > 0 else []


def _write_spent(spent: Spent) -> bytes:
    return orjson.dumps(spent, default=_write_part, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _write_part(part: Spent | Usage | AttemptRecord) -> object:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    # There may be many attempts: their values alone, in the order of the fields.
    return tuple(values.values()) if isinstance(part, AttemptRecord) else values


def _read_spent(data: bytes) -> Spent:
    stored = orjson.loads(data)
    return Spent(
        usage=Usage(**stored.pop("usage")),
        last_code=_read_code(stored.pop("last_code")),
        # Rows of versions before have none.
        attempts=tuple(_read_attempt(*values) for values in stored.pop("attempts", ())),
        **stored,
    )


def _read_attempt(started: int, seconds: float, provider: str, code: str | None) -> AttemptRecord:
    return AttemptRecord(started, seconds, LLMProviderType(provider), _read_code(code))


def _read_code(stored: str | None) -> LLMErrorCode | None:
    return None if stored is None else LLMErrorCode(stored)


def _write_callback(sequence: int, callback: Callback) -> tuple[object, ...]:
    headers = [[name, value.decode("latin-1")] for name, value in callback.sealed.headers]
    return (
        sequence,
        callback.accepted_unix_seconds,
        callback.queue_id,
        callback.topic,
        callback.key,
        int(callback.success),
        orjson.dumps(headers),
        callback.sealed.value,
    )


def _read_callback(row: Row) -> Callback:
    _, accepted_unix_seconds, queue_id, topic, key, success, headers, value = row
    pairs = tuple((name, text.encode("latin-1")) for name, text in orjson.loads(headers))
    return Callback(
        queue_id=queue_id,
        topic=topic,
        key=key,
        sealed=SealedEnvelope(value, pairs),
        success=bool(success),
        accepted_unix_seconds=accepted_unix_seconds,
    )
