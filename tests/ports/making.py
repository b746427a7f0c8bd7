"""Makes requests, callbacks, provider calls and queues on disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from service.contracts.codec import SealedEnvelope
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.records import Callback, Claim, ProviderCall
from service.queues.sqlite.queue import SqliteQueue
from tests.waiting import HANG_SECONDS


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


async def put_and_claim(queue: SqliteQueue, count: int = 1, **fields: Any) -> list[Claim]:
    for _ in range(count):
        await queue.put(make_request(**fields))
    return list(await queue.claim(count))


def make_callback(claim: Claim) -> Callback:
    queue_id = claim.request.queue_id
    sealed = SealedEnvelope(f'{{"n": "{queue_id}"}}'.encode(), (("event_id", b"\xff\x00"), ("x", b"")))
    return Callback(queue_id, "results", "key", sealed, success=True, accepted_unix_seconds=12.5)


def make_call(**changes: Any) -> ProviderCall:
    fields: dict[str, Any] = {
        "system_prompt": "canary-system",
        "user_prompt": "canary-essay",
        "model": "gpt-4o-mini",
        "temperature": None,
        "max_tokens": None,
        "timeout_seconds": HANG_SECONDS,
        "queue_id": "q-1",
        "correlation_id": UUID(int=7),
        "attempt": 2,
    }
    return ProviderCall(**{**fields, **changes})


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteQueue]:
    queue = SqliteQueue(path, **options)
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()
