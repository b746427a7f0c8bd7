"""taskiq over Redis: the front adds a task to a stream, a receiver in the same process runs it.

202 comes when Redis has the task (append-only file, synced every second). A stream, because its tasks are
acknowledged when they are done and taken up again where not, and because it is faster than a list.
"""

import asyncio
import os

import uvloop
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.process import end_with_parent
from benchmarks.peers.work import IN_FLIGHT, REDIS_URL, Document, open_judge, open_producer, serve_front


async def serve() -> None:
    """Serves until it is ended."""
    broker = RedisStreamBroker(os.environ[REDIS_URL]).with_serializer(ORJSONSerializer())
    async with open_judge() as judge, open_producer() as producer:

        async def compare(document: Document) -> None:
            callback = await judge.judge(document)
            await producer.send_and_wait(callback.topic, callback.value, callback.key)

        task = broker.register_task(compare, task_name="compare")
        await broker.startup()
        receiver = asyncio.create_task(
            run_receiver_task(broker, validate_params=False, max_async_tasks=IN_FLIGHT)
        )
        try:
            await serve_front(task.kiq)
        finally:
            receiver.cancel()
            await broker.shutdown()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
