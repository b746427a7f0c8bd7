"""Keeps up to `concurrency` requests in flight: claims while the service is ready, owns every call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.core.errors import QueueUnavailable
from service.core.ports import RequestQueue
from service.core.records import Claim
from service.engine.guards import Guards
from service.engine.phase import Phase, PhaseGate

CLAIM_AGAIN_SECONDS = 1.0
MAX_CLAIMS_AT_ONCE = 256

_log = structlog.get_logger("service.pool")


class Pool:
    """The requests in flight. `run` is cancelled only when nothing in flight need be finished any more."""

    def __init__(
        self,
        *,
        queue: RequestQueue,
        process: Callable[[Claim], Awaitable[None]],
        gate: PhaseGate,
        guards: Guards,
        concurrency: int,
    ) -> None:
        self._queue = queue
        self._process = process
        self._gate = gate
        self._guards = guards
        self._concurrency = concurrency
        self._in_flight = 0
        self._finished = 0
        self._slot_free = asyncio.Event()

    @property
    def finished(self) -> int:
        """How many claims have been worked off since the start."""
        return self._finished

    def in_flight_count(self) -> int:
        """How many claims are being worked on."""
        return self._in_flight

    def has_in_flight_requests(self) -> bool:
        """Whether any claim is being worked on."""
        return self._in_flight > 0

    async def stop_accepting_requests(self) -> None:
        """Closes the door of the service: intake refuses and nothing new is claimed."""
        self._gate.advance(Phase.DRAINING)

    async def run(self) -> None:
        """Claims and processes until cancelled."""
        async with asyncio.TaskGroup() as calls:
            while True:
                await self._gate.wait_until_claiming()
                while self._in_flight >= self._concurrency:
                    self._slot_free.clear()
                    await self._slot_free.wait()
                postponed = []
                for claim in await self._claim():
                    if not (self._gate.claiming and self._guards.confirm(claim.sequence)):
                        postponed.append(claim)
                        continue
                    self._in_flight += 1
                    calls.create_task(self._work(claim), name=f"request-{claim.request.queue_id}")
                if postponed:
                    await self._give_back(postponed)

    async def _claim(self) -> Sequence[Claim]:
        """Claims what providers may be asked now, until a drain begins.

        A claim takes as long as its attempt takes to become durable. A drain may have begun meanwhile, and a
        provider may have refused a call that was under way: whoever calls looks once more.
        """
        limit = min(self._concurrency - self._in_flight, MAX_CLAIMS_AT_ONCE)
        granted: set[int] = set()

        def admit(sequence: int, provider: str | None, model: str | None, tokens: int) -> bool:
            if not self._guards.admit(sequence, provider, model, tokens):
                return False
            granted.add(sequence)
            return True

        claims: Sequence[Claim] = ()
        claiming = asyncio.ensure_future(self._queue.claim(limit, admit))
        draining = asyncio.ensure_future(self._gate.wait_until_claiming(False))
        try:
            await asyncio.wait((claiming, draining), return_when=asyncio.FIRST_COMPLETED)
            if claiming.done():
                claims = claiming.result()
        except QueueUnavailable as error:
            _log.critical("queue cannot be read, will be tried again", error=str(error))
            await asyncio.sleep(CLAIM_AGAIN_SECONDS)
        finally:
            draining.cancel()
            if not claiming.done():
                claiming.cancel()
            for sequence in granted.difference(claim.sequence for claim in claims):
                self._guards.release(sequence)
        return claims

    async def _give_back(self, claims: Sequence[Claim]) -> None:
        """In the order in which they were claimed, and in one commit."""
        for claim in claims:
            self._guards.release(claim.sequence)
        await asyncio.gather(*(self._unclaim(claim) for claim in reversed(claims)))

    async def _unclaim(self, claim: Claim) -> None:
        while True:
            try:
                await self._queue.unclaim(claim)
            except QueueUnavailable as error:
                _log.critical("claim cannot be given back, will be tried again", error=str(error))
                await asyncio.sleep(CLAIM_AGAIN_SECONDS)
            else:
                return

    async def _work(self, claim: Claim) -> None:
        try:
            await self._process(claim)
        finally:
            self._guards.release(claim.sequence)
            self._in_flight -= 1
            self._finished += 1
            self._slot_free.set()
