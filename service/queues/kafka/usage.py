"""The usage events of the Kafka queue: they stand on the journal with the answers, and are read from there.

Whoever owns a partition reads its journal once more, in its own time, and commits how far the events on it
were told, in a group that nobody joins. So a usage topic that takes nothing holds up no callback, and what it
missed is read as long as the journal is kept. A new owner begins at the last commit, and may tell some again.
As with callbacks the first answer of a request is the one that counts; a little before the commit is read,
too, to know a second one by.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from service.core.errors import QueueUnavailable
from service.core.records import UsageEntry
from service.kafka.connection import KafkaConnection, bootstrap
from service.kafka.consumer import CONNECT_LIMIT_SECONDS, stop_consumer
from service.queues.kafka.notes import RecordUnreadable, read_answered_offset, read_usage
from service.queues.kafka.partition import locate_request, number_request

FETCH_WAIT_MILLISECONDS = 50
READ_WAIT_MILLISECONDS = 500
MAX_RECORDS_AT_ONCE = 2000
READ_AHEAD_EVENTS = 2000
"""So many are read while none can be told: up to there it is known exactly how many wait."""
LOOK_AGAIN_SECONDS = 0.5
"""How often it is looked whether a replica that owns nothing has come to own something."""
LOOK_BACK_NOTES = 2_000
"""So much before the last commit is read."""
REMEMBERED_NOTES = 10_000
"""A second answer that comes so much later than the first is told, too: consumers know it by its event id."""
MEASURE_SECONDS = 5.0
"""How often it is asked how far the journal goes while nothing is read of it."""

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

_log = structlog.get_logger("service.queue")


@dataclass(slots=True)
class _Reading:
    """How far the journal of one partition is read."""

    number: int
    told_before: int
    """What stands before was told by an owner before us."""
    next: int
    unread: int = 0
    _answered: dict[int, int] = field(default_factory=dict)
    """The requests answered lately, each with the place of its first answer, in the order of these."""

    def take_in(self, record: Record) -> UsageEntry | None:
        """Reads the next note; returns the event in it, where there is one to be told."""
        if record.offset > self.next:
            _log.critical(
                "usage events may be gone: the journal lacks what was not read of it yet",
                partition=self.number,
                offset=self.next,
                count=record.offset - self.next,
            )
        self.next = record.offset + 1
        try:
            request = read_answered_offset(record.headers)
            if request is None or request in self._answered:
                return None
            self._note_answered(request, record.offset)
            found = read_usage(record.headers) if record.offset >= self.told_before else None
        except RecordUnreadable as error:
            _log.error(
                "the usage in a note of the journal cannot be read and is passed over",
                partition=self.number,
                offset=record.offset,
                error=str(error),
            )
            return None
        return None if found is None else UsageEntry(number_request(self.number, record.offset), *found)

    def _note_answered(self, request: int, offset: int) -> None:
        self._answered[request] = offset
        oldest = next(iter(self._answered))
        if self._answered[oldest] < offset - REMEMBERED_NOTES:
            del self._answered[oldest]  # at most one comes for each that goes


class KafkaUsage:
    """`UsageEvents` on the journal of the partitions that this process owns."""

    def __init__(
        self, connection: KafkaConnection, journal: str, group: str, owned: Callable[[], Collection[int]]
    ) -> None:
        self._options = connection.client_options()
        self._journal = journal
        self._group = group
        self._owned = owned
        self._consumer: AIOKafkaConsumer | None = None
        self._readings: dict[int, _Reading] = {}
        """By the number of the partition."""
        self._waiting: dict[int, UsageEntry] = {}
        """By their place on the journal, in the order in which they were read."""
        self._measured_at = 0.0

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        """Events that were not told, up to `limit`, waiting for the first. Raises `QueueUnavailable`."""
        try:
            while True:
                await self._follow_ownership()
                if len(self._waiting) < max(limit, READ_AHEAD_EVENTS):
                    await self._read(0 if self._waiting else READ_WAIT_MILLISECONDS)
                else:
                    await self._measure()
                if self._waiting:
                    return list(itertools.islice(self._waiting.values(), limit))
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise QueueUnavailable(f"The queue's journal cannot be read: {error!r}.") from error

    async def told(self, entries: Sequence[UsageEntry]) -> None:
        """Commits how far events were told without a gap. Raises `QueueUnavailable`."""
        for entry in entries:
            self._waiting.pop(entry.sequence, None)
        consumer = self._consumer
        if consumer is None:
            return  # the next reading begins at the last commit
        reached = {number: reading.next for number, reading in self._readings.items()}
        for sequence in self._waiting:
            number, offset = locate_request(sequence)
            reached[number] = min(reached[number], offset)
        touched = {locate_request(entry.sequence)[0] for entry in entries} & reached.keys()
        try:
            await consumer.commit(
                {self._place(number): OffsetAndMetadata(reached[number], "") for number in touched}
            )
        except (KafkaError, OSError) as error:
            await self.close()
            raise QueueUnavailable(f"What usage was told cannot be committed: {error!r}.") from error

    def depth(self) -> int:
        """How many there are; a note that is known to stand there and was not read yet counts as one."""
        return len(self._waiting) + sum(reading.unread for reading in self._readings.values())

    async def close(self) -> None:
        """Leaves off; what is not committed is read again."""
        consumer, self._consumer = self._consumer, None
        self._forget()
        if consumer is not None:
            await stop_consumer(consumer)

    async def _follow_ownership(self) -> None:
        owned = frozenset(self._owned())
        if owned == self._readings.keys():
            return
        self._forget()
        if not owned:
            return
        if self._consumer is None:
            self._consumer = await self._connect()
        self._readings = await self._begin(self._consumer, sorted(owned))

    async def _begin(self, consumer: AIOKafkaConsumer, numbers: Sequence[int]) -> dict[int, _Reading]:
        """Begins to read some partitions, a little before what an owner before us has told."""
        places = {number: self._place(number) for number in numbers}
        consumer.assign(list(places.values()))
        begins = await consumer.beginning_offsets(list(places.values()))
        ends = await consumer.end_offsets(list(places.values()))
        readings = {}
        for number, place in places.items():
            begin = begins[place]
            committed = await consumer.committed(place)
            # A commit behind the end is of another topic: one that was deleted and made anew.
            told_before = begin if committed is None or committed > ends[place] else committed
            start = max(begin, told_before - LOOK_BACK_NOTES)
            consumer.seek(place, start)
            # What is missing between the commit and the beginning is told when the first note is read.
            readings[number] = _Reading(number, told_before, min(start, told_before))
        return readings

    async def _read(self, wait_milliseconds: int) -> None:
        if self._consumer is None or not self._readings:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            return
        fetched = await self._consumer.getmany(timeout_ms=wait_milliseconds, max_records=MAX_RECORDS_AT_ONCE)
        for place, records in fetched.items():
            reading = self._readings[place.partition]
            for record in records:
                entry = reading.take_in(record)
                if entry is not None:
                    self._waiting[entry.sequence] = entry
            reading.unread = max(0, (self._consumer.highwater(place) or 0) - reading.next)

    async def _measure(self) -> None:
        """Looks how far the journal goes: while nothing is read, nothing else tells it."""
        if self._consumer is None or time.monotonic() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = time.monotonic()
        ends = await self._consumer.end_offsets([self._place(number) for number in self._readings])
        for place, end in ends.items():
            reading = self._readings[place.partition]
            reading.unread = max(0, end - reading.next)

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            **self._options,
        )
        try:
            async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
                await bootstrap(consumer.start())
        except BaseException:
            await stop_consumer(consumer)
            raise
        return consumer

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self._journal, number)

    def _forget(self) -> None:
        self._readings = {}
        self._waiting.clear()
