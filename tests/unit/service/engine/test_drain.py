"""A drain that an operator orders, over stand-ins for what it looks at."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from service.engine.drain import DrainController, DrainState
from service.engine.phase import Phase, PhaseGate
from service.telemetry.clock import SystemClock
from tests.waiting import until


@pytest.mark.parametrize("until_empty", [True, False])
async def test_a_queue_of_which_nothing_is_known_yet_is_not_empty(until_empty: bool) -> None:
    """Nor is a drain that leaves what is queued held up by it."""
    stats = SimpleNamespace(waiting=0, claimed=0, settled=False)
    pool: Any = Mock(finished=0)
    pool.in_flight_count.return_value = 0
    nothing: Any = Mock()
    nothing.depth.return_value = 0
    queue: Any = Mock()
    queue.stats.return_value = stats
    gate = PhaseGate()
    gate.advance(Phase.READY)
    drain = DrainController(gate=gate, pool=pool, queue=queue, outbox=nothing, clock=SystemClock())
    running = asyncio.create_task(drain.run())

    drain.start(60.0, until_empty=until_empty)
    if until_empty:
        await until(lambda: queue.stats.call_count >= 3, what="looks at the queue")
        assert drain.report().state is DrainState.RUNNING
        stats.settled = True

    await until(lambda: drain.report().state is DrainState.DONE, what="the end of the drain")
    running.cancel()
    await asyncio.wait([running])
