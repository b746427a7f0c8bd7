"""Callbacks that tests put on topics themselves, as the service would."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer

from service.contracts.codec import seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.errors import ErrorDetail
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id
from tests.waiting import HANG_SECONDS

CallBack = Callable[..., Awaitable[None]]
"""Puts callbacks of these requests on a topic: `await call_back(topic, "q-1", "q-2", partition=0)`."""


def make_callback(
    queue_id: str,
    correlation_id: UUID | None = None,
    *,
    error: ErrorDetail | None = None,
    model: str = "gpt-4o-mini",
    run_id: str | None = None,
) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Returns key, value and headers of a success, or of an error."""
    now, correlation_id = datetime.now(UTC), correlation_id or uuid4()
    envelope = EventEnvelope[LLMComparisonResultV1](
        event_id=derive_event_id(queue_id),
        event_type="llm_provider.comparison_result",
        source_service="llm_provider_service",
        correlation_id=correlation_id,
        data=LLMComparisonResultV1(
            request_id=queue_id,
            correlation_id=correlation_id,
            winner=None if error else EssayComparisonWinner.ESSAY_A,
            justification=None if error else "better",
            confidence=None if error else 0.9,
            error_detail=error,
            provider=LLMProviderType.OPENAI,
            model=model,
            response_time_ms=5,
            cost_estimate=0.0001,
            requested_at=now,
            completed_at=now,
        ),
    )
    sealed = seal(envelope, run_id=run_id)
    return str(correlation_id).encode(), sealed.value, list(sealed.headers)


@asynccontextmanager
async def open_writer(servers: str) -> AsyncIterator[CallBack]:
    patience_ms = int(HANG_SECONDS * 1000)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", request_timeout_ms=patience_ms)
    await producer.start()

    async def write(
        topic: str,
        *queue_ids: str,
        partition: int | None = None,
        padding: int = 0,
        correlation_id: UUID | None = None,
    ) -> None:
        sent = []
        for queue_id in queue_ids:
            key, value, headers = make_callback(queue_id, correlation_id)
            value += b" " * padding
            sent.append(await producer.send(topic, value, key=key, partition=partition, headers=headers))
        for each in sent:
            await each

    try:
        yield write
    finally:
        await producer.stop()
