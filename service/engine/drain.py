"""Finishes what was started, before a deploy."""

import asyncio
import time
from datetime import timedelta
from typing import Protocol

import structlog

from service.core.ports import Outbox

POLL_SECONDS = 0.05
REPORT_EVERY_SECONDS = 1.0
FLUSH_STALL_SECONDS = 5.0
"""An outbox that does not shrink for this long is left to the next start: its broker is away."""

_log = structlog.get_logger("service.drain")


class QueueProcessorProtocol(Protocol):
    """What drains: it stops taking work and tells what is left of the work it has begun."""

    async def stop_accepting_requests(self) -> None:
        """Takes no new work from here on."""
        ...

    def has_in_flight_requests(self) -> bool:
        """Whether any started call is not finished."""
        ...

    def in_flight_count(self) -> int:
        """How many started calls are not finished."""
        ...


async def drain_in_flight_requests(processor: QueueProcessorProtocol, timeout_minutes: float = 5) -> bool:
    """Gracefully drains in-flight requests before shutdown.

    Returns whether all of them finished within the limit. What is queued and not started stays queued.
    """
    _log.info("Starting graceful shutdown - draining in-flight requests")
    await processor.stop_accepting_requests()
    deadline = time.monotonic() + timedelta(minutes=timeout_minutes).total_seconds()
    next_report = time.monotonic() + REPORT_EVERY_SECONDS
    while processor.has_in_flight_requests():
        now = time.monotonic()
        if now >= deadline:
            _log.warning(f"Timeout reached with {processor.in_flight_count()} requests still in flight")
            return False
        if now >= next_report:
            _log.info(f"Waiting for {processor.in_flight_count()} in-flight requests")
            next_report = now + REPORT_EVERY_SECONDS
        await asyncio.sleep(POLL_SECONDS)
    _log.info("Graceful shutdown completed")
    return True


async def flush_outbox(outbox: Outbox, timeout_seconds: float) -> bool:
    """Waits until the broker has every callback, as long as it takes any; returns whether it has them all."""
    deadline = time.monotonic() + timeout_seconds
    least, stalled_at = outbox.depth(), time.monotonic() + FLUSH_STALL_SECONDS
    while (depth := outbox.depth()) > 0:
        now = time.monotonic()
        if depth < least:
            least, stalled_at = depth, now + FLUSH_STALL_SECONDS
        if now >= min(deadline, stalled_at):
            _log.warning("callbacks left in the outbox for the next start", outbox=depth)
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
