"""Who waits for what on one topic: callers for the callback of their request, listeners for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID
from weakref import WeakSet, WeakValueDictionary

from llmctl.client.arrivals import Arrival
from llmctl.client.feed import Feed
from llmctl.client.topic_reader import Gap


class Waiter:
    """A place for one callback; whoever holds it can wait for it, several at once and again."""

    def __init__(self) -> None:
        self._settled = asyncio.Event()
        self._arrival: Arrival | None = None
        self._problem: Exception | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return self._settled.is_set()

    def take(self, arrival: Arrival) -> None:
        """The callback is there; a copy of it changes nothing."""
        if not self.is_settled:
            self._arrival = arrival
            self._settled.set()

    def fail(self, problem: Exception) -> None:
        """The callback cannot come any more."""
        if not self.is_settled:
            self._problem = problem
            self._settled.set()

    async def wait(self) -> Arrival:
        """The callback, or the problem that keeps it away."""
        await self._settled.wait()
        if self._arrival is None:
            assert self._problem is not None
            raise self._problem.with_traceback(None)
        return self._arrival


class Early:
    """Callbacks that came before it was known whose they are; only those with the key of a caller of ours."""

    def __init__(self) -> None:
        self.holders = 0
        self.arrivals: dict[str, Arrival] = {}


class TopicWatch:
    """What is expected on one topic.

    Waiters belong to those who wait: one that nobody holds any more is forgotten by itself.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.listeners = 0
        """Those who still read what is older, too."""
        self.gap: Gap | None = None
        """What of it could not be read last."""
        self.problem: Exception | None = None
        """Why it is read no more."""
        self._feeds: WeakSet[Feed] = WeakSet()
        self._waiters: WeakValueDictionary[str, Waiter] = WeakValueDictionary()
        self._early: dict[bytes, Early] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody expects anything."""
        awaited = any(not each.is_settled for each in self._waiters.values())
        return not (self._early or self.listeners or len(self._feeds) or awaited)

    @contextmanager
    def expect(self, correlation_id: UUID) -> Iterator[Early]:
        """Keeps what comes for a request while its queue_id is not known; its key is known before."""
        key = str(correlation_id).encode()
        early = self._early.setdefault(key, Early())
        early.holders += 1
        try:
            yield early
        finally:
            early.holders -= 1
            if not early.holders:
                del self._early[key]

    def wait_for(self, queue_id: str, early: Early | None = None) -> Waiter:
        """The place for the callback of one request; the same for all who ask."""
        waiter = self._waiters.get(queue_id)
        if waiter is None:
            waiter = self._waiters[queue_id] = Waiter()
        if early is not None and queue_id in early.arrivals:
            waiter.take(early.arrivals[queue_id])
        if self.problem is not None:
            waiter.fail(self.problem)
        return waiter

    def check(self) -> None:
        """Raises why nothing will come any more, where that is so."""
        if self.problem is not None:
            raise self.problem.with_traceback(None)

    def join(self, feed: Feed) -> None:
        """Has everything from now on handed to a listener, for as long as it holds its feed."""
        self._feeds.add(feed)

    def take(self, arrival: Arrival) -> None:
        """A record has come; nobody parses it here."""
        for feed in self._feeds:
            feed.offer(arrival)
        request_id = arrival.request_id
        if request_id is None:
            return
        waiter = self._waiters.get(request_id)
        if waiter is not None:
            waiter.take(arrival)
        early = None if arrival.key is None else self._early.get(arrival.key)
        if early is not None:
            early.arrivals.setdefault(request_id, arrival)

    def tell_gap(self, gap: Gap) -> None:
        """Records are gone: listeners have to know; callers go on waiting, and hear of it at their limit."""
        self.gap = gap
        for feed in self._feeds:
            feed.fail(gap)

    def end(self, problem: Exception) -> None:
        """Nothing will come any more."""
        self.problem = problem
        for feed in self._feeds:
            feed.fail(problem)
        for waiter in list(self._waiters.values()):
            waiter.fail(problem)
