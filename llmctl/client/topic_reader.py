"""One consumer without a group on partitions that come and go while it reads; commits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from llmctl.client.kafka import ask, client_options, close, connect
from llmctl.client.positions import Place
from llmctl.client.problems import BrokerOutOfReach, ClientProblem, TopicUnreadable, say_parameters
from llmctl.client.topics import read_topics
from llmctl.exits import CliError, Unreachable
from simulator.kafka_address import KafkaAddress

FETCH_WAIT_MILLISECONDS = 50  # the embedded broker does not wake a waiting fetch
MAX_BATCH_RECORDS = 500
LOOK_SECONDS = 5.0
"""How often topics are checked for new partitions and for their deletion."""
SETTLE_SECONDS = 0.1
"""aiokafka 0.14 does not hear that it shall stop while it changes its assignment, and would hang for long."""
GAP_LIMIT_SECONDS = 2.0
"""So long one partition may keep all others waiting while it is asked where it goes on."""
METADATA_AGE_SECONDS = 10.0
"""So long at most a new partition is not noticed; what came on it meanwhile is read then."""


class Gap(Exception):
    """Records that were to be read next are gone; the reader goes on with what is left."""

    def __init__(self, moved: Mapping[Place, tuple[int, int]]) -> None:
        said = "; ".join(
            f"{topic}/{partition} has no offset {wanted} any more and goes on at {found}"
            for (topic, partition), (wanted, found) in sorted(moved.items())
        )
        super().__init__(f"{said}: retention removed records, or the topic was made anew.")
        self.places: dict[Place, int] = {place: found for place, (_, found) in moved.items()}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that it is about."""
        return frozenset(topic for topic, _ in self.places)


class TopicRefused(TopicUnreadable):
    """Kafka does not let us read one of the topics."""

    def __init__(self, topic: str, kafka: KafkaAddress) -> None:
        super().__init__(
            f"Kafka at {kafka} does not allow reading the topic {topic!r}; ask for the right to."
        )
        self.topic = topic


class ReadingHindered(ClientProblem):
    """Kafka could not hand out records; another try may help."""


class TopicReader:
    """Reads from the places it was given, in order within each partition."""

    def __init__(self, consumer: AIOKafkaConsumer, kafka: KafkaAddress) -> None:
        self._consumer = consumer
        self._kafka = kafka
        self._places: dict[Place, int] = {}
        self._partitions: dict[str, list[int]] = {}
        self._in_step = True
        """Whether the consumer stands where we do."""
        self._assigned_at = 0.0

    @property
    def places(self) -> Mapping[Place, int]:
        """The next offset of each partition."""
        return MappingProxyType(self._places)

    def put(self, places: Mapping[Place, int]) -> None:
        """Reads these partitions too, from there; one that is read already is moved."""
        for topic, partition in places.keys() - self._places.keys():
            self._partitions.setdefault(topic, []).append(partition)
        self._places |= places
        self._assign()

    def drop(self, topics: Collection[str]) -> None:
        """Reads these topics no more."""
        for place in self.find_places(topics):
            del self._places[place]
        for topic in topics:
            self._partitions.pop(topic, None)
        self._assign()

    def find_places(self, topics: Collection[str]) -> dict[Place, int]:
        """The next offset of each partition of these topics."""
        places = [(topic, number) for topic in topics for number in self._partitions.get(topic, ())]
        return {place: self._places[place] for place in places}

    def list_partitions(self, topic: str) -> frozenset[int]:
        """The partitions that the brokers told of when they were asked last."""
        return frozenset(self._consumer.partitions_for_topic(topic) or ())

    async def find_ends(self, places: Collection[Place]) -> dict[Place, int]:
        """Where the next record of each will stand; BrokerOutOfReach where no broker says."""
        with speaking_to_kafka():
            found = await ask(
                self._consumer.end_offsets([TopicPartition(*each) for each in places]), self._kafka
            )
        return dict(found)

    async def find_beginnings(self, places: Collection[Place]) -> dict[Place, int]:
        """Where the oldest record of each stands; BrokerOutOfReach where no broker says."""
        wanted = [TopicPartition(*each) for each in places]
        with speaking_to_kafka():
            found = await ask(self._consumer.beginning_offsets(wanted), self._kafka)
        return dict(found)

    async def find_offsets_at(self, places: Collection[Place], milliseconds: int) -> dict[Place, int]:
        """Returns the first offset of each at or after a time since 1970, where there is one."""
        wanted = dict.fromkeys([TopicPartition(*each) for each in places], milliseconds)
        with speaking_to_kafka():
            found = await ask(self._consumer.offsets_for_times(wanted), self._kafka)
        return {place: known.offset for place, known in found.items() if known is not None}

    def find_new_places(self, topics: Collection[str]) -> dict[Place, int]:
        """Returns the partitions that these topics have got meanwhile, to be read from their beginning."""
        return {
            (topic, number): 0
            for topic in topics
            for number in self.list_partitions(topic)
            if (topic, number) not in self._places
        }

    async def find_deleted(self, topics: Collection[str]) -> list[str]:
        """Returns those of these topics that were deleted.

        The consumer would look for a deleted topic without a pause, and might create it by asking.
        """
        missing = [topic for topic in topics if not self.list_partitions(topic)]
        if not missing:
            return []
        try:
            with speaking_to_kafka():
                existing = await read_topics(self._kafka)
        except (BrokerOutOfReach, TopicUnreadable):
            return []  # nothing is known; the next look may tell
        return [topic for topic in missing if topic not in existing]

    async def read(self, wait_seconds: float) -> Sequence[Any]:
        """What has arrived, waiting at most so long for the first; empty where nothing came.

        Raises Gap, TopicRefused or ReadingHindered, after which the next call goes on, or TopicUnreadable.
        """
        if not self._in_step:
            self._assign()
        try:
            batches: Mapping[Place, Sequence[Any]] = await self._consumer.getmany(
                timeout_ms=int(wait_seconds * 1000), max_records=MAX_BATCH_RECORDS
            )
        except OffsetOutOfRangeError as problem:
            await self._go_on_with_what_is_left(problem)
            return ()
        except TopicAuthorizationFailedError as problem:
            self._in_step = False
            topic = str(problem.args[0])
            if topic in self._partitions:
                raise TopicRefused(topic, self._kafka) from problem
            return ()
        except KafkaError as problem:
            self._in_step = False  # the consumer may have passed what it did not hand out
            passes = problem.retriable or isinstance(problem, CorruptRecordException)
            kind = ReadingHindered if passes else TopicUnreadable
            raise kind(f"Callbacks could not be read from Kafka at {self._kafka}: {problem}.") from problem
        if not batches:
            await self._pass_what_is_no_record()
        for place, records in batches.items():
            self._places[place] = records[-1].offset + 1
        return [record for records in batches.values() for record in records]

    async def _pass_what_is_no_record(self) -> None:
        """Markers of transactions and what compaction removed have offsets, and are never handed out."""
        for place in tuple(self._places):
            self._places[place] = await self._consumer.position(TopicPartition(*place))

    async def _go_on_with_what_is_left(self, problem: OffsetOutOfRangeError) -> None:
        lost: dict[Place, int] = {
            (topic, partition): offset
            for (topic, partition), offset in problem.args[0].items()
            if self._places.get((topic, partition)) == offset
        }
        if not lost:  # it was about a place that is not read any more
            return
        try:
            async with asyncio.timeout(GAP_LIMIT_SECONDS):
                found = await self.find_beginnings(lost)
        except TimeoutError as late:  # of a deleted topic nobody knows it
            said = ", ".join(f"{topic}/{partition}" for topic, partition in lost)
            raise ReadingHindered(f"Kafka at {self._kafka} does not say where {said} goes on.") from late
        self._places |= found
        self._in_step = False
        raise Gap({place: (offset, found[place]) for place, offset in lost.items()}) from problem

    async def settle(self) -> None:
        """Waits until the consumer can be stopped."""
        since = asyncio.get_running_loop().time() - self._assigned_at
        await asyncio.sleep(max(0.0, SETTLE_SECONDS - since))

    def _assign(self) -> None:
        """Tells the consumer all places: with a new assignment it forgets the ones it had."""
        self._in_step = True
        self._assigned_at = asyncio.get_running_loop().time()
        self._consumer.assign([TopicPartition(*place) for place in self._places])
        for place, offset in self._places.items():
            self._consumer.seek(TopicPartition(*place), offset)


@asynccontextmanager
async def open_reader(kafka: KafkaAddress) -> AsyncIterator[TopicReader]:
    """A reader of nothing yet; BrokerOutOfReach where no broker answers."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # what is gone is said, not passed over
        fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
        isolation_level="read_committed",  # what a transaction took back was never said
        metadata_max_age_ms=int(METADATA_AGE_SECONDS * 1000),
    )
    try:
        with speaking_to_kafka():
            await connect(consumer.start(), kafka)
        reader = TopicReader(consumer, kafka)
        try:
            yield reader
        finally:
            await reader.settle()
    finally:
        await close(consumer.stop())


@contextmanager
def speaking_to_kafka() -> Iterator[None]:
    """Turns the command line's problems with Kafka into those of the library."""
    try:
        yield
    except Unreachable as problem:
        raise BrokerOutOfReach(say_parameters(str(problem))) from problem
    except CliError as problem:
        raise TopicUnreadable(say_parameters(str(problem))) from problem
