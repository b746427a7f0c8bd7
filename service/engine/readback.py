"""Looks doubtful callbacks up on their topics: what stands there is not sent again.

Doubtful is what an earlier process may have sent before it was killed, and what this one has sent without
learning what became of it. The topic is read from where it was written until before the oldest of them.
"""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from service.core.errors import BrokerUnavailable, QueueUnavailable, TopicUnreadable
from service.core.ports import CallbackLog, DoubtfulCallbacks
from service.core.records import Doubt

READ_AGAIN_SECONDS = 1.0
READ_LIMIT_SECONDS = 120.0
"""A topic that takes longer to read is not waited for: its callbacks are sent, some perhaps again."""

_log = structlog.get_logger("service.readback")


class ReadBack:
    """Settles doubtful callbacks, topic by topic, while new ones go their way."""

    def __init__(self, *, outbox: DoubtfulCallbacks, log: CallbackLog) -> None:
        self._outbox = outbox
        self._log = log

    async def run(self) -> None:
        """Looks until cancelled."""
        async with asyncio.TaskGroup() as readings:
            while True:
                topic, doubts = await self._outbox.take_doubtful()
                readings.create_task(self._settle(topic, doubts), name=f"read-back-{topic}")

    async def _settle(self, topic: str, doubts: Sequence[Doubt]) -> None:
        _log.info("reading topic back before anything is sent again", topic=topic, doubtful=len(doubts))
        standing = await self._find_standing(topic, frozenset(doubt.event_id for doubt in doubts))
        while True:
            try:
                await asyncio.shield(self._outbox.settle(topic, doubts, standing))
            except QueueUnavailable as error:
                _log.critical("what was read back cannot be stored, will be tried again", error=str(error))
                await asyncio.sleep(READ_AGAIN_SECONDS)
            else:
                break
        _log.info("topic read back", topic=topic, standing=len(standing), to_send=len(doubts) - len(standing))

    async def _find_standing(self, topic: str, event_ids: Collection[str]) -> Collection[str]:
        start = self._outbox.written_until(topic) or {}
        told = False
        while True:
            try:
                async with asyncio.timeout(READ_LIMIT_SECONDS):
                    return await self._log.find_standing(topic, start, event_ids)
            except BrokerUnavailable as error:
                if not told:
                    _log.warning("topic cannot be read back yet, its callbacks wait", error=str(error))
                    told = True
                await asyncio.sleep(READ_AGAIN_SECONDS)
            except (TopicUnreadable, TimeoutError) as error:
                # Sending twice can be told by the event_id; not sending could not be told from a loss.
                _log.warning(
                    "topic could not be read back, its doubtful callbacks are sent, some perhaps again",
                    topic=topic,
                    doubtful=len(event_ids),
                    error=str(error) or f"not read in {READ_LIMIT_SECONDS:g} s",
                )
                return ()
