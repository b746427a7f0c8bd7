"""The callback topics: are they there, can they be written, what do they keep, for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmctl.client.cluster import ClusterState, PartitionState, TopicState
from llmctl.client.kafka import name_near
from llmctl.client.topics import TopicOutcome
from llmctl.doctor.brokers import KafkaFacts
from llmctl.doctor.checks import Check, Section, Unknown, join
from llmctl.doctor.words import say_bytes, say_count, say_milliseconds

GROUP, QUEUE_GROUP, USAGE_GROUP = "topics", "queue topics", "usage topic"
MANY_USAGE_EVENTS = 1000
LARGEST_CALLBACK_BYTES = 32 * 1024
"""What a callback can come to: 16 KiB of metadata, twenty attempts, a message of a thousand characters."""
SHORT_RETENTION_MILLISECONDS = 86_400_000
NAMED_PARTITIONS = 5
_SAFE_COPIES = 2
_NAMES = ("exists", "copies", "settings")


def judge_topics(facts: KafkaFacts, topics: Sequence[str]) -> list[Check]:
    """Every check of each callback topic."""
    return [check for topic in topics for check in _judge_topic(facts, topic)]


def _judge_topic(facts: KafkaFacts, topic: str) -> list[Check]:
    section, cluster = Section(GROUP, topic), facts.cluster
    if isinstance(cluster, Unknown):
        return [section.left_out(name, facts.why_no_cluster) for name in _NAMES]
    state = cluster.topics.get(topic)
    if state is None:
        advice = name_near(topic, list(cluster.names))
        first = section.failed(
            "exists", "there is no such topic, or we may not see it", f"{advice[0].upper()}{advice[1:]}"
        )
        return [first, *(section.left_out(name, "there is no such topic") for name in _NAMES[1:])]
    return [
        _judge_partitions(section, state),
        _judge_copies(section, state, cluster),
        judge_settings(section, state),
    ]


def _judge_partitions(section: Section, state: TopicState) -> Check:
    seen = say_count(len(state.partitions), "partition")
    orphans = [each for each in state.partitions if not each.has_leader]
    if orphans:
        return section.failed(
            "exists",
            f"{seen}, of which {_name(orphans)} without a leader: callbacks for them wait",
            "Start the brokers that hold them again.",
        )
    return section.passed("exists", seen)


def _judge_copies(section: Section, state: TopicState, cluster: ClusterState) -> Check:
    if cluster.embedded:
        return section.left_out("copies", "the embedded broker holds one, in memory")
    copies = min((each.replicas for each in state.partitions), default=0)
    configured = _read_number(state.settings or {}, "min.insync.replicas") or 1
    wanted = min(configured, copies)  # Kafka writes to a topic with fewer copies than that as well
    seen = f"{_say_copies(copies)} on {cluster.brokers} brokers"
    if cluster.brokers == 1:
        seen = "1 copy, on the only broker"
    unwritable = [each for each in state.partitions if each.has_leader and each.in_sync < wanted]
    if unwritable:
        return section.failed(
            "copies",
            f"{seen}; {_name(unwritable)} cannot be written: fewer than {wanted} copies in sync",
            "Start the brokers that hold the others, or lower min.insync.replicas.",
        )
    lagging = [each for each in state.partitions if each.in_sync < each.replicas]
    if lagging:
        return section.warned(
            "copies",
            f"{seen}; {_name(lagging)} with copies out of sync",
            "Look at the brokers that hold them.",
        )
    return _judge_safety(section, seen, copies, wanted, cluster.brokers)


def _judge_safety(section: Section, seen: str, copies: int, wanted: int, brokers: int) -> Check:
    if copies < _SAFE_COPIES <= brokers:
        return section.warned(
            "copies",
            f"{seen}: without its broker no callback is delivered, without its disk they are lost",
            "Reassign it to three brokers (kafka-reassign-partitions).",
        )
    if copies >= _SAFE_COPIES and wanted == copies:
        return section.warned(
            "copies",
            f"{seen}, all of which must be in sync: one broker away stops callbacks",
            f"Set min.insync.replicas to {copies - 1}.",
        )
    if copies > _SAFE_COPIES and wanted < _SAFE_COPIES:
        return section.warned(
            "copies",
            f"{seen}, of which one in sync is enough: a callback can be lost with one broker",
            "Set min.insync.replicas to 2.",
        )
    return section.passed("copies", f"{seen}, all in sync")


def judge_settings(section: Section, state: TopicState) -> Check:
    """What a topic keeps and takes."""
    settings = state.settings
    if settings is None:
        return section.left_out("settings", state.settings_problem or "the broker does not tell them")
    seen = join(_describe(settings))
    problems = dict(_find_problems(settings))
    if not problems:
        return section.passed("settings", seen)
    changes = " ".join(f"--config {change}" for change in problems.values() if change)
    advice = f"`llmctl topics bootstrap {state.name} {changes} --apply` changes it."
    return section.warned("settings", f"{seen}: {join(problems)}", advice)


def _describe(settings: Mapping[str, str]) -> Iterator[str]:
    kept = _read_number(settings, "retention.ms")
    if kept is not None:
        yield "kept for ever" if kept < 0 else f"kept {say_milliseconds(kept)}"
    largest = _read_number(settings, "max.message.bytes")
    if largest is not None:
        yield f"up to {say_bytes(largest)} a record"


def _find_problems(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong, and the setting that mends it."""
    policy = {each.strip() for each in settings.get("cleanup.policy", "delete").split(",")}
    if "compact" in policy:
        yield (
            "it is compacted: of callbacks with one correlation id only the last stays",
            "cleanup.policy=delete",
        )
    kept = _read_number(settings, "retention.ms")
    if kept is not None and 0 <= kept < SHORT_RETENTION_MILLISECONDS and "delete" in policy:
        yield "a consumer that is away for a day loses callbacks", "retention.ms=604800000"
    largest = _read_number(settings, "max.message.bytes")
    if largest is not None and largest < LARGEST_CALLBACK_BYTES:
        yield "a callback with much metadata does not fit", "max.message.bytes=1048588"


def judge_queue_topics(outcomes: Sequence[TopicOutcome] | Unknown | None) -> list[Check]:
    """The topics of a queue on Kafka, against what `topics bootstrap --queue` makes; None: no such queue."""
    if outcomes is None:
        return []
    if isinstance(outcomes, Unknown):
        return [Section(QUEUE_GROUP).left_out("settings", outcomes.reason)]
    return [_judge_queue_topic(Section(QUEUE_GROUP, each.name), each) for each in outcomes]


def _judge_queue_topic(section: Section, outcome: TopicOutcome) -> Check:
    advice = "`llmctl topics bootstrap --queue` creates it."
    if outcome.partitions is None or outcome.state in {"would create", "failed"}:
        return section.failed("settings", "there is no such topic", advice)
    seen = f"{say_count(outcome.partitions, 'partition')}, {_say_copies(outcome.replication_factor or 0)}"
    if outcome.notes:
        advice = "`llmctl topics bootstrap --queue --apply` sets what can be changed."
        return section.warned("settings", f"{seen}; {join(outcome.notes)}", advice)
    return section.passed("settings", f"{seen}, as the queue needs it")


def judge_usage_topic(facts: KafkaFacts, figures: Mapping[str, Any] | None) -> list[Check]:
    """Where the service tells usage: is the topic there, and does it take the events. None: it tells none."""
    usage = (figures or {}).get("usage")
    if not isinstance(usage, Mapping):
        return []
    topic, pending = str(usage.get("topic")), int(usage.get("pending", 0))
    section, cluster = Section(USAGE_GROUP, topic), facts.cluster
    if isinstance(cluster, Unknown):
        return [section.left_out("events", facts.why_no_cluster)]
    seen = f"{say_count(pending, 'event')} not yet told"
    if topic not in cluster.names:
        advice = f"`llmctl topics bootstrap {topic}` creates it; what waits is told then."
        return [section.failed("events", f"there is no such topic, or we may not see it; {seen}", advice)]
    if pending > MANY_USAGE_EVENTS:
        return [section.warned("events", seen, "The service's log says why: look for `usage events`.")]
    return [section.passed("events", seen)]


def _read_number(settings: Mapping[str, str], name: str) -> int | None:
    try:
        return int(settings[name])
    except (KeyError, ValueError):
        return None


def _name(partitions: Sequence[PartitionState]) -> str:
    numbers = [str(each.number) for each in partitions[:NAMED_PARTITIONS]]
    more = len(partitions) - len(numbers)
    return f"partition{'' if len(partitions) == 1 else 's'} {', '.join(numbers)}" + (
        f" and {more} more" if more else ""
    )


def _say_copies(count: int) -> str:
    return "1 copy" if count == 1 else f"{count} copies"
