"""A pause lasts as long as it says, unless the server stops."""

import asyncio

from simulator.provider.pauses import Pauses
from tests.waiting import HANG_SECONDS


async def test_a_pause_takes_its_time() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await Pauses().pause(0.02)
    assert loop.time() - before >= 0.019


async def test_the_end_wakes_all_and_lets_nobody_wait_again() -> None:
    pauses = Pauses()
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(pauses.pause(3600))
        await asyncio.sleep(0)
        assert pauses.under_way == 3
        pauses.end()
    async with asyncio.timeout(HANG_SECONDS):
        await pauses.pause(3600)
    assert pauses.under_way == 0


async def test_a_cancelled_pause_is_forgotten() -> None:
    pauses = Pauses()
    task = asyncio.create_task(pauses.pause(3600))
    await asyncio.sleep(0)
    assert pauses.under_way == 1
    task.cancel()
    await asyncio.wait({task}, timeout=HANG_SECONDS)
    assert task.cancelled()
    assert pauses.under_way == 0
