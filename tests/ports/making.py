"""Makes requests, callbacks and queues on disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from service.contracts.codec import SealedEnvelope
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.records import Callback, Claim
from service.queues.sqlite.queue import SqliteQueue


def make_request(priority: int = 0, essay_a: str = "Æther, première ∑", **fields: Any) -> QueuedRequest:
    data = LLMComparisonRequest(
        user_prompt="Which is better?",
        essay_a=essay_a,
        essay_b="b",
        callback_topic="results",
        priority=priority,
        metadata={"pair": 1},
    )
    now = datetime.now(UTC)
    base = {"queue_id": str(uuid4()), "queued_at": now, "expires_at": now + timedelta(hours=1)}
    return QueuedRequest(
        correlation_id=data.correlation_id, callback_topic="results", request_data=data, **{**base, **fields}
    )


def make_callback(claim: Claim) -> Callback:
    queue_id = claim.request.queue_id
    sealed = SealedEnvelope(f'{{"n": "{queue_id}"}}'.encode(), (("event_id", b"\xff\x00"), ("x", b"")))
    return Callback(queue_id, "results", "key", sealed, success=True, accepted_unix_seconds=12.5)


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteQueue]:
    queue = SqliteQueue(path, **options)
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()
