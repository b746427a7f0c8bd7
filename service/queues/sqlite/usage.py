"""The usage events in the file, from the moment their outcome is fixed until the broker has each of them."""

import asyncio
from collections.abc import Sequence

from service.contracts.codec import SealedEnvelope
from service.core.records import Callback, UsageEntry
from service.queues.sqlite.columns import read_headers, write_headers
from service.queues.sqlite.file import SqliteFile, Statement
from service.queues.sqlite.quarantine import SqliteQuarantine, describe_damage

_ENTER = "INSERT INTO usage_event (sequence, key, headers, value) VALUES (?, ?, ?, ?)"
_READ_ALL = (
    "SELECT sequence, key, headers FROM usage_event WHERE unreadable IS NULL AND sequence BETWEEN ? AND ?"
)
_READ = (
    "SELECT sequence, key, headers, value FROM usage_event WHERE unreadable IS NULL ORDER BY sequence LIMIT ?"
)
_LEAVE = "DELETE FROM usage_event WHERE sequence = ?"


class SqliteUsage:
    """`UsageEvents` in the file. None is kept in memory: whoever sends them reads many of them at once."""

    def __init__(self, file: SqliteFile, quarantine: SqliteQuarantine) -> None:
        self._file = file
        self._quarantine = quarantine
        self._depth = 0
        self._arrived = asyncio.Event()

    async def open(self) -> None:
        """Counts the events in the file and sets aside those that cannot be read."""
        for sequence, _, headers in await self._quarantine.read("usage_event", _READ_ALL):
            try:
                read_headers(headers)
            except (ValueError, TypeError) as error:
                await self._quarantine.mark("usage_event", sequence, describe_damage(error))
            else:
                self._grow(1)

    def enter(self, sequence: int, callback: Callback) -> list[Statement]:
        """Makes a callback's event durable, where it has one, in the transaction that ends its request."""
        sealed = callback.usage
        if sealed is None:
            return []
        return [Statement(_ENTER, (sequence, callback.key, write_headers(sealed.headers), sealed.value))]

    def entered(self, callback: Callback) -> None:
        """The transaction was committed."""
        self._grow(callback.usage is not None)

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        """The oldest of them, up to `limit`, waiting for the first."""
        while not self._depth:
            self._arrived.clear()
            await self._arrived.wait()
        rows = await self._file.submit((), query=Statement(_READ, (limit,)))
        return [
            UsageEntry(sequence, key, SealedEnvelope(value, read_headers(headers)))
            for sequence, key, headers, value in rows
        ]

    async def told(self, entries: Sequence[UsageEntry]) -> None:
        """Deletes those that stand on the topic."""
        await self._file.submit(
            [Statement(_LEAVE, (entry.sequence,)) for entry in entries],
            on_commit=lambda: self._grow(-len(entries)),
        )

    def depth(self) -> int:
        """How many there are."""
        return self._depth

    def _grow(self, count: int) -> None:
        self._depth += count
        if count > 0:
            self._arrived.set()
