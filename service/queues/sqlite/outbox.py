"""The callbacks in the file, from the moment their outcome is fixed until the broker has each of them."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import orjson

from service.contracts.codec import SealedEnvelope
from service.contracts.topics import derive_event_id
from service.core.ports import Positions
from service.core.records import Callback, Doubt, OutboxEntry, ParkedCallback
from service.queues.doubts import DoubtBook
from service.queues.lanes import Lanes
from service.queues.sqlite.columns import read_headers, write_headers
from service.queues.sqlite.file import Row, SqliteFile, Statement
from service.queues.sqlite.journal import SqliteJournal
from service.queues.sqlite.quarantine import SqliteQuarantine, describe_damage

MAX_CALLBACKS_IN_MEMORY = 2000
"""Beyond this many, a callback is read back from the file when its turn has come."""

_ENTER = (
    "INSERT INTO callback (sequence, accepted_unix_seconds, queue_id, topic, key, success, headers, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LEAVE = "DELETE FROM callback WHERE sequence = ?"
_READ_ENTRIES = (
    "SELECT sequence, accepted_unix_seconds, queue_id, topic, key, success, headers, value FROM callback "
    "WHERE sequence IN (SELECT value FROM json_each(?))"
)
_WRITTEN = "INSERT OR REPLACE INTO written (topic, partition, offset) VALUES (?, ?, ?)"
_READ_WRITTEN = "SELECT topic, partition, offset FROM written"
_READ_ALL = (
    "SELECT sequence, topic, queue_id, key, headers, parked_reason FROM callback "
    "WHERE unreadable IS NULL AND sequence BETWEEN ? AND ? ORDER BY sequence"
)
_PARK = "UPDATE callback SET parked_reason = ?, parked_unix_seconds = ? WHERE sequence = ?"
_UNPARK = (
    "UPDATE callback SET parked_reason = NULL, parked_unix_seconds = NULL WHERE parked_reason IS NOT NULL "
    "AND unreadable IS NULL AND (? IS NULL OR queue_id IN (SELECT value FROM json_each(?))) "
    "RETURNING sequence, topic"
)
_READ_PARKED = (
    "SELECT sequence, queue_id, key, topic, parked_reason, success, length(value), accepted_unix_seconds, "
    "parked_unix_seconds FROM callback "
    "WHERE parked_reason IS NOT NULL AND unreadable IS NULL AND sequence > ? "
    "ORDER BY sequence LIMIT ?"
)


class _Pending(NamedTuple):
    sequence: int
    stored_monotonic_seconds: float | None
    callback: Callback | None
    """None where it has to be read back from the file."""


class SqliteOutbox:
    """The callbacks in the file: to be sent, doubtful, or parked."""

    def __init__(self, file: SqliteFile, journal: SqliteJournal, quarantine: SqliteQuarantine) -> None:
        self._file = file
        self._journal = journal
        self._quarantine = quarantine
        self.changed = asyncio.Event()
        self._lanes: Lanes[_Pending] = Lanes()
        self._in_memory = 0
        self._sending = 0
        self._doubts = DoubtBook()
        self._written: dict[str, dict[int, int]] = {}
        self._parked = 0

    async def open(self) -> None:
        """Takes up what stands in the file, and sets aside what cannot be read."""
        for topic, partition, offset in await self._query(Statement(_READ_WRITTEN)):
            self._written.setdefault(topic, {})[partition] = offset
        for sequence, topic, queue_id, _, headers, reason in await self._quarantine.read(
            "callback", _READ_ALL
        ):
            try:
                read_headers(headers)
            except (ValueError, TypeError) as error:
                await self._quarantine.mark("callback", sequence, describe_damage(error))
                continue
            if reason is not None:
                self._parked += 1
            elif topic in self._written:
                # It may have been sent by the process before this one.
                self._doubts.add(topic, Doubt(sequence, str(derive_event_id(queue_id))))
            else:
                self._lanes.append(topic, _Pending(sequence, None, None))

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
                *self._journal.enter((entry.sequence, entry.place) for entry in entries),
                *(Statement(_LEAVE, (entry.sequence,)) for entry in entries),
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

    def enter(self, sequence: int, callback: Callback) -> Statement:
        """Makes a callback durable, in the transaction that ends its request; `append` comes after it."""
        return Statement(_ENTER, _write_callback(sequence, callback))

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
        found = [doubt.sequence for doubt in doubts if doubt.event_id in standing]
        await self._file.submit(
            [
                *self._journal.enter((sequence, None) for sequence in found),
                *(Statement(_LEAVE, (sequence,)) for sequence in found),
            ]
        )
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
        rows = await self._query(Statement(_READ_ENTRIES, (orjson.dumps(sequences).decode(),)))
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


def _write_callback(sequence: int, callback: Callback) -> tuple[object, ...]:
    return (
        sequence,
        callback.accepted_unix_seconds,
        callback.queue_id,
        callback.topic,
        callback.key,
        int(callback.success),
        write_headers(callback.sealed.headers),
        callback.sealed.value,
    )


def _read_callback(row: Row) -> Callback:
    _, accepted_unix_seconds, queue_id, topic, key, success, headers, value = row
    return Callback(
        queue_id=queue_id,
        topic=topic,
        key=key,
        sealed=SealedEnvelope(value, read_headers(headers)),
        success=bool(success),
        accepted_unix_seconds=accepted_unix_seconds,
    )
