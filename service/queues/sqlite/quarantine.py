"""Sets rows aside that cannot be read, so that a damaged one stops neither the start nor other requests."""

from typing import Literal

import structlog

from service.core.errors import QueueRejected
from service.core.records import Quarantined
from service.queues.sqlite.file import Row, SqliteFile, Statement

Source = Literal["request", "callback", "usage_event"]

_MARK: dict[Source, str] = {
    "request": "UPDATE request SET unreadable = ? WHERE sequence = ?",
    "callback": "UPDATE callback SET unreadable = ? WHERE sequence = ?",
    "usage_event": "UPDATE usage_event SET unreadable = ? WHERE sequence = ?",
}
_LIST: dict[Source, str] = {
    "request": "SELECT sequence FROM request WHERE unreadable IS NULL ORDER BY sequence",
    "callback": "SELECT sequence FROM callback WHERE unreadable IS NULL ORDER BY sequence",
    "usage_event": "SELECT sequence FROM usage_event WHERE unreadable IS NULL ORDER BY sequence",
}
_COUNT = (
    "SELECT count(*), max(unreadable) FROM ("
    "SELECT unreadable FROM request WHERE unreadable IS NOT NULL UNION ALL "
    "SELECT unreadable FROM callback WHERE unreadable IS NOT NULL UNION ALL "
    "SELECT unreadable FROM usage_event WHERE unreadable IS NOT NULL)"
)
_FIRST, _LAST = -(2**63), 2**63 - 1

_log = structlog.get_logger("service.queue")


class SqliteQuarantine:
    """The rows of a queue file that cannot be read. They stay in their tables, marked with the reason."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.rows = Quarantined()

    async def open(self) -> None:
        """Counts what earlier starts have set aside."""
        ((count, reason),) = await self._file.submit((), query=Statement(_COUNT))
        self.rows = Quarantined(count, reason)

    async def read(self, source: Source, query: str) -> list[Row]:
        """Runs a query over a table, of which `query` selects the sequences from ? to ?.

        If the result cannot be read, the rows are read one by one and the damaged ones are set aside.
        """
        try:
            return await self._file.submit((), query=Statement(query, (_FIRST, _LAST)))
        except QueueRejected:
            return await self._read_singly(source, query)

    async def mark(self, source: Source, sequence: int, reason: str) -> None:
        """Sets a row aside. Raises `QueueUnavailable`."""
        await self._file.submit([Statement(_MARK[source], (reason, sequence))])
        self.rows = Quarantined(self.rows.count + 1, reason)
        _log.critical(
            "a row of the queue cannot be read and is set aside",
            source=source,
            sequence=sequence,
            reason=reason,
        )

    async def _read_singly(self, source: Source, query: str) -> list[Row]:
        rows: list[Row] = []
        for (sequence,) in await self._file.submit((), query=Statement(_LIST[source])):
            try:
                rows += await self._file.submit((), query=Statement(query, (sequence, sequence)))
            except QueueRejected as error:
                await self.mark(source, sequence, describe_damage(error.__cause__ or error))
        return rows


def describe_damage(error: BaseException) -> str:
    """Names what is wrong with a row, without anything of its content."""
    return type(error).__name__
