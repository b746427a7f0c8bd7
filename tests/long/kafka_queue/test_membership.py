"""When a replica goes over from member of the group to none, while a drain is under way."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock, Mock

from service.queues.kafka.group import Commit, Ends
from service.queues.kafka.holdings import Holdings
from service.queues.kafka.membership import Membership
from tests.waiting import HANG_SECONDS

PARTITIONS = 2


class Sharing:
    """A group that shares out when the test says so."""

    generation = 1

    def __init__(self) -> None:
        self.joined = asyncio.Event()
        self.left = asyncio.Event()
        self.reading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.commit = AsyncMock()

    async def join(self) -> None:
        """Joins."""
        self.joined.set()

    async def read(self) -> None:
        """Reads until the end of the membership."""
        await self.reading

    async def leave(self) -> None:
        """Leaves."""
        self.left.set()

    async def find_committed(self, partitions: Collection[int]) -> dict[int, Commit]:
        """Nothing was committed."""
        return {number: Commit(0, "", 0) for number in partitions}

    async def find_ends(self, partitions: Collection[int]) -> dict[int, Ends]:
        """The topics are empty."""
        return {number: Ends(0, 0, 0) for number in partitions}


@asynccontextmanager
async def draining_member(sharing: Sharing) -> AsyncIterator[Membership]:
    """A member that is told to drain as soon as it has joined."""
    outbox: Any = AsyncMock()
    outbox.drop = Mock()
    outbox.changed = asyncio.Event()
    recorder: Any = AsyncMock()
    recorder.taken_over = Mock()
    membership = Membership(
        name="requests",
        partition_count=lambda: PARTITIONS,
        open_group=lambda _: sharing,  # type: ignore[arg-type,return-value]
        holdings=Holdings(Mock(), outbox, Mock()),
        outbox=outbox,
        recorder=recorder,
        lend_seconds=60.0,
        session_seconds=60.0,
    )
    is_claiming = iter((True,))

    async def wait_until_claiming(claiming: bool = True) -> None:
        if claiming and not next(is_claiming, False):
            await asyncio.Event().wait()

    running = asyncio.create_task(membership.run(wait_until_claiming))
    await sharing.joined.wait()
    yield membership
    running.cancel()
    await asyncio.wait([running])


async def test_who_drains_waits_for_a_share_before_it_goes_or_stays() -> None:
    """Before that it does not know whether others are there; with all partitions it is alone and stays."""
    sharing = Sharing()
    async with draining_member(sharing) as membership:
        for _ in range(10):
            await asyncio.sleep(0)
        assert not sharing.left.is_set()
        assert not membership.is_sharing

        await membership.own(sharing, range(PARTITIONS))  # type: ignore[arg-type]
        for _ in range(10):
            await asyncio.sleep(0)
        assert membership.is_sharing
        assert not sharing.left.is_set()


async def test_who_drains_beside_others_hands_over() -> None:
    """With a part of the partitions there is somebody to hand them to."""
    sharing = Sharing()
    async with draining_member(sharing) as membership, asyncio.timeout(HANG_SECONDS):
        await membership.own(sharing, [0])  # type: ignore[arg-type]
        await sharing.left.wait()
        assert not membership.is_sharing
