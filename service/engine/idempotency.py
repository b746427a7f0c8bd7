"""The same key with the same body is the same request: one queue id, one callback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.ports import RequestMemory
from service.core.records import Receipt, Submission


def require_same_body(receipt: Receipt, submission: Submission) -> None:
    """Raises `Refused` with `IDEMPOTENCY_CONFLICT` where a key was used with another body."""
    if receipt.body_digest != submission.body_digest:
        raise Refused(
            LLMErrorCode.IDEMPOTENCY_CONFLICT,
            "This Idempotency-Key was used with another body; take a new key for a new request.",
            details={"queue_id": receipt.queue_id},
        )


class Idempotency:
    """Lets one submission a key through at a time, and remembers what came of it."""

    def __init__(self, memory: RequestMemory) -> None:
        self._memory = memory
        self._under_way: dict[tuple[str | None, str], asyncio.Event] = {}

    @asynccontextmanager
    async def hold(self, submission: Submission) -> AsyncIterator[Receipt | None]:
        """Gives the receipt of an earlier submission with the same key and body, or None where it is new.

        Raises `Refused` with `IDEMPOTENCY_CONFLICT` where the body is another one.
        """
        key = submission.idempotency_key
        if key is None:
            yield None
            return
        scope = (submission.caller, key)
        while (busy := self._under_way.get(scope)) is not None:
            await busy.wait()
        finished = self._under_way[scope] = asyncio.Event()
        try:
            receipt = await self._memory.recall(submission.caller, key)
            if receipt is not None:
                require_same_body(receipt, submission)
            yield receipt
        finally:
            del self._under_way[scope]
            finished.set()
