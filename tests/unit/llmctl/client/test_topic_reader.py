"""The consumer's errors are classified, and no record it skipped in one is lost."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from llmctl.client.problems import TopicUnreadable
from llmctl.client.topic_reader import Gap, ReadingHindered, TopicReader, TopicRefused
from tests.unit.llmctl.client.records import Record

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


class FakeConsumer:
    def __init__(self) -> None:
        self.results: list[Mapping[TopicPartition, Sequence[Any]] | KafkaError] = []
        self.assigned: list[TopicPartition] = []
        self.sought: dict[TopicPartition, int] = {}

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned, self.sought = partitions, {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought[partition] = offset

    async def getmany(self, **_: object) -> Mapping[TopicPartition, Sequence[Any]]:
        result = self.results.pop(0)
        if isinstance(result, KafkaError):
            raise result
        return result

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 3)

    async def position(self, partition: TopicPartition) -> int:
        return self.sought[partition] + 2


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
async def reader(consumer: FakeConsumer) -> TopicReader:
    reader = TopicReader(consumer, "kafka:9092")
    reader.put({("t", 0): 5, ("t", 1): 7})
    return reader


async def test_places_follow_what_is_read(reader: TopicReader, consumer: FakeConsumer) -> None:
    records = [Record("t", 1, offset, None, None, ()) for offset in (7, 9)]
    consumer.results = [{T1: records}]
    assert list(await reader.read(1)) == records
    reader.put({("u", 0): 0})
    assert reader.places == consumer.sought == {("t", 0): 5, ("t", 1): 10, ("u", 0): 0}
    reader.drop({"t"})
    assert reader.places == consumer.sought == {("u", 0): 0}


async def test_where_nothing_came_what_is_no_record_is_passed(
    reader: TopicReader, consumer: FakeConsumer
) -> None:
    """Transaction markers take offsets that are never read."""
    consumer.results = [{}]
    assert list(await reader.read(1)) == []
    assert reader.places == {("t", 0): 7, ("t", 1): 9}


async def test_what_is_gone_is_said_and_passed(reader: TopicReader, consumer: FakeConsumer) -> None:
    consumer.results = [OffsetOutOfRangeError({T0: 5}), {}]
    with pytest.raises(Gap, match="t/0 has no offset 5 any more and goes on at 3") as gap:
        await reader.read(1)
    assert gap.value.places == {("t", 0): 3}
    assert gap.value.topics == {"t"}
    await reader.read(1)
    assert consumer.sought == {T0: 3, T1: 7}


async def test_one_partition_does_not_keep_the_others_waiting(
    reader: TopicReader, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(_: object) -> dict[TopicPartition, int]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr("llmctl.client.topic_reader.GAP_LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(consumer, "beginning_offsets", say_nothing)
    consumer.results = [OffsetOutOfRangeError({T0: 5})]
    with pytest.raises(ReadingHindered, match="does not say where t/0 goes on"):
        await reader.read(1)
    assert reader.places == {("t", 0): 5, ("t", 1): 7}


async def test_an_error_about_a_place_that_was_left_is_none(
    reader: TopicReader, consumer: FakeConsumer
) -> None:
    other = TopicPartition("u", 0)
    consumer.results = [
        OffsetOutOfRangeError({T0: 4}),
        OffsetOutOfRangeError({other: 4}),
        TopicAuthorizationFailedError("u"),
    ]
    for _ in range(3):
        assert list(await reader.read(1)) == []
    assert reader.places == {("t", 0): 5, ("t", 1): 7}


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (CorruptRecordException("crc"), ReadingHindered),
        (TopicAuthorizationFailedError("t"), TopicRefused),
        (KafkaError("unheard of"), TopicUnreadable),
    ],
)
async def test_after_an_error_it_reads_from_where_it_stood(
    reader: TopicReader, consumer: FakeConsumer, error: KafkaError, meaning: type[Exception]
) -> None:
    """The consumer may have skipped records that it never returned."""
    consumer.results = [error, {T0: [Record("t", 0, 5, None, None, ())]}]
    with pytest.raises(meaning):
        await reader.read(1)
    consumer.sought = {}
    await reader.read(1)
    assert consumer.sought == {T0: 5, T1: 7}
    assert reader.places[("t", 0)] == 6
