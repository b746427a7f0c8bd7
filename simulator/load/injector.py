"""Makes the faults of a run happen when they are due, and notes when they really did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import httpx

from simulator.broker.control import BrokerControl
from simulator.broker.errors import ControlError
from simulator.load.faults import PlannedFault
from simulator.load.run_document import FaultMark
from simulator.stack import Stack, StackError

ANSWER_LIMIT_SECONDS = 10.0
OVERLOADED_SHARE = "60%"


@dataclass(frozen=True)
class Targets:
    """Whom faults can be done to; None where that part is not ours."""

    broker: BrokerControl | None = None
    provider_url: str | None = None
    """The root of the fake provider."""
    stack: Stack | None = None


def find_untouchable(faults: Sequence[PlannedFault], targets: Targets) -> str | None:
    """Says in a sentence which fault cannot be injected here, None where all can."""
    reachable = {
        "broker": (targets.broker is not None, "that needs the embedded broker on this machine"),
        "provider": (targets.provider_url is not None, "that needs the fake provider of a stack of our own"),
        "service": (targets.stack is not None, "only a service that the run has started itself is touched"),
    }
    for fault in faults:
        possible, why = reachable[fault.part]
        if not possible:
            return f"The fault {fault.text!r} cannot be injected: {why}; leave it out, or leave out --url."
    return None


class FaultInjector:
    """Follows the timeline of a run. Every fault is taken back, however the run ends."""

    def __init__(self, faults: Sequence[PlannedFault], targets: Targets) -> None:
        self._faults = faults
        self._targets = targets
        self._marks: list[FaultMark] = []
        self._begin = 0.0

    @property
    def marks(self) -> tuple[FaultMark, ...]:
        """What has been injected so far, in the order of its end."""
        return tuple(self._marks)

    async def run(self, begin: float) -> None:
        """Injects every fault; `begin` is the CLOCK_MONOTONIC moment of the run's second 0."""
        self._begin = begin
        async with asyncio.TaskGroup() as tasks:
            for fault in self._faults:
                tasks.create_task(self._inject(fault), name=f"fault {fault.text}")

    async def _inject(self, fault: PlannedFault) -> None:
        await asyncio.sleep(max(0.0, self._begin + fault.at_seconds - time.monotonic()))
        began = time.monotonic() - self._begin
        problem: str | None = None
        try:
            await self._act(fault)
        except (ControlError, StackError, httpx.HTTPError) as error:
            problem = str(error) or type(error).__name__
        ended = None if fault.seconds is None else time.monotonic() - self._begin
        self._marks.append(FaultMark(fault=fault.text, begins=began, ends=ended, problem=problem))

    async def _act(self, fault: PlannedFault) -> None:
        seconds = fault.seconds or 0.0
        broker, stack = self._targets.broker, self._targets.stack
        match fault.part, fault.kind:
            case "broker", "down":
                assert broker is not None
                await broker.down()
                await _hold(seconds, broker.up())
            case "broker", "slow":
                assert broker is not None
                await broker.slow(round((fault.delay_seconds or 0.0) * 1000))
                await _hold(seconds, broker.slow(0))
            case "broker", "cut":
                assert broker is not None
                await broker.cut()
            case "broker", "lose-acks":
                assert broker is not None
                await broker.lose_answers(seconds)
                await asyncio.sleep(seconds)
            case "provider", "outage":
                await self._set_provider({"outage": "reset"})
                await _hold(seconds, self._set_provider({"outage": None}))
            case "provider", "overloaded":
                await self._set_provider({"faults": {"overloaded": OVERLOADED_SHARE}})
                await _hold(seconds, self._set_provider({"faults": {"overloaded": None}}))
            case "service", "stall":
                assert stack is not None
                await stack.stall_service(seconds)
            case "service", "kill":
                assert stack is not None
                await stack.kill_service()
            case _:
                raise AssertionError(f"a fault that can be written can be injected: {fault.text}")

    async def _set_provider(self, changes: dict[str, object]) -> None:
        assert self._targets.provider_url is not None
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_LIMIT_SECONDS) as client:
            answer = await client.patch(f"{self._targets.provider_url}/_sim/scenario", json=changes)
            answer.raise_for_status()


async def _hold(seconds: float, end: Awaitable[object]) -> None:
    """Waits and then ends a fault; also where the run is over before."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await end
