"""FastStream: the front publishes to a topic, a subscriber with 1,000 workers reads it and calls back.

202 comes when Kafka has the request. Several workers want `ACK_FIRST`: what is under way is lost in a crash.
"""

import os
from typing import Any

import orjson
import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from benchmarks.peers.process import end_with_parent
from benchmarks.peers.work import (
    BOOTSTRAP_SERVERS,
    IN_FLIGHT,
    PRODUCER,
    REQUESTS_TOPIC,
    Document,
    open_judge,
    serve_front,
)

FETCH_WAIT_MILLISECONDS = 5
"""The embedded broker does not wake a waiting fetch; a longer wait would be seen in each latency."""


async def decode(message: Any) -> Document:
    """With the JSON of all candidates."""
    return orjson.loads(message.body)


async def serve() -> None:
    """Serves until it is ended."""
    # Types are not applied: what the service's peers are not asked to validate they need not pay for.
    broker = KafkaBroker(os.environ[BOOTSTRAP_SERVERS], apply_types=False, logger=None, **PRODUCER)
    async with open_judge() as judge:

        @broker.subscriber(
            REQUESTS_TOPIC,
            group_id="chain",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            max_workers=IN_FLIGHT,
            ack_policy=AckPolicy.ACK_FIRST,
            decoder=decode,
        )
        async def compare(document: Document) -> None:
            callback = await judge.judge(document)
            await broker.publish(callback.value, topic=callback.topic, key=callback.key)

        async def enqueue(document: Document) -> None:
            key = document["queue_id"].encode()
            await broker.publish(orjson.dumps(document), topic=REQUESTS_TOPIC, key=key)

        async with broker:
            await broker.start()
            await serve_front(enqueue)


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
