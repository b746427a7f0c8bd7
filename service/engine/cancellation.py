"""Ends requests that nobody wants any more: what waits at once, a call under way by closing it.

Whoever asks is told "cancelled" only when the callback that says so is durable. A request that reaches its
outcome first keeps it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import CallCutOff, QueueUnavailable, Refused
from service.core.ports import CancellableRequests
from service.core.records import Claim
from service.engine.phase import Phase, PhaseGate

CONFIRM_LIMIT_SECONDS = 10.0
"""So long whoever asks waits for the callback to be durable."""
ASK_AGAIN_SECONDS = 1

_log = structlog.get_logger("service.cancellation")


class Wishes:
    """Which requests are to be cancelled now, and the calls that are cut off for it."""

    def __init__(self) -> None:
        self._wanted: dict[str, bool] = {}
        """By queue id: whether it comes to be, once the request's outcome is durable."""
        self._calls: dict[str, asyncio.Task[object]] = {}
        self._cut_off: set[str] = set()

    def express(self, queue_id: str) -> None:
        """From here on no call is begun for this request, and one under way is cut off."""
        self._wanted[queue_id] = False
        call = self._calls.get(queue_id)
        if call is not None and queue_id not in self._cut_off:
            self._cut_off.add(queue_id)
            call.cancel()

    def withdraw(self, queue_id: str) -> bool:
        """The request's outcome is durable; returns whether it is what was wished."""
        return self._wanted.pop(queue_id)

    def wants(self, queue_id: str) -> bool:
        """Whether this request is to be cancelled."""
        return queue_id in self._wanted

    def grant(self, queue_id: str) -> None:
        """The request's outcome is that it was cancelled; it is about to be made durable."""
        if queue_id in self._wanted:
            self._wanted[queue_id] = True

    @contextmanager
    def interrupting(self, queue_id: str) -> Iterator[None]:
        """Around a call to a provider. Raises `CallCutOff` where the request is, or comes to be, unwanted."""
        if queue_id in self._wanted:
            raise CallCutOff(begun=False)
        task = asyncio.current_task()
        assert task is not None
        self._calls[queue_id] = task
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            del self._calls[queue_id]
            if queue_id in self._cut_off:
                self._cut_off.discard(queue_id)
                # Ours is taken back; where another one remains, the whole process is stopping.
                if task.uncancel() == 0 and cancelled:
                    raise CallCutOff(begun=True)


class Cancellation:
    """Cancels requests on their callers' word."""

    def __init__(
        self,
        *,
        gate: PhaseGate,
        queue: CancellableRequests,
        wishes: Wishes,
        end: Callable[[Claim], Awaitable[None]],
    ) -> None:
        self._gate = gate
        self._queue = queue
        self._wishes = wishes
        self._end = end
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Owns what is under way, which goes on although whoever asked has left. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.get_running_loop().create_future()

    async def cancel(self, queue_id: str, caller: str | None) -> None:
        """Returns once the request's callback says that it was cancelled, and that is durable.

        Raises `Refused`: 404 where nothing of this caller's is queued or under way by that id, 503 where it
        could not be confirmed in time.
        """
        if self._tasks is None or self._gate.current not in {Phase.READY, Phase.DRAINING}:
            raise _refuse("The service is starting or stopping", {"phase": self._gate.current.value})
        try:
            async with asyncio.timeout(CONFIRM_LIMIT_SECONDS):
                cancelled = await self.cancel_held(queue_id, caller) or await self._queue.cancel_elsewhere(
                    queue_id, caller
                )
        except TimeoutError as error:
            raise _refuse("The cancellation was not confirmed in time and may still come to be") from error
        except QueueUnavailable as error:
            raise _refuse("The durable queue cannot be written at the moment") from error
        if not cancelled:
            raise Refused(
                LLMErrorCode.NOT_FOUND,
                "Nothing is queued or under way by this id: it was not accepted here, or has its callback.",
            )

    async def cancel_held(self, queue_id: str, caller: str | None) -> bool:
        """Cancels a request that this process holds; False where it holds none, or it was answered first."""
        if self._tasks is None or not self._queue.holds(queue_id, caller):
            return False  # also where it is another caller's, whom it is being cancelled for just now
        under_way = self._under_way.get(queue_id)
        if under_way is None:
            under_way = self._tasks.create_task(self._cancel(queue_id), name=f"cancel-{queue_id}")
            self._under_way[queue_id] = under_way
        return await asyncio.shield(under_way)

    async def _cancel(self, queue_id: str) -> bool:
        self._wishes.express(queue_id)
        try:
            # What is being worked on is ended by whoever works on it; then there is nothing left to claim.
            claim = await self._queue.claim_cancelled(queue_id)
            if claim is not None:
                await self._end(claim)
        except QueueUnavailable as error:
            _log.error("request cannot be cancelled", request_id=queue_id, error=str(error))
            self._wishes.withdraw(queue_id)
            return False
        finally:
            del self._under_way[queue_id]
        return self._wishes.withdraw(queue_id)


def _refuse(reason: str, details: dict[str, str] | None = None) -> Refused:
    return Refused(
        LLMErrorCode.INTERNAL_ERROR,
        f"{reason}; ask again.",
        details=details,
        retry_after_seconds=ASK_AGAIN_SECONDS,
    )
