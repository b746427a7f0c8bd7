"""Membership in the consumer group that shares the request topic, and the reading of what is owned.

Requests and journal have the same number of partitions, and the range assignor gives both of one number to
the same member. A replica with a name of its own is a static member (KIP-345): one that is killed and started
again within the session takes its partitions up at once. Whoever leaves on purpose says so, which a static
member of aiokafka by itself does not, and the others have its partitions within a heartbeat.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalGenerationError, KafkaError, UnknownMemberIdError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from service.core.errors import QueueUnavailable
from service.kafka.connection import KafkaConnection, bootstrap
from service.kafka.consumer import stop_consumer

SESSION_SECONDS = 10.0
"""A member that was not heard of for so long has lost its partitions."""
HEARTBEAT_INTERVAL_MILLISECONDS = 1_000
FETCH_WAIT_MILLISECONDS = 50
"""The embedded broker does not wake a fetch that waits; Apache Kafka does."""
READ_WAIT_MILLISECONDS = 200
MAX_RECORDS_AT_ONCE = 2000
ANSWER_LIMIT_SECONDS = 5.0

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

_log = structlog.get_logger("service.queue")


@dataclass(frozen=True, slots=True)
class Commit:
    """What is committed for one partition."""

    offset: int
    metadata: str
    journal_offset: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the logs of one partition end."""

    requests: int
    journal: int
    journal_begin: int
    """The offset of the journal's oldest note that is still kept."""


class Owner(Protocol):
    """Whoever works on the partitions that this replica owns."""

    async def suspend(self, group: "Group") -> None:
        """The group is about to be shared out anew: nothing more is begun, what is under way is finished."""
        ...

    async def own(self, group: "Group", partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        """These are owned from here on; returns where the requests and the journal of each are read.

        Raises `QueueUnavailable` where it cannot be made sure that they are.
        """
        ...

    def read_requests(self, partition: int, records: Sequence[Record]) -> None:
        """The next requests of a partition."""
        ...

    def read_journal(self, partition: int, records: Sequence[Record]) -> None:
        """The next notes of a partition."""
        ...

    def is_full(self) -> bool:
        """Whether no more requests are to be read for the moment."""
        ...


class Expelled(QueueUnavailable):
    """The group has shared the partitions out without this member."""


class Group:
    """One membership, from joining to leaving."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        group: str,
        requests: str,
        journal: str,
        replica_name: str | None,
        session_seconds: float,
        owner: Owner,
    ) -> None:
        self._requests = requests
        self._journal = journal
        self._owner = owner
        self._group = group
        self._holding_back = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Why the membership cannot go on; aiokafka only logs what leaves a listener."""
        self._consumer = AIOKafkaConsumer(
            group_id=group,
            group_instance_id=replica_name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=round(session_seconds * 1000),
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MILLISECONDS,
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            **connection.client_options(),
        )

    async def join(self) -> None:
        """Connects and asks to be let in. Raises `QueueUnavailable`."""
        try:
            await bootstrap(self._consumer.start())
        except (KafkaError, OSError) as error:
            await stop_consumer(self._consumer)
            raise QueueUnavailable(
                f"The consumer group {self._group} cannot be joined: {type(error).__name__}."
            ) from error
        self._consumer.subscribe(
            [self._requests, self._journal], listener=_Listener(self._take_over, self._give_up)
        )

    @property
    def generation(self) -> int:
        """Which sharing out of the group this is; each is one more than the last."""
        return int(self._coordinator.generation)

    async def read(self) -> None:
        """Reads what is owned until cancelled. Raises `QueueUnavailable` where the membership ended."""
        while True:
            fetched = await self._fetch()
            # The journal first: an answer that is known keeps its request from being started again.
            for place, records in fetched.items():
                if place.topic == self._journal:
                    self._owner.read_journal(place.partition, records)
            for place, records in fetched.items():
                if place.topic == self._requests:
                    self._owner.read_requests(place.partition, records)
            self._hold_back()

    async def _fetch(self) -> Mapping[TopicPartition, Sequence[Record]]:
        if self._failure.done():
            self._failure.result()
        fetcher: Any = self._consumer._fetcher  # noqa: SLF001
        if fetcher.error_future.done():  # nobody in aiokafka looks whether it still runs
            raise QueueUnavailable("The consumer's own reader has ended.")
        try:
            fetched: Mapping[TopicPartition, Sequence[Record]] = await self._consumer.getmany(
                timeout_ms=READ_WAIT_MILLISECONDS, max_records=MAX_RECORDS_AT_ONCE
            )
        except KafkaError as error:
            raise QueueUnavailable(
                f"The request topic cannot be read as a member of {self._group}: {error!r}."
            ) from error
        return fetched

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commits for partitions that are owned. Raises `QueueUnavailable` where that is refused."""
        offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        for number, commit in commits.items():
            offsets[TopicPartition(self._requests, number)] = OffsetAndMetadata(
                commit.offset, commit.metadata
            )
            offsets[TopicPartition(self._journal, number)] = OffsetAndMetadata(commit.journal_offset, "")
        try:
            async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
                await self._consumer.commit(offsets)
        except CommitFailedError as error:
            lost = isinstance(error.__cause__, UnknownMemberIdError | IllegalGenerationError)
            kind = Expelled if lost else QueueUnavailable
            raise kind("The partitions belong to another replica, or are being shared out anew.") from error
        except (KafkaError, ValueError, TimeoutError) as error:
            raise QueueUnavailable(f"What is finished cannot be committed: {error!r}.") from error

    async def find_ends(self, partitions: Collection[int]) -> dict[int, Ends]:
        """Where the logs of partitions end, owned or not. Raises `QueueUnavailable`."""
        places = self._places(partitions)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
                ends = await self._consumer.end_offsets(places)
                begins = await self._consumer.beginning_offsets(
                    [TopicPartition(self._journal, number) for number in partitions]
                )
        except (KafkaError, TimeoutError) as error:
            raise QueueUnavailable(f"The ends of the logs cannot be found: {error!r}.") from error
        return {
            number: Ends(
                ends[TopicPartition(self._requests, number)],
                ends[TopicPartition(self._journal, number)],
                begins[TopicPartition(self._journal, number)],
            )
            for number in partitions
        }

    async def find_committed(self, partitions: Collection[int]) -> dict[int, Commit]:
        """What was last committed for partitions, owned or not. Raises `QueueUnavailable`."""
        places = self._places(partitions)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
                found = await self._coordinator.fetch_committed_offsets(places)
        except (KafkaError, TimeoutError) as error:
            raise QueueUnavailable(f"What is finished cannot be found: {error!r}.") from error
        nothing = OffsetAndMetadata(0, "")
        commits = {}
        for number in partitions:
            requests = found.get(TopicPartition(self._requests, number), nothing)
            journal = found.get(TopicPartition(self._journal, number), nothing)
            commits[number] = Commit(requests.offset, requests.metadata, journal.offset)
        return commits

    async def leave(self) -> None:
        """Hands the partitions back; the others have them within a heartbeat."""
        # aiokafka leaves only as a dynamic member; a static one would keep its partitions for a session.
        self._coordinator._group_instance_id = None  # noqa: SLF001
        await stop_consumer(self._consumer)

    @property
    def _coordinator(self) -> Any:
        # The only way to what aiokafka keeps to itself: the metadata of commits, and leaving the group.
        return self._consumer._coordinator  # noqa: SLF001

    def _places(self, partitions: Collection[int]) -> list[TopicPartition]:
        topics = (self._requests, self._journal)
        return [TopicPartition(topic, number) for number in partitions for topic in topics]

    async def _take_over(self, assigned: Collection[TopicPartition]) -> None:
        try:
            numbers = {place.partition for place in assigned if place.topic == self._requests}
            for number, (request, note) in (await self._owner.own(self, numbers)).items():
                self._consumer.seek(TopicPartition(self._requests, number), request)
                self._consumer.seek(TopicPartition(self._journal, number), note)
            self._holding_back = False  # whatever was paused is so no more
            self._hold_back()
        except Exception as error:  # noqa: BLE001 - nobody above would say it
            self._fail(error)

    async def _give_up(self) -> None:
        try:
            await self._owner.suspend(self)
        except Exception as error:  # noqa: BLE001 - nobody above would say it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            known = isinstance(error, QueueUnavailable)
            self._failure.set_exception(
                error if known else QueueUnavailable(f"The partitions could not be taken over: {error!r}.")
            )
            self._failure.exception()  # told to whoever reads, if anybody still does

    def _hold_back(self) -> None:
        if self._owner.is_full() is self._holding_back:
            return
        self._holding_back = not self._holding_back
        places = [place for place in self._consumer.assignment() if place.topic == self._requests]
        if self._holding_back:
            self._consumer.pause(*places)
        else:
            self._consumer.resume(*places)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells the owner of each sharing out."""

    def __init__(
        self,
        take_over: Callable[[Collection[TopicPartition]], Awaitable[None]],
        suspend: Callable[[], Awaitable[None]],
    ) -> None:
        self._take_over = take_over
        self._suspend = suspend

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Before the group is shared out anew."""
        if revoked:
            await self._suspend()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """After it was."""
        await self._take_over(assigned)
