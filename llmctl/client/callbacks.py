"""Streams callbacks: without a group, from all partitions, committing nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from llmctl.client.kafka import REQUEST_LIMIT_SECONDS, name_near, refuse_broker
from llmctl.client.positions import Place
from llmctl.client.problems import BrokerOutOfReach, TopicUnreadable
from llmctl.client.topic_reader import LOOK_SECONDS, Gap, ReadingHindered, TopicReader, open_reader
from llmctl.client.topics import read_topics
from llmctl.exits import CliError, Failed, UsageProblem
from service.contracts.codec import open_envelope, read_header
from service.contracts.enums import ProcessingEvent
from service.contracts.events import ComparisonResultEnvelope
from service.contracts.moments import bound_timestamp
from simulator.kafka_address import KafkaAddress

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
    """Records as they arrive, in the order of their timestamps within each batch.

    New partitions of a topic are read from their beginning. Every method raises Unreachable if no broker
    answers, and Failed if a topic was deleted or may not be read.
    """

    def __init__(
        self, reader: TopicReader, kafka: KafkaAddress, topics: Sequence[str], since_milliseconds: int
    ) -> None:
        self._reader = reader
        self._kafka = kafka
        self._topics = topics
        self._since_milliseconds = since_milliseconds
        self._looked_at = time.monotonic()

    async def read(self, wait_seconds: float) -> tuple[CallbackRecord, ...]:
        """Returns what has arrived, after at most `wait_seconds`; empty if nothing came."""
        with _raising_cli_errors(self._kafka):
            await self._look_after_topics()
            try:
                found = list(await self._reader.read(min(wait_seconds, LOOK_SECONDS)))
            except Gap:
                return ()  # what retention removed is skipped, what is left is read
        found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
        return tuple(read_record(each) for each in found if each.timestamp >= self._since_milliseconds)

    async def read_standing(self) -> AsyncIterator[tuple[CallbackRecord, ...]]:
        """Yields what is on the topics now, batch by batch, up to the ends that the partitions have now.

        Raises Unreachable if nothing more comes although the end is not reached.
        """
        with _raising_cli_errors(self._kafka):
            ends = await self._reader.find_ends(self._reader.places.keys())
        missing, moved = self._measure_way(ends), time.monotonic()
        while missing:
            batch = await self.read(STANDING_WAIT_SECONDS)
            before, missing = missing, self._measure_way(ends)
            if missing < before:
                moved = time.monotonic()
            elif time.monotonic() - moved > REQUEST_LIMIT_SECONDS:
                raise refuse_broker(self._kafka)
            yield tuple(each for each in batch if each.offset < ends.get((each.topic, each.partition), 0))

    def _measure_way(self, ends: Mapping[Place, int]) -> int:
        """How many offsets are still to be read up to these ends."""
        return sum(max(0, end - self._reader.places.get(place, 0)) for place, end in ends.items())

    async def _look_after_topics(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for topic in await self._reader.find_deleted(self._topics):
            raise Failed(f"The topic {topic!r} at {self._kafka} was deleted.")
        new = self._reader.find_new_places(self._topics)
        if new:
            self._reader.put(new)


@asynccontextmanager
async def open_callbacks(
    kafka: KafkaAddress, topics: Sequence[str], start: Start | None = None
) -> AsyncIterator[CallbackStream]:
    """Opens a stream whose position is fixed when this returns; UsageProblem if a topic does not exist."""
    where = start or Start()
    existing = await read_topics(kafka)
    names = tuple(dict.fromkeys(topics))
    for topic in names:
        if topic not in existing:
            raise UsageProblem(f"There is no topic {topic!r} at {kafka}; {name_near(topic, list(existing))}")
    async with AsyncExitStack() as closing:
        with _raising_cli_errors(kafka):
            reader = await closing.enter_async_context(open_reader(kafka))
            places = [(topic, number) for topic in names for number in range(existing[topic].partitions)]
            reader.put(await _find_positions(reader, places, where))
        yield CallbackStream(reader, kafka, names, where.since_milliseconds or 0)


async def _find_positions(reader: TopicReader, places: Sequence[Place], start: Start) -> dict[Place, int]:
    ends = await reader.find_ends(places)
    if not start.from_beginning and start.since_milliseconds is None:
        return ends
    beginnings = await reader.find_beginnings(places)
    if start.since_milliseconds is None:
        return beginnings
    known = await reader.find_offsets_at(places, start.since_milliseconds)
    if len(known) < len(places) and not await _can_seek_by_time(reader, places, ends, beginnings):
        return beginnings  # what is too old is left out while reading
    return {place: known.get(place, ends[place]) for place in places}


async def _can_seek_by_time(
    reader: TopicReader, places: Sequence[Place], ends: Mapping[Place, int], beginnings: Mapping[Place, int]
) -> bool:
    """Whether the broker finds the first record of all by time; the embedded one finds none at all."""
    filled = [place for place in places if ends[place] > beginnings[place]]
    return not filled or len(await reader.find_offsets_at(filled, 0)) == len(filled)


@contextmanager
def _raising_cli_errors(kafka: KafkaAddress) -> Iterator[None]:
    """Turns the library's problems with Kafka into those of the command line."""
    try:
        yield
    except (BrokerOutOfReach, ReadingHindered, TopicUnreadable) as problem:
        if isinstance(problem.__cause__, CliError):
            raise problem.__cause__ from problem
        if isinstance(problem, TopicUnreadable):
            raise Failed(str(problem)) from problem
        raise refuse_broker(kafka) from problem


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
