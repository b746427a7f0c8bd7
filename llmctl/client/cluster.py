"""A Kafka cluster as an operator looks at it: its brokers, and how some of its topics stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, IncompatibleBrokerVersion, RequestTimedOutError, for_code

from llmctl.client.kafka import ask, open_admin
from llmctl.client.topics import find_embedded
from simulator.kafka_address import KafkaAddress

NO_LEADER = -1


@dataclass(frozen=True)
class PartitionState:
    """One partition at one moment."""

    number: int
    has_leader: bool
    replicas: int
    in_sync: int


@dataclass(frozen=True)
class TopicState:
    """One topic at one moment."""

    name: str
    partitions: tuple[PartitionState, ...] = ()
    settings: Mapping[str, str] | None = None
    """All that hold for it, its own and the broker's; None where they are not told."""
    settings_problem: str | None = None
    """Why not, in a sentence."""


@dataclass(frozen=True)
class ClusterState:
    """The brokers, the names of all topics, and the state of those that were asked for and exist."""

    brokers: int
    names: tuple[str, ...]
    topics: Mapping[str, TopicState] = field(default_factory=dict)
    embedded: bool = False
    """Whether it is our own broker, in memory."""


async def read_cluster(kafka: KafkaAddress, topics: Sequence[str]) -> ClusterState:
    """Asks once; Unreachable where no broker answers, Failed where it refuses.

    Asks for all topics: asking for one would create it.
    """
    embedded = await find_embedded(kafka) is not None
    async with open_admin(kafka) as admin:
        cluster = await ask(admin.describe_cluster(), kafka)
        described = await ask(admin.describe_topics(), kafka)
        found = {each["topic"]: _read_topic(each) for each in described if each["topic"] in topics}
        if embedded:
            problem = "the embedded broker keeps no settings"
            found = {name: replace(each, settings_problem=problem) for name, each in found.items()}
        elif found:
            found = await ask(_read_settings(admin, found), kafka)
    names = tuple(sorted(str(each["topic"]) for each in described if not each.get("is_internal")))
    return ClusterState(len(cluster["brokers"]), names, found, embedded)


def _read_topic(described: Mapping[str, Any]) -> TopicState:
    partitions = (
        PartitionState(
            each["partition"], each["leader"] != NO_LEADER, len(each["replicas"]), len(each["isr"])
        )
        for each in described["partitions"]
    )
    return TopicState(described["topic"], tuple(sorted(partitions, key=lambda each: each.number)))


async def _read_settings(
    admin: AIOKafkaAdminClient, topics: Mapping[str, TopicState]
) -> dict[str, TopicState]:
    """The same topics with their settings; a broker that does not answer at all raises as it does."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    try:
        answers = await admin.describe_configs(asked)
    except RequestTimedOutError:
        raise
    except (IncompatibleBrokerVersion, BrokerResponseError) as problem:
        why = f"the broker does not tell them: {problem}"
        return {name: replace(each, settings_problem=why) for name, each in topics.items()}
    found = dict(topics)
    for answer in answers:
        for resource in answer.to_object()["resources"]:
            name, error = resource["resource_name"], resource["error_code"]
            if error:
                why = f"the broker does not tell them: {for_code(error).__name__}"
                found[name] = replace(found[name], settings_problem=why)
            else:
                entries = resource["config_entries"]
                settings = {each["config_names"]: str(each["config_value"]) for each in entries}
                found[name] = replace(found[name], settings=settings)
    return found
