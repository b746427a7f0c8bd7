"""The default queue: requests and callbacks in one SQLite file that one process owns.

A row is in one of three states: it stands in `request` (accepted), it has moved to `callback` (its outcome
is fixed), or it is gone (the broker has acknowledged the callback). A callback that the broker refused for
good stays in `callback`, marked as parked. What a request has used may stand in `usage_event`, which goes
its own way. Which requests are being worked on is known in memory alone: at
the start nothing is running, so every row is free, and no clock or lease is in the protocol.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from uuid import UUID

import orjson
import structlog
from pydantic import TypeAdapter

from service.contracts.requests import QueuedRequest
from service.core.charges import DayCharge
from service.core.errors import QueueUnavailable
from service.core.outcome import Spent
from service.core.ports import Admit, QueueDisk
from service.core.records import Callback, Claim, JournalPage, Receipt
from service.queues.backlog import Backlog, Waiting, admit_all, name_model, name_provider
from service.queues.disk import DiskReserve
from service.queues.snapshot import QueueSnapshot
from service.queues.sqlite.charges import SqliteCharges
from service.queues.sqlite.columns import read_spent, write_spent
from service.queues.sqlite.file import Row, SqliteFile, Statement
from service.queues.sqlite.journal import SqliteJournal
from service.queues.sqlite.outbox import SqliteOutbox
from service.queues.sqlite.quarantine import SqliteQuarantine, describe_damage
from service.queues.sqlite.usage import SqliteUsage
from service.queues.steps import Steps
from service.queues.unread import UnreadRequests

_PUT = (
    "INSERT INTO request "
    "(sequence, accepted_unix_seconds, expires_unix_seconds, priority, provider, model, estimated_tokens, "
    "caller, queue_id, attempts, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
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
_READ_WAITING = (
    "SELECT sequence, priority, accepted_unix_seconds, expires_unix_seconds, provider, estimated_tokens, "
    "caller, model, queue_id FROM request "
    "WHERE unreadable IS NULL AND sequence BETWEEN ? AND ? ORDER BY sequence"
)
_READ_LAST = (
    "SELECT coalesce(max(sequence), 0) FROM (SELECT max(sequence) AS sequence FROM request UNION ALL "
    "SELECT max(sequence) FROM callback UNION ALL SELECT max(sequence) FROM usage_event)"
)
_READ_REQUESTS = (
    "SELECT sequence, attempts, spent, payload FROM request "
    "WHERE sequence IN (SELECT value FROM json_each(?)) ORDER BY sequence"
)
_LEAVE_QUEUE = "DELETE FROM request WHERE sequence = ?"

_REQUESTS = TypeAdapter(QueuedRequest)
"""Writes a request as bytes, without a text between."""


_log = structlog.get_logger("service.queue")


class SqliteQueue:
    """The requests in the file. One instance owns it, together with its `outbox` and its `usage` events."""

    def __init__(
        self,
        path: Path,
        *,
        idempotency_ttl_seconds: float = 86_400,
        journal_retention_seconds: float = 86_400,
        disk_reserve_bytes: int = 0,
    ) -> None:
        self._file = SqliteFile(path)
        self._reserve = DiskReserve(path.parent, disk_reserve_bytes, lambda: self._file.reusable_bytes)
        self.disk: QueueDisk = self._reserve
        self._idempotency_ttl_seconds = idempotency_ttl_seconds
        self._journal = SqliteJournal(self._file, journal_retention_seconds)
        self._charges = SqliteCharges(self._file)
        self._quarantine = SqliteQuarantine(self._file)
        self.outbox = SqliteOutbox(self._file, self._journal, self._quarantine)
        self.usage = SqliteUsage(self._file, self._quarantine)
        self._backlog = Backlog()
        self._filled = asyncio.Event()
        self._known: dict[str, Waiting] = {}
        """Requests without an outcome, by queue id."""
        self._claimed: dict[int, Waiting] = {}
        self._resting: dict[int, Waiting] = {}
        self._steps = Steps()
        self._unread = UnreadRequests()
        self._sequences: Iterator[int] = itertools.count(1)

    async def open(self) -> None:
        """Opens the file and takes up what stands in it. Raises `QueueUnavailable`."""
        await self._file.open()
        await self._quarantine.open()
        for *row, queue_id in await self._quarantine.read("request", _READ_WAITING):
            self._offer(Waiting(*row), queue_id)
        await self.outbox.open()
        await self.usage.open()
        ((last,),) = await self._file.submit((), query=Statement(_READ_LAST))
        self._sequences = itertools.count(last + 1)

    async def run(self, wait_until_claiming: object) -> None:
        """Nothing has to be done beside: the file belongs to this process alone."""

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
            request.caller,
            name_model(request),
        )
        payload = _REQUESTS.dump_json(request)
        if not self._reserve.has_room(len(payload)):
            raise QueueUnavailable(self._reserve.describe())
        statements = [
            Statement(
                _PUT,
                (
                    waiting.sequence,
                    waiting.accepted_unix_seconds,
                    waiting.expires_unix_seconds,
                    waiting.priority,
                    waiting.provider,
                    waiting.model,
                    waiting.estimated_tokens,
                    waiting.caller,
                    request.queue_id,
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
            self._offer(waiting, request.queue_id)

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

    def holds(self, queue_id: str, caller: str | None) -> bool:
        """Whether a request of this caller is held and has no outcome; None is every caller."""
        waiting = self._known.get(queue_id)
        return waiting is not None and caller in {None, waiting.caller}

    async def claim_cancelled(self, queue_id: str) -> Claim | None:
        """Takes a request as soon as it waits, to end it; None where it reached its outcome first."""
        while (waiting := self._known.get(queue_id)) is not None:
            rested = self._resting.pop(waiting.sequence, None) is not None
            if self._backlog.discard(waiting.sequence) or rested:
                claims = await self._claim([waiting], None)
                return claims[0] if claims else None
            await self._steps.wait(waiting.sequence)
        return None

    async def cancel_elsewhere(self, queue_id: str, caller: str | None) -> bool:  # noqa: ARG002
        """Nobody: the file belongs to this process alone."""
        return False

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
            try:
                claims[row[0]] = _read_claim(row)
            except (ValueError, TypeError, KeyError) as error:
                await self._set_aside(row[0], describe_damage(error))
        return [claims[sequence] for sequence in sequences if sequence in claims]

    async def _set_aside(self, sequence: int, reason: str) -> None:
        await self._quarantine.mark("request", sequence, reason)
        waiting = self._claimed.pop(sequence)
        for queue_id in [key for key, known in self._known.items() if known is waiting]:
            del self._known[queue_id]
        self._steps.take(sequence)

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
            self._steps.take(claim.sequence)
            asyncio.get_running_loop().call_later(after_seconds, self._rouse, waiting)

        statements = [Statement(_SPEND, (write_spent(spent), claim.sequence))]
        if not counted:
            statements.append(Statement(_UNCOUNT_ATTEMPT, (claim.sequence,)))
        statements.extend(self._charges.add(claim, spent))
        await self._file.submit(statements, on_commit=restore_later)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Moves a request's row from the queue to the outbox, in one transaction."""

        def enter_outbox() -> None:
            self._claimed.pop(claim.sequence, None)
            self._known.pop(claim.request.queue_id, None)
            self._steps.take(claim.sequence)
            self.outbox.append(claim.sequence, time.monotonic(), callback)
            self.usage.entered(callback)

        statements = [
            Statement(_LEAVE_QUEUE, (claim.sequence,)),
            self.outbox.enter(claim.sequence, callback),
            *self.usage.enter(claim.sequence, callback),
        ]
        request = claim.request
        if request.idempotency_key is not None:
            statements.append(
                Statement(_END_KEY, (time.time(), request.caller or "", request.idempotency_key))
            )
        statements.extend(self._charges.add(claim, callback.spent))
        await self._file.submit(statements, on_commit=enter_outbox)

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        closed_before = time.time() - self._idempotency_ttl_seconds
        rows = await self._file.submit((), query=Statement(_RECALL, (caller or "", key, closed_before)))
        if not rows:
            return None
        queue_id, correlation_id, callback_topic, body_digest = rows[0]
        return Receipt(queue_id, UUID(correlation_id), callback_topic, body_digest)

    async def list_journal(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind a place, oldest first; `ValueError` where it is none."""
        return await self._journal.list_page(after, limit)

    async def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        closed_before = time.time() - self._idempotency_ttl_seconds
        await self._charges.forget_old()
        await self._journal.shorten()
        return len(await self._file.submit((), query=Statement(_FORGET_KEYS, (closed_before,))))

    async def spent_usd(self, day: date) -> float:
        """What all calls that ended on a day have cost, as far as it is known or estimated."""
        return await self._charges.usd_of(day)

    async def list_charges(self, since: date) -> Sequence[DayCharge]:
        """What calls have used since a day, 40 days back at most."""
        return await self._charges.list_since(since)

    def spent_elsewhere_usd(self, day: date) -> float:  # noqa: ARG002 - it is a `CostMemory`
        """Nothing: the file belongs to this process alone."""
        return 0.0

    def stats(self) -> QueueSnapshot:
        """How the queue stands at this moment."""
        return QueueSnapshot(
            waiting=len(self._backlog) + len(self._resting),
            claimed=len(self._claimed) - len(self._resting),
            find_oldest_unix_seconds=self._find_oldest,
            of_caller=self._backlog.count_of,
            usable=self._file.usable and self._reserve.has_room(),
            quarantined=self._quarantine.rows,
        )

    def _find_oldest(self) -> float | None:
        ages = [waiting.accepted_unix_seconds for waiting in self._resting.values()]
        head = self._backlog.oldest_accepted_unix_seconds()
        return min(ages if head is None else [*ages, head], default=None)

    def _offer(self, waiting: Waiting, queue_id: str) -> None:
        self._known[queue_id] = waiting
        self._backlog.append(waiting)
        self._filled.set()

    def _rouse(self, waiting: Waiting) -> None:
        if self._resting.get(waiting.sequence) is waiting:
            self._restore([waiting])

    def _restore(self, taken: Sequence[Waiting]) -> None:
        for waiting in reversed(taken):
            self._claimed.pop(waiting.sequence, None)
            self._resting.pop(waiting.sequence, None)
            self._backlog.restore(waiting)
        self._steps.take_all(waiting.sequence for waiting in taken)
        self._filled.set()

    def _abandon(self, taken: Sequence[Waiting], *, uncount: bool) -> None:
        # Whoever asked was cancelled after the attempts had been counted: they did not start.
        self._file.submit(
            [Statement(_UNCOUNT_ATTEMPT, (waiting.sequence,)) for waiting in taken] if uncount else (),
            on_commit=lambda: self._restore(taken),
        )


def _read_claim(row: Row) -> Claim:
    sequence, attempts, spent, payload = row
    return Claim(
        sequence=sequence,
        request=QueuedRequest.model_validate_json(payload),
        attempt=attempts,
        spent=_read_spent(sequence, spent),
    )


def _read_spent(sequence: int, stored: bytes | None) -> Spent:
    """Returns what attempts have cost; a request whose record of it is damaged is still answered."""
    try:
        return Spent() if stored is None else read_spent(stored)
    except (ValueError, TypeError, KeyError) as error:
        _log.error(
            "what attempts at a request have cost cannot be read and counts as nothing",
            sequence=sequence,
            error=describe_damage(error),
        )
        return Spent()
