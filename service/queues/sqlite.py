"""The default queue: requests and callbacks in one SQLite file that one process owns.

A row is in one of three states: it stands in `request` (accepted), it has moved to `callback` (its outcome
is fixed), or it is gone (the broker has acknowledged the callback). Which requests are being worked on is
known in memory alone: at the start nothing is running, so every row is free, and no clock or lease is in the
protocol.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
import structlog

from service.contracts.codec import SealedEnvelope
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import QueuedRequest
from service.core.outcome import Spent, Usage
from service.core.records import Callback, Claim, OutboxEntry, Receipt
from service.queues.backlog import Backlog, Waiting
from service.queues.sqlite_file import Row, SqliteFile, Statement

MAX_CALLBACKS_IN_MEMORY = 2000
"""Beyond this many, a callback is read back from the file when its turn has come."""

_PUT = (
    "INSERT INTO request "
    "(sequence, accepted_unix_seconds, expires_unix_seconds, priority, attempts, payload) "
    "VALUES (?, ?, ?, ?, 0, ?)"
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
    """The callbacks in the file, in the order in which their outcomes were stored."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._pending: deque[_Pending] = deque()
        self._in_memory = 0
        self._sending = 0
        self._filled = asyncio.Event()

    async def take(self, limit: int) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks, waiting for the first."""
        while not self._pending:
            self._filled.clear()
            await self._filled.wait()
        taken = [self._pending.popleft() for _ in range(min(limit, len(self._pending)))]
        self._sending += len(taken)
        absent = [pending.sequence for pending in taken if pending.callback is None]
        self._in_memory -= len(taken) - len(absent)
        try:
            read_back = await self._read(absent) if absent else {}
        except BaseException:
            self._sending -= len(taken)
            self._in_memory += len(taken) - len(absent)
            self._pending.extendleft(reversed(taken))
            raise
        return [
            OutboxEntry(
                pending.sequence,
                pending.callback or read_back[pending.sequence],
                pending.stored_monotonic_seconds,
            )
            for pending in taken
        ]

    async def delivered(self, entries: Sequence[OutboxEntry]) -> None:
        """Deletes callbacks that the broker has acknowledged."""
        await self._file.submit([Statement(_LEAVE_OUTBOX, (entry.sequence,)) for entry in entries])
        self._sending -= len(entries)

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available again after a failed send."""
        self._sending -= 1
        self.append(entry.sequence, entry.stored_monotonic_seconds, entry.callback)

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged."""
        return len(self._pending) + self._sending

    def append(
        self, sequence: int, stored_monotonic_seconds: float | None, callback: Callback | None
    ) -> None:
        """Adds a callback that stands in the file; keeps it in memory only while there are few."""
        if callback is not None and self._in_memory >= MAX_CALLBACKS_IN_MEMORY:
            callback = None
        self._in_memory += callback is not None
        self._pending.append(_Pending(sequence, stored_monotonic_seconds, callback))
        self._filled.set()

    async def _read(self, sequences: list[int]) -> dict[int, Callback]:
        rows = await self._file.submit(
            (), query=Statement(_READ_CALLBACKS, (orjson.dumps(sequences).decode(),))
        )
        return {row[0]: _read_callback(row) for row in rows}


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
        self._sequences: Iterator[int] = itertools.count(1)

    async def open(self) -> None:
        """Opens the file and takes up what stands in it. Raises `QueueUnavailable`."""
        await self._file.open()
        requests = await self._file.submit(
            (),
            query=Statement(
                "SELECT sequence, priority, accepted_unix_seconds, expires_unix_seconds FROM request "
                "ORDER BY sequence"
            ),
        )
        callbacks = await self._file.submit(
            (), query=Statement("SELECT sequence FROM callback ORDER BY sequence")
        )
        for row in requests:
            self._offer(Waiting(*row))
        for (sequence,) in callbacks:
            self.outbox.append(sequence, None, None)
        last = max((row[0] for row in (*requests, *callbacks)), default=0)
        self._sequences = itertools.count(last + 1)

    async def close(self) -> None:
        """Writes what was handed over and gives the file back."""
        await self._file.close()

    async def put(self, request: QueuedRequest) -> int:
        """Makes a request durable; returns its place in the queue, from 1."""
        waiting = Waiting(
            next(self._sequences),
            request.request_data.priority,
            request.queued_at.timestamp(),
            request.expires_at.timestamp(),
        )
        statements = [
            Statement(
                _PUT,
                (
                    waiting.sequence,
                    waiting.accepted_unix_seconds,
                    waiting.expires_unix_seconds,
                    waiting.priority,
                    request.model_dump_json().encode(),
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
        await self._file.submit(statements, on_commit=lambda: self._offer(waiting))
        return max(1, len(self._backlog))

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` requests, waiting for the first; each attempt is counted durably."""
        while not self._backlog:
            self._filled.clear()
            await self._filled.wait()
        return await self._claim(self._backlog.take(limit, time.time()), _COUNT_ATTEMPT)

    async def claim_expired(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` waiting requests whose deadline has passed; counts no attempt."""
        expired = self._backlog.take_expired(limit, time.time())
        return await self._claim(expired, None) if expired else ()

    async def _claim(self, taken: list[Waiting], counting: str | None) -> Sequence[Claim]:
        self._claimed.update((waiting.sequence, waiting) for waiting in taken)
        sequences = [waiting.sequence for waiting in taken]
        read = self._file.submit(
            [Statement(counting, (sequence,)) for sequence in sequences] if counting else (),
            query=Statement(_READ_REQUESTS, (orjson.dumps(sequences).decode(),)),
        )
        try:
            rows = {row[0]: row for row in await asyncio.shield(read)}
        except asyncio.CancelledError:
            read.add_done_callback(
                lambda done: self._abandon(taken, uncount=counting is not None and done.exception() is None)
            )
            raise
        except BaseException:
            self._restore(taken)
            raise
        return [claim for sequence in sequences if (claim := _try_read_claim(rows[sequence])) is not None]

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start."""
        waiting = self._claimed[claim.sequence]
        await self._file.submit(
            [Statement(_UNCOUNT_ATTEMPT, (claim.sequence,))], on_commit=lambda: self._restore([waiting])
        )

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        waiting = self._claimed[claim.sequence]

        def restore_later() -> None:
            self._resting[claim.sequence] = waiting
            asyncio.get_running_loop().call_later(after_seconds, self._restore, [waiting])

        await self._file.submit(
            [Statement(_SPEND, (_write_spent(spent), claim.sequence))], on_commit=restore_later
        )

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
        return len(await self._file.submit((), query=Statement(_FORGET_KEYS, (closed_before,))))

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


def _write_spent(spent: Spent) -> bytes:
    return orjson.dumps(spent)


def _read_spent(data: bytes) -> Spent:
    fields = orjson.loads(data)
    usage = Usage(**fields.pop("usage"))
    code = fields.pop("last_code")
    return Spent(usage=usage, last_code=None if code is None else LLMErrorCode(code), **fields)


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
