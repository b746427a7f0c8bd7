"""Requests that are taken back: whose they are is asked first."""

import asyncio
from typing import Any

from service.engine.cancellation import Cancellation, Wishes
from service.engine.phase import PhaseGate
from service.queues.memory import MemoryQueue
from tests.waiting import HANG_SECONDS


async def test_another_caller_cannot_wait_for_a_cancellation(make_request: Any) -> None:
    queue = MemoryQueue()
    request = make_request()
    await queue.put(request.model_copy(update={"caller": "red"}))
    await queue.claim(1)  # so the cancellation waits for whoever works on it
    cancellation = Cancellation(
        gate=PhaseGate(), queue=queue, wishes=Wishes(), end=lambda _: asyncio.sleep(0)
    )
    running = asyncio.ensure_future(cancellation.run())
    await asyncio.sleep(0)
    owners = asyncio.ensure_future(cancellation.cancel_held(request.queue_id, "red"))
    await asyncio.sleep(0)

    async with asyncio.timeout(HANG_SECONDS):
        others = await cancellation.cancel_held(request.queue_id, "blue")

    assert (others, owners.done()) == (False, False)
    owners.cancel()
    running.cancel()
