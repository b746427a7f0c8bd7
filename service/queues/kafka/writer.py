"""Writes the records of the Kafka queue: what `write` has returned for is on all in-sync replicas."""

import asyncio
from collections import OrderedDict
from typing import Any

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from service.contracts.codec import SealedEnvelope
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import BrokerUnavailable, QueueUnavailable, QueueUncertain, Refused
from service.kafka.connection import KafkaConnection
from service.kafka.producer import NeverSent, Producer, SendCutOff

CONNECT_AGAIN_SECONDS = 1.0
STALLED_AFTER_SECONDS = 5.0
"""A write that has been pending for this long means that the broker is away: nothing new is accepted."""

_log = structlog.get_logger("service.queue")


class RecordTooLarge(QueueUnavailable):
    """A record is larger than its topic takes."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"The request does not fit a record of {topic}; shorten its texts, or raise the topic's "
            "max.message.bytes."
        )


class KafkaWriter:
    """One idempotent producer, replaced after a refusal. Kafka's errors become `QueueUnavailable`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._options = connection.client_options()
        self._producer: Producer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        # In the order in which they began; a plain dict finds its first only past all that were removed.
        self._pending: OrderedDict[asyncio.Future[Any], float] = OrderedDict()

    async def open(self, max_record_bytes: int) -> None:
        """Connects. Raises `BrokerUnavailable` where none answers.

        What is larger than `max_record_bytes` is refused here already: after a refusal by the broker the
        producer has to be replaced, and every other record would wait for that.
        """
        self._options["max_request_size"] = max_record_bytes
        try:
            self._producer = await Producer.connect(self._options, idempotent=True)
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(
                f"The Kafka queue cannot be opened: no broker answers at "
                f"{self._options['bootstrap_servers']} ({type(error).__name__})."
            ) from error
        self._connected.set()

    async def close(self) -> None:
        """Sends what is pending where the broker is there; leaves no write unresolved."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._producer is not None:
            self._retire(self._producer)
            self._producer = None
        if self._retiring:
            await asyncio.wait(self._retiring)

    @property
    def usable(self) -> bool:
        """Whether a write is likely to succeed now."""
        if not self._connected.is_set():
            return False
        before = asyncio.get_running_loop().time() - STALLED_AFTER_SECONDS
        return next(iter(self._pending.values()), before) >= before

    async def put(self, topic: str, partition: int, key: str, record: SealedEnvelope) -> int | None:
        """Writes a record that somebody waits for; see `write`. Raises `Refused` where it is too large.

        Refused at once while the broker is away. A record that is on its way already is waited for: it cannot
        be withdrawn.
        """
        if not self.usable:
            raise QueueUnavailable("The Kafka queue cannot be written: the broker does not answer.")
        try:
            return await self.write(topic, partition, key, record)
        except RecordTooLarge as error:
            raise Refused(LLMErrorCode.CONTENT_TOO_LONG, str(error)) from error

    async def write(self, topic: str, partition: int, key: str, record: SealedEnvelope) -> int | None:
        """Returns when all in-sync replicas have the record: its offset, where the broker said it.

        However long the broker is away. Raises `QueueUncertain` where it may be written all the same,
        `RecordTooLarge`, and else `QueueUnavailable`.
        """
        await self._connected.wait()
        producer = self._producer
        if producer is None:
            raise QueueUnavailable("The Kafka queue is closed.")
        sending = asyncio.ensure_future(producer.send(topic, record, key, partition))
        self._pending[sending] = asyncio.get_running_loop().time()
        sending.add_done_callback(self._settle)
        try:
            # Whoever waits may go away; the record is on its way all the same.
            placed = await asyncio.shield(sending)
        except NeverSent as never_sent:
            if isinstance(never_sent.error, MessageSizeTooLargeError):
                raise RecordTooLarge(topic) from never_sent
            raise QueueUnavailable(
                f"The Kafka queue cannot be written: {type(never_sent.error).__name__}."
            ) from never_sent
        except SendCutOff as cut_off:
            raise QueueUncertain("The Kafka queue was closed while a record was on its way.") from cut_off
        except KafkaError as error:
            _log.warning("a record was refused, the producer is replaced", topic=topic, error=repr(error))
            self._give_up(producer)
            if isinstance(error, MessageSizeTooLargeError):
                raise RecordTooLarge(topic) from error
            raise QueueUncertain(
                f"The Kafka queue cannot be written: the broker refused a record for {topic} "
                f"({type(error).__name__})."
            ) from error
        return placed.offset if placed.offset >= 0 else None

    def _settle(self, sending: "asyncio.Future[Any]") -> None:
        self._pending.pop(sending, None)
        if not sending.cancelled():
            sending.exception()  # told to whoever waits, if anybody still does

    def _give_up(self, producer: Producer) -> None:
        """After a refusal the producer is out of step with the broker: a new one takes over."""
        if producer is not self._producer:
            return
        self._connected.clear()
        self._retire(producer)
        self._connecting = asyncio.create_task(self._reconnect(), name="kafka-queue-reconnect")

    async def _reconnect(self) -> None:
        while True:
            try:
                self._producer = await Producer.connect(self._options, idempotent=True)
            except (KafkaError, OSError) as error:
                _log.warning("broker cannot be reached, the queue waits", error=type(error).__name__)
                await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            else:
                self._connected.set()
                return

    def _retire(self, producer: Producer) -> None:
        retiring = asyncio.create_task(producer.retire(), name="kafka-queue-producer-retiring")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
