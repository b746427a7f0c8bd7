"""Checks of brokers, callback topics, queue topics and consumers."""

from collections.abc import Sequence
from typing import Any

import pytest

from llmctl.client.broker_release import BrokerApi
from llmctl.client.cluster import ClusterState, PartitionState, TopicState
from llmctl.client.lag import GroupLag, TopicsReport
from llmctl.client.topics import TopicOutcome
from llmctl.doctor.brokers import judge_brokers
from llmctl.doctor.checks import Unknown
from llmctl.doctor.consumers import judge_consumers
from llmctl.doctor.topics import judge_queue_topics, judge_topics, judge_usage_topic
from tests.unit.llmctl.doctor.conftest import TOPIC, find, make_kafka, make_topic, read

IN_SYNC = "min.insync.replicas"
AWAY = Unknown("No Kafka broker answers at k:1; start one", out_of_reach=True)


def test_a_cluster_in_order_passes() -> None:
    facts = make_kafka(groups=[GroupLag("judges", "Stable", TOPIC, {0: 1}, 3, 2)])
    assert read(judge_brokers(facts)) == {"brokers": "pass", "release": "pass"}
    assert read(judge_topics(facts, [TOPIC])) == dict.fromkeys(("exists", "copies", "settings"), "pass")
    assert read(judge_consumers(facts, [TOPIC], 1000)) == {"judges": "pass"}


@pytest.mark.parametrize(("unknown", "verdict"), [(AWAY, "fail"), (Unknown("no address"), "skip")])
def test_brokers_that_are_away_are_one_failure(unknown: Unknown, verdict: str) -> None:
    facts = make_kafka(cluster=unknown, api=unknown, lag=unknown)
    checks = judge_brokers(facts)
    rest = [*checks[1:], *judge_topics(facts, [TOPIC]), *judge_consumers(facts, [TOPIC], 1)]
    assert checks[0].verdict == verdict
    assert {check.verdict for check in rest} == {"skip"}


def test_the_embedded_broker_is_known_as_what_it_is() -> None:
    """It keeps no copies, settings or consumer groups, which is not a fault."""
    topic = TopicState(TOPIC, (PartitionState(0, True, 1, 1),), None, "the embedded broker keeps no settings")
    facts = make_kafka(
        cluster=ClusterState(1, (TOPIC,), {TOPIC: topic}, embedded=True),
        lag=TopicsReport((), (), "This broker does not list its consumer groups."),
    )
    assert read(judge_brokers(facts)) == {"brokers": "pass", "release": "skip"}
    assert read(judge_topics(facts, [TOPIC])) == {"exists": "pass", "copies": "skip", "settings": "skip"}
    assert find(judge_consumers(facts, [TOPIC], 1), "readers").seen.startswith("this broker does not")


def test_a_broker_too_old_for_our_producer_fails() -> None:
    old = judge_brokers(make_kafka(api=BrokerApi({0: (0, 2)})))
    silent = judge_brokers(make_kafka(api=BrokerApi()))
    unknown = judge_brokers(make_kafka(api=Unknown("no answer")))
    assert [find(checks, "release").verdict for checks in (old, silent, unknown)] == ["fail", "pass", "skip"]


def test_a_missing_topic_fails_with_its_neighbours() -> None:
    checks = judge_topics(make_kafka(), ["resultz"])
    assert read(checks) == {"exists": "fail", "copies": "skip", "settings": "skip"}
    assert find(checks, "exists").advice == "Did you mean results?"
    assert read(judge_consumers(make_kafka(), ["resultz"], 1)) == {"readers": "skip"}


def test_a_partition_without_a_leader_fails() -> None:
    check = find(judge_topics(make_kafka(make_topic(leaders=[True, False])), [TOPIC]), "exists")
    assert (check.verdict, "partition 1 without a leader" in check.seen) == ("fail", True)


@pytest.mark.parametrize(
    ("topic", "brokers", "verdict", "said"),
    [
        (make_topic(1, 1, settings={IN_SYNC: "1"}), 1, "pass", "the only broker"),
        (make_topic(1, 1, settings={IN_SYNC: "1"}), 3, "warn", "lost"),
        (make_topic(2, 2, settings={IN_SYNC: "1"}), 2, "pass", "all in sync"),
        (make_topic(3, 3, settings={IN_SYNC: "1"}), 3, "warn", "one in sync is enough"),
        (make_topic(3, 3, settings={IN_SYNC: "3"}), 3, "warn", "one broker away stops"),
        (make_topic(3, 2), 3, "warn", "out of sync"),
        (make_topic(3, 1), 3, "fail", "cannot be written"),
        (make_topic(3, 3), 3, "pass", "3 copies on 3 brokers"),
        (make_topic(3, 1, leaders=[True] * 9), 3, "fail", "0, 1, 2, 3, 4 and 4 more"),
    ],
)
def test_copies_are_judged_by_what_a_lost_broker_does(
    topic: TopicState, brokers: int, verdict: str, said: str
) -> None:
    check = find(judge_topics(make_kafka(topic, brokers), [TOPIC]), "copies")
    assert (check.verdict, said in check.seen) == (verdict, True)


@pytest.mark.parametrize(
    ("settings", "verdict", "advice"),
    [
        ({"retention.ms": "-1"}, "pass", None),
        ({"retention.ms": "3600000"}, "warn", "--config retention.ms="),
        ({"max.message.bytes": "1000"}, "warn", "--config max.message.bytes="),
        ({"cleanup.policy": "compact"}, "warn", "--config cleanup.policy=delete"),
        ({"cleanup.policy": "compact,delete"}, "warn", "--config cleanup.policy=delete"),
        ({"cleanup.policy": "compact", "retention.ms": "1"}, "warn", "cleanup.policy=delete --apply"),
        ({"retention.ms": "soon"}, "pass", None),
    ],
)
def test_settings_that_lose_callbacks_are_warnings_with_the_command(
    settings: dict[str, str], verdict: str, advice: str | None
) -> None:
    check = find(judge_topics(make_kafka(make_topic(settings=settings)), [TOPIC]), "settings")
    assert check.verdict == verdict
    assert (check.advice is None) if advice is None else (advice in (check.advice or ""))


def test_a_queue_in_a_file_has_no_topics() -> None:
    assert judge_queue_topics(None) == []
    assert read(judge_queue_topics(Unknown("no broker is in reach"))) == {"settings": "skip"}


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (TopicOutcome("q", "exists", 12, 3), "pass"),
        (TopicOutcome("q", "would create", 3, None), "fail"),
        (TopicOutcome("q", "failed", notes=("not listed",)), "fail"),
        (TopicOutcome("q", "differs", 12, 3, ("retention.ms is 1, not 2",)), "warn"),
    ],
)
def test_topics_of_the_queue_are_held_against_what_it_needs(outcome: TopicOutcome, verdict: str) -> None:
    assert read(judge_queue_topics([outcome])) == {"settings": verdict}


@pytest.mark.parametrize(
    ("usage", "verdict"),
    [
        ({"topic": "other", "pending": 3}, "pass"),
        ({"topic": "other", "pending": 5000}, "warn"),
        ({"topic": "gone", "pending": 3}, "fail"),
    ],
)
def test_the_usage_topic_has_to_be_there(usage: dict[str, Any], verdict: str) -> None:
    assert read(judge_usage_topic(make_kafka(), {"usage": usage})) == {"events": verdict}
    assert judge_usage_topic(make_kafka(), {"usage": None}) == judge_usage_topic(make_kafka(), None) == []
    assert read(judge_usage_topic(make_kafka(cluster=AWAY), {"usage": usage})) == {"events": "skip"}


def group(lag: int | None, members: int | None) -> GroupLag:
    return GroupLag("judges", "", TOPIC, {}, lag, members)


@pytest.mark.parametrize(
    ("groups", "verdicts"),
    [
        ([], {"readers": "warn"}),
        ([group(1000, 1)], {"judges": "pass"}),
        ([group(1001, 1)], {"judges": "warn"}),
        ([group(1001, None)], {"judges": "warn"}),
        ([group(0, 0)], {"judges": "warn"}),
        ([group(0, None)], {"judges": "pass"}),
        ([group(None, 2)], {"judges": "pass"}),
        ([GroupLag("others", "", "other", {}, 1, 1)], {"readers": "warn"}),
    ],
)
def test_consumers_are_judged_by_members_and_lag(
    groups: Sequence[GroupLag], verdicts: dict[str, str]
) -> None:
    assert read(judge_consumers(make_kafka(groups=groups), [TOPIC], 1000)) == verdicts


@pytest.mark.parametrize(
    "lag", [TopicsReport((), (group(1, 1),), "3 of 4 consumer groups cannot be read."), Unknown("no answer")]
)
def test_groups_that_cannot_be_told_are_left_out(lag: Any) -> None:
    assert find(judge_consumers(make_kafka(lag=lag), [TOPIC], 1), "readers").verdict == "skip"
