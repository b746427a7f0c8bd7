"""A closed door is knocked at by one at a time, when it was asked for, and not for ever."""

import asyncio
import time

from llmctl.client.patience import Patience
from tests.waiting import HANG_SECONDS

PAUSE_SECONDS = 0.02


async def test_an_open_door_keeps_nobody() -> None:
    """All go at once as long as nothing was refused."""
    patience = Patience(1.0)
    async with asyncio.timeout(HANG_SECONDS), patience.turn(), patience.turn():
        pass


async def test_one_knocks_while_the_others_wait() -> None:
    """Of five senders each attempt is alone, and none is made before the pause is over."""
    patience = Patience(60.0)
    refusals, inside, most = 3, 0, 0
    at: list[float] = []
    began = time.monotonic()
    patience.bear("full", PAUSE_SECONDS, began)

    async def send() -> None:
        nonlocal refusals, inside, most
        while True:
            async with patience.turn():
                inside += 1
                most = max(most, inside)
                at.append(time.monotonic())
                await asyncio.sleep(0)
                inside -= 1
                if not refusals:
                    patience.open()
                    return
                refusals -= 1
                assert patience.bear("full", PAUSE_SECONDS, time.monotonic())

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(send())
    assert (most, len(at)) == (1, 8)
    assert all(at[number] - began >= (number + 1) * PAUSE_SECONDS for number in range(4))
    async with asyncio.timeout(HANG_SECONDS), patience.turn(), patience.turn():
        pass  # and the door is open again


def test_the_limit_counts_from_when_the_door_closed() -> None:
    """What was taken in between begins it anew; an answer that may be lost is asked for a little longer."""
    patience = Patience(1000.0)
    now = time.monotonic()
    assert patience.bear("full", 100.0, now - 850)
    assert not patience.bear("full", 200.0, now)  # 850 s have passed, and 200 more are beyond the limit
    patience = Patience(1000.0)
    assert patience.bear("full", 100.0, now - 850)
    patience.open()
    assert patience.bear("full", 200.0, now)
    assert not Patience(0.0).bear("full", 0.0, now - 1)
    assert Patience(0.0).bear("away", 1.0, now, at_least_seconds=100.0)


def test_it_says_why_nothing_goes_on_and_when_it_does() -> None:
    """Once each time."""
    told: list[str | None] = []
    patience = Patience(10.0, told.append)
    patience.open()
    patience.bear("full", 1.0, time.monotonic())
    patience.open()
    patience.open()
    assert told == ["full", None]
