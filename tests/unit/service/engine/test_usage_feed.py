"""How usage events come onto their topic: all of them, also those that fail at first."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.contracts.codec import SealedEnvelope
from service.core.errors import PublishFailed, PublishRefused, PublishUncertain, QueueUnavailable
from service.core.records import Callback, UsageEntry
from service.engine import usage_feed as room
from service.engine.usage_feed import UsageFeed
from service.queues.memory import MemoryUsage
from tests.waiting import HANG_SECONDS


class Meter:
    """Adds up."""

    def __init__(self) -> None:
        self.told = 0

    def usage_told(self, count: int) -> None:
        """So many more."""
        self.told += count


class Publisher:
    """Fails as it is told to before it takes an event."""

    def __init__(self, **failures: list[Exception]) -> None:
        self._failures = failures
        self.published: list[tuple[str, str | None, bytes]] = []

    def failures_of(self, key: str) -> list[Exception]:
        """What it still fails with."""
        return self._failures[key]

    async def publish_to_topic(self, topic: str, envelope: Any, key: str | None = None) -> None:
        """Takes or fails."""
        if failures := self._failures.get(key or ""):
            raise failures.pop(0)
        self.published.append((topic, key, envelope.value))


class Forgetful(MemoryUsage):
    """Cannot be read at first, and cannot be written at first."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = {"peek": 1, "told": 1}

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        """As it is."""
        self._refuse("peek")
        return await super().peek(limit)

    async def told(self, entries: Sequence[UsageEntry]) -> None:
        """As it is."""
        self._refuse("told")
        await super().told(entries)

    def _refuse(self, what: str) -> None:
        if self.refusals[what]:
            self.refusals[what] -= 1
            raise QueueUnavailable("not now")


@pytest.fixture(autouse=True)
def _do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SEND_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(room, "READ_AGAIN_SECONDS", 0.0)


def fill(events: MemoryUsage, *keys: str) -> None:
    """Adds an event for each key."""
    for sequence, key in enumerate(keys):
        usage = SealedEnvelope(key.encode(), ())
        events.append(sequence, Callback("q", "t", key, SealedEnvelope(b"", ()), True, 1.0, usage=usage))


@asynccontextmanager
async def feeding(events: MemoryUsage, publisher: Publisher) -> AsyncIterator[Meter]:
    """Feeds until everything is told, and counted."""
    meter, count = Meter(), events.depth()
    feed = UsageFeed(events=events, topic="usage", publisher=publisher, meter=meter)
    running = asyncio.create_task(feed.run())
    async with asyncio.timeout(HANG_SECONDS):
        while meter.told < count:
            assert not running.done(), running.exception()
            await asyncio.sleep(0)
    assert events.depth() == 0
    yield meter
    running.cancel()
    await asyncio.wait([running])


async def test_all_are_told_with_their_key_and_bytes() -> None:
    """Also more than go at once, in their order."""
    events, publisher = MemoryUsage(), Publisher()
    keys = [f"k{number}" for number in range(2 * room.MAX_BATCH + 1)]
    fill(events, *keys)

    async with feeding(events, publisher) as meter:
        assert publisher.published == [("usage", key, key.encode()) for key in keys]
        assert meter.told == len(keys)


async def test_what_failed_is_sent_again_and_nothing_else() -> None:
    """Whether the broker refused it, did not take it, or perhaps took it."""
    publisher = Publisher(
        b=[PublishRefused("TOPIC_AUTHORIZATION_FAILED", "no"), PublishFailed("not now")],
        d=[PublishUncertain("who knows")],
    )
    events = MemoryUsage()
    fill(events, "a", "b", "c", "d")

    async with feeding(events, publisher) as meter:
        assert sorted(key or "" for _, key, _ in publisher.published) == ["a", "b", "c", "d"]
        assert meter.told == 4


async def test_one_that_is_never_taken_does_not_hold_up_the_others() -> None:
    """While nothing is taken one alone is tried, and now and then all of them."""
    never = [PublishFailed("no leader")] * 10 * room.ALL_AGAIN_ROUNDS
    publisher = Publisher(a=list(never), b=list(never), c=[PublishFailed("not now")])
    events = MemoryUsage()
    fill(events, "a", "b", "c")
    meter = Meter()
    feed = UsageFeed(events=events, topic="usage", publisher=publisher, meter=meter)
    running = asyncio.create_task(feed.run())

    async with asyncio.timeout(HANG_SECONDS):
        while not meter.told:
            assert not running.done(), running.exception()
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert [key for _, key, _ in publisher.published] == ["c"]
    assert len(publisher.failures_of("b")) >= len(never) - 3, "only the oldest is tried each time"


async def test_a_queue_in_trouble_is_asked_again() -> None:
    """What was sent and could not be deleted goes out once more; it is known by its event id."""
    events, publisher = Forgetful(), Publisher()
    fill(events, "a")

    async with feeding(events, publisher) as meter:
        assert publisher.published == [("usage", "a", b"a")] * 2
        assert meter.told == 1
