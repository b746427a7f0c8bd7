"""An accepted request whose callback has not been read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any
from uuid import UUID

from llmctl.client.awaiting import TopicWatch, Waiter
from llmctl.client.positions import Position
from llmctl.client.problems import CallbackUnreadable, ComparisonFailed, TimedOut
from service.contracts.events import LLMComparisonResultV1


class Pending:
    """Its callback is taken note of for as long as this object is held; then it is passed over.

    It can be awaited any number of times and by several tasks, also after a limit has passed.
    """

    def __init__(
        self,
        queue_id: str,
        watch: TopicWatch,
        waiter: Waiter,
        *,
        correlation_id: UUID | None,
        idempotency_key: str | None,
        position: Position,
        timeout_seconds: float,
    ) -> None:
        self.queue_id = queue_id
        """Names the request; kept with `position` it finds the callback in another process."""
        self.correlation_id = correlation_id
        """The key of the callback's record; None where the request was not handed in through this client."""
        self.idempotency_key = idempotency_key
        """What it was handed in under; None where the request was not handed in through this client."""
        self.position = position
        """The callback stands behind it."""
        self._watch = watch
        self._waiter = waiter
        self._timeout_seconds = timeout_seconds

    @property
    def callback_topic(self) -> str:
        """Where the callback comes."""
        return self._watch.topic

    async def result(self, timeout_seconds: float | None = None) -> LLMComparisonResultV1:
        """The answer; ComparisonFailed where it is an error, TimedOut where it does not come in time."""
        limit_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        return await self.result_until(asyncio.get_running_loop().time() + limit_seconds, limit_seconds)

    async def result_until(self, deadline: float, limit_seconds: float) -> LLMComparisonResultV1:
        """The same with the end of the limit on the event loop's clock, where it began before this call."""
        try:
            async with asyncio.timeout_at(deadline):
                arrival = await self._waiter.wait()
        except TimeoutError as passed:
            raise self._explain(limit_seconds) from passed
        record = arrival.parsed
        if record.envelope is None:
            raise CallbackUnreadable(
                f"The callback of {self.queue_id} is no valid envelope ({arrival}): {record.problem}."
            )
        result = record.envelope.data
        if result.error_detail is not None:
            raise ComparisonFailed(result.error_detail, result)
        return result

    def __await__(self) -> Generator[Any, None, LLMComparisonResultV1]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return f"<Pending {self.queue_id} on {self.callback_topic}>"

    def _explain(self, limit_seconds: float) -> TimedOut:
        loss = f" Meanwhile {self._watch.gap}" if self._watch.gap else ""
        return TimedOut(
            f"No callback of {self.queue_id} came on {self.callback_topic} in {limit_seconds:g} s; the "
            "service goes on with it, and its callback can be awaited again or read later from this error's "
            f"position.{loss}",
            queue_id=self.queue_id,
            position=self.position,
            idempotency_key=self.idempotency_key,
        )
