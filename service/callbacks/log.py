"""Reads callback topics back: what stands there need not be sent again. Joins no group, commits nothing."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord, TopicPartition

from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.codec import read_header
from service.core.errors import BrokerUnavailable, TopicUnreadable
from service.kafka.connection import KafkaConnection
from service.kafka.consumer import reading

FETCH_WAIT_MILLISECONDS = 100
MAX_RECORDS_AT_ONCE = 2000


class KafkaCallbackLog:
    """`CallbackLog` over Kafka; opens a connection for each question."""

    def __init__(self, connection: KafkaConnection, directory: KafkaTopicDirectory) -> None:
        self._options = connection.client_options()
        self._directory = directory

    async def find_ends(self, topic: str) -> Mapping[int, int]:
        """The end of each partition: the offset that its next record will get."""
        async with self._open(topic) as (consumer, partitions):
            ends = await consumer.end_offsets(partitions)
            return {partition.partition: offset for partition, offset in ends.items()}

    async def find_offsets_at(self, topic: str, unix_seconds: float) -> Mapping[int, int]:
        """The first offset of each partition whose record has this time or a later one for its timestamp.

        The end where there is none; the first offset where the broker keeps no times, as the embedded one.
        """
        async with self._open(topic) as (consumer, partitions):
            ends = await consumer.end_offsets(partitions)
            first = await consumer.beginning_offsets(partitions)
            at = max(0, round(unix_seconds * 1000))
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, at))
            oldest = await consumer.offsets_for_times(dict.fromkeys(partitions, 0))
            offsets = {}
            for partition in partitions:
                here = found[partition]
                keeps_times = oldest[partition] is not None
                nothing_since = ends[partition] if keeps_times else first[partition]
                offsets[partition.partition] = nothing_since if here is None else here.offset
            return offsets

    async def find_standing(
        self, topic: str, start: Mapping[int, int], event_ids: Collection[str]
    ) -> Collection[str]:
        """Which of these event ids stand on a topic, from `start` to its present end.

        A partition that `start` does not name, or of which that part is gone, is read from its first record.
        """
        wanted = frozenset(event_ids)
        standing: set[str] = set()
        async with self._open(topic) as (consumer, partitions):
            ends = await consumer.end_offsets(partitions)
            first = await consumer.beginning_offsets(partitions)
            unread = set()
            for partition in partitions:
                begin = max(first[partition], start.get(partition.partition, 0))
                # A topic that was deleted and made anew is shorter than what is known of the old one.
                begin = first[partition] if begin > ends[partition] else begin
                if begin < ends[partition]:
                    consumer.seek(partition, begin)
                    unread.add(partition)
                else:
                    consumer.pause(partition)
            while unread and len(standing) < len(wanted):
                fetched = await consumer.getmany(
                    timeout_ms=FETCH_WAIT_MILLISECONDS, max_records=MAX_RECORDS_AT_ONCE
                )
                for records in fetched.values():
                    standing.update(wanted.intersection(map(_read_event_id, records)))
                for partition in tuple(unread):
                    # The position also passes what no consumer is shown: markers, and compacted records.
                    if await consumer.position(partition) >= ends[partition]:
                        unread.discard(partition)
                        consumer.pause(partition)
        return standing

    @asynccontextmanager
    async def _open(self, topic: str) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
        # From the list of all topics: asking for the metadata of one that is gone may create it.
        numbers = await self._directory.find_partitions(topic)
        if not numbers:
            raise TopicUnreadable(f"The topic {topic} does not exist.")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        try:
            async with reading(self._options, partitions, FETCH_WAIT_MILLISECONDS) as consumer:
                yield consumer, partitions
        except (TopicAuthorizationFailedError, UnknownTopicOrPartitionError) as error:
            raise TopicUnreadable(f"The topic {topic} cannot be read: {type(error).__name__}.") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(
                f"The topic {topic} cannot be read now: {type(error).__name__}."
            ) from error


def _read_event_id(record: "ConsumerRecord[bytes, bytes]") -> str:
    return read_header(record.headers, "event_id") or ""
