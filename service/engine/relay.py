"""Hands callbacks from the outbox to the publisher and forgets each one when the broker has it.

The publisher's idempotent producer does the retrying. Two rules keep that safe: while a send is pending its
callback is never sent again, an outage only makes the send take longer; and a callback of which it is not
known whether it was taken is looked up on its topic first. What the broker refuses for good is parked.
"""

import asyncio
import time
from dataclasses import dataclass, replace

import structlog

from service.contracts.codec import read_header
from service.core.errors import (
    BrokerUnavailable,
    PublishFailed,
    PublishRefused,
    PublishUncertain,
    QueueUnavailable,
    ServiceError,
    TopicUnreadable,
)
from service.core.ports import (
    CallbackLog,
    CallbackMeter,
    DoubtfulCallbacks,
    LLMEventPublisherProtocol,
    Outbox,
    Span,
    Tracing,
)
from service.core.records import Callback, OutboxEntry, SpanKind
from service.core.written import WrittenPositions
from service.engine.windows import SendWindows

UNCONFIRMED_AFTER_SECONDS = 10.0
"""A send that the broker has not acknowledged by then is counted as failed, and goes on being waited for."""
SEND_AGAIN_SECONDS = 5.0
STORE_AGAIN_SECONDS = 1.0
SETTLE_SECONDS = 0.05

_SPAN_ATTRIBUTES = {"messaging.system": "kafka", "messaging.operation.type": "send"}

_log = structlog.get_logger("service.relay")


@dataclass(slots=True)
class _Send:
    """One entry on its way."""

    entry: OutboxEntry
    again: bool
    ticket: int = 0
    overdue: bool = False
    span: Span | None = None
    failure: str | None = None
    """How it failed, for its span."""

    @property
    def callback(self) -> Callback:
        return self.entry.callback


class Relay:
    """Sends what is in the outbox, as much as the windows allow, and deletes what was acknowledged."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        doubtful: DoubtfulCallbacks,
        publisher: LLMEventPublisherProtocol,
        log: CallbackLog,
        meter: CallbackMeter,
        tracing: Tracing,
    ) -> None:
        self._outbox = outbox
        self._doubtful = doubtful
        self._publisher = publisher
        self._log = log
        self._meter = meter
        self._tracing = tracing
        self._windows = SendWindows()
        self._written = WrittenPositions()
        self._beginnings: dict[str, asyncio.Lock] = {}
        self._failed_before: set[int] = set()
        self._acknowledged: list[_Send] = []
        self._any_acknowledged = asyncio.Event()

    async def run(self) -> None:
        """Relays until cancelled. What is pending then stays in the outbox for the next start."""
        async with asyncio.TaskGroup() as sends:
            sends.create_task(self._forget_acknowledged(), name="outbox-forget")
            while True:
                self._outbox.changed.clear()
                if not await self._start_sends(sends):
                    await self._outbox.changed.wait()

    async def settle(self) -> None:
        """Deletes what was acknowledged while the publisher closed: the next start must not send it again."""
        await asyncio.sleep(SETTLE_SECONDS)  # the acks that came last are on their way through the loop
        batch, self._acknowledged = self._acknowledged, []
        if batch:
            await self._forget(batch)

    async def _start_sends(self, sends: asyncio.TaskGroup) -> bool:
        """Starts as many sends as there is room for; returns whether there were any."""
        room = self._windows.room
        if room <= 0:
            return False
        try:
            entries = await self._outbox.take(room, self._windows.closed)
        except QueueUnavailable as error:
            _log.critical("outbox cannot be read, will be tried again", error=str(error))
            await asyncio.sleep(STORE_AGAIN_SECONDS)
            return True
        for entry in entries:
            self._windows.enter(entry.callback.topic)
            again = entry.stored_monotonic_seconds is None or entry.sequence in self._failed_before
            send = _Send(entry, again)
            sends.create_task(self._deliver(send), name=f"callback-{entry.callback.queue_id}")
        return bool(entries)

    async def _deliver(self, send: _Send) -> None:
        callback = send.callback
        loop = asyncio.get_running_loop()
        unconfirmed = loop.call_later(UNCONFIRMED_AFTER_SECONDS, self._note_overdue, send)
        try:
            await self._begin_topic(callback.topic)
            send.ticket = self._written.begin(callback.topic)
            send.span = self._tracing.begin(
                f"send {callback.topic}",
                SpanKind.PRODUCER,
                read_header(callback.sealed.headers, "traceparent"),
                _SPAN_ATTRIBUTES,
            )
            await self._publish(send)
        finally:
            if send.span is not None:
                send.span.end(send.failure)
            unconfirmed.cancel()
            if self._windows.leave(callback.topic, overdue=send.overdue):
                self._outbox.changed.set()

    async def _publish(self, send: _Send) -> None:
        callback, entry = send.callback, send.entry
        try:
            place = await self._publisher.publish_to_topic(
                topic=callback.topic, envelope=callback.sealed, key=callback.key
            )
        except PublishRefused as refused:
            self._note_failure(send, "callback was refused for good and is parked", refused)
            await self._park(entry, refused.reason)
            self._written.finish(callback.topic, send.ticket)
        except PublishUncertain as error:
            self._note_failure(send, "callback may have been taken, its topic will be read", error)
            self._doubtful.doubt(entry)
            # From here on the doubt holds the topic's position, until it is settled.
            self._written.finish(callback.topic, send.ticket)
        except PublishFailed as error:
            self._note_failure(send, "callback was not published, will be sent again", error)
            self._written.finish(callback.topic, send.ticket)
            await asyncio.sleep(SEND_AGAIN_SECONDS)
            self._outbox.put_back(entry)
        else:
            if place is not None:
                self._written.acknowledge(callback.topic, place)
                send.entry = replace(entry, place=place)
                if send.span is not None:
                    send.span.note(
                        messaging__destination__partition__id=str(place.partition),
                        messaging__kafka__offset=place.offset,
                    )
            self._note_delivery(send)

    async def _begin_topic(self, topic: str) -> None:
        """Notes where a topic ends before anything of ours can stand there."""
        if self._doubtful.written_until(topic) is not None:
            return
        async with self._beginnings.setdefault(topic, asyncio.Lock()):
            while self._doubtful.written_until(topic) is None:
                try:
                    await self._doubtful.begin_topic(topic, await self._log.find_ends(topic))
                except TopicUnreadable:
                    # The publisher will say why; should it not, the topic is read from its first record.
                    await self._doubtful.begin_topic(topic, {0: 0})
                except (BrokerUnavailable, QueueUnavailable) as error:
                    _log.debug("where the topic ends cannot be noted yet", topic=topic, error=str(error))
                    await asyncio.sleep(STORE_AGAIN_SECONDS)

    async def _park(self, entry: OutboxEntry, reason: str) -> None:
        while True:
            try:
                await asyncio.shield(self._outbox.park(entry, reason))
            except QueueUnavailable as error:
                _log.critical("refused callback cannot be parked, will be tried again", error=str(error))
                await asyncio.sleep(STORE_AGAIN_SECONDS)
            else:
                self._failed_before.discard(entry.sequence)
                return

    def _note_overdue(self, send: _Send) -> None:
        send.overdue = send.again = True
        callback = send.callback
        self._windows.mark_overdue(callback.topic)
        self._outbox.changed.set()  # other topics may have the place
        self._meter.publish_failed(callback.topic)
        _log.warning(
            "callback not acknowledged yet, still waiting for the broker",
            request_id=callback.queue_id,
            correlation_id=callback.key,
            topic=callback.topic,
        )

    def _note_failure(self, send: _Send, event: str, error: ServiceError) -> None:
        callback = send.callback
        send.failure = type(error).__name__
        self._failed_before.add(send.entry.sequence)
        self._meter.publish_failed(callback.topic)
        _log.error(
            event,
            request_id=callback.queue_id,
            correlation_id=callback.key,
            topic=callback.topic,
            error=str(error),
        )

    def _note_delivery(self, send: _Send) -> None:
        callback, stored = send.callback, send.entry.stored_monotonic_seconds
        self._failed_before.discard(send.entry.sequence)
        self._meter.published(
            callback.topic,
            callback.success,
            0.0 if stored is None else time.monotonic() - stored,
            max(0.0, time.time() - callback.accepted_unix_seconds),
            send.again,
        )
        _log.debug(
            "callback published",
            request_id=callback.queue_id,
            correlation_id=callback.key,
            topic=callback.topic,
            is_error=not callback.success,
        )
        self._acknowledged.append(send)
        self._any_acknowledged.set()

    async def _forget_acknowledged(self) -> None:
        """Deletes acknowledged callbacks, all that have gathered in one transaction."""
        while True:
            await self._any_acknowledged.wait()
            self._any_acknowledged.clear()
            batch, self._acknowledged = self._acknowledged, []
            try:
                await asyncio.shield(self._forget(batch))
            except QueueUnavailable as error:
                _log.critical("delivered callbacks cannot be deleted, will be tried again", error=str(error))
                self._acknowledged = batch + self._acknowledged
                await asyncio.sleep(STORE_AGAIN_SECONDS)
                self._any_acknowledged.set()

    async def _forget(self, batch: list[_Send]) -> None:
        for send in batch:
            self._written.finish(send.callback.topic, send.ticket)
        topics = {send.callback.topic for send in batch}
        await self._outbox.delivered([send.entry for send in batch], self._written.positions(topics))
