"""How usage events come onto their topic: all of them, also those that fail at first."""

import asyncio
from collections.abc import Sequence
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
    def __init__(self) -> None:
        self.told = 0

    def usage_told(self, count: int) -> None:
        self.told += count


class Publisher:
    def __init__(self, **failures: list[Exception]) -> None:
        self.failures = failures
        self.published: list[tuple[str, str | None, bytes]] = []

    async def publish_to_topic(self, topic: str, envelope: Any, key: str | None = None) -> None:
        if failures := self.failures.get(key or ""):
            raise failures.pop(0)
        self.published.append((topic, key, envelope.value))


class Forgetful(MemoryUsage):
    def __init__(self) -> None:
        super().__init__()
        self.refusals = {"peek": 1, "told": 1}

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        self._refuse("peek")
        return await super().peek(limit)

    async def told(self, entries: Sequence[UsageEntry]) -> None:
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
    for sequence, key in enumerate(keys):
        usage = SealedEnvelope(key.encode(), ())
        events.append(sequence, Callback("q", "t", key, SealedEnvelope(b"", ()), True, 1.0, usage=usage))


async def feed(events: MemoryUsage, publisher: Publisher, until_told: int) -> None:
    """Feeds until so many events are sent and counted."""
    meter = Meter()
    running = asyncio.create_task(
        UsageFeed(events=events, topic="usage", publisher=publisher, meter=meter).run()
    )
    async with asyncio.timeout(HANG_SECONDS):
        while meter.told < until_told:
            assert not running.done(), running.exception()
            await asyncio.sleep(0)
    assert meter.told == until_told
    running.cancel()
    await asyncio.wait([running])


async def test_events_are_sent_in_order_with_key_and_bytes() -> None:
    events, publisher = MemoryUsage(), Publisher()
    keys = [f"k{number}" for number in range(2 * room.MAX_BATCH + 1)]
    fill(events, *keys)

    await feed(events, publisher, len(keys))

    assert publisher.published == [("usage", key, key.encode()) for key in keys]
    assert events.depth() == 0


async def test_only_failed_events_are_sent_again() -> None:
    publisher = Publisher(
        b=[PublishRefused("TOPIC_AUTHORIZATION_FAILED", "no"), PublishFailed("not now")],
        d=[PublishUncertain("who knows")],
    )
    events = MemoryUsage()
    fill(events, "a", "b", "c", "d")

    await feed(events, publisher, 4)

    assert sorted(key or "" for _, key, _ in publisher.published) == ["a", "b", "c", "d"]
    assert events.depth() == 0


async def test_event_that_always_fails_blocks_no_other() -> None:
    """While everything fails only the oldest is tried, and now and then all of them."""
    never = [PublishFailed("no leader")] * 10 * room.ALL_AGAIN_ROUNDS
    publisher = Publisher(a=list(never), b=list(never), c=[PublishFailed("not now")])
    events = MemoryUsage()
    fill(events, "a", "b", "c")
    await feed(events, publisher, 1)

    assert [key for _, key, _ in publisher.published] == ["c"]
    assert len(publisher.failures["b"]) >= len(never) - 3, "only the oldest is tried each time"


async def test_event_that_could_not_be_deleted_is_sent_again() -> None:
    events, publisher = Forgetful(), Publisher()
    fill(events, "a")

    await feed(events, publisher, 1)

    assert publisher.published == [("usage", "a", b"a")] * 2
    assert events.depth() == 0
