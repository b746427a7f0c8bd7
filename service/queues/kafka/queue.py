"""The queue that replicas share: requests on a topic of Kafka, what became of them on its journal.

Every replica may put; each partition is worked on by the one that owns it. Durable is what stands on the
topics: the request, a note that an attempt begins, what a failed one has cost, the answer. What is committed
is the first offset that is not finished, with what is finished above it in the commit's metadata. The order
of the journal decides which answer counts, so a replica that owns a partition no more and does not know it
can repeat a call, but never give a second answer. Only answers that were read back from the journal are sent.
"""

import asyncio
import math
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import uuid4
from zlib import crc32

import structlog
from aiokafka.structs import ConsumerRecord

from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import QueuedRequest
from service.core.charges import DayCharge
from service.core.errors import AcceptedBefore, QueueUnavailable, QueueUncertain, Refused
from service.core.outcome import Spent
from service.core.ports import Admit
from service.core.records import Callback, Claim, JournalPage, ParkedCallback, Receipt
from service.kafka.connection import KafkaConnection
from service.queues.backlog import Waiting, admit_all, name_provider
from service.queues.kafka.answers import AnswerLog
from service.queues.kafka.dead_letters import DeadLetters
from service.queues.kafka.group import SESSION_SECONDS, Group, Record
from service.queues.kafka.holdings import Holdings, Place
from service.queues.kafka.log import KafkaLog
from service.queues.kafka.membership import AGAIN_SECONDS, Membership, WaitUntilClaiming
from service.queues.kafka.memory import PARTITION as MEMORY_PARTITION
from service.queues.kafka.memory import SharedMemory
from service.queues.kafka.notes import (
    Announcement,
    Answered,
    Claimed,
    Note,
    RecordUnreadable,
    Retried,
    Unclaimed,
    read_request,
    write_note,
    write_request,
)
from service.queues.kafka.outbox import FindOffsets, KafkaOutbox
from service.queues.kafka.partition import GUEST, MAX_PARTITIONS, Held, Partition, Stage, locate_request
from service.queues.kafka.usage import KafkaUsage
from service.queues.kafka.wishes import CancelHeld, CancelWishes, Wish
from service.queues.kafka.writer import KafkaWriter
from service.queues.snapshot import QueueSnapshot

MAX_MESSAGE_BYTES = 1_048_588
"""`max.message.bytes` where a topic has none of its own."""
BATCH_OVERHEAD_BYTES = 512
"""What a batch of one record has beside its key, value and headers, generously."""

USAGE_GROUP_SUFFIX = ".usage"
"""After the group's name: under which it is committed how far usage events were told."""

_log = structlog.get_logger("service.queue")


@dataclass(frozen=True, slots=True)
class QueueTopics:
    """The topics of one Kafka queue."""

    requests: str
    journal: str
    memory: str
    dead_letters: str

    def all(self) -> tuple[str, ...]:
        """Every one of them."""
        return self.requests, self.journal, self.memory, self.dead_letters


class KafkaQueue:
    """`RequestQueue`, `RequestMemory` and `CostMemory` over Kafka; `run` keeps it in the consumer group."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: QueueTopics,
        *,
        group: str,
        replica_name: str | None,
        find_offsets: FindOffsets,
        lend_seconds: float,
        default_ttl_seconds: float = 86_400,
        idempotency_ttl_seconds: float = 86_400,
        journal_retention_seconds: float = 86_400,
        session_seconds: float = SESSION_SECONDS,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._group_name = group
        self._replica_name = replica_name
        self._session_seconds = session_seconds
        self._default_ttl_seconds = default_ttl_seconds
        self._kept_seconds = math.inf
        """For how long the topic keeps a request."""
        self._writer = KafkaWriter(connection)
        self._log = KafkaLog(connection)
        self._answers = AnswerLog(self._log, topics.journal, find_offsets, journal_retention_seconds)
        self._dead_letters = DeadLetters(self._writer, self._log, topics.dead_letters)
        self._memory = SharedMemory(
            self._writer, topics.memory, replica_name or uuid4().hex, idempotency_ttl_seconds
        )
        self.outbox = KafkaOutbox(self, find_offsets, lambda: self._membership.may_work)
        self._holdings = Holdings(self._memory, self.outbox, self._name_key)
        self._memory.on_key = self._holdings.decide
        self._wishes = CancelWishes(self._memory.write, self._holdings)
        self._memory.on_wish = self._read_wish
        self.cancel_held: CancelHeld | None = None
        """Cancels a request that this process holds, on another replica's wish."""
        self._membership = Membership(
            name=group,
            partition_count=lambda: self._partition_count,
            open_group=self._open_group,
            holdings=self._holdings,
            outbox=self.outbox,
            recorder=self,
            lend_seconds=lend_seconds,
            session_seconds=session_seconds,
        )
        self.usage = KafkaUsage(
            connection, topics.journal, f"{group}{USAGE_GROUP_SUFFIX}", self._surely_owned
        )
        self._partition_count = 0
        self._tasks: asyncio.TaskGroup | None = None

    # From opening to closing.

    async def open(self) -> None:
        """Connects and checks the topics. Raises `QueueUnavailable` and `BrokerUnavailable`."""
        topics = self._topics
        counts = await self._log.count_partitions(topics.all())
        missing = [topic for topic in topics.all() if topic not in counts]
        if missing:
            raise QueueUnavailable(
                f"The Kafka queue has no topic {missing[0]}; create its topics with "
                "`llmctl topics bootstrap --queue`."
            )
        self._partition_count = counts[topics.requests]
        if counts[topics.journal] != self._partition_count:
            raise QueueUnavailable(
                f"{topics.journal} has {counts[topics.journal]} partitions and {topics.requests} "
                f"{self._partition_count}; both must have the same number."
            )
        if self._partition_count > MAX_PARTITIONS:
            raise QueueUnavailable(f"{topics.requests} has more than {MAX_PARTITIONS} partitions.")
        self._dead_letters.spread(counts[topics.dead_letters])
        settings = await self._log.read_settings(topics.requests)
        self._kept_seconds = _read_retention(settings)
        if self._kept_seconds < self._default_ttl_seconds:
            raise QueueUnavailable(
                f"{topics.requests} keeps requests for {self._kept_seconds:g} s, and they may wait for "
                f"{self._default_ttl_seconds:g} s (DEFAULT_TTL_SECONDS); raise its retention.ms."
            )
        await self._writer.open(
            int(settings.get("max.message.bytes", MAX_MESSAGE_BYTES)) - BATCH_OVERHEAD_BYTES
        )
        await self._log.read_all(topics.memory, MEMORY_PARTITION, self._read_memory)

    async def run(self, wait_until_claiming: WaitUntilClaiming) -> None:
        """Is a member of the group while requests may be claimed. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for name, work in (
                ("queue-memory", self._follow_memory()),
                ("queue-spending", self._memory.keep_storing()),
                ("queue-commits", self._membership.keep_committing()),
                ("queue-depth", self._membership.watch_others()),
                ("queue-group", self._membership.run(wait_until_claiming)),
            ):
                tasks.create_task(_lasting(name, work), name=name)

    async def wait_until_sharing(self) -> None:
        """Waits until this replica has its share of the partitions, which may be none."""
        await self._membership.wait_until_sharing()

    async def close(self) -> None:
        """Leaves the group and writes what was handed over."""
        await self.usage.close()
        await self._membership.leave()
        await self._writer.close()

    def _open_group(self, owner: Membership) -> Group:
        return Group(
            self._connection,
            group=self._group_name,
            requests=self._topics.requests,
            journal=self._topics.journal,
            replica_name=self._replica_name,
            session_seconds=self._session_seconds,
            owner=owner,
        )

    # What the engine asks.

    async def put(self, request: QueuedRequest, estimated_tokens: int = 0) -> int:
        """Makes a request durable; returns its place in the queue, from 1."""
        if (request.expires_at - request.queued_at).total_seconds() > self._kept_seconds:
            raise Refused(
                LLMErrorCode.INVALID_REQUEST,
                f"ttl_seconds: requests are kept for {self._kept_seconds:g} s at most.",
                details={"field": "ttl_seconds"},
            )
        announcement = Announcement(
            request.queued_at.timestamp(),
            request.expires_at.timestamp(),
            request.request_data.priority,
            name_provider(request),
            estimated_tokens,
            request.caller,
            request.idempotency_key,
        )
        number = self._partition_of(request.queue_id)
        offset = await self._writer.put(
            self._topics.requests, number, request.queue_id, write_request(request, announcement)
        )
        if offset is not None:
            known = self._membership.known_ends
            known[number] = max(known.get(number, 0), offset + 1)
        if request.idempotency_key is not None:
            receipt = await self._memory.claim(request)
            if receipt.queue_id != request.queue_id:
                raise AcceptedBefore(receipt)
        stats = self.stats()
        return max(1, stats.waiting + stats.elsewhere)

    async def claim(self, limit: int, admit: Admit = admit_all) -> Sequence[Claim]:
        """Takes up to `limit` requests, waiting for the first; each attempt is counted durably."""
        holdings = self._holdings
        while True:
            may_work = self._membership.may_work
            taken = holdings.backlog.take(limit, time.time(), admit) if may_work else []
            if taken:
                claims = await self._claim(taken)
                if claims:
                    return claims
                continue
            holdings.filled.clear()
            await holdings.filled.wait()

    def nudge(self) -> None:
        """Says that `admit` may answer otherwise than before."""
        self._holdings.filled.set()

    async def claim_expired(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` waiting requests whose deadline has passed; counts no attempt."""
        if not self._membership.may_work:
            return ()
        expired = self._places_of(self._holdings.backlog.take_expired(limit, time.time()))
        try:
            await self._fill(expired)
        except BaseException:
            self._holdings.put_back(expired)
            raise
        return self._begin([place for place in expired if self._holdings.is_current(place)])

    def holds(self, queue_id: str, caller: str | None) -> bool:
        """Whether a request of this caller is held here and has no outcome; None is every caller."""
        place = self._holdings.find_named(self._partition_of(queue_id), queue_id)
        return place is not None and caller in {None, place.held.caller}

    async def claim_cancelled(self, queue_id: str) -> Claim | None:
        """Takes a request as soon as it waits; None once it is answered."""
        number = self._partition_of(queue_id)
        partition = self._holdings.partitions.get(number)
        while (place := self._holdings.find_named(number, queue_id)) is not None:
            if self._membership.may_work and self._holdings.pick(place):
                try:
                    await self._fill([place])
                except BaseException:
                    self._holdings.put_back([place])
                    raise
                if self._holdings.is_current(place):
                    claims = self._begin([place])
                    return claims[0] if claims else None
                continue
            await self._holdings.wait_for_step(place)
        if partition is None or self._holdings.partitions.get(number) is not partition:
            raise QueueUncertain(f"The partition of request {queue_id} went to another replica.")
        return None

    async def cancel_elsewhere(self, queue_id: str, caller: str | None) -> bool:
        """Asks whoever owns the request's partition, and waits for the answer."""
        number = self._partition_of(queue_id)
        end = await self._log.find_end(self._topics.requests, number)
        return await self._wishes.ask(Wish(queue_id, caller, number, end))

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start."""
        place, writer = self._find_begun(claim)
        number, offset = locate_request(claim.sequence)
        await self.note(number, Unclaimed((offset,)), writer)
        self._holdings.end(claim.sequence)
        if place is not None:
            place.held.attempts -= 1
            self._holdings.give_back([place])

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent, *, counted: bool = True) -> None:
        """Gives a request back for another attempt, not before `after_seconds`."""
        number, offset = locate_request(claim.sequence)
        not_before = time.time() + after_seconds
        place, writer = self._find_begun(claim)
        await self.note(number, Retried(offset, not_before, counted, spent), writer)
        self._memory.charge(claim, spent)
        self._holdings.end(claim.sequence)
        if place is not None:
            held = place.held
            held.attempts -= not counted
            held.spent = spent
            held.not_before_unix_seconds = not_before
            self._holdings.rest_again(place)

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Writes the answer to the journal; it enters the outbox when it was read back as the first one."""
        number, offset = locate_request(claim.sequence)
        _, writer = self._find_begun(claim)
        read_back = self._holdings.expect_answer(claim.sequence)
        await self.note(number, Answered(offset, callback), writer)
        self._memory.charge(claim, callback.spent)
        self._holdings.end(claim.sequence, answered=True)
        await read_back

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        return self._memory.find((caller, key))

    async def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        return self._memory.forget_ended()

    async def list_journal(self, after: str | None, limit: int) -> JournalPage:
        """What all replicas have answered lately, from the queue's journal."""
        return await self._answers.list_page(after, limit, self._partition_count)

    async def list_charges(self, since: date) -> Sequence[DayCharge]:
        """What calls of all replicas have used since a day, as far back as the memory's topic goes."""
        return self._memory.list_charges(since)

    async def spent_usd(self, day: date) -> float:
        """What all calls of all replicas that ended on a day have cost, as far as it is known here."""
        return self._memory.spent_usd(day)

    def spent_elsewhere_usd(self, day: date) -> float:
        """What other replicas have spent on a day, as far as it is known here."""
        return self._memory.spent_elsewhere_usd(day)

    def stats(self) -> QueueSnapshot:
        """How the queue stands at this moment."""
        return QueueSnapshot(
            waiting=self._holdings.count_waiting() + self._membership.count_unread(),
            claimed=self._holdings.count_claimed(),
            find_oldest_unix_seconds=self._holdings.oldest_accepted_unix_seconds,
            of_caller=self._holdings.backlog.count_of,
            usable=self._writer.usable,
            elsewhere=self._membership.count_elsewhere(),
            settled=self._membership.is_sharing,
        )

    def owned(self) -> Collection[int]:
        """The partitions that this replica works on."""
        return self._holdings.partitions.keys()

    def _surely_owned(self) -> Collection[int]:
        """None where somebody else may own them by now, as after this process has stood still."""
        return self.owned() if self._membership.may_work else ()

    def unread(self) -> int:
        """How many requests stand on our partitions, as far as is known, and were not read yet."""
        return self._membership.count_unread()

    # What the outbox asks of whoever keeps its callbacks.

    async def forget(self, sequences: Sequence[int]) -> None:
        """Their callbacks stand on their topics: these requests are finished."""
        places = [place for each in sequences if (place := self._holdings.find(each)) is not None]
        # Before the request is finished: afterwards nobody would come to do it.
        await asyncio.gather(*(self._end_key(place.held) for place in places))
        for place in places:
            self._holdings.finish(place.partition, place.held.offset)

    async def set_aside(self, callback: Callback, parked: ParkedCallback) -> None:
        """The broker refused this callback for good."""
        await self._dead_letters.set_aside(callback, parked)

    async def take_up(self, parked: Sequence[ParkedCallback]) -> None:
        """These are set aside no more: they were delivered."""
        await asyncio.gather(*(self._dead_letters.take_up(each) for each in parked))

    # What the membership asks.

    async def note(self, partition: int, note: Note, writer: str) -> None:
        """Writes a note to the journal. Raises `QueueUnavailable`."""
        await self._writer.write(self._topics.journal, partition, str(partition), write_note(note, writer))

    def bury(self, partition: Partition, record: Record, reason: str) -> None:
        """Sets a record aside that is no request of this version."""
        _log.critical(
            "a record of the request topic cannot be read and is set aside as a dead letter",
            topic=self._topics.requests,
            partition=partition.number,
            offset=record.offset,
            reason=reason,
        )
        self._start("queue-dead-letter", self._keep_burying(partition, record, reason))

    def taken_over(self, partitions: Sequence[Partition]) -> None:
        """Partitions were taken over: what was set aside of theirs is looked up, and what was wished."""
        for partition in partitions:
            for wish in self._wishes.of_partition(partition.number):
                self._start("queue-wish", self._answer(wish))
        self._start("queue-dead-letters", self._look_up_set_aside(list(partitions)))

    async def _look_up_set_aside(self, partitions: Sequence[Partition]) -> None:
        while partitions := [each for each in partitions if self._owns(each)]:
            try:
                found = await self._dead_letters.read_set_aside([each.number for each in partitions])
            except QueueUnavailable as error:
                _log.warning("dead letters cannot be read yet", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            owned = {each.number for each in partitions if self._owns(each)}
            for aside in found:
                if locate_request(aside.parked.sequence)[0] in owned:
                    self.outbox.add_parked(aside)
            return

    async def _keep_burying(self, partition: Partition, record: Record, reason: str) -> None:
        while self._owns(partition):
            try:
                await self._dead_letters.bury(self._topics.requests, record, reason)
            except QueueUnavailable as error:
                _log.error("a dead letter cannot be written, will be tried again", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._holdings.finish(partition, record.offset)
                return

    def _owns(self, partition: Partition) -> bool:
        return self._holdings.partitions.get(partition.number) is partition

    # Keys.

    async def _end_key(self, held: Held) -> None:
        if held.idempotency_key is not None:
            await self._memory.end((held.caller, held.idempotency_key), held.queue_id)

    def _name_key(self, held: Held) -> None:
        self._start("queue-key", self._claim_key(held))

    async def _claim_key(self, held: Held) -> None:
        try:
            place = self._holdings.find(held.waiting.sequence)
            await self._fill([] if place is None else [place])
            await self._memory.claim(read_request(held.value))
        except (QueueUnavailable, RecordUnreadable) as error:
            _log.error("a request's key cannot be named yet", request_id=held.queue_id, error=str(error))

    # Claims.

    async def _claim(self, taken: Sequence[Waiting]) -> Sequence[Claim]:
        places = self._places_of(taken)
        for place in places:
            place.held.stage = Stage.CLAIMED
        self._holdings.claiming += len(places)
        counting = asyncio.ensure_future(self._count_and_fill(places))
        try:
            await asyncio.shield(counting)
        except asyncio.CancelledError:
            # Whoever asked was cancelled: these attempts will not start.
            counting.add_done_callback(lambda done: self._abandon(places, counted=not done.exception()))
            raise
        except QueueUnavailable:
            self._holdings.give_back(places)
            raise
        finally:
            self._holdings.claiming -= len(places)
        current = [place for place in places if self._holdings.is_current(place)]
        if len(current) < len(places) or not self._membership.may_work:
            # Somebody else may own them by now: they are not to be started here.
            self._abandon(places, counted=True)
            return ()
        for place in current:
            place.held.attempts += 1
        return self._begin(current)

    async def _fill(self, places: Sequence[Place]) -> None:
        """Reads what was let go of while it waited. Raises `QueueUnavailable`."""
        empty: dict[int, dict[int, Place]] = {}
        for place in places:
            if not place.held.value:
                empty.setdefault(place.partition.number, {})[place.held.offset] = place
        for number, wanted in empty.items():
            found = await self._log.read_at(self._topics.requests, number, wanted.keys())
            for offset, value in found.items():
                self._holdings.fill(wanted[offset], value)

    async def _count_and_fill(self, places: Sequence[Place]) -> None:
        await self._fill(places)
        await self._count(places)

    async def _count(self, places: Sequence[Place]) -> None:
        offsets: dict[Partition, list[int]] = {}
        for place in places:
            offsets.setdefault(place.partition, []).append(place.held.offset)
        await asyncio.gather(
            *(
                self.note(partition.number, Claimed(tuple(claimed)), partition.writer)
                for partition, claimed in offsets.items()
            )
        )

    def _begin(self, places: Sequence[Place]) -> list[Claim]:
        claims = []
        for place in places:
            held = place.held
            if held.stage is Stage.ANSWERED:
                continue
            try:
                request = read_request(held.value)
            except RecordUnreadable as error:
                self._bury_held(place, str(error))
                continue
            self._holdings.begin(place)
            claims.append(Claim(held.waiting.sequence, request, held.attempts, held.spent))
        return claims

    def _bury_held(self, place: Place, reason: str) -> None:
        held = place.held
        record = ConsumerRecord(
            self._topics.requests,
            place.partition.number,
            held.offset,
            0,
            0,
            held.queue_id.encode(),
            held.value,
            None,
            0,
            0,
            (),
        )
        self.bury(place.partition, record, reason)

    def _abandon(self, places: Sequence[Place], *, counted: bool) -> None:
        if counted:
            self._start("queue-unclaim", self._keep_uncounting(places))
        else:
            self._holdings.give_back(places)

    async def _keep_uncounting(self, places: Sequence[Place]) -> None:
        offsets: dict[Partition, list[int]] = {}
        for place in places:
            offsets.setdefault(place.partition, []).append(place.held.offset)
        for partition, given_back in offsets.items():
            while True:
                writer = partition.writer if self._owns(partition) else GUEST
                try:
                    await self.note(partition.number, Unclaimed(tuple(given_back)), writer)
                except QueueUnavailable as error:
                    _log.error("claims cannot be given back, will be tried again", error=str(error))
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    break
        self._holdings.give_back(places)

    def _places_of(self, taken: Sequence[Waiting]) -> list[Place]:
        found = (self._holdings.find(waiting.sequence) for waiting in taken)
        return [place for place in found if place is not None]

    def _find_begun(self, claim: Claim) -> tuple[Place | None, str]:
        """Where a request is held as when its claim began, and who notes what became of it."""
        writer = self._holdings.writer_of(claim.sequence)
        if writer is None:
            return None, GUEST
        return self._holdings.find(claim.sequence), writer

    # What runs beside.

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            work.close()
        else:
            self._tasks.create_task(work, name=name)

    def _partition_of(self, queue_id: str) -> int:
        return crc32(queue_id.encode()) % self._partition_count

    def _read_wish(self, body: Mapping[str, Any]) -> None:
        wish = self._wishes.read(body)
        if wish is not None:
            self._start("queue-wish", self._answer(wish))

    async def _answer(self, wish: Wish) -> None:
        if self.cancel_held is not None:
            await self._wishes.answer(wish, self.cancel_held)

    def _read_memory(self, record: Record) -> None:
        self._memory.read(record.offset, record.timestamp, record.value)

    async def _follow_memory(self) -> None:
        while True:
            try:
                await self._log.follow(
                    self._topics.memory, MEMORY_PARTITION, self._memory.position, self._read_memory
                )
            except QueueUnavailable as error:
                _log.error("the queue's memory cannot be read, will be tried again", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)


def _read_retention(settings: Mapping[str, str]) -> float:
    milliseconds = int(settings.get("retention.ms", -1))
    return math.inf if milliseconds < 0 else milliseconds / 1000


async def _lasting(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Runs what must not end: a task that ended as cancelled although nobody cancelled it is told."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise QueueUnavailable(
                f"The task {name} ended as cancelled, although nobody cancelled it."
            ) from None
        raise
