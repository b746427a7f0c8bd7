"""What the Kafka queue was answered lately: read from its journal, by whichever replica is asked."""

import time
from collections.abc import Awaitable, Callable, Mapping

from service.core.records import JournalEntry, JournalPage
from service.queues.kafka.log import KafkaLog, Record
from service.queues.kafka.notes import Answered, RecordUnreadable, read_note

FindOffsets = Callable[[str, float], Awaitable[Mapping[int, int]]]


class AnswerLog:
    """The answers of all partitions, one after the other; of two to one request the first counts."""

    def __init__(
        self, log: KafkaLog, topic: str, find_offsets: FindOffsets, retention_seconds: float
    ) -> None:
        self._log = log
        self._topic = topic
        self._find_offsets = find_offsets
        self._retention_seconds = retention_seconds

    async def list_page(self, after: str | None, limit: int, partitions: int) -> JournalPage:
        """The answers behind a place `partition-offset`. Raises `ValueError` where it is no place."""
        since = time.time() - self._retention_seconds
        number, offset = _read_place(after)
        if number >= partitions:
            raise ValueError("there is no such partition")
        if offset is None:
            offset = (await self._find_offsets(self._topic, since)).get(number, 0)
        records = await self._log.read_some(self._topic, number, offset, limit)
        entries = tuple(
            entry
            for record in records
            if record.timestamp >= since * 1000 and (entry := _read_answer(record)) is not None
        )
        if len(records) == limit:
            return JournalPage(entries, f"{number}-{records[-1].offset + 1}")
        return JournalPage(entries, f"{number + 1}-" if number + 1 < partitions else None)


def _read_place(text: str | None) -> tuple[int, int | None]:
    number, _, offset = (text or "0-").partition("-")
    if not (number.isdecimal() and (offset.isdecimal() or not offset)):
        raise ValueError("it is no place")
    return int(number), int(offset) if offset else None


def _read_answer(record: Record) -> JournalEntry | None:
    try:
        note, _ = read_note(record.headers, record.value)
    except RecordUnreadable:
        return None  # its owner has said so
    if not isinstance(note, Answered):
        return None
    callback = note.callback
    return JournalEntry(
        callback.queue_id,
        callback.key,
        callback.topic,
        callback.success,
        callback.accepted_unix_seconds,
        place=None,
        published_unix_seconds=None,
        answered_unix_seconds=record.timestamp / 1000,
    )
