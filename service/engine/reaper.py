"""Ends what time has ended: requests past their deadline, idempotency keys past their window."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from service.core.errors import QueueUnavailable
from service.core.ports import RequestMemory, RequestQueue
from service.core.records import Claim
from service.engine.phase import PhaseGate

EXPIRE_EVERY_SECONDS = 1.0
FORGET_EVERY_SECONDS = 60.0
MAX_EXPIRED_AT_ONCE = 500

_log = structlog.get_logger("service.reaper")


class Reaper:
    """Gives expired requests their callback although no place in the pool is free for them."""

    def __init__(
        self,
        *,
        queue: RequestQueue,
        memory: RequestMemory,
        process: Callable[[Claim], Coroutine[Any, Any, None]],
        gate: PhaseGate,
    ) -> None:
        self._queue = queue
        self._memory = memory
        self._process = process
        self._gate = gate

    async def run(self) -> None:
        """Reaps until cancelled, while requests may be worked on."""
        forget_at = time.monotonic()
        while True:
            await self._gate.wait_until_claiming()
            try:
                await self._expire()
                # A queue that could not be written is not ready and so gets no requests: try it here.
                if time.monotonic() >= forget_at or not self._queue.stats().usable:
                    await self._memory.forget_ended()
                    forget_at = time.monotonic() + FORGET_EVERY_SECONDS
            except QueueUnavailable as error:
                _log.critical("queue cannot be read, will be tried again", error=str(error))
            await asyncio.sleep(EXPIRE_EVERY_SECONDS)

    async def _expire(self) -> None:
        while claims := await self._memory.claim_expired(MAX_EXPIRED_AT_ONCE):
            async with asyncio.TaskGroup() as ending:
                for claim in claims:
                    ending.create_task(self._process(claim), name=f"expired-{claim.request.queue_id}")
