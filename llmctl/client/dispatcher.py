"""The one reader of a client: hands every record to whoever expects it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from llmctl.client.arrivals import Arrival
from llmctl.client.awaiting import TopicWatch
from llmctl.client.kafka import name_near
from llmctl.client.positions import Place, Position
from llmctl.client.problems import BrokerOutOfReach, ClientClosed, ClientProblem, TopicUnreadable
from llmctl.client.topic_reader import (
    LOOK_SECONDS,
    Gap,
    ReadingHindered,
    TopicReader,
    TopicRefused,
    speaking_to_kafka,
)
from llmctl.client.topics import TopicFacts, read_topics
from simulator.kafka_address import KafkaAddress

IDLE_LIMIT_SECONDS = 60.0
"""So long a topic is read on after the last who expected something of it."""
RETRY_PAUSE_SECONDS = 1.0

log = logging.getLogger("llmctl.client")


class Dispatcher:
    """Reads all topics of a client with one consumer; topics are added while it reads."""

    def __init__(self, reader: TopicReader, kafka: KafkaAddress) -> None:
        self._reader = reader
        self._kafka = kafka
        self._watches: dict[str, TopicWatch] = {}
        self._idle_since: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._growing = asyncio.Lock()
        self._looked_at = 0.0
        self._problem: ClientClosed | None = None

    async def follow(self, topics: Collection[str]) -> tuple[TopicWatch, ...]:
        """Everything that comes on these topics from now on is taken note of.

        Raises TopicUnreadable where one does not exist, BrokerOutOfReach where no broker answers.
        """
        self.check_open()
        existing: Mapping[str, TopicFacts] = {}
        if not self._watches.keys() >= set(topics):
            self._wanted.update(topics)
            async with self._growing:  # many who come at once are served at once
                if not self._watches.keys() >= set(topics):
                    existing = await self._add(self._wanted | set(topics))
            self.check_open()
        for topic in topics:
            if topic not in self._watches:
                near = name_near(topic, list(existing))
                raise TopicUnreadable(f"There is no topic {topic!r} at {self._kafka}; {near}")
        return tuple(self._watches[topic] for topic in topics)

    def find_places(self, topics: Collection[str]) -> dict[Place, int]:
        """How far these topics have been read."""
        return self._reader.find_places(topics)

    def find_position(self, topics: Collection[str]) -> Position:
        """The same for callers; what comes from now on stands behind it."""
        return Position.of_places(self.find_places(topics))

    async def find_beginnings(self, places: Collection[Place]) -> dict[Place, int]:
        """Where the oldest record of each partition stands; BrokerOutOfReach where no broker says."""
        return await self._reader.find_beginnings(places)

    async def find_ends(self, places: Collection[Place]) -> dict[Place, int]:
        """Where the next record of each partition will stand; BrokerOutOfReach where no broker says."""
        return await self._reader.find_ends(places)

    @contextmanager
    def attend(self, watches: Iterable[TopicWatch]) -> Iterator[None]:
        """Has the topics read on although nobody waits for one callback."""
        watches = tuple(watches)
        for watch in watches:
            watch.listeners += 1
        try:
            yield
        finally:
            for watch in watches:
                watch.listeners -= 1

    def check_open(self) -> None:
        """ClientClosed where nobody reads any more."""
        if self._problem is not None:
            raise self._problem.with_traceback(None)

    def close(self, problem: ClientClosed) -> None:
        """Tells everybody who waits that nothing will come any more."""
        if self._problem is not None:
            return
        self._problem = problem
        for watch in self._watches.values():
            watch.end(problem)

    async def run(self) -> None:
        """Reads for as long as the client is open; whatever ends it is told to all who wait."""
        try:
            while True:
                await self._read()
                await self._look_after_topics()
        except Exception as problem:
            why = str(problem) if isinstance(problem, ClientProblem) else type(problem).__name__
            self.close(ClientClosed(f"Reading callbacks from {self._kafka} broke; connect again. {why}"))
            raise

    async def _read(self) -> None:
        try:
            records = await self._reader.read(LOOK_SECONDS)
        except Gap as gap:
            log.warning("%s", gap)
            for topic in gap.topics & self._watches.keys():
                self._watches[topic].tell_gap(gap)
        except TopicRefused as refused:
            self._end(refused.topic, refused)
        except (ReadingHindered, BrokerOutOfReach) as hindrance:
            log.warning("%s", hindrance)
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        else:
            for record in records:
                watch = self._watches.get(record.topic)
                if watch is not None:
                    watch.take(Arrival(record))

    async def _add(self, wanted: set[str]) -> Mapping[str, TopicFacts]:
        with speaking_to_kafka():
            existing = await read_topics(self._kafka)
        # Beside those that were wanted in the meantime, which whoever wants them adds next.
        added = [topic for topic in wanted if topic in existing and topic not in self._watches]
        places = [(topic, number) for topic in added for number in range(existing[topic].partitions)]
        if places:
            self._reader.put(await self._reader.find_ends(places))
        self._watches |= {topic: TopicWatch(topic) for topic in added}
        self._wanted -= wanted
        return existing

    async def _look_after_topics(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._looked_at + LOOK_SECONDS:
            return
        self._looked_at = now
        for topic in await self._reader.find_deleted(tuple(self._watches)):
            self._end(topic, TopicUnreadable(f"The topic {topic!r} at {self._kafka} was deleted."))
        new = self._reader.find_new_places(self._watches.keys())
        if new:
            self._reader.put(new)
        self._drop_idle(now)

    def _drop_idle(self, now: float) -> None:
        idle = {topic for topic, watch in self._watches.items() if watch.is_idle}
        self._idle_since = {topic: self._idle_since.get(topic, now) for topic in idle}
        gone = {topic for topic, since in self._idle_since.items() if now - since >= IDLE_LIMIT_SECONDS}
        for topic in gone:
            del self._watches[topic]
        if gone:
            self._reader.drop(gone)

    def _end(self, topic: str, problem: Exception) -> None:
        watch = self._watches.pop(topic, None)
        if watch is not None:
            self._reader.drop({topic})
            watch.end(problem)
