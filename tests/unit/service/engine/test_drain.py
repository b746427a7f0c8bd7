"""A drain that an operator orders, over stand-ins for what it looks at."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from service.engine.drain import DrainController, DrainState
from service.engine.phase import Phase, PhaseGate
from service.telemetry.clock import SystemClock
from tests.waiting import HANG_SECONDS, until


@pytest.mark.parametrize("until_empty", [True, False])
async def test_drain_until_empty_waits_for_an_unsettled_queue(until_empty: bool) -> None:
    stats = SimpleNamespace(waiting=0, claimed=0, settled=False)
    pool: Any = Mock(finished=0, in_flight_count=Mock(return_value=0))
    nothing: Any = Mock(depth=Mock(return_value=0))
    queue: Any = Mock(stats=Mock(return_value=stats))
    gate = PhaseGate()
    gate.advance(Phase.READY)
    drain = DrainController(gate=gate, pool=pool, queue=queue, outbox=nothing, clock=SystemClock())
    running = asyncio.create_task(drain.run())

    drain.start(HANG_SECONDS, until_empty=until_empty)
    if until_empty:
        await until(lambda: queue.stats.call_count >= 3, what="looks at the queue")
        assert drain.report().state is DrainState.RUNNING
        stats.settled = True

    await until(lambda: drain.report().state is DrainState.DONE, what="the end of the drain")
    running.cancel()
    await asyncio.wait([running])
