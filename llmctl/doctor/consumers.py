"""Who reads the callback topics: the consumer groups, and how far behind they are."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.client.lag import GroupLag, TopicsReport
from llmctl.doctor.brokers import KafkaFacts
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.words import say_count

GROUP = "consumers"
READERS = "readers"


def judge_consumers(facts: KafkaFacts, topics: Sequence[str], max_lag: int) -> list[Check]:
    """Every group on each callback topic; or that there is none."""
    return [check for topic in topics for check in _judge_topic(facts, topic, max_lag)]


def _judge_topic(facts: KafkaFacts, topic: str, max_lag: int) -> list[Check]:
    section, lag = Section(GROUP, topic), facts.lag
    if isinstance(facts.cluster, Unknown):
        return [section.left_out(READERS, facts.why_no_cluster)]
    if topic not in facts.cluster.topics:
        return [section.left_out(READERS, "there is no such topic")]
    if isinstance(lag, Unknown):
        return [section.left_out(READERS, lag.reason)]
    found = [_judge_group(section, each, max_lag) for each in lag.groups if each.topic == topic]
    if lag.groups_problem is not None:
        return [*found, section.left_out(READERS, _unsay(lag))]
    return found or [
        section.warned(
            READERS,
            "no consumer group reads it",
            "Start its consumers before callbacks come. One without a group cannot be seen from here.",
        )
    ]


def _judge_group(section: Section, group: GroupLag, max_lag: int) -> Check:
    seen = _say_members(group.members)
    if group.lag is None:
        return section.passed(group.group, f"{seen}; has read nothing yet")
    seen = f"{seen}; {group.lag:,} behind"
    if group.members == 0:
        return section.warned(group.group, seen, "Start its consumers: nobody reads for it.")
    if group.lag > max_lag:
        advice = "See that it catches up: compare in a minute, or `llmctl monitor`."
        return section.warned(group.group, f"{seen}, more than {max_lag:,} (--max-lag)", advice)
    return section.passed(group.group, seen)


def _say_members(count: int | None) -> str:
    if count is None:
        return "its members are not told"
    return say_count(count, "member")


def _unsay(lag: TopicsReport) -> str:
    said = (lag.groups_problem or "").rstrip(".")
    return f"{said[:1].lower()}{said[1:]}"
