"""A vendor's slots: first come, first served, slower when full, and no more than fit."""

import asyncio

from simulator.provider.capacity import Capacity, Slots
from simulator.provider.faults import find_fault
from tests.waiting import HANG_SECONDS

TWO = Capacity(slots=2, queue=1, overflow=find_fault("http_429"), slowdown_when_full=3.0)


async def test_it_slows_as_it_fills_and_overflows() -> None:
    """Half the slots in use cost half of the slowdown; the fourth call does not fit."""
    slots = Slots()
    assert await slots.enter(TWO) == 2.0
    assert await slots.enter(TWO) == 3.0
    assert not slots.is_full(TWO)
    waiting = asyncio.create_task(slots.enter(TWO))
    await asyncio.sleep(0)
    assert slots.is_full(TWO)
    slots.leave(TWO)
    assert await asyncio.wait_for(waiting, HANG_SECONDS) == 3.0
    assert not slots.is_full(TWO)


async def test_a_cancelled_wait_keeps_no_slot() -> None:
    """Neither a call that still waits nor one that was just given its slot."""
    slots = Slots()
    one = Capacity(slots=1, queue=9, overflow=find_fault("http_429"))
    await slots.enter(one)
    early, chosen, last = (asyncio.create_task(slots.enter(one)) for _ in range(3))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.wait({early}, timeout=HANG_SECONDS)
    slots.leave(one)
    chosen.cancel()
    await asyncio.wait({chosen}, timeout=HANG_SECONDS)
    assert await asyncio.wait_for(last, HANG_SECONDS) == 1.0
    slots.leave(one)
    assert await asyncio.wait_for(slots.enter(one), HANG_SECONDS) == 1.0
