"""A topic is read up to the end that it has when reading begins."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from llmctl.client import callbacks
from llmctl.client.callbacks import CallbackStream
from llmctl.client.positions import Place
from llmctl.exits import Unreachable

FIRST, SECOND = ("t", 0), ("t", 1)


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
class Reader:
    ends: dict[Place, int]
    batches: list[dict[Place, list[int]]]
    places: dict[Place, int] = field(default_factory=lambda: {FIRST: 0, SECOND: 0})

    async def find_ends(self, places: Collection[Place]) -> dict[Place, int]:
        return {place: self.ends[place] for place in places}

    async def read(self, _: float) -> Sequence[Record]:
        """Returns the next batch; offsets missing from it still move the position."""
        batch = self.batches.pop(0) if self.batches else {}
        for place, offsets in batch.items():
            self.places[place] = max(offsets) + 1
        return [Record(*place, offset) for place, offsets in batch.items() for offset in offsets]


async def read_all(reader: Reader) -> list[tuple[int, int]]:
    stream = CallbackStream(reader, "broker:1", ["t"], 0)  # type: ignore[arg-type]
    return [(each.partition, each.offset) async for batch in stream.read_standing() for each in batch]


async def test_reading_ends_where_the_topic_ended() -> None:
    reader = Reader(
        {FIRST: 4, SECOND: 2}, [{FIRST: [0, 1]}, {}, {FIRST: [3, 4, 5]}, {SECOND: [1]}, {SECOND: [2]}]
    )
    assert await read_all(reader) == [(0, 0), (0, 1), (0, 3), (1, 1)]
    assert reader.batches == [{SECOND: [2]}]


async def test_an_empty_topic_is_read_at_once() -> None:
    reader = Reader({FIRST: 0, SECOND: 0}, [{FIRST: [0]}])
    assert await read_all(reader) == []
    assert len(reader.batches) == 1


async def test_a_broker_that_falls_silent_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callbacks, "REQUEST_LIMIT_SECONDS", 0.0)
    with pytest.raises(Unreachable, match="No Kafka broker answers at broker:1"):
        await read_all(Reader({FIRST: 4, SECOND: 0}, [{FIRST: [0, 1]}]))
