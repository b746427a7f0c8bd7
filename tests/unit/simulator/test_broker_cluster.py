"""The mock cluster's binding, seen by a foreign client (confluent-kafka) over TCP."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from simulator.broker.cluster import PRODUCE_API_KEY, MockCluster
from simulator.broker.errors import BrokerError
from simulator.broker.topic import TopicSpec
from tests.waiting import HANG_SECONDS


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockCluster]:
    monkeypatch.setattr(MockCluster.topics, "__defaults__", (HANG_SECONDS,))  # the time limit
    with MockCluster.create() as running:
        yield running


def produce(cluster: MockCluster, topic: str, **settings: str | int) -> KafkaError | None:
    reports: list[KafkaError | None] = []
    producer = Producer(
        {"bootstrap.servers": f"127.0.0.1:{cluster.bootstrap_port}", "log_level": 0, **settings}
    )
    producer.produce(topic, b"value", on_delivery=lambda error, _: reports.append(error))
    assert producer.flush(HANG_SECONDS) == 0
    return reports[0]


def test_a_created_topic_has_its_partitions_and_only_once(cluster: MockCluster) -> None:
    cluster.create_topic("b", 3)
    cluster.create_topic("a", 10_000)
    assert cluster.topics() == (TopicSpec("a", 10_000), TopicSpec("b", 3))
    with pytest.raises(BrokerError, match="'b' already exists"):
        cluster.create_topic("b", 4)


def test_clients_are_sent_to_the_advertised_address(cluster: MockCluster) -> None:
    cluster.advertise("127.0.0.1", 1)
    listed = AdminClient({"bootstrap.servers": f"127.0.0.1:{cluster.bootstrap_port}"}).list_topics(
        timeout=HANG_SECONDS
    )
    assert [f"{broker.host}:{broker.port}" for broker in listed.brokers.values()] == ["127.0.0.1:1"]
    assert listed.controller_id in listed.brokers


def test_pushed_errors_answer_the_next_produce_requests(cluster: MockCluster) -> None:
    cluster.create_topic("t", 1)
    cluster.push_error(PRODUCE_API_KEY, 29)
    refused = produce(cluster, "t")
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert produce(cluster, "t") is None


def test_a_topic_with_an_error_keeps_its_partitions_and_records(cluster: MockCluster) -> None:
    """Metadata shows the error until it is cleared; what the broker holds does not change."""
    cluster.create_topic("t", 2)
    assert produce(cluster, "t") is None
    asking = AdminClient({"bootstrap.servers": f"127.0.0.1:{cluster.bootstrap_port}"})
    for code, partitions in ((3, 0), (29, 2)):
        cluster.set_topic_error("t", code)
        shown = asking.list_topics(timeout=HANG_SECONDS).topics["t"]
        assert (shown.error.code(), len(shown.partitions)) == (code, partitions)
        assert cluster.topic_errors == {"t": code}
        assert cluster.topics() == (TopicSpec("t", 2),)
    cluster.set_topic_error("t", 0)
    assert asking.list_topics(timeout=HANG_SECONDS).topics["t"].error is None
    assert cluster.topic_errors == {}
    with pytest.raises(BrokerError, match="no topic 'nowhere'"):  # the library would create it
        cluster.set_topic_error("nowhere", 3)
    assert cluster.topics() == (TopicSpec("t", 2),)


def test_a_cluster_that_is_down_cannot_be_asked_until_it_is_up(cluster: MockCluster) -> None:
    cluster.create_topic("t", 1)
    cluster.set_down()
    with pytest.raises(BrokerError, match="did not list its topics"):
        cluster.topics(timeout_seconds=0.3)
    cluster.set_up()
    assert cluster.topics() == (TopicSpec("t", 1),)


def test_a_round_trip_time_delays_answers(cluster: MockCluster) -> None:
    cluster.set_rtt_ms(50)
    started = time.monotonic()
    cluster.topics()
    assert time.monotonic() - started >= 0.05


def test_a_closed_cluster_says_so_instead_of_crashing(cluster: MockCluster) -> None:
    cluster.close()
    cluster.close()
    with pytest.raises(BrokerError, match="closed"):
        cluster.create_topic("t", 1)
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": f"127.0.0.1:{cluster.bootstrap_port}", "log_level": 0}).list_topics(
            timeout=0.2
        )
