"""Reads all callbacks of some topics from a place on, each event once: what is old, then what is new."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from llmctl.client.arrivals import Arrival, Callback
from llmctl.client.awaiting import TopicWatch
from llmctl.client.dispatcher import RETRY_PAUSE_SECONDS, Dispatcher
from llmctl.client.feed import Feed
from llmctl.client.positions import Place, Position
from llmctl.client.problems import BrokerOutOfReach, PositionLost
from llmctl.client.seen import SeenEvents
from llmctl.client.topic_reader import Gap, ReadingHindered, TopicReader, open_reader
from simulator.kafka_address import KafkaAddress

READ_LIMIT_SECONDS = 1.0

log = logging.getLogger("llmctl.client")


class Listening:
    """What is new comes from the client's one consumer.

    For what is older, and where the loop over it is slower than the callbacks come, there is a consumer
    of its own until it has caught up.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        kafka: KafkaAddress,
        topics: Sequence[str],
        places: Mapping[Place, int],
        wants_run: Callable[[str | None], bool],
        watches: Sequence[TopicWatch],
    ) -> None:
        self._dispatcher = dispatcher
        self._kafka = kafka
        self._topics = topics
        self._places = dict(places)
        self._wants_run = wants_run
        self._seen = SeenEvents()
        self._known_gaps = [watch.gap for watch in watches]
        # Joined at once, so that nothing is missed between this and the first step.
        self._feed = self._try_to_join(watches)

    @property
    def position(self) -> Position:
        """Behind all that was handed out or passed over."""
        return Position.of_places(self._places)

    async def read(self) -> AsyncGenerator[Callback, None]:
        """Every callback, without an end."""
        watches = await self._dispatcher.follow(self._topics)
        with self._dispatcher.attend(watches):
            while True:
                self._feed = self._feed or self._try_to_join(watches)
                if self._feed is None:
                    async with aclosing(self._catch_up(watches)) as older:
                        async for callback in older:
                            yield callback
                while self._feed is not None and (arrivals := await self._take(self._feed)):
                    for callback in self._pick_all(arrivals):
                        yield callback
                self._feed = None  # too slow for it

    async def _catch_up(self, watches: Sequence[TopicWatch]) -> AsyncGenerator[Callback, None]:
        """What is older than the client's consumer; ends with the listener joined to that one."""
        async with open_reader(self._kafka) as reader:
            reader.put(self._places)
            # Joined before the reader is closed: that takes a while, in which more may come.
            while (feed := self._try_to_join(watches)) is None:
                new = self._dispatcher.find_places(self._topics).keys() - reader.places.keys()
                if new:
                    reader.put(dict.fromkeys(new, 0))
                for callback in self._pick_all(Arrival(each) for each in await self._read_older(reader)):
                    yield callback
                self._places |= reader.places
            self._feed = feed

    def _try_to_join(self, watches: Sequence[TopicWatch]) -> Feed | None:
        """Everything from now on, where nothing is missing in between."""
        self._dispatcher.check_open()
        for watch in watches:
            watch.check()
            if watch.gap is not None and watch.gap not in self._known_gaps:
                raise self._lose(watch.gap) from watch.gap
        now = self._dispatcher.find_places(self._topics)
        if any(self._places.get(place, 0) < offset for place, offset in now.items()):
            return None
        feed = Feed()
        for watch in watches:
            watch.join(feed)
        return feed

    async def _take(self, feed: Feed) -> Sequence[Arrival]:
        try:
            return await feed.take()
        except Gap as gap:
            raise self._lose(gap) from gap

    async def _read_older(self, reader: TopicReader) -> Sequence[Any]:
        try:
            return await reader.read(READ_LIMIT_SECONDS)
        except Gap as gap:
            raise self._lose(gap) from gap
        except (ReadingHindered, BrokerOutOfReach) as hindrance:
            log.warning("%s", hindrance)
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
            return ()

    def _lose(self, gap: Gap) -> PositionLost:
        self._places |= {place: offset for place, offset in gap.places.items() if place[0] in self._topics}
        return PositionLost(str(gap), self.position)

    def _pick_all(self, arrivals: Iterable[Arrival]) -> Iterable[Callback]:
        return (callback for each in arrivals if (callback := self._pick(each)) is not None)

    def _pick(self, arrival: Arrival) -> Callback | None:
        """The callback that a record is, None for one that was seen, or is not for us."""
        if arrival.offset < self._places.get(arrival.place, 0):
            return None
        self._places[arrival.place] = arrival.offset + 1
        if not arrival.is_callback or not self._wants_run(arrival.run_id):
            return None
        envelope = arrival.parsed.envelope
        if envelope is None:
            log.warning("%s is no valid callback and is passed over: %s", arrival, arrival.parsed.problem)
            return None
        if self._seen.is_copy(envelope.event_id):
            return None
        topic, partition = arrival.place
        return Callback(topic, partition, arrival.offset, envelope, arrival.run_id, self.position)
