"""Kafka itself: does it answer, how many brokers are there, which release."""

from __future__ import annotations

from dataclasses import dataclass

from llmctl.client.broker_release import BrokerApi, describe_release
from llmctl.client.cluster import ClusterState
from llmctl.client.lag import TopicsReport
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.words import say_count, split_advice

GROUP = "kafka"
OUT_OF_REACH = "no broker is in reach"
_INIT_PRODUCER_ID = 22
"""The call of idempotent producers, as the service's is."""


@dataclass(frozen=True)
class KafkaFacts:
    """What the brokers have answered."""

    cluster: ClusterState | Unknown
    api: BrokerApi | Unknown
    lag: TopicsReport | Unknown

    @property
    def why_no_cluster(self) -> str:
        """Why checks that need it are left out."""
        if isinstance(self.cluster, Unknown) and not self.cluster.out_of_reach:
            return self.cluster.reason
        return OUT_OF_REACH


def judge_brokers(facts: KafkaFacts) -> list[Check]:
    """Every check of the group."""
    section, cluster = Section(GROUP), facts.cluster
    if isinstance(cluster, Unknown):
        advice = "Start the broker, or correct --bootstrap-servers."
        first = (
            section.failed("brokers", *split_advice(cluster.reason, advice))
            if cluster.out_of_reach
            else section.left_out("brokers", cluster.reason)
        )
        return [first, section.left_out("release", facts.why_no_cluster)]
    if cluster.embedded:
        said = "the embedded broker: one, in memory, for trying things out"
        return [section.passed("brokers", said), section.left_out("release", "librdkafka's mock cluster")]
    counts = f"{say_count(cluster.brokers, 'broker')}, {say_count(len(cluster.names), 'topic')}"
    return [
        section.passed("brokers", counts),
        _judge_release(facts.api),
    ]


def _judge_release(api: BrokerApi | Unknown) -> Check:
    section = Section(GROUP)
    if isinstance(api, Unknown):
        return section.left_out("release", api.reason)
    said = describe_release(api)
    if api.calls and _INIT_PRODUCER_ID not in api.calls:
        return section.failed(
            "release", f"{said}, and knows no idempotent producers", "Use Kafka 2.4 or later."
        )
    return section.passed("release", said)
