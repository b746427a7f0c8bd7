"""A replica's part in the group that shares the queue: it comes, owns, commits and goes.

Two things say whether it still owns what it thinks it owns. Each commit is refused to whoever is a member no
more, so a commit that was taken is a lease for most of a session: without one nothing is begun and nothing
sent. And a partition is kept over a new sharing out only where the group says that nobody came in between.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol
from uuid import uuid4

import structlog

from service.core.errors import QueueUnavailable
from service.queues.kafka.group import Commit, Ends, Expelled, Group, Record
from service.queues.kafka.holdings import Holdings
from service.queues.kafka.notes import (
    Lent,
    Note,
    RecordUnreadable,
    read_announcement,
    read_note,
)
from service.queues.kafka.offsets import MetadataUnreadable, Progress
from service.queues.kafka.outbox import KafkaOutbox
from service.queues.kafka.partition import Partition

COMMIT_EVERY_SECONDS = 0.05
RENEW_LEASE_SECONDS = 1.0
LEASE_OF_SESSION = 0.8
LOOK_AT_OTHERS_SECONDS = 1.0
FINISH_SENDING_SECONDS = 5.0
AGAIN_SECONDS = 1.0

_log = structlog.get_logger("service.queue")


class WaitUntilClaiming(Protocol):
    """Waits until requests may be taken out of the queue, or until they may not."""

    def __call__(self, claiming: bool = True) -> Awaitable[object]: ...


class Recorder(Protocol):
    """Writes what the group's topics are told."""

    async def note(self, partition: int, note: Note, writer: str) -> None:
        """Writes a note to the journal. Raises `QueueUnavailable`."""
        ...

    def bury(self, partition: Partition, record: Record, reason: str) -> None:
        """Sets a record aside that is no request of this version."""
        ...

    def taken_over(self, partitions: Sequence[Partition]) -> None:
        """These were taken over: what else is known of them may be looked up now."""
        ...


class Membership:
    """Joins and leaves the group, and keeps what is owned in step with it. Is the `Owner` of its groups."""

    def __init__(
        self,
        *,
        name: str,
        partition_count: Callable[[], int],
        open_group: Callable[["Membership"], Group],
        holdings: Holdings,
        outbox: KafkaOutbox,
        recorder: Recorder,
        lend_seconds: float,
        session_seconds: float,
    ) -> None:
        self._name = name
        self._partition_count = partition_count
        self._open_group = open_group
        self._holdings = holdings
        self._outbox = outbox
        self._recorder = recorder
        self._lend_seconds = lend_seconds
        self._lease_seconds = LEASE_OF_SESSION * session_seconds
        self._session = uuid4().hex
        self._stints: Iterator[int] = itertools.count(1)
        self._group: Group | None = None
        self._leaving = asyncio.Lock()
        self._suspended = True
        self._following = False
        """Whether what is read continues what was read before: not between two sharings out."""
        self._shared_out = asyncio.Event()
        self._leased_until = 0.0
        self._generation = 0
        self._committing = asyncio.Lock()
        self._committed: dict[int, Commit] = {}
        self._unfinished_elsewhere: dict[int, int] = {}
        self.known_ends: dict[int, int] = {}
        """Of each partition, owned or not: the end as far as this process has seen it."""

    @property
    def is_sharing(self) -> bool:
        """Whether this replica has its share of the partitions, which may be none."""
        return not self._suspended

    @property
    def may_work(self) -> bool:
        """Whether something may be begun and sent now."""
        return not self._suspended and self._has_lease

    @property
    def _has_lease(self) -> bool:
        return time.monotonic() < self._leased_until

    async def run(self, wait_until_claiming: WaitUntilClaiming) -> None:
        """Is a member while requests may be claimed. Runs until cancelled."""
        while True:
            await wait_until_claiming()
            try:
                await self._take_part(wait_until_claiming)
            except QueueUnavailable as error:
                _log.error("the queue's group was left, will be joined again", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)

    async def wait_until_sharing(self) -> None:
        """Waits until this replica has its share of the partitions, which may be none."""
        await self._shared_out.wait()

    async def _take_part(self, wait_until_claiming: WaitUntilClaiming) -> None:
        group = self._open_group(self)
        await group.join()
        self._group = group
        reading = asyncio.ensure_future(group.read())
        parting = asyncio.ensure_future(self._wait_to_part(wait_until_claiming))
        try:
            await asyncio.wait((reading, parting), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            parting.cancel()
            await asyncio.shield(self.leave())

    async def _wait_to_part(self, wait_until_claiming: WaitUntilClaiming) -> None:
        """Until nothing is to be claimed any more and somebody else is there to hand the partitions to.

        A replica that is alone keeps them while it drains: nobody else could send the answers of its calls.
        """
        while True:
            await wait_until_claiming(False)
            # Whoever has no share yet cannot know whether there is somebody else.
            if self.is_sharing and len(self._holdings.partitions) < self._partition_count():
                return
            claiming = asyncio.ensure_future(wait_until_claiming(True))
            self._shared_out.clear()
            shared = asyncio.ensure_future(self._shared_out.wait())
            try:
                await asyncio.wait((claiming, shared), return_when=asyncio.FIRST_COMPLETED)
            finally:
                claiming.cancel()
                shared.cancel()

    async def leave(self) -> None:
        """Hands over what is owned: finishes what is being sent, and says what is still being worked on."""
        async with self._leaving:
            group, self._group = self._group, None
            if group is None:
                return
            await self._settle(group)
            for number in tuple(self._holdings.partitions):
                self._lose(number)
            self._leased_until = 0.0
            await group.leave()
            _log.info("left the queue's group", group=self._name)

    # What a group asks of whoever owns its partitions.

    async def suspend(self, group: Group) -> None:
        """The group is about to be shared out anew."""
        if group is self._group:
            await self._settle(group)

    async def own(self, group: Group, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        """These are owned from here on; returns where the requests and the journal of each are read.

        Raises `QueueUnavailable` where it cannot be made sure that they are.
        """
        committed = await group.find_committed(partitions)
        ends = await group.find_ends(partitions)
        if group is not self._group:
            raise QueueUnavailable("The group is being left.")
        # Each sharing out is one generation: where one is missing, somebody else was shared out to.
        in_step = self._has_lease and group.generation == self._generation + 1
        owned = self._holdings.partitions
        kept = {
            number
            for number in owned
            if in_step and number in partitions and self._committed.get(number) == committed[number]
        }
        for number in set(owned) - kept:
            self._lose(number)
        new = sorted(set(partitions) - kept)
        for number in new:
            commit = self._check(number, committed[number], ends[number])
            partition = Partition(
                number,
                f"{self._session}-{next(self._stints)}",
                self._unpack(commit),
                requests_end=ends[number].requests,
                # Of the journal nothing that matters is ever older than the topic keeps it.
                journal_position=max(commit.journal_offset, ends[number].journal_begin),
                journal_end=ends[number].journal,
            )
            self._holdings.take_over(partition)
            self._unfinished_elsewhere.pop(number, None)
            self.known_ends[number] = max(self.known_ends.get(number, 0), ends[number].requests)
        await self._commit(group, owned)
        if group is not self._group:
            raise QueueUnavailable("The group is being left.")
        self._generation = group.generation
        self._suspended = False
        self._shared_out.set()
        for number in new:
            if owned[number].open:
                self._holdings.open_up(owned[number])
        self._holdings.wake()
        if new:
            _log.info("partitions taken over", taken=new, owned=sorted(owned))
            self._recorder.taken_over([owned[number] for number in new])
        self._following = True
        return {number: (each.next_request, each.next_note) for number, each in owned.items()}

    def read_requests(self, partition: int, records: Sequence[Record]) -> None:
        """The next requests of a partition."""
        owned = self._holdings.partitions.get(partition)
        if owned is None or not self._following:
            return
        for record in records:
            if record.offset < owned.next_request:
                continue
            gone = owned.pass_over(record.offset)
            if gone:
                _log.critical(
                    "requests are gone from the topic before they were finished",
                    partition=partition,
                    offset=record.offset - gone,
                    count=gone,
                )
            self._read_request(owned, record)
        self._holdings.note_progress()

    def read_journal(self, partition: int, records: Sequence[Record]) -> None:
        """The next notes of a partition."""
        owned = self._holdings.partitions.get(partition)
        if owned is None or not self._following:
            return
        was_open = owned.open
        for record in records:
            if record.offset >= owned.next_note:
                self._read_note(owned, record, was_open=was_open)
        if not was_open and owned.open:
            self._holdings.open_up(owned)
        self._holdings.note_progress()

    def is_full(self) -> bool:
        """Whether no more requests are to be read for the moment."""
        return self._holdings.is_full()

    # Reading.

    def _read_request(self, partition: Partition, record: Record) -> None:
        try:
            announcement = read_announcement(record.headers)
            queue_id = (record.key or b"").decode()
        except (RecordUnreadable, UnicodeDecodeError) as error:
            if not partition.progress.is_finished(record.offset):
                self._recorder.bury(partition, record, str(error))
            return
        held, answer = partition.read_request(record.offset, queue_id, record.value or b"", announcement)
        if held is not None:
            self._holdings.take_in(partition, held, answer, record.timestamp / 1000)

    def _read_note(self, partition: Partition, record: Record, *, was_open: bool) -> None:
        try:
            note, writer = read_note(record.headers, record.value)
        except RecordUnreadable as error:
            _log.error(
                "a note of the journal cannot be read and is passed over",
                partition=partition.number,
                offset=record.offset,
                error=str(error),
            )
            partition.skip_notes(record.offset + 1)
            return
        for answer in partition.read_note(record.offset, note, writer):
            self._holdings.take_answer(answer, record.timestamp / 1000)
        if was_open and writer != partition.writer:
            self._holdings.reconsider(partition, note)

    # Owning.

    async def _settle(self, group: Group) -> None:
        """Begins nothing more; finishes what is being sent, commits, and says what is being worked on."""
        self._suspended = True
        self._following = False
        self._shared_out.clear()
        if not self._has_lease:
            return  # somebody else may own them: there is nothing that may be said of them
        await self._outbox.finish_sending(FINISH_SENDING_SECONDS)
        try:
            await self._commit(group, self._holdings.partitions)
        except Expelled:
            return
        except QueueUnavailable as error:
            _log.debug("what is finished could not be committed any more", error=str(error))
        await asyncio.gather(*(self._lend(each) for each in tuple(self._holdings.partitions.values())))

    async def _lend(self, partition: Partition) -> None:
        """Whoever owns the partition next is to leave what is under way here alone for a while."""
        offsets = self._holdings.under_way(partition)
        if not offsets:
            return
        note = Lent(offsets, time.time() + self._lend_seconds)
        try:
            await self._recorder.note(partition.number, note, partition.writer)
        except QueueUnavailable as error:
            _log.warning("calls under way may be repeated by another replica", error=str(error))

    def _lose(self, number: int) -> None:
        self._holdings.lose(number)
        self._committed.pop(number, None)

    def _check(self, number: int, commit: Commit, ends: Ends) -> Commit:
        """What was committed, unless it is of another topic: one that was deleted and made anew."""
        if commit.offset <= ends.requests and commit.journal_offset <= ends.journal:
            return commit
        _log.critical(
            "what was committed lies behind the end of the topic, which must be another one: it is read anew",
            partition=number,
            committed=commit.offset,
            end=ends.requests,
        )
        return Commit(0, "", 0)

    def _unpack(self, commit: Commit) -> Progress:
        try:
            return Progress.unpack(commit.offset, commit.metadata)
        except MetadataUnreadable as error:
            _log.error("a commit cannot be read in full, more is looked up", error=str(error))
            return Progress(commit.offset)

    # Committing.

    async def keep_committing(self) -> None:
        """Commits what is finished, all that has gathered at once; each commit renews the lease."""
        finished = self._holdings.something_finished
        while True:
            try:
                async with asyncio.timeout(RENEW_LEASE_SECONDS):
                    await finished.wait()
                    await asyncio.sleep(COMMIT_EVERY_SECONDS)
            except TimeoutError:
                pass
            group = self._group
            if group is None or self._suspended:
                await self._shared_out.wait()
                continue
            finished.clear()
            changed = {
                number: partition
                for number, partition in self._holdings.partitions.items()
                if self._committed.get(number) != _compose(partition)
            }
            if not changed:
                changed = dict(itertools.islice(self._holdings.partitions.items(), 1))
            try:
                await self._commit(group, changed)
            except QueueUnavailable as error:
                if not self._suspended:
                    _log.warning("what is finished could not be committed", error=str(error))
                finished.set()
                await asyncio.sleep(AGAIN_SECONDS)

    async def _commit(self, group: Group, partitions: Mapping[int, Partition]) -> None:
        async with self._committing:
            commits = {number: _compose(partition) for number, partition in partitions.items()}
            if not commits:
                return
            begun = time.monotonic()
            had_lease = self._has_lease
            try:
                await group.commit(commits)
            except Expelled:
                self._leased_until = 0.0
                if had_lease and not self._suspended:
                    _log.error(
                        "the group took this replica's partitions although it was alive; another process may "
                        "use its name (REPLICA_NAME)"
                    )
                raise
            for number, commit in commits.items():
                if number in self._holdings.partitions:
                    self._committed[number] = commit
            self._leased_until = max(self._leased_until, begun + self._lease_seconds)
            if not had_lease and not self._suspended:
                self._holdings.wake()

    # What others hold.

    def count_unread(self) -> int:
        """How many requests stand on our partitions, as far as is known, and were not read yet."""
        return sum(
            max(0, self.known_ends.get(number, 0) - partition.next_request)
            for number, partition in self._holdings.partitions.items()
        )

    def count_elsewhere(self) -> int:
        """How many requests other replicas hold, as they have last committed it."""
        return sum(self._unfinished_elsewhere.values())

    async def watch_others(self) -> None:
        """Keeps up what other replicas hold, and how far the topic goes."""
        while True:
            await asyncio.sleep(LOOK_AT_OTHERS_SECONDS)
            group = self._group
            if group is None or self._suspended:
                continue
            everywhere = range(self._partition_count())
            try:
                ends = await group.find_ends(everywhere)
                others = set(everywhere) - self._holdings.partitions.keys()
                committed = await group.find_committed(others) if others else {}
            except QueueUnavailable as error:
                _log.debug("the queue's depth cannot be found", error=str(error))
                continue
            for number, end in ends.items():
                self.known_ends[number] = max(self.known_ends.get(number, 0), end.requests)
            self._unfinished_elsewhere = {
                number: self._count_unfinished(number, commit)
                for number, commit in committed.items()
                if number not in self._holdings.partitions
            }

    def _count_unfinished(self, number: int, commit: Commit) -> int:
        try:
            above = Progress.unpack(commit.offset, commit.metadata).count_above()
        except MetadataUnreadable:
            above = 0
        return max(0, self.known_ends.get(number, 0) - commit.offset - above)


def _compose(partition: Partition) -> Commit:
    progress = partition.progress
    return Commit(progress.base, progress.pack(), partition.journal_position)
