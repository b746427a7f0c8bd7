"""Facts of a healthy installation, and helpers that read the checks."""

from collections.abc import Mapping, Sequence
from typing import Any

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
        "quarantined": {"count": 0, "reason": None},
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
    return Reply(200, document, **times)


def refusal(status: int, message: str = "No.", **details: object) -> Reply:
    return Reply(status, {"error": {"error_code": "LLM_X", "message": message, "details": details}})


def make_service(**other: Any) -> ServiceFacts:
    """A healthy service, except for the given facts."""
    facts: dict[str, Any] = {
        "url": "http://127.0.0.1:8080",
        "readiness": good({"status": "ready", "broker": "up"}),
        "snapshot": good(SNAPSHOT, sent_unix_seconds=AT, received_unix_seconds=AT + 0.01),
        "providers": good({"providers": [PROVIDER]}),
        "metrics": Reply(200),
    }
    return ServiceFacts(**facts | other)


def make_silent() -> ServiceFacts:
    """A service that does not answer."""
    asked = Unknown("No service answers at http://x; start one", out_of_reach=True)
    rest = Unknown("the service is out of reach")
    return make_service(readiness=asked, snapshot=rest, providers=rest, metrics=rest)


def make_topic(
    copies: int = 3,
    in_sync: int = 3,
    leaders: Sequence[bool] = (True, True, True),
    settings: Mapping[str, str] | None = None,
) -> TopicState:
    partitions = (
        PartitionState(number, has_leader, copies, in_sync) for number, has_leader in enumerate(leaders)
    )
    return TopicState(TOPIC, tuple(partitions), SETTINGS | dict(settings or {}))


def make_kafka(
    topic: TopicState | None = None, brokers: int = 3, groups: Sequence[GroupLag] = (), **other: Any
) -> KafkaFacts:
    """Three healthy brokers with one topic, except for the given facts."""
    state = make_topic() if topic is None else topic
    facts: dict[str, Any] = {
        "cluster": ClusterState(brokers, (TOPIC, "other"), {TOPIC: state}),
        "api": BrokerApi({22: (0, 5), 65: (0, 1)}, 33, 33),
        "lag": TopicsReport((), tuple(groups), None),
    }
    return KafkaFacts(**facts | other)


def read(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.verdict.value for check in checks}


def find(checks: Sequence[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found
