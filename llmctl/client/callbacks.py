"""The stream of callbacks: read without a group, from all partitions, committing nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from llmctl.client.kafka import (
    REQUEST_LIMIT_SECONDS,
    ask,
    client_options,
    close,
    connect,
    name_near,
    refuse_broker,
)
from llmctl.client.topics import read_topics
from llmctl.exits import UsageProblem
from service.contracts.codec import open_envelope, read_header
from service.contracts.enums import ProcessingEvent
from service.contracts.events import ComparisonResultEnvelope
from service.contracts.moments import bound_timestamp
from simulator.kafka_address import KafkaAddress

FETCH_WAIT_MILLISECONDS = 50  # the embedded broker does not wake a waiting fetch
MAX_BATCH_RECORDS = 500
STANDING_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Start:
    """Where to begin: at the end (only what is new), at the beginning, or at a time."""

    from_beginning: bool = False
    since_milliseconds: int | None = None
    """Milliseconds since 1970 UTC."""


@dataclass(frozen=True)
class CallbackRecord:
    """One record of a callback topic: as it stands there, and what it says if it is a valid envelope."""

    topic: str
    partition: int
    offset: int
    timestamp_milliseconds: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    envelope: ComparisonResultEnvelope | None
    problem: str | None
    """Why it is no valid envelope."""

    @property
    def run_id(self) -> str | None:
        """Which simulated run the record belongs to, None for real traffic."""
        return read_header(self.headers, "run_id")


class CallbackStream:
    """Records as they arrive, in the order of their timestamps within each batch."""

    def __init__(self, consumer: AIOKafkaConsumer, kafka: KafkaAddress, since_milliseconds: int) -> None:
        self._consumer = consumer
        self._kafka = kafka
        self._since_milliseconds = since_milliseconds

    async def read(self, wait_seconds: float) -> tuple[CallbackRecord, ...]:
        """What has arrived, waiting at most so long for the first; empty where nothing came."""
        batches: Mapping[Any, Sequence[Any]] = await ask(
            self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=MAX_BATCH_RECORDS),
            self._kafka,
        )
        found = [record for batch in batches.values() for record in batch]
        found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
        return tuple(read_record(each) for each in found if each.timestamp >= self._since_milliseconds)

    async def read_standing(self) -> AsyncIterator[tuple[CallbackRecord, ...]]:
        """What stands there now, batch by batch; ends at the ends that the partitions have at this moment.

        Unreachable where nothing more comes although the end is not reached.
        """
        ends: Mapping[TopicPartition, int] = await ask(
            self._consumer.end_offsets(self._consumer.assignment()), self._kafka
        )
        missing, moved = await self._measure_way(ends), time.monotonic()
        while missing:
            batch = await self.read(STANDING_WAIT_SECONDS)
            before, missing = missing, await self._measure_way(ends)
            if missing < before:
                moved = time.monotonic()
            elif time.monotonic() - moved > REQUEST_LIMIT_SECONDS:
                raise refuse_broker(self._kafka)
            yield tuple(
                each for each in batch if each.offset < ends[TopicPartition(each.topic, each.partition)]
            )

    async def _measure_way(self, ends: Mapping[TopicPartition, int]) -> int:
        """How many offsets are still to be read up to these ends."""
        return sum([max(0, end - await self._find_position(place)) for place, end in ends.items()])

    async def _find_position(self, place: TopicPartition) -> int:
        position: int = await ask(self._consumer.position(place), self._kafka)
        return position


@asynccontextmanager
async def open_callbacks(
    kafka: KafkaAddress, topics: Sequence[str], start: Start | None = None
) -> AsyncIterator[CallbackStream]:
    """A stream whose position is fixed when this returns; UsageProblem for a topic that does not exist."""
    where = start or Start()
    existing = await read_topics(kafka)
    for topic in topics:
        if topic not in existing:
            raise UsageProblem(f"There is no topic {topic!r} at {kafka}; {name_near(topic, list(existing))}")
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # what retention removed while reading is skipped, what is left is read
        fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
        isolation_level="read_committed",  # what a transaction took back was never said
    )
    try:
        await connect(consumer.start(), kafka)
        partitions = [
            TopicPartition(topic, number)
            for topic in dict.fromkeys(topics)
            for number in range(existing[topic].partitions)
        ]
        consumer.assign(partitions)
        for partition, offset in (await _find_positions(consumer, kafka, partitions, where)).items():
            consumer.seek(partition, offset)
        yield CallbackStream(consumer, kafka, where.since_milliseconds or 0)
    finally:
        await close(consumer.stop())


async def _find_positions(
    consumer: AIOKafkaConsumer, kafka: KafkaAddress, partitions: Sequence[TopicPartition], start: Start
) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = await ask(consumer.end_offsets(partitions), kafka)
    if not start.from_beginning and start.since_milliseconds is None:
        return ends
    beginnings: dict[TopicPartition, int] = await ask(consumer.beginning_offsets(partitions), kafka)
    if start.since_milliseconds is None:
        return beginnings
    found = await ask(consumer.offsets_for_times(dict.fromkeys(partitions, start.since_milliseconds)), kafka)
    known = {partition: place.offset for partition, place in found.items() if place is not None}
    if len(known) < len(partitions) and not await _can_seek_by_time(
        consumer, kafka, partitions, ends, beginnings
    ):
        return beginnings  # what is too old is left out while reading
    return {partition: known.get(partition, ends[partition]) for partition in partitions}


async def _can_seek_by_time(
    consumer: AIOKafkaConsumer,
    kafka: KafkaAddress,
    partitions: Sequence[TopicPartition],
    ends: Mapping[TopicPartition, int],
    beginnings: Mapping[TopicPartition, int],
) -> bool:
    """Whether the broker finds the first record of all by time; the embedded one finds none at all."""
    filled = [partition for partition in partitions if ends[partition] > beginnings[partition]]
    if not filled:
        return True
    first = await ask(consumer.offsets_for_times(dict.fromkeys(filled, 0)), kafka)
    return all(place is not None for place in first.values())


def read_record(record: Any) -> CallbackRecord:
    """What a record of the consumer says."""
    envelope: ComparisonResultEnvelope | None = None
    problem: str | None = None
    if record.value is None:
        problem = "the record has no value"
    elif read_header(record.headers, "event_type") == ProcessingEvent.LLM_USAGE:
        problem = "it tells usage and is no callback; `llmctl usage` adds such events up"
    else:
        try:
            envelope = open_envelope(record.value)
        except ValueError as refusal:
            problem = _shorten_refusal(refusal)
    return CallbackRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_milliseconds=bound_timestamp(record.timestamp),
        key=record.key,
        headers=tuple(record.headers),
        value=record.value,
        envelope=envelope,
        problem=problem,
    )


def _shorten_refusal(refusal: ValueError) -> str:
    """Says what is wrong with an envelope without repeating its content."""
    errors = getattr(refusal, "errors", None)
    if errors is None:
        return str(refusal)
    found = errors(include_url=False, include_input=False, include_context=False)
    said = [
        f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}".lstrip(": ") for each in found[:3]
    ]
    return "; ".join(said) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
