"""Facts as a healthy installation tells them, and short words for what checks come to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from llmctl.client.broker_release import BrokerApi
from llmctl.client.cluster import ClusterState, PartitionState, TopicState
from llmctl.client.lag import GroupLag, TopicsReport
from llmctl.doctor.asking import Reply
from llmctl.doctor.brokers import KafkaFacts
from llmctl.doctor.checks import Check, Unknown
from llmctl.doctor.service import ServiceFacts

TOPIC = "results"
SETTINGS = {
    "retention.ms": "604800000",
    "max.message.bytes": "1048588",
    "cleanup.policy": "delete",
    "min.insync.replicas": "2",
}
SNAPSHOT: dict[str, Any] = {
    "version": "1.2.3",
    "time": "2026-01-02T03:04:05+00:00",
    "queue": {
        "backend": "sqlite",
        "depth": 0,
        "capacity": 100,
        "oldest_age_seconds": 0.0,
        "disk": {"folder": "/data", "free_bytes": 2**40, "reserve_bytes": 2**26},
        "topics": None,
    },
    "in_flight": 0,
    "outbox": {"depth": 0, "parked": 0},
    "rates": {"published": 0.0},
    "providers": [],
}
PROVIDER = {"name": "openai", "circuit": "closed", "held": False, "default": True, "calls": 0, "errors": 0}
AT = 1767323045.0
"""The time of the snapshot, in seconds since 1970."""


def good(document: dict[str, Any], **times: float) -> Reply:
    """A 200 with this document."""
    return Reply(200, document, **times)


def refusal(status: int, message: str = "No.", **details: object) -> Reply:
    """An error of the service."""
    return Reply(status, {"error": {"error_code": "LLM_X", "message": message, "details": details}})


@pytest.fixture
def service() -> Callable[..., ServiceFacts]:
    """A service in order, but for what is named."""

    def make(**other: Any) -> ServiceFacts:
        facts: dict[str, Any] = {
            "url": "http://127.0.0.1:8080",
            "readiness": good({"status": "ready", "broker": "up"}),
            "snapshot": good(SNAPSHOT, sent_unix_seconds=AT, received_unix_seconds=AT + 0.01),
            "providers": good({"providers": [PROVIDER]}),
            "metrics": Reply(200),
        }
        return ServiceFacts(**facts | other)

    return make


@pytest.fixture
def silent(service: Callable[..., ServiceFacts]) -> ServiceFacts:
    """A service that is not there."""
    asked = Unknown("No service answers at http://x; start one", out_of_reach=True)
    rest = Unknown("the service is out of reach")
    return service(readiness=asked, snapshot=rest, providers=rest, metrics=rest)


def make_topic(
    copies: int = 3,
    in_sync: int = 3,
    leaders: Sequence[bool] = (True, True, True),
    settings: Mapping[str, str] | None = None,
) -> TopicState:
    """A topic with a partition for each leader, in order but for these settings."""
    partitions = (
        PartitionState(number, has_leader, copies, in_sync) for number, has_leader in enumerate(leaders)
    )
    return TopicState(TOPIC, tuple(partitions), SETTINGS | dict(settings or {}))


@pytest.fixture
def kafka() -> Callable[..., KafkaFacts]:
    """Three brokers in order with one topic, but for what is named."""

    def make(
        topic: TopicState | None = None, brokers: int = 3, groups: Sequence[GroupLag] = (), **other: Any
    ) -> KafkaFacts:
        state = make_topic() if topic is None else topic
        facts: dict[str, Any] = {
            "cluster": ClusterState(brokers, (TOPIC, "other"), {TOPIC: state}),
            "api": BrokerApi({22: (0, 5), 65: (0, 1)}, 33, 33),
            "lag": TopicsReport((), tuple(groups), None),
        }
        return KafkaFacts(**facts | other)

    return make


def read(checks: Sequence[Check]) -> dict[str, str]:
    """The verdict of each check, by its name."""
    return {check.name: check.verdict.value for check in checks}


def find(checks: Sequence[Check], name: str) -> Check:
    """The one of this name."""
    (found,) = [check for check in checks if check.name == name]
    return found
