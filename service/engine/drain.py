"""Finishes what was started, before a deploy."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from service.core.ports import Clock, Outbox, RequestQueue
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool

POLL_SECONDS = 0.05
REPORT_EVERY_SECONDS = 1.0
FLUSH_STALL_SECONDS = 5.0
"""What does not shrink for this long is left to the next start: its broker is away."""

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
    deadline = time.monotonic() + timeout_minutes * 60
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


class Pending(Protocol):
    """Events that wait for the broker."""

    def depth(self) -> int:
        """How many there are."""
        ...


async def flush(pending: Pending, what: str, timeout_seconds: float) -> bool:
    """Waits until the broker has every event, as long as it takes any; returns whether it has them all.

    `what` they are, in a word, for the log.
    """
    deadline = time.monotonic() + timeout_seconds
    least, stalled_at = pending.depth(), time.monotonic() + FLUSH_STALL_SECONDS
    while (depth := pending.depth()) > 0:
        now = time.monotonic()
        if depth < least:
            least, stalled_at = depth, now + FLUSH_STALL_SECONDS
        if now >= min(deadline, stalled_at):
            _log.warning(f"{what} left in the queue for the next start", count=depth)
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


class DrainState(StrEnum):
    """How the last drain that an operator asked for stands."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What `GET /admin/v1/drain` tells."""

    phase: Phase
    state: DrainState
    started_at: datetime | None
    deadline: datetime | None
    timeout_seconds: float | None
    in_flight: int
    outbox: int
    queued: int
    finished: int
    """Requests that reached their outcome since the drain began."""


class DrainController:
    """Drains on an operator's word, and takes it back; the process stays up."""

    def __init__(
        self, *, gate: PhaseGate, pool: Pool, queue: RequestQueue, outbox: Outbox, clock: Clock
    ) -> None:
        self._gate = gate
        self._pool = pool
        self._queue = queue
        self._outbox = outbox
        self._clock = clock
        self._state = DrainState.NONE
        self._started_at: datetime | None = None
        self._timeout_seconds: float | None = None
        self._until_empty = False
        self._finished_before = 0
        self._ordered = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Carries out drains until cancelled."""
        async with asyncio.TaskGroup() as drains:
            while True:
                await self._ordered.wait()
                self._ordered.clear()
                self._waiting = drains.create_task(self._drain(), name="drain")

    def start(self, timeout_seconds: float, *, until_empty: bool) -> None:
        """Closes the door and begins to drain; a drain under way gets the new limit."""
        self._gate.advance(Phase.DRAINING, until_empty=until_empty)
        self._stop_waiting()
        self._state = DrainState.RUNNING
        self._started_at = self._clock.now()
        self._timeout_seconds = timeout_seconds
        self._until_empty = until_empty
        self._finished_before = self._pool.finished
        self._ordered.set()
        _log.info("drain ordered by an operator", timeout_seconds=timeout_seconds, until_empty=until_empty)

    def resume(self) -> None:
        """Takes a drain back: requests are accepted and claimed again."""
        self._gate.advance(Phase.READY)
        self._ordered.clear()
        self._stop_waiting()
        self._state = DrainState.NONE
        self._started_at = self._timeout_seconds = None
        _log.info("drain taken back by an operator, requests are accepted again")

    def report(self) -> DrainReport:
        """How the drain stands."""
        limit = self._timeout_seconds
        started_at = self._started_at
        deadline = None if limit is None or started_at is None else started_at + timedelta(seconds=limit)
        return DrainReport(
            phase=self._gate.current,
            state=self._state,
            started_at=started_at,
            deadline=deadline,
            timeout_seconds=limit,
            in_flight=self._pool.in_flight_count(),
            outbox=self._outbox.depth(),
            queued=self._count_queued(),
            finished=0 if started_at is None else self._pool.finished - self._finished_before,
        )

    # What `drain_in_flight_requests` asks: here a callback that the broker has not taken is work begun, too.

    async def stop_accepting_requests(self) -> None:
        """The door was closed when the drain was ordered."""

    def has_in_flight_requests(self) -> bool:
        """Whether the service is not drained yet."""
        return self.in_flight_count() > 0 or (self._until_empty and not self._queue.stats().settled)

    def in_flight_count(self) -> int:
        """What is left: started calls, unacknowledged callbacks and, until empty, the queue."""
        left = self._pool.in_flight_count() + self._outbox.depth()
        return left + (self._count_queued() if self._until_empty else 0)

    async def _drain(self) -> None:
        limit = self._timeout_seconds or 0.0
        done = await drain_in_flight_requests(self, timeout_minutes=limit / 60)
        self._state = DrainState.DONE if done else DrainState.TIMED_OUT
        _log.info("drain ended", state=self._state.value, queued=self._count_queued())

    def _count_queued(self) -> int:
        stats = self._queue.stats()
        return stats.waiting + max(0, stats.claimed - self._pool.in_flight_count())

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
