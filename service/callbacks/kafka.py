"""Publishes callbacks with aiokafka's idempotent producer: acks from all in-sync replicas.

Three things about that producer shape this module. It never gives a record up while the broker is away, and a
pending send cannot be withdrawn; so a send is simply waited for. After the broker has refused a record the
producer's sequence is off for that partition, so every later record there would be refused too; so a producer
that has seen a refusal is replaced. And a refusal concerns a whole batch; so each of its records is sent once
more by itself, through a producer without sequences, and what is refused there is refused for its own sake.
"""

import asyncio
from typing import Any

import structlog
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import RecordMetadata

from service.callbacks.refusals import UNKNOWN_TOPIC, Verdict, judge, name_refusal
from service.contracts.codec import SealedEnvelope, seal
from service.contracts.events import EventEnvelope
from service.core.errors import BrokerUnavailable, PublishFailed, PublishRefused, PublishUncertain
from service.core.ports import TopicDirectory
from service.core.records import Place
from service.kafka.connection import KafkaConnection
from service.kafka.producer import NeverSent, Producer, SendCutOff

CONNECT_AGAIN_SECONDS = 1.0
LOOK_FOR_TOPIC_SECONDS = 10.0
"""A send that has been pending for this long makes us look whether its topic still exists."""
LOOK_EVERY_SECONDS = 5.0

_log = structlog.get_logger("service.callbacks")


class KafkaPublisher:
    """`LLMEventPublisherProtocol` over Kafka. `run` keeps it connected; `close` ends it within a limit."""

    def __init__(self, connection: KafkaConnection, directory: TopicDirectory) -> None:
        self._options = connection.client_options()
        self._directory = directory
        self._producer: Producer | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._single: Producer | None = None
        self._single_lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Connects, and connects anew whenever a producer had to be given up. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_topics(), name="callback-topics-watch")
            while True:
                self._producer = await self._connect(idempotent=True)
                self._lost.clear()
                self._connected.set()
                await self._lost.wait()

    async def publish_to_topic(
        self, topic: str, envelope: EventEnvelope[Any] | SealedEnvelope, key: str | None = None
    ) -> Place | None:
        """Returns when all in-sync replicas have the event, however long the broker is away.

        Raises `PublishRefused`, `PublishUncertain` or `PublishFailed`.
        """
        sealed = envelope if isinstance(envelope, SealedEnvelope) else seal(envelope)
        while True:
            await self._connected.wait()
            await self._require_topic(topic)
            producer = self._producer
            if producer is None:  # it was given up while the topic was looked for
                continue
            try:
                return await self._send(producer, topic, sealed, key)
            except NeverSent as never_sent:
                if not producer.retired:
                    raise _explain_never_sent(topic, never_sent.error) from never_sent

    async def close(self) -> None:
        """Sends what is pending where the broker is there; leaves it to the next start where it is not."""
        self._connected.clear()
        for producer in (self._producer, self._single):
            if producer is not None:
                self._retire(producer)
        self._producer = self._single = None
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _send(
        self, producer: Producer, topic: str, sealed: SealedEnvelope, key: str | None
    ) -> Place | None:
        try:
            return _place(await producer.send(topic, sealed, key))
        except SendCutOff as cut_off:
            raise _explain_uncertain(topic, cut_off) from cut_off
        except KafkaError as error:
            self._give_up(producer)
            if isinstance(error, UnknownTopicOrPartitionError):
                raise _refuse_absent(topic) from error
            if judge(error) is Verdict.UNCERTAIN:
                raise _explain_uncertain(topic, error) from error
        return await self._send_singly(topic, sealed, key)

    async def _connect(self, *, idempotent: bool) -> Producer:
        told = False
        while True:
            try:
                producer = await Producer.connect(self._options, idempotent=idempotent)
            except (KafkaError, OSError) as error:
                if not told:
                    _log.warning("broker cannot be reached, events wait", error=type(error).__name__)
                    told = True
                await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            else:
                _log.info("connected to broker", bootstrap_servers=self._options["bootstrap_servers"])
                return producer

    async def _require_topic(self, topic: str) -> None:
        # A producer asks for the metadata of a topic by its name, and that may create it.
        try:
            if await self._directory.exists(topic):
                return
        except BrokerUnavailable as error:
            raise PublishFailed(f"Whether {topic} exists cannot be found out: {error}") from error
        raise _refuse_absent(topic)

    async def _send_singly(self, topic: str, sealed: SealedEnvelope, key: str | None) -> Place | None:
        """Sends a record of a refused batch by itself: now the broker's word is about this record."""
        async with self._single_lock:
            if self._single is None:
                self._single = await self._connect(idempotent=False)
            producer = self._single
        try:
            return _place(await producer.send(topic, sealed, key))
        except NeverSent as never_sent:
            raise _explain_never_sent(topic, never_sent.error) from never_sent
        except SendCutOff as cut_off:
            raise _explain_uncertain(topic, cut_off) from cut_off
        except KafkaError as error:
            match judge(error):
                case Verdict.REFUSED:
                    raise _refuse(topic, error) from error
                case Verdict.NOT_APPENDED:
                    raise PublishFailed(
                        f"{type(error).__name__}: the broker did not take the record for {topic}."
                    ) from error
                case Verdict.UNCERTAIN:
                    raise _explain_uncertain(topic, error) from error

    async def _watch_topics(self) -> None:
        """Ends sends to topics that were deleted meanwhile: the producer itself would try for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            producer = self._producer
            if producer is None:
                continue
            for topic in producer.overdue_topics(LOOK_FOR_TOPIC_SECONDS):
                try:
                    gone = not await self._directory.exists(topic)
                except BrokerUnavailable:
                    break
                if gone:
                    producer.fail(topic, UnknownTopicOrPartitionError())

    def _give_up(self, producer: Producer) -> None:
        if producer is not self._producer:
            return  # another refusal of the same producer
        self._producer = None
        self._connected.clear()
        self._lost.set()
        self._retire(producer)

    def _retire(self, producer: Producer) -> None:
        retiring = asyncio.create_task(producer.retire(), name="kafka-producer-retiring")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)


def _place(acknowledged: RecordMetadata) -> Place | None:
    # The offset is unknown where the broker recognised a repetition that aiokafka had sent by itself.
    return Place(acknowledged.partition, acknowledged.offset) if acknowledged.offset >= 0 else None


def _refuse(topic: str, error: KafkaError) -> PublishRefused:
    reason = name_refusal(error)
    return PublishRefused(reason, f"The broker refuses the record for {topic} for good: {reason}.")


def _refuse_absent(topic: str) -> PublishRefused:
    return PublishRefused(UNKNOWN_TOPIC, f"The topic {topic} does not exist any more.")


def _explain_never_sent(topic: str, error: KafkaError) -> PublishFailed:
    # An unknown topic here was there a moment ago: it is the broker that did not tell of it in time.
    if judge(error) is Verdict.REFUSED and not isinstance(error, UnknownTopicOrPartitionError):
        return _refuse(topic, error)
    return PublishFailed(f"{type(error).__name__}: the record for {topic} was not sent.")


def _explain_uncertain(topic: str, error: Exception) -> PublishUncertain:
    return PublishUncertain(
        f"{type(error).__name__}: whether the broker has the record for {topic} is unknown."
    )
