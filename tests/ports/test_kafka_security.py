"""A Kafka that asks who comes: TLS, SCRAM and access rules of Apache Kafka, under the service's adapters."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from service.callbacks.log import KafkaCallbackLog
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.codec import SealedEnvelope
from service.core.errors import BrokerUnavailable, PublishRefused, TopicUnreadable
from service.kafka.connection import KafkaConnection
from tests.apache_kafka.cluster import Cluster
from tests.apache_kafka.security import MECHANISM, Security
from tests.ports.conftest import publishing
from tests.waiting import HANG_SECONDS

SEALED = SealedEnvelope(b"{}", (("event_id", b"one"),))


@pytest.fixture(scope="module")
def cluster(start_apache_kafka: Callable[..., Cluster]) -> Cluster:
    return start_apache_kafka(secure=True)


@pytest.fixture
def connection(cluster: Cluster) -> KafkaConnection:
    security = cluster.security
    assert security is not None
    return KafkaConnection(
        cluster.secure_servers,
        security_protocol="SASL_SSL",
        sasl_mechanism=MECHANISM,
        sasl_username=security.username,
        sasl_password=security.password,
        ssl_cafile=str(security.ca_file),
    )


@pytest.fixture
def make_topic(cluster: Cluster) -> Callable[..., str]:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})

    def make(*allowed: AclOperation) -> str:
        assert isinstance(cluster.security, Security)
        name = f"secured.{uuid4().hex}"
        admin.create_topics([NewTopic(name, 1)])[name].result(HANG_SECONDS)
        who = f"User:{cluster.security.username}"
        where = (ResourceType.TOPIC, name, ResourcePatternType.LITERAL)
        rules = [AclBinding(*where, who, "*", operation, AclPermissionType.ALLOW) for operation in allowed]
        for answer in admin.create_acls(rules).values() if rules else ():
            answer.result(HANG_SECONDS)
        # The controller answers before the broker has heard of it.
        deadline = time.monotonic() + HANG_SECONDS
        here = AclBindingFilter(*where, None, None, AclOperation.ANY, AclPermissionType.ANY)
        while name not in admin.list_topics(timeout=HANG_SECONDS).topics or len(
            admin.describe_acls(here).result(HANG_SECONDS)
        ) < len(rules):
            assert time.monotonic() < deadline, f"the broker has not heard of {name} and its rules"
        return name

    return make


async def test_who_is_known_and_allowed_publishes_and_reads_back(
    connection: KafkaConnection, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(AclOperation.WRITE, AclOperation.READ)
    async with publishing(connection) as (publisher, directory), asyncio.timeout(HANG_SECONDS):
        place = await publisher.publish_to_topic(topic, SEALED, key="k")
        log = KafkaCallbackLog(connection, directory)
        standing = await log.find_standing(topic, {}, ["one", "two"])

    assert (place.partition, place.offset) == (0, 0)  # type: ignore[union-attr]
    assert set(standing) == {"one"}


async def test_who_may_only_look_is_refused_for_good(
    connection: KafkaConnection, make_topic: Callable[..., str]
) -> None:
    closed, open_topic = make_topic(AclOperation.DESCRIBE), make_topic(AclOperation.WRITE)
    async with publishing(connection) as (publisher, _), asyncio.timeout(HANG_SECONDS):
        with pytest.raises(PublishRefused) as refused:
            await publisher.publish_to_topic(closed, SEALED)
        place = await publisher.publish_to_topic(open_topic, SEALED)

    assert refused.value.reason == "TOPIC_AUTHORIZATION_FAILED"
    assert place is not None


async def test_topic_that_may_not_be_seen_does_not_exist(
    connection: KafkaConnection, make_topic: Callable[..., str]
) -> None:
    """Kafka does not list topics that a user may not describe; the intake refuses them as absent."""
    hidden, seen = make_topic(), make_topic(AclOperation.DESCRIBE)
    directory = KafkaTopicDirectory(connection)
    try:
        assert (await directory.exists(hidden), await directory.exists(seen)) == (False, True)
    finally:
        await directory.close()


async def test_topic_that_may_not_be_read_is_said_so(
    connection: KafkaConnection, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(AclOperation.WRITE)
    async with publishing(connection) as (publisher, directory), asyncio.timeout(HANG_SECONDS):
        await publisher.publish_to_topic(topic, SEALED)
        with pytest.raises(TopicUnreadable):
            await KafkaCallbackLog(connection, directory).find_standing(topic, {}, ["one"])


@pytest.mark.parametrize("wrong", ["password", "user", "certificate"])
async def test_who_is_not_known_does_not_come_in(connection: KafkaConnection, wrong: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "password": {"sasl_password": "guessed-secret"},
        "user": {"sasl_username": "nobody"},
        "certificate": {"ssl_cafile": None},
    }
    directory = KafkaTopicDirectory(replace(connection, **changes[wrong]))
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            await directory.exists("secured.any")
    finally:
        await directory.close()

    assert "secret" not in f"{refused.value!r} {refused.value.__cause__!r}"
