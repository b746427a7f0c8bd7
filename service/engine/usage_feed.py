"""Tells what requests have used on a topic of its own, for whoever accounts.

Each event goes out at least once: it is durable with the outcome that it tells of, and kept until the broker
has it. What was sent and not acknowledged is sent again, with the same bytes and the same `event_id`. No
callback waits for it.
"""

import asyncio
from collections.abc import Sequence

import structlog

from service.core.errors import PublishFailed, PublishRefused, PublishUncertain, QueueUnavailable
from service.core.ports import LLMEventPublisherProtocol, UsageEvents, UsageMeter
from service.core.records import UsageEntry

MAX_BATCH = 500
SEND_AGAIN_SECONDS = 2.0
ALL_AGAIN_ROUNDS = 30
READ_AGAIN_SECONDS = 1.0

_log = structlog.get_logger("service.usage")


class UsageFeed:
    """Sends usage events in the order of their outcomes, many at once."""

    def __init__(
        self, *, events: UsageEvents, topic: str, publisher: LLMEventPublisherProtocol, meter: UsageMeter
    ) -> None:
        self._events = events
        self._topic = topic
        self._publisher = publisher
        self._meter = meter

    async def run(self) -> None:
        """Tells until cancelled. What is pending then stays in the queue for the next start."""
        fruitless = 0
        while True:
            try:
                # Where nothing was taken, one alone tries whether that has changed, and now and then all.
                entries = await self._events.peek(1 if fruitless % ALL_AGAIN_ROUNDS else MAX_BATCH)
                told = await self._send(entries)
                fruitless = 0 if told else fruitless + 1
                if told:
                    await asyncio.shield(self._events.told(told))
                    self._meter.usage_told(len(told))
            except QueueUnavailable as error:
                _log.error("usage events cannot be read or deleted, will be tried again", error=str(error))
                await asyncio.sleep(READ_AGAIN_SECONDS)
            else:
                if len(told) < len(entries):
                    await asyncio.sleep(SEND_AGAIN_SECONDS)

    async def _send(self, entries: Sequence[UsageEntry]) -> list[UsageEntry]:
        """Returns those that the broker has; of the others the log tells once why."""
        failures = await asyncio.gather(*map(self._publish, entries))
        told = [entry for entry, failure in zip(entries, failures, strict=True) if failure is None]
        reasons = sorted({str(failure) for failure in failures if failure is not None})
        if reasons:
            _log.error(
                "usage events were not published, will be sent again",
                topic=self._topic,
                count=len(entries) - len(told),
                reason=reasons[0],
            )
        return told

    async def _publish(self, entry: UsageEntry) -> PublishRefused | PublishUncertain | PublishFailed | None:
        try:
            await self._publisher.publish_to_topic(self._topic, entry.sealed, entry.key)
        except (PublishRefused, PublishUncertain, PublishFailed) as failure:
            return failure
        return None
