"""What a publisher promises: the same suite on the one in memory and the one that speaks to a broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from service.callbacks.kafka import KafkaPublisher
from service.callbacks.memory import MemoryPublisher, MemoryTopicDirectory
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.codec import SealedEnvelope, seal
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.core.errors import BrokerUnavailable, PublishRefused, PublishUncertain
from service.core.records import Place
from service.kafka.connection import KafkaConnection, KafkaMisconfigured
from simulator.broker.control import BrokerControl, TopicSpec
from tests.waiting import HANG_SECONDS

NOTHING_COMES_SECONDS = 1.0

Record = tuple[str | None, bytes, dict[str, bytes]]


@pytest.fixture
async def control(embedded_broker: Any) -> AsyncIterator[BrokerControl]:
    """The control of the shared broker, which is up and quick again afterwards."""
    control = BrokerControl(Path(embedded_broker.ready["control"]))
    yield control
    await control.up()
    await control.slow(0)


@pytest.fixture
async def topic(create_topic: Any) -> str:
    """A topic of this test's own."""
    name = f"results.{uuid4().hex}"
    await create_topic(name, 1)
    return name


@pytest.fixture
async def known_topics(bootstrap_servers: str) -> AsyncIterator[KafkaTopicDirectory]:
    """The topics of the embedded broker."""
    directory = KafkaTopicDirectory(KafkaConnection(bootstrap_servers))
    yield directory
    await directory.close()


@pytest.fixture
async def kafka(bootstrap_servers: str, known_topics: KafkaTopicDirectory) -> AsyncIterator[KafkaPublisher]:
    """A publisher that is connected to the embedded broker."""
    publisher = KafkaPublisher(KafkaConnection(bootstrap_servers), known_topics)
    running = asyncio.create_task(publisher.run())
    yield publisher
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await publisher.close()


def read_records(bootstrap_servers: str, topic: str, count: int, *, are_all: bool = False) -> list[Record]:
    """The first records of a topic, read by a foreign client, and one more where these should be all."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex})
    consumer.assign([TopicPartition(topic, 0, 0)])
    records = consumer.consume(count, timeout=HANG_SECONDS)
    if are_all:
        records += consumer.consume(1, timeout=NOTHING_COMES_SECONDS)
    consumer.close()
    return [
        (
            None if record.key() is None else record.key().decode(),
            record.value(),
            dict(record.headers() or []),
        )
        for record in records
    ]


@pytest.fixture(params=["memory", "kafka"])
def line(request: pytest.FixtureRequest, bootstrap_servers: str, topic: str) -> Any:
    """A publisher of each kind, with a way to read what stands on the topic."""
    if request.param == "memory":
        memory = MemoryPublisher()

        def read(count: int) -> list[Record]:
            return [(key, sealed.value, dict(sealed.headers)) for _, key, sealed in memory.published[:count]]

        return memory, read
    kafka = request.getfixturevalue("kafka")
    return kafka, lambda count: read_records(bootstrap_servers, topic, count)


@pytest.fixture
def envelope() -> EventEnvelope[LLMComparisonResultV1]:
    """A valid event."""
    correlation_id = uuid4()
    now = datetime.now(UTC)
    return EventEnvelope[LLMComparisonResultV1](
        event_type="llm_provider.comparison_result",
        source_service="llm_provider_service",
        correlation_id=correlation_id,
        data=LLMComparisonResultV1(
            request_id="q1",
            correlation_id=correlation_id,
            winner="essay_a",
            justification="Clearer.",
            confidence=0.9,
            provider="openai",
            model="m",
            response_time_ms=1,
            cost_estimate=0.0,
            requested_at=now,
            completed_at=now,
        ),
    )


async def test_event_stands_on_its_topic_with_key_and_headers(
    line: Any, topic: str, envelope: EventEnvelope[LLMComparisonResultV1]
) -> None:
    """What was acknowledged can be read back, to the byte."""
    publisher, read = line

    await publisher.publish_to_topic(topic=topic, envelope=envelope, key="the-key")

    sealed = seal(envelope)
    assert await asyncio.to_thread(read, 1) == [("the-key", sealed.value, dict(sealed.headers))]


async def test_sealed_bytes_are_sent_as_they_are(line: Any, topic: str) -> None:
    """A stored callback goes out unchanged, however often, whatever it holds; without a key too."""
    publisher, read = line
    sealed = SealedEnvelope(b'{"odd":  "spacing"}', (("h", b"\x00\xff"),))

    for _ in range(2):
        await publisher.publish_to_topic(topic=topic, envelope=sealed)

    assert await asyncio.to_thread(read, 2) == [(None, sealed.value, {"h": b"\x00\xff"})] * 2


async def test_send_waits_while_the_broker_is_away(
    kafka: KafkaPublisher, control: BrokerControl, bootstrap_servers: str, topic: str
) -> None:
    """A send that meets an outage is neither failed nor doubled: it ends when the broker is back."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"before", ()))
    await control.down()
    sending = asyncio.ensure_future(kafka.publish_to_topic(topic, SealedEnvelope(b"during", ())))
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done

    await control.up()
    await asyncio.wait_for(sending, HANG_SECONDS)

    records = await asyncio.to_thread(read_records, bootstrap_servers, topic, 2)
    assert [value for _, value, _ in records] == [b"before", b"during"]


@pytest.mark.parametrize(
    "code", ["TOPIC_AUTHORIZATION_FAILED", "MESSAGE_TOO_LARGE", "INVALID_TOPIC_EXCEPTION", "POLICY_VIOLATION"]
)
async def test_refused_record_fails_and_the_next_one_goes_through(
    kafka: KafkaPublisher, control: BrokerControl, bootstrap_servers: str, topic: str, code: str
) -> None:
    """What is refused twice, the second time by itself, is refused for good, and wedges no partition."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"one", ()))
    before = kafka._producer
    await control.error(code, 2)

    with pytest.raises(PublishRefused, match=topic) as refused:
        await kafka.publish_to_topic(topic, SealedEnvelope(b"refused", ()))
    assert refused.value.reason == code
    await asyncio.wait_for(kafka.publish_to_topic(topic, SealedEnvelope(b"two", ())), HANG_SECONDS)

    records = await asyncio.to_thread(read_records, bootstrap_servers, topic, 2)
    assert [value for _, value, _ in records] == [b"one", b"two"]
    assert kafka._producer is not before


@pytest.mark.parametrize("code", ["MESSAGE_TOO_LARGE", "OUT_OF_ORDER_SEQUENCE_NUMBER"])
async def test_neighbours_of_a_refused_record_are_sent_by_themselves(
    kafka: KafkaPublisher, control: BrokerControl, bootstrap_servers: str, topic: str, code: str
) -> None:
    """The broker refuses a whole batch; then each of its records gets its own verdict, none is doubled."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"first", ()))
    await control.error(code, 1)

    await asyncio.gather(
        *(kafka.publish_to_topic(topic, SealedEnvelope(b"%d" % number, ())) for number in range(20))
    )

    records = await asyncio.to_thread(read_records, bootstrap_servers, topic, 21, are_all=True)
    assert sorted(value for _, value, _ in records) == sorted([b"first", *(b"%d" % n for n in range(20))])


@pytest.mark.parametrize("code", ["UNKNOWN_SERVER_ERROR", "INVALID_REQUEST"])
async def test_error_that_says_nothing_of_the_record_leaves_it_uncertain(
    kafka: KafkaPublisher, control: BrokerControl, topic: str, code: str
) -> None:
    """Where the broker's error does not say that nothing was appended, the record may stand on its topic."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"one", ()))
    await control.error(code, 1)

    with pytest.raises(PublishUncertain, match=topic):
        await kafka.publish_to_topic(topic, SealedEnvelope(b"two", ()))


@pytest.mark.parametrize("code", ["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT"])
async def test_trouble_that_passes_is_waited_out(
    kafka: KafkaPublisher, control: BrokerControl, bootstrap_servers: str, topic: str, code: str
) -> None:
    """Errors of a broker in trouble are the producer's to repeat: the send only takes longer."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"one", ()))
    before = kafka._producer
    await control.error(code, 3)

    await asyncio.wait_for(kafka.publish_to_topic(topic, SealedEnvelope(b"two", ())), HANG_SECONDS)

    records = await asyncio.to_thread(read_records, bootstrap_servers, topic, 2, are_all=True)
    assert [value for _, value, _ in records] == [b"one", b"two"]
    assert kafka._producer is before


async def test_topic_that_is_gone_refuses_at_once(kafka: KafkaPublisher) -> None:
    """A callback for a topic that does not exist any more is refused for good, and does not create it."""
    absent = f"absent.{uuid4().hex}"

    with pytest.raises(PublishRefused, match=absent) as refused:
        await asyncio.wait_for(kafka.publish_to_topic(absent, SealedEnvelope(b"x", ())), HANG_SECONDS)

    assert refused.value.reason == "UNKNOWN_TOPIC_OR_PARTITION"
    assert not await kafka._directory.exists(absent)


async def test_place_of_a_record_is_told(kafka: KafkaPublisher, topic: str) -> None:
    """The broker's answer says where a record stands: the positions of the read-back rest on it."""
    places = [await kafka.publish_to_topic(topic, SealedEnvelope(b"x", ())) for _ in range(3)]

    assert places == [Place(0, 0), Place(0, 1), Place(0, 2)]


async def test_record_too_large_for_the_client_is_refused_without_harm(
    kafka: KafkaPublisher, topic: str
) -> None:
    """A record that never left the process costs no producer."""
    await kafka.publish_to_topic(topic, SealedEnvelope(b"one", ()))
    before = kafka._producer

    with pytest.raises(PublishRefused, match="MESSAGE_TOO_LARGE"):
        await kafka.publish_to_topic(topic, SealedEnvelope(b"x" * 2_000_000, ()))

    assert kafka._producer is before


async def test_close_does_not_wait_for_a_broker_that_is_away(
    bootstrap_servers: str, known_topics: KafkaTopicDirectory, control: BrokerControl, topic: str
) -> None:
    """With a send pending and no broker, closing keeps to its limit; the send learns that it is uncertain."""
    publisher = KafkaPublisher(KafkaConnection(bootstrap_servers), known_topics)
    running = asyncio.create_task(publisher.run())
    await publisher.publish_to_topic(topic, SealedEnvelope(b"before", ()))
    await control.down()
    sending = asyncio.ensure_future(publisher.publish_to_topic(topic, SealedEnvelope(b"x", ())))
    await asyncio.sleep(0)
    running.cancel()

    await asyncio.wait_for(publisher.close(), HANG_SECONDS)

    with pytest.raises(PublishUncertain, match=topic):
        await asyncio.wait_for(sending, HANG_SECONDS)
    await asyncio.wait([running])


@pytest.fixture(params=["memory", "kafka"])
async def directory(request: pytest.FixtureRequest, bootstrap_servers: str, topic: str) -> AsyncIterator[Any]:
    """A topic directory of each kind that knows one topic."""
    if request.param == "memory":
        yield MemoryTopicDirectory({topic})
        return
    kafka = KafkaTopicDirectory(KafkaConnection(bootstrap_servers))
    yield kafka
    await kafka.close()


async def test_directory_knows_which_topics_there_are(directory: Any, topic: str) -> None:
    """A topic that exists is found, one that does not is not, and asking does not create it."""
    absent = f"absent.{uuid4().hex}"

    assert await directory.exists(topic)
    assert not await directory.exists(absent)
    assert not await directory.exists(absent)
    assert directory.reachable


async def test_directory_finds_a_topic_created_after_it_looked(
    bootstrap_servers: str, control: BrokerControl
) -> None:
    """A topic is known as soon as it exists: nobody waits for a cache to grow old."""
    directory = KafkaTopicDirectory(KafkaConnection(bootstrap_servers))
    name = f"late.{uuid4().hex}"
    assert not await directory.exists(name)

    await control.create_topics([TopicSpec(name, 1)])

    assert await directory.exists(name)
    await directory.close()


async def test_directory_without_a_broker_knows_what_it_knew(
    bootstrap_servers: str, control: BrokerControl, topic: str
) -> None:
    """During an outage a known topic is still known; an unknown one cannot be judged."""
    directory = KafkaTopicDirectory(KafkaConnection(bootstrap_servers))
    assert await directory.exists(topic)
    await control.down()

    assert await directory.exists(topic)
    with pytest.raises(BrokerUnavailable):
        await directory.exists("unknown")
    assert not directory.reachable
    await directory.close()


@pytest.mark.parametrize(
    "connect",
    [
        lambda: KafkaConnection("b:1", security_protocol="SASL_SSL"),
        lambda: KafkaConnection("b:1", sasl_password="p"),
        lambda: KafkaConnection("b:1", security_protocol="SSL", ssl_cafile="/nowhere.pem"),
    ],
    ids=["login incomplete", "password without login", "no certificates"],
)
def test_contradicting_connection_settings_are_refused(connect: Callable[[], KafkaConnection]) -> None:
    """Settings that would log in wrongly or send a password nowhere stop the start."""
    with pytest.raises(KafkaMisconfigured, match="KAFKA_"):
        connect().client_options()


def test_password_is_not_shown() -> None:
    """A connection can be printed."""
    assert "canary" not in repr(KafkaConnection("b:1", sasl_password="canary"))
