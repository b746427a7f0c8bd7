"""Reads topics of the Kafka queue without a group: from a place to their end, or on and on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from service.core.errors import BrokerUnavailable, QueueUnavailable
from service.kafka.connection import KafkaConnection, bootstrap
from service.kafka.consumer import reading

FETCH_WAIT_MILLISECONDS = 50
MAX_RECORDS_AT_ONCE = 2000
READ_ON_RECORDS = 50
"""So many records that nobody wants are read over, rather than to seek once more."""
ANSWER_LIMIT_SECONDS = 10.0

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


class KafkaLog:
    """What stands on topics; opens a connection for each question. Raises `QueueUnavailable`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._options = connection.client_options()

    async def count_partitions(self, topics: Collection[str]) -> Mapping[str, int]:
        """How many partitions each of these topics has; those that do not exist are left out.

        Raises `BrokerUnavailable` where nobody answers.
        """
        client = AIOKafkaClient(**self._options)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
                await bootstrap(client.bootstrap())
                # The list of all: asking for the metadata of one that is missing may create it.
                cluster = await client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(
                f"The Kafka queue cannot be opened: no broker answers at "
                f"{self._options['bootstrap_servers']} ({type(error).__name__})."
            ) from error
        finally:
            await client.close()
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        return {topic: count for topic, count in counts.items() if count}

    async def read_settings(self, topic: str) -> Mapping[str, str]:
        """The settings of a topic, its own and the broker's; none from a broker that keeps none."""
        admin = AIOKafkaAdminClient(**self._options)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
                await bootstrap(admin.start())
                answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        except IncompatibleBrokerVersion:
            return {}
        except (KafkaError, OSError, TimeoutError) as error:
            raise QueueUnavailable(f"The settings of {topic} cannot be read: {error!r}.") from error
        finally:
            await admin.close()
        return {
            entry["config_names"]: entry["config_value"]
            for answer in answers
            for resource in answer.to_object()["resources"]
            for entry in resource["config_entries"]
        }

    async def find_end(self, topic: str, partition: int) -> int:
        """The offset that the next record of a partition will get."""
        place = TopicPartition(topic, partition)
        async with self._open(place) as consumer:
            return int((await consumer.end_offsets([place]))[place])

    async def read_all(self, topic: str, partition: int, read: Callable[[Record], None]) -> None:
        """Hands over what stands on a partition now, from its first record."""
        place = TopicPartition(topic, partition)
        async with self._open(place) as consumer:
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                fetched = await consumer.getmany(
                    timeout_ms=FETCH_WAIT_MILLISECONDS, max_records=MAX_RECORDS_AT_ONCE
                )
                for record in fetched.get(place, ()):
                    read(record)

    async def read_some(self, topic: str, partition: int, start: int, limit: int) -> list[Record]:
        """Up to `limit` records of a partition from `start` on, as far as it goes now."""
        place = TopicPartition(topic, partition)
        found: list[Record] = []
        async with self._open(place) as consumer:
            end = (await consumer.end_offsets([place]))[place]
            consumer.seek(place, max(start, (await consumer.beginning_offsets([place]))[place]))
            while len(found) < limit and await consumer.position(place) < end:
                fetched = await consumer.getmany(
                    timeout_ms=FETCH_WAIT_MILLISECONDS, max_records=limit - len(found)
                )
                found.extend(fetched.get(place, ()))
        return found

    async def read_at(self, topic: str, partition: int, offsets: Collection[int]) -> Mapping[int, bytes]:
        """The values of single records; those that are gone are left out."""
        place = TopicPartition(topic, partition)
        found: dict[int, bytes] = {}
        async with self._open(place) as consumer:
            end = (await consumer.end_offsets([place]))[place]
            wanted = sorted(offset for offset in offsets if offset < end)
            while wanted:
                consumer.seek(place, wanted[0])
                last = _end_of_run(wanted)
                while await consumer.position(place) <= last:
                    fetched = await consumer.getmany(
                        timeout_ms=FETCH_WAIT_MILLISECONDS, max_records=MAX_RECORDS_AT_ONCE
                    )
                    for record in fetched.get(place, ()):
                        found[record.offset] = record.value or b""
                wanted = [offset for offset in wanted if offset > last]
        return {offset: value for offset, value in found.items() if offset in offsets}

    async def follow(self, topic: str, partition: int, start: int, read: Callable[[Record], None]) -> None:
        """Hands over what stands on a partition from `start` on, and what comes, until cancelled."""
        place = TopicPartition(topic, partition)
        async with self._open(place) as consumer:
            first = (await consumer.beginning_offsets([place]))[place]
            consumer.seek(place, max(first, start))
            while True:
                fetched = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS_AT_ONCE)
                for record in fetched.get(place, ()):
                    read(record)

    @asynccontextmanager
    async def _open(self, place: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
        try:
            async with reading(self._options, [place], FETCH_WAIT_MILLISECONDS) as consumer:
                yield consumer
        except (KafkaError, OSError, TimeoutError) as error:
            raise QueueUnavailable(f"The topic {place.topic} cannot be read: {error!r}.") from error


def _end_of_run(offsets: Sequence[int]) -> int:
    """The last of those that are read in one go with the first."""
    end = offsets[0]
    for offset in offsets:
        if offset - end > READ_ON_RECORDS:
            break
        end = offset
    return end
