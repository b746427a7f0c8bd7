"""aiokafka consumers, from their connection to their end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from service.kafka.connection import bootstrap

CONNECT_LIMIT_SECONDS = 10.0
CLOSE_LIMIT_SECONDS = 5.0

_log = structlog.get_logger("service.kafka")


@asynccontextmanager
async def reading(
    options: dict[str, Any], partitions: Sequence[TopicPartition], fetch_wait_milliseconds: int
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of these partitions, in no group; it commits nothing.

    Raises what aiokafka raises, and `TimeoutError` where no broker answers in time.
    """
    consumer = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=fetch_wait_milliseconds,
        **options,
    )
    try:
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            await bootstrap(consumer.start())
        consumer.assign(partitions)
        yield consumer
    finally:
        await stop_consumer(consumer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stops a consumer within a limit, and never raises for its sake.

    With the broker away `stop` may wait for ever or end as cancelled, although nobody cancelled anything.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_LIMIT_SECONDS)
    if not stopping.done():
        stopping.cancel()
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        _log.debug("consumer did not stop cleanly", error=type(error).__name__)
