"""Callbacks on their way out: sent once while pending, forgotten on the ack, kept on failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.callbacks.memory import MemoryPublisher
from service.contracts.codec import SealedEnvelope
from service.contracts.topics import derive_event_id
from service.core.errors import (
    BrokerUnavailable,
    PublishFailed,
    PublishRefused,
    PublishUncertain,
    QueueUnavailable,
    TopicUnreadable,
)
from service.core.records import Callback, Place
from service.engine import readback as readback_module
from service.engine import relay as relay_module
from service.engine.readback import ReadBack
from service.engine.relay import Relay
from service.engine.windows import SendWindows
from service.queues.memory import MemoryQueue
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracing
from tests.waiting import HANG_SECONDS, until


class GatedPublisher:
    """Acknowledges when the test lets it, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.log = MemoryPublisher()
        self.acknowledge = asyncio.Event()
        self.failures: list[PublishFailed] = []
        self.stuck: set[str] = set()

    async def publish_to_topic(self, topic: str, envelope: Any, key: str | None = None) -> Place | None:
        self.sent.append(envelope.value.decode())
        if self.failures:
            raise self.failures.pop()
        if topic in self.stuck:
            await asyncio.get_running_loop().create_future()
        await self.acknowledge.wait()
        return await self.log.publish_to_topic(topic, envelope, key)


class Line:
    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.publisher = GatedPublisher()
        self.metrics = Metrics([])
        outbox, log = self.queue.outbox, self.publisher.log
        self.relay = Relay(
            outbox=outbox,
            doubtful=outbox,
            publisher=self.publisher,
            log=log,
            meter=self.metrics,
            tracing=NoTracing(),
        )
        self.read_back = ReadBack(outbox=outbox, log=log)

    async def store(self, make_request: Any, count: int, topic: str = "results") -> None:
        """Fills the outbox with callbacks that differ in their bytes."""
        for number in range(count):
            await self.queue.put(make_request())
            (claim,) = await self.queue.claim(1)
            name = f"{number}" if topic == "results" else f"{topic}-{number}"
            event_id = str(derive_event_id(f"q{name}")).encode()
            sealed = SealedEnvelope(name.encode(), (("event_id", event_id),))
            await self.queue.complete(claim, Callback(f"q{name}", topic, "k", sealed, True, 0.0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.relay.run()), asyncio.create_task(self.read_back.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def run_until_empty(self) -> None:
        async with self.running():
            await until(lambda: self.queue.outbox.depth() == 0)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(autouse=True)
def quick_and_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats at once, and takes no slow send for one that was lost."""
    monkeypatch.setattr(relay_module, "UNCONFIRMED_AFTER_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(relay_module, "SEND_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(relay_module, "STORE_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(readback_module, "READ_AGAIN_SECONDS", 0.0)


async def make_line(make_request: Any, count: int, *failures: PublishFailed) -> Line:
    """Makes a line whose publisher acknowledges, with callbacks to send."""
    line = Line()
    await line.store(make_request, count)
    line.publisher.failures = list(failures)
    line.publisher.acknowledge.set()
    return line


async def test_acknowledged_callbacks_leave_the_outbox(make_request: Any) -> None:
    line = await make_line(make_request, 5)

    await line.run_until_empty()

    assert sorted(line.publisher.sent) == ["0", "1", "2", "3", "4"]
    assert line.metric("callback_events_published_total", topic="results", status="success") == 5


async def test_unacknowledged_callback_stays_and_is_not_sent_twice(
    make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "UNCONFIRMED_AFTER_SECONDS", 0.01)
    line = Line()
    await line.store(make_request, 1)

    async with line.running():
        await until(lambda: line.metric("callback_publish_failures_total", topic="results") == 1)
        assert (line.publisher.sent, line.queue.outbox.depth()) == (["0"], 1)
        line.publisher.acknowledge.set()
        await until(lambda: line.queue.outbox.depth() == 0)

    assert line.publisher.sent == ["0"]
    assert line.metric("callback_publish_seconds_count", send="again") == 1


async def test_refused_send_is_repeated_later_and_blocks_no_other(make_request: Any) -> None:
    line = await make_line(make_request, 3, PublishFailed("not taken"))

    await line.run_until_empty()

    assert sorted(line.publisher.sent) == ["0", "0", "1", "2"]
    assert line.metric("callback_publish_failures_total", topic="results") == 1
    assert line.metric("callback_publish_seconds_count", send="again") == 1
    assert line.metric("callback_publish_seconds_count", send="first") == 2


async def test_no_more_than_the_window_is_pending(make_request: Any) -> None:
    line = Line()
    line.relay._windows = SendWindows(window=4)
    await line.store(make_request, 10)

    async with line.running():
        await until(lambda: len(line.publisher.sent) == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(line.publisher.sent) == 4
        line.publisher.acknowledge.set()
        await until(lambda: line.queue.outbox.depth() == 0)

    assert len(set(line.publisher.sent)) == len(line.publisher.sent) == 10


async def test_delete_that_fails_is_repeated_without_another_send(
    make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await make_line(make_request, 2)
    really_delivered, failures = line.queue.outbox.delivered, [QueueUnavailable("disk")] * 2

    async def delivered(entries: Any, positions: Any) -> None:
        if failures:
            raise failures.pop()
        await really_delivered(entries, positions)

    monkeypatch.setattr(line.queue.outbox, "delivered", delivered)

    await line.run_until_empty()

    assert sorted(line.publisher.sent) == ["0", "1"]


async def test_refused_callback_is_parked_and_resent_by_an_operator(make_request: Any) -> None:
    line = await make_line(make_request, 3, PublishRefused("MESSAGE_TOO_LARGE", "too large"))
    outbox = line.queue.outbox

    async with line.running():
        await until(lambda: outbox.depth() == 0)
        (parked,) = await outbox.list_parked(after=0, limit=10)
        assert (parked.reason, outbox.parked(), len(line.publisher.sent)) == ("MESSAGE_TOO_LARGE", 1, 3)
        assert await outbox.resend([parked.queue_id]) == 1
        await until(lambda: len(line.publisher.log.published) == 3)

    assert (outbox.parked(), line.publisher.sent.count(parked.queue_id[1:])) == (0, 2)


@pytest.mark.parametrize("appended", [True, False])
async def test_uncertain_send_is_looked_up_before_it_is_repeated(make_request: Any, appended: bool) -> None:
    line = await make_line(make_request, 1, PublishUncertain("connection lost"))
    log = line.publisher.log
    if appended:
        (entry,) = await line.queue.outbox.take(1)
        await log.publish_to_topic("results", entry.callback.sealed)
        line.queue.outbox.put_back(entry)
        # Where the topic ended before it was sent, as the relay notes it.
        await line.queue.outbox.begin_topic("results", {0: 0})

    await line.run_until_empty()

    assert line.publisher.sent == (["0"] if appended else ["0", "0"])
    assert len(log.published) == 1


async def test_uncertain_send_to_an_unreadable_topic_is_repeated(make_request: Any) -> None:
    line = await make_line(make_request, 1, PublishUncertain("connection lost"))

    async def refuse(*_: Any) -> Any:
        raise TopicUnreadable("no READ on results")

    line.read_back._log = type("Log", (), {"find_standing": staticmethod(refuse)})()
    await line.run_until_empty()

    assert line.publisher.sent == ["0", "0"]


async def test_read_back_waits_for_the_broker(make_request: Any) -> None:
    line = await make_line(make_request, 1, PublishUncertain("connection lost"))
    asked: list[str] = []

    async def find_standing(topic: str, *_: Any) -> Any:
        asked.append(topic)
        if len(asked) < 4:
            raise BrokerUnavailable("away")
        return ()

    line.read_back._log = type("Log", (), {"find_standing": staticmethod(find_standing)})()
    await line.run_until_empty()

    assert (len(asked), line.publisher.sent) == (4, ["0", "0"])


async def test_stuck_topic_blocks_no_other(make_request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "UNCONFIRMED_AFTER_SECONDS", 0.01)
    line = Line()
    line.relay._windows = SendWindows(window=4, topic_window=3)
    line.publisher.stuck = {"stuck", "stuck too"}
    line.publisher.acknowledge.set()
    await line.store(make_request, 10, "stuck")
    await line.store(make_request, 10, "stuck too")
    await line.store(make_request, 10)

    async with line.running():
        await until(lambda: len(line.publisher.log.published) == 10 and line.queue.outbox.depth() == 20)

    assert len(line.publisher.sent) <= 10 + 2 * 2 * 3
