"""The callbacks of the Kafka queue: durable on the journal, and in memory while this process owns them.

A callback is owned as long as its request's partition is. What is lost with a partition is dropped here, for
its next owner finds it on the journal; what is being sent just then goes on and is told apart by nobody: the
next owner reads the topic before it sends.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from service.contracts.topics import derive_event_id
from service.core.errors import BrokerUnavailable, TopicUnreadable
from service.core.ports import Positions
from service.core.records import Callback, Doubt, OutboxEntry, ParkedCallback
from service.queues.doubts import DoubtBook
from service.queues.kafka.partition import locate_request
from service.queues.lanes import Lanes

LOOK_AGAIN_SECONDS = 1.0
CLOCK_MARGIN_SECONDS = 60.0
"""By how much the clocks of replicas and brokers may differ; beyond it a callback may be sent twice."""

FindOffsets = Callable[[str, float], Awaitable[Mapping[int, int]]]
"""The first offset of each partition of a topic that was written at a time (in Unix seconds) or later."""

_log = structlog.get_logger("service.outbox")


class Keeper(Protocol):
    """Makes durable what becomes of callbacks. Raises `QueueUnavailable`."""

    async def forget(self, sequences: Sequence[int]) -> None:
        """Their callbacks stand on their topics."""
        ...

    async def set_aside(self, callback: Callback, parked: ParkedCallback) -> None:
        """The broker refused this callback for good."""
        ...

    async def take_up(self, parked: Sequence[ParkedCallback]) -> None:
        """These are set aside no more: they were delivered."""
        ...


@dataclass(frozen=True, slots=True)
class SetAside:
    """A callback that waits for an operator."""

    callback: Callback
    parked: ParkedCallback
    perhaps_sent: bool
    """Whether an earlier owner may have sent it and not come to say so."""


class KafkaOutbox:
    """`Outbox`, `DoubtfulCallbacks` and `UndeliveredCallbacks` over what this process owns."""

    def __init__(self, keeper: Keeper, find_offsets: FindOffsets, may_send: Callable[[], bool]) -> None:
        self._keeper = keeper
        self._find_offsets = find_offsets
        self._may_send = may_send
        self.changed = asyncio.Event()
        self._lanes: Lanes[OutboxEntry] = Lanes()
        self._queued: dict[int, OutboxEntry] = {}
        self._sending: dict[int, OutboxEntry] = {}
        self._sent = asyncio.Event()
        self._doubtful: dict[int, tuple[Doubt, OutboxEntry, float | None]] = {}
        """Each with the time before which no other process can have sent it; None where only this one did."""
        self._doubts = DoubtBook()
        self._written: dict[str, dict[int, int]] = {}
        self._parked: dict[int, SetAside] = {}
        self._resent: dict[int, ParkedCallback] = {}
        """What was parked and is being sent again."""

    async def take(self, limit: int, avoid: Collection[str] = ()) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks to send, at once and perhaps none."""
        if not self._may_send():
            return ()
        taken: list[OutboxEntry] = []
        while len(taken) < limit and (found := self._lanes.take(limit - len(taken), avoid)):
            # What was dropped meanwhile is still in its lane; it is known by not being queued.
            taken.extend(entry for _, entry in found if self._queued.get(entry.sequence) is entry)
        for entry in taken:
            self._sending[entry.sequence] = self._queued.pop(entry.sequence)
        return taken

    async def delivered(self, entries: Sequence[OutboxEntry], positions: Positions) -> None:
        """Forgets callbacks that the broker has acknowledged, and notes how far their topics were written."""
        await self._forget([entry.sequence for entry in entries])
        for topic, ends in positions.items():
            if topic not in self._doubts:
                self._written.setdefault(topic, {}).update(ends)
        for entry in entries:
            self._leave_sending(entry)

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available again after a failed send."""
        if self._is_ours(entry):
            self._leave_sending(entry)
            self.append(entry)

    async def park(self, entry: OutboxEntry, reason: str) -> None:
        """Sets a callback aside that the broker refused for good."""
        if not self._is_ours(entry):
            return  # whoever owns it now will be refused too
        callback = entry.callback
        parked = ParkedCallback(
            sequence=entry.sequence,
            queue_id=callback.queue_id,
            correlation_id=callback.key,
            topic=callback.topic,
            reason=reason,
            success=callback.success,
            size_bytes=len(callback.sealed.value),
            accepted_unix_seconds=callback.accepted_unix_seconds,
            parked_unix_seconds=time.time(),
        )
        await self._keeper.set_aside(callback, parked)
        self._resent.pop(entry.sequence, None)
        self.add_parked(SetAside(callback, parked, perhaps_sent=False))
        await self._keeper.forget([entry.sequence])
        self._leave_sending(entry)

    def add_parked(self, aside: SetAside) -> None:
        """A callback is known to be set aside."""
        self._parked[aside.parked.sequence] = aside

    def append(self, entry: OutboxEntry) -> None:
        """Adds a callback that stands on the journal and has not been sent."""
        self._queued[entry.sequence] = entry
        self._lanes.append(entry.callback.topic, entry)
        self.changed.set()

    def append_doubtful(self, entry: OutboxEntry, since_unix_seconds: float | None) -> None:
        """Adds a callback that may have been sent, by this process or by another at that time or later."""
        callback = entry.callback
        doubt = Doubt(entry.sequence, str(derive_event_id(callback.queue_id)))
        self._doubtful[entry.sequence] = doubt, entry, since_unix_seconds
        self._doubts.add(callback.topic, doubt)

    def drop(self, partition: int) -> None:
        """Lets go of what belongs to a partition that this process owns no more."""

        def is_kept(sequence: int) -> bool:
            return locate_request(sequence)[0] != partition

        self._sending = {each: entry for each, entry in self._sending.items() if is_kept(each)}
        self._sent.set()
        self._queued = {each: entry for each, entry in self._queued.items() if is_kept(each)}
        self._doubtful = {each: doubt for each, doubt in self._doubtful.items() if is_kept(each)}
        self._parked = {each: aside for each, aside in self._parked.items() if is_kept(each)}
        self._resent = {each: parked for each, parked in self._resent.items() if is_kept(each)}

    async def finish_sending(self, limit_seconds: float) -> None:
        """Waits until nothing is on its way to the broker, no longer than the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                while self._sending:
                    self._sent.clear()
                    await self._sent.wait()

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged; parked ones are left out."""
        return len(self._queued) + len(self._sending) + len(self._doubtful)

    def doubt(self, entry: OutboxEntry) -> None:
        """Says that an entry may have been sent: it waits until its topic was read."""
        self._leave_sending(entry)
        self.append_doubtful(entry, None)

    async def take_doubtful(self) -> tuple[str, Sequence[Doubt]]:
        """Takes all doubtful callbacks of one topic, waiting for the first."""
        topic, doubts = await self._doubts.take()
        held = [self._doubtful[doubt.sequence] for doubt in doubts if doubt.sequence in self._doubtful]
        since = min((since for _, _, since in held if since is not None), default=None)
        if since is not None:
            found = await self._look_up_offsets(topic, since - CLOCK_MARGIN_SECONDS)
            known = self._written.get(topic, found)
            self._written[topic] = {each: min(offset, known.get(each, 0)) for each, offset in found.items()}
        return topic, doubts

    async def _look_up_offsets(self, topic: str, since_unix_seconds: float) -> Mapping[int, int]:
        while True:
            try:
                return await self._find_offsets(topic, since_unix_seconds)
            except TopicUnreadable:
                return {}  # whoever reads it back will say so
            except BrokerUnavailable as error:
                _log.debug("where to read a topic back from is not known yet", topic=topic, error=str(error))
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    def written_until(self, topic: str) -> Mapping[int, int] | None:
        """The offset of each partition before which none of them can stand; None where none was sent."""
        return self._written.get(topic)

    async def begin_topic(self, topic: str, ends: Mapping[int, int]) -> None:
        """Notes where a topic's partitions end, before the first callback is sent there."""
        self._written[topic] = dict(ends)

    async def settle(self, topic: str, doubts: Sequence[Doubt], standing: Collection[str]) -> None:
        """Forgets those whose event ids stand on the topic; the others may be taken and sent."""
        standing_here = [doubt.sequence for doubt in doubts if doubt.event_id in standing]
        await self._forget(standing_here)
        self._doubts.settle(topic, doubts)
        for doubt in doubts:
            known, entry, _ = self._doubtful.get(doubt.sequence, (None, None, None))
            if known is not doubt or entry is None:
                continue  # lost with its partition, and perhaps in doubt again since
            del self._doubtful[doubt.sequence]
            if doubt.event_id not in standing:
                self.append(replace(entry, stored_monotonic_seconds=None))

    async def list_parked(self, after: int, limit: int) -> Sequence[ParkedCallback]:
        """Up to `limit` parked callbacks whose sequence is greater than `after`, in that order."""
        return [self._parked[each].parked for each in sorted(self._parked) if each > after][:limit]

    async def resend(self, queue_ids: Collection[str] | None) -> int:
        """Makes parked callbacks available again, None for all; returns how many."""
        freed = [
            sequence
            for sequence, aside in sorted(self._parked.items())
            if queue_ids is None or aside.parked.queue_id in queue_ids
        ]
        for sequence in freed:
            aside = self._parked.pop(sequence)
            self._resent[sequence] = aside.parked
            entry = OutboxEntry(sequence, aside.callback, None)
            if aside.perhaps_sent:
                self.append_doubtful(entry, aside.parked.parked_unix_seconds)
            else:
                self.append(entry)
        return len(freed)

    def parked(self) -> int:
        """How many callbacks are parked."""
        return len(self._parked)

    def _leave_sending(self, entry: OutboxEntry) -> None:
        if self._is_ours(entry):
            del self._sending[entry.sequence]
        self._sent.set()

    def _is_ours(self, entry: OutboxEntry) -> bool:
        """Whether an entry that comes back was not lost with its partition meanwhile."""
        sent = self._sending.get(entry.sequence)
        # The entry itself may be another by now: one that says where the callback stands.
        return sent is not None and sent.callback is entry.callback

    async def _forget(self, sequences: Sequence[int]) -> None:
        await self._keeper.forget(sequences)
        again = [parked for each in sequences if (parked := self._resent.get(each)) is not None]
        if again:
            await self._keeper.take_up(again)
            for parked in again:
                self._resent.pop(parked.sequence, None)
