"""One aiokafka producer from its connection to its end, with the sends that are pending in it.

Two things about that producer shape this module. `start` fails at once where no broker answers. And its
`stop` flushes first, which with the broker away takes for ever, and where it is cut off the pending sends are
never resolved: so they are kept here and told that their outcome is uncertain.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.structs import RecordMetadata

from service.contracts.codec import SealedEnvelope
from service.core.errors import ServiceError
from service.kafka.connection import bootstrap

MAX_BATCH_BYTES = 1_000_000
"""With the default of 16 KiB, 1,000 sends at once take 13 times as long; it stays under a broker's 1 MiB."""
ONE_RECORD_BYTES = 1
"""The first record always fits into a batch, so each record gets a batch of its own."""
METADATA_AGE_SECONDS = 20.0
"""New partitions of a topic are used after at most this long."""
CLOSE_LIMIT_SECONDS = 5.0


class SendCutOff(ServiceError):
    """The producer was closed before the broker had acknowledged a record."""


class NeverSent(ServiceError):
    """A record did not leave this process; `error` says why, and the producer is as good as before."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(str(error))
        self.error = error


class Producer:
    """Sends records while it lives; `retire` ends it within a limit and leaves no send unresolved."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._pending: dict[asyncio.Future[RecordMetadata], tuple[str, float]] = {}
        self._entering: set[asyncio.Timeout] = set()
        self.retired = False

    @classmethod
    async def connect(cls, options: dict[str, Any], *, idempotent: bool) -> "Producer":
        """Connects once. Raises `KafkaError` or `OSError`.

        An idempotent producer never gives a record up, and after a refusal it is out of step with the broker.
        One that is not sends each record in a batch of its own, so that no refusal concerns a neighbour.
        """
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES if idempotent else ONE_RECORD_BYTES,
            metadata_max_age_ms=int(METADATA_AGE_SECONDS * 1000),
            **options,
        )
        try:
            await bootstrap(producer.start())
        except BaseException:
            await _stop(producer)
            raise
        return cls(producer)

    async def send(
        self, topic: str, sealed: SealedEnvelope, key: str | None, partition: int | None = None
    ) -> RecordMetadata:
        """Returns when all in-sync replicas have the record; its key decides where unless told otherwise.

        Raises `NeverSent` where it did not leave this process, else what the broker said, or `SendCutOff`.
        """
        acknowledged = await self._enter(topic, sealed, key, partition)
        self._pending[acknowledged] = (topic, asyncio.get_running_loop().time())
        try:
            return await acknowledged
        finally:
            self._pending.pop(acknowledged, None)

    async def _enter(
        self, topic: str, sealed: SealedEnvelope, key: str | None, partition: int | None
    ) -> "asyncio.Future[RecordMetadata]":
        """Puts a record into a batch; this takes as long as no leader is known or the batch is full."""
        try:
            async with asyncio.timeout(None) as entering:
                self._entering.add(entering)
                try:
                    acknowledged: asyncio.Future[RecordMetadata] = await self._producer.send(
                        topic,
                        # No value at all is what removes a key from a compacted topic.
                        value=sealed.value if sealed.value or key is None else None,
                        key=None if key is None else key.encode(),
                        partition=partition,
                        headers=list(sealed.headers),
                    )
                    return acknowledged
                finally:
                    self._entering.discard(entering)
        except TimeoutError:
            raise NeverSent(ProducerClosed()) from None
        except KafkaError as error:
            raise NeverSent(error) from error

    def overdue_topics(self, limit_seconds: float) -> Counter[str]:
        """The topics of sends that have been pending for longer than the limit, with their number."""
        before = asyncio.get_running_loop().time() - limit_seconds
        return Counter(topic for topic, since in self._pending.values() if since < before)

    def fail(self, topic: str, error: KafkaError) -> None:
        """Ends what is pending for a topic that is gone; `retire` must follow, the producer keeps trying."""
        for pending, (destination, _) in tuple(self._pending.items()):
            if destination == topic and not pending.done():
                pending.set_exception(error)

    async def retire(self) -> None:
        """Sends what is pending where the broker is there; the rest fails with `SendCutOff`."""
        self.retired = True
        for entering in tuple(self._entering):
            entering.reschedule(asyncio.get_running_loop().time())
        await _stop(self._producer)
        for pending in tuple(self._pending):
            if not pending.done():
                pending.set_exception(SendCutOff())


async def _stop(producer: AIOKafkaProducer) -> None:
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_LIMIT_SECONDS)
    if stopping.done():
        _ = None if stopping.cancelled() else stopping.exception()
        return
    # Cut off while it flushes, aiokafka's sender would go on and send what was given up here.
    stopping.cancel()
    sender = producer._sender  # noqa: SLF001
    if sender.sender_task is not None:
        sender.sender_task.cancel()
        await asyncio.wait([sender.sender_task], timeout=CLOSE_LIMIT_SECONDS)
    with contextlib.suppress(KafkaError):
        await producer.client.close()
