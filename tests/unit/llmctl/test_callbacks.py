"""A topic is read up to the end that it has when reading begins."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from llmctl.client import callbacks
from llmctl.client.callbacks import CallbackStream
from llmctl.exits import Unreachable

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int = 1
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Consumer:
    ends: dict[TopicPartition, int]
    batches: list[dict[TopicPartition, list[int]]]
    positions: dict[TopicPartition, int] = field(default_factory=lambda: {FIRST: 0, SECOND: 0})

    def assignment(self) -> Iterable[TopicPartition]:
        return frozenset(self.ends)

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.ends[place] for place in places}

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    async def getmany(self, **_: int) -> dict[TopicPartition, list[Record]]:
        """Returns the next batch; offsets missing from it still move the position."""
        batch = self.batches.pop(0) if self.batches else {}
        for place, offsets in batch.items():
            self.positions[place] = max(offsets) + 1
        return {
            place: [Record(place.topic, place.partition, offset) for offset in offsets]
            for place, offsets in batch.items()
        }


async def read_all(consumer: Consumer) -> list[tuple[int, int]]:
    stream = CallbackStream(consumer, "broker:1", 0)
    return [(each.partition, each.offset) async for batch in stream.read_standing() for each in batch]


async def test_reading_ends_where_the_topic_ended() -> None:
    consumer = Consumer(
        {FIRST: 4, SECOND: 2}, [{FIRST: [0, 1]}, {}, {FIRST: [3, 4, 5]}, {SECOND: [1]}, {SECOND: [2]}]
    )
    assert await read_all(consumer) == [(0, 0), (0, 1), (0, 3), (1, 1)]
    assert consumer.batches == [{SECOND: [2]}]


async def test_an_empty_topic_is_read_at_once() -> None:
    consumer = Consumer({FIRST: 0, SECOND: 0}, [{FIRST: [0]}])
    assert await read_all(consumer) == []
    assert len(consumer.batches) == 1


async def test_a_broker_that_falls_silent_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callbacks, "REQUEST_LIMIT_SECONDS", 0.0)
    with pytest.raises(Unreachable, match="No Kafka broker answers at broker:1"):
        await read_all(Consumer({FIRST: 4, SECOND: 0}, [{FIRST: [0, 1]}]))
