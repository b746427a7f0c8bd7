"""What a publisher promises: the same suite on the one in memory and the one that speaks to a broker."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from service.callbacks.kafka import KafkaPublisher
from service.callbacks.memory import MemoryPublisher, MemoryTopicDirectory
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.codec import SealedEnvelope, open_envelope, seal
from service.core.errors import BrokerUnavailable, PublishRefused, PublishUncertain
from service.core.records import Place
from service.kafka import producer
from service.kafka.connection import KafkaConnection, KafkaMisconfigured
from simulator.broker.control import BrokerControl
from tests.waiting import HANG_SECONDS, until

FIXTURES = Path(__file__).parents[2] / "fixtures"
NOTHING_COMES_SECONDS = 0.2

Record = tuple[str | None, bytes, dict[str, bytes]]


def read_records(bootstrap_servers: str, topic: str, count: int, *, are_all: bool = False) -> list[Record]:
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
    if request.param == "memory":
        memory = MemoryPublisher()

        def read(count: int) -> list[Record]:
            return [(key, sealed.value, dict(sealed.headers)) for _, key, sealed in memory.published[:count]]

        return memory, read
    kafka = request.getfixturevalue("kafka")
    return kafka, lambda count: read_records(bootstrap_servers, topic, count)


@pytest.mark.apache
async def test_event_stands_on_its_topic_with_key_and_headers(line: Any, topic: str) -> None:
    publisher, read = line
    envelope = open_envelope((FIXTURES / "events" / "comparison-succeeded.json").read_bytes())

    await publisher.publish_to_topic(topic=topic, envelope=envelope, key="the-key")

    sealed = seal(envelope)
    assert await asyncio.to_thread(read, 1) == [("the-key", sealed.value, dict(sealed.headers))]


@pytest.mark.apache
async def test_sealed_bytes_are_sent_as_they_are(line: Any, topic: str) -> None:
    """A stored callback goes out unchanged as often as it is sent, also without a key."""
    publisher, read = line
    sealed = SealedEnvelope(b'{"odd":  "spacing"}', (("h", b"\x00\xff"),))

    for _ in range(2):
        await publisher.publish_to_topic(topic=topic, envelope=sealed)

    assert await asyncio.to_thread(read, 2) == [(None, sealed.value, {"h": b"\x00\xff"})] * 2


@dataclass(frozen=True)
class Sender:
    kafka: KafkaPublisher
    servers: str
    topic: str

    async def send(self, value: bytes) -> Place | None:
        sending = self.kafka.publish_to_topic(self.topic, SealedEnvelope(value, ()))
        return await asyncio.wait_for(sending, HANG_SECONDS)

    async def read(self, count: int, *, are_all: bool = False) -> list[bytes]:
        records = await asyncio.to_thread(read_records, self.servers, self.topic, count, are_all=are_all)
        return [value for _, value, _ in records]


@pytest.fixture
def sender(kafka: KafkaPublisher, bootstrap_servers: str, topic: str) -> Sender:
    return Sender(kafka, bootstrap_servers, topic)


async def test_send_waits_while_the_broker_is_away(sender: Sender, control: BrokerControl) -> None:
    await sender.send(b"before")
    await control.down()
    sending = asyncio.ensure_future(sender.send(b"during"))
    done, _ = await asyncio.wait([sending], timeout=0.1)
    assert not done

    await control.up()
    await asyncio.wait_for(sending, HANG_SECONDS)

    assert await sender.read(2) == [b"before", b"during"]


@pytest.mark.parametrize(
    "code", ["TOPIC_AUTHORIZATION_FAILED", "MESSAGE_TOO_LARGE", "INVALID_TOPIC_EXCEPTION", "POLICY_VIOLATION"]
)
async def test_refused_record_fails_and_the_next_one_goes_through(
    sender: Sender, control: BrokerControl, code: str
) -> None:
    await sender.send(b"one")
    before = sender.kafka._producer
    await control.error(code, 2)

    with pytest.raises(PublishRefused, match=sender.topic) as refused:
        await sender.send(b"refused")
    assert refused.value.reason == code
    await sender.send(b"two")

    assert await sender.read(2) == [b"one", b"two"]
    assert sender.kafka._producer is not before


@pytest.mark.parametrize("code", ["MESSAGE_TOO_LARGE", "OUT_OF_ORDER_SEQUENCE_NUMBER"])
async def test_neighbours_of_a_refused_record_are_sent_by_themselves(
    sender: Sender, control: BrokerControl, code: str
) -> None:
    """The broker refuses a whole batch; then each record is judged by itself, and none is doubled."""
    await sender.send(b"first")
    await control.error(code, 1)

    await asyncio.gather(*(sender.send(b"%d" % number) for number in range(20)))

    assert sorted(await sender.read(21, are_all=True)) == sorted([b"first", *(b"%d" % n for n in range(20))])


@pytest.mark.parametrize("code", ["UNKNOWN_SERVER_ERROR", "INVALID_REQUEST"])
async def test_error_that_says_nothing_of_the_record_leaves_it_uncertain(
    sender: Sender, control: BrokerControl, code: str
) -> None:
    await sender.send(b"one")
    await control.error(code, 1)

    with pytest.raises(PublishUncertain, match=sender.topic):
        await sender.send(b"two")


@pytest.mark.parametrize("code", ["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT"])
async def test_trouble_that_passes_is_waited_out(sender: Sender, control: BrokerControl, code: str) -> None:
    await sender.send(b"one")
    before = sender.kafka._producer
    await control.error(code, 3)

    await sender.send(b"two")

    assert await sender.read(2, are_all=True) == [b"one", b"two"]
    assert sender.kafka._producer is before


@pytest.mark.apache
async def test_topic_that_is_gone_is_refused_and_not_created(
    kafka: KafkaPublisher, known_topics: KafkaTopicDirectory
) -> None:
    absent = f"absent.{uuid4().hex}"

    with pytest.raises(PublishRefused, match=absent) as refused:
        await asyncio.wait_for(kafka.publish_to_topic(absent, SealedEnvelope(b"x", ())), HANG_SECONDS)

    assert refused.value.reason == "UNKNOWN_TOPIC_OR_PARTITION"
    assert not await known_topics.exists(absent)


@pytest.mark.apache
async def test_publishing_returns_the_place_of_the_record(sender: Sender) -> None:
    places = [await sender.send(b"x") for _ in range(3)]

    assert places == [Place(0, 0), Place(0, 1), Place(0, 2)]


@pytest.mark.apache
async def test_record_too_large_for_the_client_is_refused_without_harm(sender: Sender) -> None:
    await sender.send(b"one")
    before = sender.kafka._producer

    with pytest.raises(PublishRefused, match="MESSAGE_TOO_LARGE"):
        await sender.send(b"x" * 2_000_000)

    assert sender.kafka._producer is before


async def test_close_does_not_wait_for_a_broker_that_is_away(
    sender: Sender, control: BrokerControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "CLOSE_LIMIT_SECONDS", 0.1)
    await sender.send(b"before")
    await control.down()
    sending = asyncio.ensure_future(sender.send(b"x"))
    await until(lambda: sender.kafka._producer and sender.kafka._producer._pending, "the pending send")

    await asyncio.wait_for(sender.kafka.close(), HANG_SECONDS)

    with pytest.raises(PublishUncertain, match=sender.topic):
        await asyncio.wait_for(sending, HANG_SECONDS)


@pytest.mark.apache
@pytest.mark.parametrize("kind", ["memory", "kafka"])
async def test_directory_knows_which_topics_exist(
    kind: str, known_topics: KafkaTopicDirectory, topic: str, create_topic: Any
) -> None:
    directory = known_topics if kind == "kafka" else MemoryTopicDirectory({topic})
    absent = f"absent.{uuid4().hex}"

    assert await directory.exists(topic)
    assert not await directory.exists(absent)
    assert not await directory.exists(absent), "asking for it created it"
    assert directory.reachable
    if kind == "kafka":
        await create_topic(absent, 1)
        assert await directory.exists(absent)


async def test_directory_without_a_broker_knows_what_it_knew(
    known_topics: KafkaTopicDirectory, control: BrokerControl, topic: str
) -> None:
    assert await known_topics.exists(topic)
    await control.down()

    assert await known_topics.exists(topic)
    with pytest.raises(BrokerUnavailable):
        await known_topics.exists("unknown")
    assert not known_topics.reachable


def test_contradicting_connection_settings_are_refused() -> None:
    for options in ({"security_protocol": "SASL_SSL"}, {"security_protocol": "SSL", "ssl_cafile": "/no.pem"}):
        with pytest.raises(KafkaMisconfigured, match="KAFKA_"):
            KafkaConnection("b:1", **options).client_options()


def test_printed_connection_hides_the_password() -> None:
    assert "canary" not in repr(KafkaConnection("b:1", sasl_password="canary"))
