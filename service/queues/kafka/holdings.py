"""What a replica holds of the Kafka queue: its partitions, and where each of their requests waits.

Bookkeeping on the event loop, without I/O. A request that is not finished is in one place: it waits for its
partition to open, for its key, for its time or for its turn; it is worked on; or its answer is in the outbox.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from service.core.records import OutboxEntry
from service.queues.backlog import Backlog
from service.queues.kafka.memory import Scope, SharedMemory
from service.queues.kafka.notes import Note, Retried
from service.queues.kafka.outbox import KafkaOutbox
from service.queues.kafka.partition import Answer, Held, Partition, Stage, locate_request
from service.queues.steps import Steps

MAX_REQUESTS_IN_MEMORY_BYTES = 64 * 1024 * 1024
"""Beyond this, the text of a request is let go of, and read from the topic when its turn has come."""
MAX_REQUESTS_IN_MEMORY = 50_000
"""Beyond this, no more is read: what waits longer waits on the topic, in its order."""
UNNAMED_KEY_SECONDS = 5.0
"""A request whose key nobody has named by then came from a replica that was killed in between."""

_log = structlog.get_logger("service.queue")


@dataclass(frozen=True, slots=True)
class Place:
    """A request, in the partition as it is owned since it was found."""

    partition: Partition
    held: Held


class Holdings:
    """The partitions that this replica owns, and what it knows of their requests."""

    def __init__(self, memory: SharedMemory, outbox: KafkaOutbox, name_key: Callable[[Held], None]) -> None:
        self._memory = memory
        self._outbox = outbox
        self._name_key = name_key
        self.partitions: dict[int, Partition] = {}
        self.backlog = Backlog()
        self.filled = asyncio.Event()
        self.something_finished = asyncio.Event()
        self._under_way: dict[int, str] = {}
        """Requests that this process works on, owned or not, each with its writer when that began."""
        self._resting: dict[int, tuple[Held, asyncio.TimerHandle]] = {}
        self._unnamed: dict[Scope, list[Place]] = {}
        """Requests with a key of which it is not known yet whether it is theirs."""
        self._answering: dict[int, asyncio.Future[None]] = {}
        self._held_bytes = 0
        self._steps = Steps()
        self._progress = asyncio.Event()
        self.claiming = 0
        """Requests whose attempt is being counted."""

    # Partitions.

    def take_over(self, partition: Partition) -> None:
        """A partition is owned from here on."""
        self.partitions[partition.number] = partition

    def lose(self, number: int) -> None:
        """A partition is somebody else's: what is known of it goes; what is under way here goes on."""
        partition = self.partitions.pop(number)
        for held in partition:
            self._withdraw(held)
            self._held_bytes -= len(held.value)
            self._answer_waiter(held)
            self._steps.take(held.waiting.sequence)
        for scope, places in tuple(self._unnamed.items()):
            kept = [place for place in places if place.partition is not partition]
            if kept:
                self._unnamed[scope] = kept
            else:
                del self._unnamed[scope]
        self._outbox.drop(number)

    def open_up(self, partition: Partition) -> None:
        """What all owners before have noted is read: its requests may be started."""
        for held in tuple(partition):
            self.offer(partition, held)
        self.wake()

    def wake(self) -> None:
        """Whoever waits for something to do is to look again."""
        self.note_progress()
        self._steps.take_every()
        self.filled.set()
        self._outbox.changed.set()

    def note_progress(self) -> None:
        """More was read, or partitions came or went."""
        self._progress.set()
        self._progress.clear()  # who waits now is woken, who comes later waits

    async def wait_for_progress(self) -> None:
        """Returns when more was read, or partitions have come or gone."""
        await self._progress.wait()

    async def wait_for_step(self, place: "Place") -> None:
        """Returns when a request waits again or is over, or may be worked on again."""
        await self._steps.wait(place.held.waiting.sequence)

    # Finding.

    def find(self, sequence: int) -> Place | None:
        """A request, where it is not finished and its partition is owned."""
        number, offset = locate_request(sequence)
        partition = self.partitions.get(number)
        held = None if partition is None else partition.find(offset)
        return None if partition is None or held is None else Place(partition, held)

    def find_named(self, number: int, queue_id: str) -> Place | None:
        """A request without an outcome by its id, where its partition is owned."""
        partition = self.partitions.get(number)
        held = None if partition is None else partition.find_named(queue_id)
        if partition is None or held is None or held.stage is Stage.ANSWERED:
            return None
        return Place(partition, held)

    def is_current(self, place: Place) -> bool:
        """Whether a request is still held as it was found."""
        partition = place.partition
        return (
            self.partitions.get(partition.number) is partition
            and partition.find(place.held.offset) is place.held
        )

    def writer_of(self, sequence: int) -> str | None:
        """Who notes what becomes of a request: None where its partition is not owned as when it began."""
        place = self.find(sequence)
        begun = self._under_way.get(sequence)
        return begun if place is not None and place.partition.writer == begun else None

    def under_way(self, partition: Partition) -> tuple[int, ...]:
        """The offsets of the requests of a partition that this process works on."""
        return tuple(held.offset for held in partition if held.waiting.sequence in self._under_way)

    # The way of a request.

    def take_in(
        self, partition: Partition, held: Held, answer: Answer | None, at_unix_seconds: float
    ) -> None:
        """A request was read."""
        if self._held_bytes >= MAX_REQUESTS_IN_MEMORY_BYTES:
            held.value = b""
        self._held_bytes += len(held.value)
        if answer is not None:
            self.take_answer(answer, at_unix_seconds)
        elif partition.open:
            self.offer(partition, held)

    def offer(self, partition: Partition, held: Held) -> None:
        """Puts a request where it waits: for its key, for its time, or for its turn."""
        if held.stage is not Stage.READ:
            return
        if held.waiting.sequence in self._under_way:
            held.stage = Stage.CLAIMED  # begun here before the partition was lost and came back
            return
        if held.idempotency_key is not None:
            scope = (held.caller, held.idempotency_key)
            owner = self._memory.find(scope)
            if owner is None:
                self._wait_for_key(scope, Place(partition, held))
                return
            if owner.queue_id != held.queue_id:
                # Another request was accepted under this key, and whoever sent this one was told so.
                self.finish(partition, held.offset)
                return
        if held.not_before_unix_seconds > time.time():
            held.stage = Stage.RESTING
            self._rest(Place(partition, held))
            self._steps.take(held.waiting.sequence)
            return
        held.stage = Stage.WAITING
        self.backlog.append(held.waiting)
        self._steps.take(held.waiting.sequence)
        self.filled.set()

    def reconsider(self, partition: Partition, note: Note) -> None:
        """Another replica said something of a request that it worked on when the partition was its own."""
        for offset in (note.offset,) if isinstance(note, Retried) else getattr(note, "offsets", ()):
            held = partition.find(offset)
            if held is None or held.stage is Stage.ANSWERED or held.waiting.sequence in self._under_way:
                continue
            self._withdraw(held)
            held.stage = Stage.READ
            self.offer(partition, held)

    def begin(self, place: Place) -> None:
        """Work on a request begins."""
        place.held.stage = Stage.CLAIMED
        self._under_way[place.held.waiting.sequence] = place.partition.writer

    def end(self, sequence: int, *, answered: bool = False) -> None:
        """Work on a request is over."""
        begun = self._under_way.pop(sequence, None)
        place = self.find(sequence)
        if place is None or answered or place.partition.writer == begun:
            return
        if place.held.stage is Stage.CLAIMED:
            # Begun before the partition was lost and came back; what was noted is read from the journal.
            place.held.stage = Stage.READ
            self.offer(place.partition, place.held)

    def rest_again(self, place: Place) -> None:
        """A request is to be tried once more: it waits for its time."""
        if self.is_current(place) and place.held.stage is Stage.CLAIMED:
            place.held.stage = Stage.READ
            self.offer(place.partition, place.held)

    def pick(self, place: Place) -> bool:
        """Takes a request that waits for its turn or its time; returns whether it did."""
        if not self.is_current(place) or place.held.stage not in {Stage.WAITING, Stage.RESTING}:
            return False
        rested = place.held.waiting.sequence in self._resting
        waited = self._withdraw(place.held)
        place.held.stage = Stage.WAITING
        return waited or rested

    def put_back(self, places: Sequence[Place]) -> None:
        """These were taken to see whether their time is over, and wait again."""
        for place in reversed(places):
            if self.is_current(place) and place.held.stage is Stage.WAITING:
                self.backlog.restore(place.held.waiting)
                self._steps.take(place.held.waiting.sequence)

    def give_back(self, places: Sequence[Place]) -> None:
        """These wait again, before all others, in the order in which they were claimed."""
        for place in reversed(places):
            if self.is_current(place) and place.held.stage is Stage.CLAIMED:
                place.held.stage = Stage.WAITING
                self.backlog.restore(place.held.waiting)
                self._steps.take(place.held.waiting.sequence)
        self.filled.set()

    def take_answer(self, answer: Answer, at_unix_seconds: float) -> None:
        """A request has got its answer: it goes to the outbox."""
        held = answer.held
        self._withdraw(held)
        self._held_bytes -= len(held.value)
        held.value = b""
        stored = None if answer.perhaps_sent else time.monotonic()
        entry = OutboxEntry(held.waiting.sequence, answer.callback, stored)
        if answer.perhaps_sent:
            self._outbox.append_doubtful(entry, at_unix_seconds)
        else:
            self._outbox.append(entry)
        self._answer_waiter(held)
        self._steps.take(held.waiting.sequence)

    def expect_answer(self, sequence: int) -> "asyncio.Future[None]":
        """Done when the answer to a request was read back, or its partition is lost."""
        place = self.find(sequence)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if place is None or place.held.stage is Stage.ANSWERED:
            waiter.set_result(None)
        else:
            self._answering[sequence] = waiter
        return waiter

    def finish(self, partition: Partition, offset: int) -> None:
        """A request is over, or never was one."""
        held = partition.find(offset)
        if held is not None and self.is_current(Place(partition, held)):
            self._withdraw(held)
            self._held_bytes -= len(held.value)
            self._answer_waiter(held)
            self._steps.take(held.waiting.sequence)
        partition.finish(offset)
        self.something_finished.set()

    # Keys.

    def decide(self, scope: Scope) -> None:
        """A key has got its request."""
        for place in self._unnamed.pop(scope, ()):
            if self.is_current(place):
                self.offer(place.partition, place.held)

    # Counting.

    def is_full(self) -> bool:
        """Whether no more requests are to be read for the moment."""
        return sum(map(len, self.partitions.values())) >= MAX_REQUESTS_IN_MEMORY

    def fill(self, place: Place, value: bytes) -> None:
        """The text of a request was read again."""
        if self.is_current(place) and place.held.stage is not Stage.ANSWERED and not place.held.value:
            place.held.value = value
            self._held_bytes += len(value)

    def count_waiting(self) -> int:
        """How many requests were read and are not worked on."""
        unnamed = sum(map(len, self._unnamed.values()))
        not_open = sum(len(partition) for partition in self.partitions.values() if not partition.open)
        return len(self.backlog) + len(self._resting) + unnamed + not_open

    def count_claimed(self) -> int:
        """How many requests this process works on, or is about to."""
        return len(self._under_way) + self.claiming

    def oldest_accepted_unix_seconds(self) -> float | None:
        """When the request that waits longest was accepted; None where none waits."""
        head = self.backlog.oldest_accepted_unix_seconds()
        ages = [held.waiting.accepted_unix_seconds for held, _ in self._resting.values()]
        return min(ages if head is None else [*ages, head], default=None)

    # Inside.

    def _withdraw(self, held: Held) -> bool:
        """Takes a request from where it waits; returns whether it waited for its turn."""
        sequence = held.waiting.sequence
        waited = self.backlog.discard(sequence)
        resting = self._resting.pop(sequence, None)
        if resting is not None:
            resting[1].cancel()
        return waited

    def _rest(self, place: Place) -> None:
        held = place.held
        after_seconds = max(0.0, held.not_before_unix_seconds - time.time())
        timer = asyncio.get_running_loop().call_later(after_seconds, self._rouse, place)
        self._resting[held.waiting.sequence] = held, timer

    def _rouse(self, place: Place) -> None:
        held = place.held
        if not self.is_current(place) or held.stage is not Stage.RESTING:
            return
        if held.not_before_unix_seconds > time.time():
            self._rest(place)  # a timer of the loop may be early by the wall clock
            return
        self._resting.pop(held.waiting.sequence, None)
        held.stage = Stage.WAITING
        self.backlog.restore(held.waiting)
        self.filled.set()

    def _wait_for_key(self, scope: Scope, place: Place) -> None:
        self._unnamed.setdefault(scope, []).append(place)
        asyncio.get_running_loop().call_later(UNNAMED_KEY_SECONDS, self._look_for_name, scope)

    def _look_for_name(self, scope: Scope) -> None:
        """Whoever wrote the request did not come to name it: the first that waits gets the key."""
        waiting = [place for place in self._unnamed.get(scope, ()) if self.is_current(place)]
        if waiting:
            self._name_key(waiting[0].held)
            asyncio.get_running_loop().call_later(UNNAMED_KEY_SECONDS, self._look_for_name, scope)

    def _answer_waiter(self, held: Held) -> None:
        waiter = self._answering.pop(held.waiting.sequence, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
