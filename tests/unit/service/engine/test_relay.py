"""Callbacks on their way out: sent once while pending, forgotten on the ack, kept on failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.contracts.codec import SealedEnvelope
from service.core.errors import PublishFailed, QueueUnavailable
from service.core.records import Callback
from service.engine import relay as relay_module
from service.engine.relay import Relay
from service.queues.memory import MemoryQueue
from service.telemetry.metrics import Metrics


class GatedPublisher:
    """Acknowledges when the test says so, and fails as often as it says."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.acknowledge = asyncio.Event()
        self.failures = 0

    async def publish_to_topic(self, topic: str, envelope: Any, key: str | None = None) -> None:
        """Notes the send, then waits for its ack."""
        self.sent.append(envelope.value.decode())
        if self.failures:
            self.failures -= 1
            raise PublishFailed("refused")
        await self.acknowledge.wait()


class Line:
    """A relay between an outbox in memory and a gated publisher."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.publisher = GatedPublisher()
        self.metrics = Metrics([])
        self.relay = Relay(outbox=self.queue.outbox, publisher=self.publisher, meter=self.metrics)

    async def store(self, make_request: Any, count: int) -> None:
        """Fills the outbox with callbacks that are told apart by their bytes."""
        for number in range(count):
            await self.queue.put(make_request())
            (claim,) = await self.queue.claim(1)
            sealed = SealedEnvelope(str(number).encode(), ())
            await self.queue.complete(claim, Callback(f"q{number}", "results", "k", sealed, True, 0.0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The relay at work."""
        task = asyncio.create_task(self.relay.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def metric(self, name: str, **labels: str) -> float:
        """A figure as it stands."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_acknowledged_callbacks_leave_the_outbox(make_request: Any, wait_until: Any) -> None:
    """Every callback is sent once and then forgotten."""
    line = Line()
    await line.store(make_request, 5)
    line.publisher.acknowledge.set()

    async with line.running():
        await wait_until(lambda: line.queue.outbox.depth() == 0)

    assert sorted(line.publisher.sent) == ["0", "1", "2", "3", "4"]
    assert line.relay.delivered == 5
    assert line.metric("callback_events_published_total", topic="results", status="success") == 5


async def test_unacknowledged_callback_stays_and_is_not_sent_twice(
    make_request: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker does not answer, a send is counted as failed once and never repeated."""
    monkeypatch.setattr(relay_module, "UNCONFIRMED_AFTER_SECONDS", 0.01)
    line = Line()
    await line.store(make_request, 1)

    async with line.running():
        await wait_until(lambda: line.metric("callback_publish_failures_total", topic="results") == 1)
        assert (line.publisher.sent, line.queue.outbox.depth()) == (["0"], 1)
        line.publisher.acknowledge.set()
        await wait_until(lambda: line.queue.outbox.depth() == 0)

    assert line.publisher.sent == ["0"]
    assert line.metric("callback_publish_seconds_count", send="again") == 1


async def test_refused_callback_is_sent_again_later_and_blocks_no_other(
    make_request: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is counted, the others go out, and the same bytes follow later."""
    monkeypatch.setattr(relay_module, "SEND_AGAIN_SECONDS", 0.05)
    line = Line()
    await line.store(make_request, 3)
    line.publisher.failures = 1
    line.publisher.acknowledge.set()

    async with line.running():
        await wait_until(lambda: line.queue.outbox.depth() == 0)

    assert sorted(line.publisher.sent) == ["0", "0", "1", "2"]
    assert line.metric("callback_publish_failures_total", topic="results") == 1
    assert line.metric("callback_publish_seconds_count", send="again") == 1
    assert line.metric("callback_publish_seconds_count", send="first") == 2


async def test_no_more_than_the_window_is_pending(
    make_request: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long outage does not bring the whole outbox into memory."""
    monkeypatch.setattr(relay_module, "WINDOW", 4)
    line = Line()
    await line.store(make_request, 10)

    async with line.running():
        await wait_until(lambda: len(line.publisher.sent) == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(line.publisher.sent) == 4
        line.publisher.acknowledge.set()
        await wait_until(lambda: line.queue.outbox.depth() == 0)

    assert len(set(line.publisher.sent)) == len(line.publisher.sent) == 10


async def test_delete_that_fails_is_repeated_without_another_send(
    make_request: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that cannot be written for a moment costs no second copy."""
    monkeypatch.setattr(relay_module, "FORGET_AGAIN_SECONDS", 0.0)
    line = Line()
    await line.store(make_request, 2)
    line.publisher.acknowledge.set()
    really_delivered, failures = line.queue.outbox.delivered, [QueueUnavailable("disk")] * 2

    async def delivered(entries: Any) -> None:
        if failures:
            raise failures.pop()
        await really_delivered(entries)

    monkeypatch.setattr(line.queue.outbox, "delivered", delivered)

    async with line.running():
        await wait_until(lambda: line.queue.outbox.depth() == 0)

    assert sorted(line.publisher.sent) == ["0", "1"]
