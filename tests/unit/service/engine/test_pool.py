"""The requests in flight: bounded, claimed only while ready, finished on drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.core.records import Claim
from service.engine.drain import drain_in_flight_requests, flush_outbox
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool
from service.queues.memory import MemoryQueue


class Workshop:
    """Claims that are worked on until the test lets them go."""

    def __init__(self, concurrency: int) -> None:
        self.queue = MemoryQueue()
        self.gate = PhaseGate()
        self.started: list[Claim] = []
        self.release = asyncio.Event()
        self.pool = Pool(queue=self.queue, process=self.process, gate=self.gate, concurrency=concurrency)

    async def process(self, claim: Claim) -> None:
        """Works until released."""
        self.started.append(claim)
        await self.release.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The pool at work."""
        task = asyncio.create_task(self.pool.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_no_more_than_the_limit_is_in_flight(make_request: Any, wait_until: Any) -> None:
    """Ten requests, a limit of three: three in flight, and all ten in the end."""
    shop = Workshop(concurrency=3)
    for _ in range(10):
        await shop.queue.put(make_request())
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await wait_until(lambda: len(shop.started) >= 3)
        assert shop.pool.in_flight_count() == 3
        shop.release.set()
        await wait_until(lambda: shop.pool.finished == 10)

    assert len(shop.started) == 10
    assert not shop.pool.has_in_flight_requests()


async def test_nothing_is_claimed_before_the_service_is_ready(make_request: Any, wait_until: Any) -> None:
    """A starting service leaves its queue alone."""
    shop = Workshop(concurrency=3)
    await shop.queue.put(make_request())

    async with shop.running():
        await asyncio.sleep(0)
        assert shop.queue.stats().claimed == 0
        shop.gate.advance(Phase.READY)
        await wait_until(lambda: shop.started)


async def test_drain_finishes_what_is_in_flight_and_claims_nothing_more(
    make_request: Any, wait_until: Any
) -> None:
    """A drain waits for started work and leaves what arrives meanwhile in the queue."""
    shop = Workshop(concurrency=3)
    await shop.queue.put(make_request())
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await wait_until(lambda: shop.started)
        draining = asyncio.create_task(drain_in_flight_requests(shop.pool, timeout_minutes=1))
        await wait_until(lambda: shop.gate.current is Phase.DRAINING)
        await shop.queue.put(make_request())
        assert not draining.done()
        shop.release.set()
        assert await asyncio.wait_for(draining, 5)

    assert (len(shop.started), shop.queue.stats().waiting) == (1, 1)


async def test_drain_gives_up_at_its_limit(make_request: Any, wait_until: Any) -> None:
    """A call that does not end in time is reported, not waited for."""
    shop = Workshop(concurrency=1)
    await shop.queue.put(make_request())
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await wait_until(lambda: shop.started)
        assert not await drain_in_flight_requests(shop.pool, timeout_minutes=0.001)
        assert shop.pool.in_flight_count() == 1


async def test_resumed_service_claims_again(make_request: Any, wait_until: Any) -> None:
    """After a drain that is taken back, the queue is worked on again."""
    shop = Workshop(concurrency=1)
    shop.gate.advance(Phase.READY)

    async with shop.running():
        assert await drain_in_flight_requests(shop.pool, timeout_minutes=1)
        await shop.queue.put(make_request())
        shop.gate.advance(Phase.READY)
        await wait_until(lambda: shop.started)


async def test_empty_outbox_is_flushed_at_once() -> None:
    """Nothing to hand over takes no time."""
    assert await asyncio.wait_for(flush_outbox(MemoryQueue().outbox, timeout_seconds=60), 1)


@pytest.mark.parametrize(
    ("first", "then"),
    [(Phase.STOPPED, Phase.READY), (Phase.READY, Phase.STARTING), (Phase.STOPPED, Phase.DRAINING)],
)
def test_phase_never_steps_back(first: Phase, then: Phase) -> None:
    """A stopped service stays stopped."""
    gate = PhaseGate()
    gate.advance(first)

    with pytest.raises(ValueError, match="no way from"):
        gate.advance(then)
