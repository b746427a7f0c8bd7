"""Publishes callbacks with aiokafka's idempotent producer: acks from all in-sync replicas.

Three things about that producer shape this module. It never gives a record up while the broker is away, and
a pending send cannot be withdrawn; so a send is simply waited for. `start` fails at once where no broker
answers; so connecting is repeated in the background. And after the broker has refused a record the
producer's sequence is off for that partition, so every later record there would be refused too; so a producer
that has seen a refusal is replaced.
"""

import asyncio
import contextlib
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.callbacks.connection import KafkaConnection
from service.contracts.codec import SealedEnvelope, seal
from service.contracts.events import EventEnvelope
from service.core.errors import PublishFailed

MAX_BATCH_BYTES = 1_000_000
"""With the default of 16 KiB, 1,000 sends at once take 13 times as long; it stays under a broker's 1 MiB."""
CONNECT_AGAIN_SECONDS = 1.0
CLOSE_LIMIT_SECONDS = 5.0

_log = structlog.get_logger("service.callbacks")


class KafkaPublisher:
    """`LLMEventPublisherProtocol` over Kafka. `run` keeps it connected; `close` ends it within a limit."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._options = connection.client_options()
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._retired: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Connects, and connects anew whenever a producer had to be given up. Runs until cancelled."""
        while True:
            self._producer = await self._connect()
            self._lost.clear()
            self._connected.set()
            await self._lost.wait()

    async def publish_to_topic(
        self, topic: str, envelope: EventEnvelope[Any] | SealedEnvelope, key: str | None = None
    ) -> None:
        """Returns when all in-sync replicas have the event, however long the broker is away.

        Raises `PublishFailed` where the broker or the client refused the record.
        """
        sealed = envelope if isinstance(envelope, SealedEnvelope) else seal(envelope)
        await self._connected.wait()
        producer = self._producer
        assert producer is not None
        try:
            acknowledged = await producer.send(
                topic,
                value=sealed.value,
                key=None if key is None else key.encode(),
                headers=list(sealed.headers),
            )
        except KafkaError as error:  # it never left this process: the sequence is still right
            raise PublishFailed(f"{type(error).__name__}: the record was not sent to {topic}") from error
        try:
            await acknowledged
        except KafkaError as error:
            self._give_up(producer)
            raise PublishFailed(
                f"{type(error).__name__}: the broker refused the record for {topic}"
            ) from error

    async def close(self) -> None:
        """Sends what is pending where the broker is there; leaves it to the next start where it is not."""
        self._connected.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)
        if self._retired:
            await asyncio.wait(self._retired)

    async def _connect(self) -> AIOKafkaProducer:
        told = False
        while True:
            producer = AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_batch_size=MAX_BATCH_BYTES,
                **self._options,
            )
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                await _stop(producer)
                if not told:
                    _log.warning("broker cannot be reached, callbacks wait", error=type(error).__name__)
                    told = True
                await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            except BaseException:
                await _stop(producer)
                raise
            else:
                _log.info("connected to broker", bootstrap_servers=self._options["bootstrap_servers"])
                return producer

    def _give_up(self, producer: AIOKafkaProducer) -> None:
        if producer is not self._producer:
            return  # another refusal of the same producer
        self._producer = None
        self._connected.clear()
        self._lost.set()
        retiring = asyncio.create_task(_stop(producer), name="kafka-producer-retiring")
        self._retired.add(retiring)
        retiring.add_done_callback(self._retired.discard)


async def _stop(producer: AIOKafkaProducer) -> None:
    # `stop` flushes first, and with the broker away it would wait for ever.
    with contextlib.suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(producer.stop(), CLOSE_LIMIT_SECONDS)
