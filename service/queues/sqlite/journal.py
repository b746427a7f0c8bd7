"""The journal in the file: what was called back lately, for audits."""

import time
from collections.abc import Iterable
from uuid import UUID

from service.core.records import JournalEntry, JournalPage, Place
from service.queues.sqlite.file import Row, SqliteFile, Statement

FORGOTTEN_AT_ONCE = 5000
UUID_BYTES = 16

# Always before the deletion of the same row: statements of one text run together, where the first one stands.
_ENTER = (
    "INSERT INTO journal "
    "(queue_id, key, topic, partition, offset, success, accepted_unix_seconds, published_unix_seconds) "
    "SELECT coalesce(unhex(queue_id, '-'), queue_id), coalesce(unhex(key, '-'), key), topic, ?, ?, success, "
    "accepted_unix_seconds, ? FROM callback WHERE sequence = ?"
)
_READ = (
    "SELECT sequence, queue_id, key, topic, partition, offset, success, accepted_unix_seconds, "
    "published_unix_seconds FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
_SHORTEN = (
    "DELETE FROM journal WHERE sequence IN "
    "(SELECT sequence FROM journal ORDER BY sequence LIMIT ?) AND published_unix_seconds < ? RETURNING 1"
)


class SqliteJournal:
    """`CallbackJournal` in the file."""

    def __init__(self, file: SqliteFile, retention_seconds: float) -> None:
        self._file = file
        self._retention_seconds = retention_seconds

    def enter(self, delivered: Iterable[tuple[int, Place | None]]) -> list[Statement]:
        """Notes deliveries by the sequences of their callbacks; to run before these are deleted."""
        if self._retention_seconds <= 0:
            return []
        now = time.time()
        return [
            Statement(_ENTER, (place and place.partition, place and place.offset, now, sequence))
            for sequence, place in delivered
        ]

    async def list_page(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind a place, oldest first; `ValueError` where it is none."""
        if after is not None and not after.isdecimal():
            raise ValueError("it is no place of this journal")
        rows = await self._file.submit((), query=Statement(_READ, (int(after or 0), limit + 1)))
        shown = rows[:limit]
        return JournalPage(
            tuple(_read_entry(row) for row in shown), str(shown[-1][0]) if len(rows) > limit else None
        )

    async def shorten(self) -> None:
        """Forgets what was called back too long ago, not too much in one transaction."""
        before = time.time() - self._retention_seconds
        full = True
        while full:
            gone = await self._file.submit((), query=Statement(_SHORTEN, (FORGOTTEN_AT_ONCE, before)))
            full = len(gone) == FORGOTTEN_AT_ONCE


def _read_entry(row: Row) -> JournalEntry:
    _, queue_id, key, topic, partition, offset, success, accepted, published = row
    return JournalEntry(
        _read_id(queue_id),
        _read_id(key),
        topic,
        bool(success),
        accepted,
        None if partition is None else Place(partition, offset),
        published,
    )


def _read_id(stored: bytes | str) -> str:
    if isinstance(stored, str):
        return stored
    return str(UUID(bytes=stored)) if len(stored) == UUID_BYTES else stored.hex()
