"""Hands callbacks from the outbox to the publisher and forgets each one when the broker has it.

The publisher's idempotent producer does the retrying. One rule keeps that safe: while a send is pending its
callback is never sent again; an outage only makes the send take longer.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from service.contracts.codec import SealedEnvelope
from service.core.errors import PublishFailed, QueueUnavailable
from service.core.ports import CallbackMeter, LLMEventPublisherProtocol, Outbox
from service.core.records import OutboxEntry

WINDOW = 2000
"""How many sends may be pending at once; what is beyond them waits in the outbox."""
UNCONFIRMED_AFTER_SECONDS = 10.0
"""A send that the broker has not acknowledged by then is counted as failed, and goes on being waited for."""
SEND_AGAIN_SECONDS = 5.0
FORGET_AGAIN_SECONDS = 1.0
SETTLE_SECONDS = 0.05

_log = structlog.get_logger("service.relay")


@dataclass(frozen=True, slots=True)
class _Delivery:
    entry: OutboxEntry
    again: bool


class Relay:
    """Sends what is in the outbox, `WINDOW` at a time, and deletes what was acknowledged."""

    def __init__(self, *, outbox: Outbox, publisher: LLMEventPublisherProtocol, meter: CallbackMeter) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._meter = meter
        self._pending = 0
        self._room = asyncio.Event()
        self._failed_before: set[int] = set()
        self._acknowledged: list[OutboxEntry] = []
        self._any_acknowledged = asyncio.Event()
        self._delivered = 0

    @property
    def delivered(self) -> int:
        """How many callbacks the broker has acknowledged since the start."""
        return self._delivered

    async def run(self) -> None:
        """Relays until cancelled. What is pending then stays in the outbox for the next start."""
        async with asyncio.TaskGroup() as sends:
            sends.create_task(self._forget_acknowledged(), name="outbox-forget")
            while True:
                while self._pending >= WINDOW:
                    self._room.clear()
                    await self._room.wait()
                try:
                    entries = await self._outbox.take(WINDOW - self._pending)
                except QueueUnavailable as error:
                    _log.critical("outbox cannot be read, will be tried again", error=str(error))
                    await asyncio.sleep(FORGET_AGAIN_SECONDS)
                    continue
                self._pending += len(entries)
                for entry in entries:
                    sends.create_task(self._deliver(entry), name=f"callback-{entry.callback.queue_id}")

    async def settle(self) -> None:
        """Deletes what was acknowledged while the publisher closed: the next start must not send it again."""
        await asyncio.sleep(SETTLE_SECONDS)  # the acks that came last are on their way through the loop
        batch, self._acknowledged = self._acknowledged, []
        if batch:
            await self._outbox.delivered(batch)

    async def _deliver(self, entry: OutboxEntry) -> None:
        callback = entry.callback
        again = entry.stored_monotonic_seconds is None or entry.sequence in self._failed_before
        try:
            again = await self._send(entry) or again
        except PublishFailed as error:
            self._meter.publish_failed(callback.topic)
            _log.error(
                "callback was not published, will be sent again",
                request_id=callback.queue_id,
                correlation_id=callback.key,
                topic=callback.topic,
                error=str(error),
            )
            self._failed_before.add(entry.sequence)
            await asyncio.sleep(SEND_AGAIN_SECONDS)
            self._outbox.put_back(entry)
        else:
            self._note_delivery(entry, again)
        finally:
            self._pending -= 1
            self._room.set()

    async def _send(self, entry: OutboxEntry) -> bool:
        """Publishes; returns whether it took so long that it was counted as a failure meanwhile."""
        callback = entry.callback
        sealed: SealedEnvelope = callback.sealed
        loop = asyncio.get_running_loop()
        unconfirmed = loop.call_later(UNCONFIRMED_AFTER_SECONDS, self._note_unconfirmed, entry)
        try:
            await self._publisher.publish_to_topic(topic=callback.topic, envelope=sealed, key=callback.key)
        finally:
            late = loop.time() >= unconfirmed.when()
            unconfirmed.cancel()
        return late

    def _note_unconfirmed(self, entry: OutboxEntry) -> None:
        self._meter.publish_failed(entry.callback.topic)
        _log.warning(
            "callback not acknowledged yet, still waiting for the broker",
            request_id=entry.callback.queue_id,
            correlation_id=entry.callback.key,
            topic=entry.callback.topic,
        )

    def _note_delivery(self, entry: OutboxEntry, again: bool) -> None:
        callback = entry.callback
        self._failed_before.discard(entry.sequence)
        stored = entry.stored_monotonic_seconds
        self._meter.published(
            callback.topic,
            callback.success,
            0.0 if stored is None else time.monotonic() - stored,
            max(0.0, time.time() - callback.accepted_unix_seconds),
            again,
        )
        _log.debug(
            "callback published",
            request_id=callback.queue_id,
            correlation_id=callback.key,
            topic=callback.topic,
            is_error=not callback.success,
        )
        self._delivered += 1
        self._acknowledged.append(entry)
        self._any_acknowledged.set()

    async def _forget_acknowledged(self) -> None:
        """Deletes acknowledged callbacks, all that have gathered in one transaction."""
        while True:
            await self._any_acknowledged.wait()
            self._any_acknowledged.clear()
            batch, self._acknowledged = self._acknowledged, []
            try:
                await asyncio.shield(self._outbox.delivered(batch))
            except QueueUnavailable as error:
                _log.critical("delivered callbacks cannot be deleted, will be tried again", error=str(error))
                self._acknowledged = batch + self._acknowledged
                await asyncio.sleep(FORGET_AGAIN_SECONDS)
                self._any_acknowledged.set()
