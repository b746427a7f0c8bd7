"""Reads the callback topics of a run in a thread: positioned before the first send, no group, no commits.

librdkafka fetches and parses beside the event loop; what is read is handed over in batches.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import uuid4

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from service.contracts.codec import read_header
from simulator.kafka_address import KafkaAddress
from simulator.load.callback import RecordHeaders
from simulator.load.ledger import Received

ANSWER_LIMIT_SECONDS = 10.0
CONSUME_SECONDS = 0.02
"""A record is handed over at most so long after it was fetched."""
MAX_BATCH = 500


class WatchError(Exception):
    """The topics cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a callback tells of its own way; seconds since 1970, or None where it tells nothing."""

    requested: float
    completed: float
    provider_seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One record of this run, as the ledger and the figures need it."""

    fact: Received
    """`received_at` is of CLOCK_MONOTONIC."""
    received_wall: float
    """The same moment in seconds since 1970: Kafka's times are such."""
    appended_wall: float | None
    """Kafka's time of the record: the broker's, or, as is usual, the producer's."""
    timing: Timing | None
    """None where the record is no callback that can be read."""
    queue_id: str | None
    success: bool


class TopicWatch:
    """Reading topics: `async with TopicWatch(kafka, topics, run_id, take) as watch`.

    Once entered every partition has its position, so that nothing sent from then on is missed. `take` is
    called in the event loop with every batch. Records of other runs are left out by their `run_id` header.
    """

    def __init__(
        self,
        kafka: KafkaAddress,
        topics: Sequence[str],
        run_id: str,
        take: Callable[[Sequence[Reading]], None],
    ) -> None:
        self._kafka = kafka
        self._topics = list(dict.fromkeys(topics))
        self._run_id = run_id
        self._take = take
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)
        self._positioned: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._positioned = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._thread.start()
        try:
            await asyncio.shield(self._positioned)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def wait(self) -> None:
        """Returns when the reading was ended; WatchError as soon as it cannot go on."""
        assert self._ended is not None
        await asyncio.shield(self._ended)

    async def _close(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
        for future in (self._positioned, self._ended):
            if future is not None and future.done() and not future.cancelled():
                future.exception()  # whoever waited has heard of it

    def _run(self) -> None:
        assert self._loop is not None
        consumer = Consumer(
            {
                **self._kafka.for_librdkafka(),
                "group.id": f"llmctl-load-{uuid4().hex}",  # wanted by the library; nothing is committed to it
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 300,
                "fetch.wait.max.ms": 20,  # the embedded broker does not wake a waiting fetch
                "log_level": 0,
            }
        )
        problem: WatchError | None = None
        try:
            consumer.assign(self._find_ends(consumer))
            self._settle(self._positioned, None)
            while not self._stop.is_set():
                readings = [
                    reading
                    for message in consumer.consume(MAX_BATCH, timeout=CONSUME_SECONDS)
                    if (reading := self._read(message)) is not None
                ]
                if readings:
                    self._loop.call_soon_threadsafe(self._take, readings)
        except KafkaException as error:
            problem = WatchError(f"Kafka at {self._kafka} cannot be read: {error.args[0].str()}.")
        except WatchError as error:
            problem = error
        finally:
            consumer.close()
        self._settle(self._positioned, problem)
        self._settle(self._ended, problem)

    def _settle(self, future: asyncio.Future[None] | None, problem: WatchError | None) -> None:
        assert self._loop is not None

        def settle() -> None:
            assert future is not None
            if not future.done():
                future.set_result(None) if problem is None else future.set_exception(problem)

        self._loop.call_soon_threadsafe(settle)

    def _find_ends(self, consumer: Consumer) -> list[TopicPartition]:
        known = consumer.list_topics(timeout=ANSWER_LIMIT_SECONDS).topics
        missing = [topic for topic in self._topics if topic not in known]
        if missing:
            raise WatchError(
                f"There is no topic {missing[0]!r} at {self._kafka}; "
                f"`llmctl topics bootstrap {missing[0]}` creates it."
            )
        places = []
        for topic in self._topics:
            for partition in known[topic].partitions:
                place = TopicPartition(topic, partition)
                _, end = consumer.get_watermark_offsets(place, timeout=ANSWER_LIMIT_SECONDS)
                places.append(TopicPartition(topic, partition, end))
        return places

    def _read(self, message: Message) -> Reading | None:
        error = message.error()
        if error is not None:
            if error.retriable():
                return None
            raise KafkaException(error)
        headers = _read_headers(message)
        if read_header(headers, "run_id") != self._run_id:
            return None
        now, wall = time.monotonic(), time.time()
        kind, milliseconds = message.timestamp()
        topic = message.topic()
        assert topic is not None
        value = message.value()
        queue_id, success, timing = _look_into(value)
        return Reading(
            fact=Received(topic, message.key(), headers, value, now),
            received_wall=wall,
            appended_wall=milliseconds / 1000 if kind else None,
            timing=timing,
            queue_id=queue_id or read_header(headers, "request_id"),
            success=success,
        )


def _read_headers(message: Message) -> RecordHeaders:
    pairs = message.headers() or []
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in items)


def _look_into(value: bytes | None) -> tuple[str | None, bool, Timing | None]:
    """Whom a callback answers, whether well, and its times; whether it is intact is the ledger's to say."""
    try:
        data = orjson.loads(value or b"")["data"]
        timing = Timing(
            requested=datetime.fromisoformat(data["requested_at"]).timestamp(),
            completed=datetime.fromisoformat(data["completed_at"]).timestamp(),
            provider_seconds=data["response_time_ms"] / 1000,
        )
        return str(data["request_id"]), data["winner"] is not None, timing
    except (ValueError, KeyError, TypeError):
        return None, False, None
