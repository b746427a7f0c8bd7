"""Lag of consumer groups, and what is reported of groups that cannot be read."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
)
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.structs import OffsetAndMetadata
from hypothesis import given
from hypothesis import strategies as st

from llmctl.client.lag import (
    GROUPS_AT_ONCE,
    MAX_GROUPS,
    GroupFacts,
    PartitionEnds,
    TopicEnds,
    TopicsReader,
    explain_gaps,
    make_topics,
    measure_lag,
    read_facts,
)
from llmctl.exits import Unreachable

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
TOPIC = TopicEnds("t", (PartitionEnds(0, 5, 10), PartitionEnds(1, 2, 4)))


def assign(*topics: str) -> bytes:
    return ConsumerProtocolMemberAssignment(0, [(topic, [0]) for topic in topics], b"").encode()


def describe(group: str, *assignments: bytes, state: str = "Stable", error: int = 0) -> tuple[Any, ...]:
    members = [(f"m-{place}", "c", "/h", b"", each) for place, each in enumerate(assignments)]
    return (error, group, state, "consumer", "range", members, 0)


class StubConsumer:
    """Knows no partition until it is told to ask for all topics; a topic has offsets 0 to 10."""

    def __init__(self) -> None:
        self.knows_all = False

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1} if self.knows_all else None

    def unsubscribe(self) -> None:
        self.knows_all = True

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        assert self.knows_all, "asked for by name, the topic would be created"
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 10)


class StubAdmin:
    """Each broker coordinates the groups given for it, and answers for no others."""

    def __init__(self, *homes: Mapping[str, int | KafkaError | None]) -> None:
        self.homes = homes
        """For each broker, group → what it committed on partition 0, the error, or None for no offsets."""
        self.refuses: KafkaError | None = None
        self.protocol = "consumer"
        self.at_once = self.most_at_once = 0
        self.described: list[tuple[int, list[str]]] = []

    async def describe_topics(self) -> list[dict[str, Any]]:
        return [{"topic": name, "partitions": [{"partition": 1}, {"partition": 0}]} for name in ("u", "t")]

    async def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"node_id": number} for number in range(len(self.homes))]}

    async def list_consumer_groups(self, brokers: list[int]) -> list[tuple[str, str]]:
        if self.refuses is not None:
            raise self.refuses
        return [(group, self.protocol) for broker in brokers for group in self.homes[broker]]

    async def list_consumer_group_offsets(
        self, group: str, broker: int, places: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Like the real client, it loses an error about the whole group and returns no offsets."""
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        offset = self.homes[broker][group]
        if isinstance(offset, KafkaError):
            raise offset
        if offset is None:
            return {}
        return {place: OffsetAndMetadata(-1 if place.partition else offset, "") for place in places}

    async def describe_consumer_groups(
        self, groups: list[str], broker: int
    ) -> list[DescribeGroupsResponse_v3]:
        """Each group has one member, on the watched topic if its name says `member`."""
        self.described.append((broker, groups))
        told = [describe(group, assign("t" if "member" in group else "u")) for group in groups]
        return [DescribeGroupsResponse_v3(0, told)]


def read_with(admin: StubAdmin) -> Any:
    return TopicsReader(StubConsumer(), admin, "k:1", ["t"])  # type: ignore[arg-type]


def test_topics_and_partitions_are_in_order() -> None:
    places = [TopicPartition("u", 0), TopicPartition("t", 10), TopicPartition("t", 2)]
    topics = make_topics(dict.fromkeys(places, 1), {place: place.partition + 1 for place in places})
    assert topics == (
        TopicEnds("t", (PartitionEnds(2, 1, 3), PartitionEnds(10, 1, 11))),
        TopicEnds("u", (PartitionEnds(0, 1, 1),)),
    )


def test_records_are_what_retention_left() -> None:
    assert (TOPIC.records, TOPIC.end_total) == (7, 14)


@pytest.mark.parametrize(
    ("committed", "lag"),
    [({T0: 10, T1: 4}, 0), ({T0: 7, T1: 3}, 4), ({T0: 7}, 5), ({T1: 4}, 5), ({T0: 12, T1: 3}, 1)],
    ids=["all read", "both behind", "one without a commit", "the other", "a commit newer than the end"],
)
def test_lag_is_what_is_between_commit_and_end(committed: dict[TopicPartition, int], lag: int) -> None:
    (found,) = measure_lag([TOPIC], {"g": committed}, {"g": GroupFacts("Stable", 3)})
    assert (found.group, found.topic, found.state, found.members) == ("g", "t", "Stable", 3)
    assert found.lag == lag
    assert found.committed == {place.partition: offset for place, offset in committed.items()}


@given(
    st.dictionaries(st.text("ab", min_size=1), st.dictionaries(st.sampled_from([T0, T1]), st.integers(0, 12)))
)
def test_groups_come_by_lag(committed: dict[str, dict[TopicPartition, int]]) -> None:
    found = measure_lag([TOPIC], committed, {})
    lags = [each.lag for each in found if each.lag is not None]
    assert lags == sorted(lags, reverse=True)
    assert sorted(each.group for each in found) == sorted(group for group, each in committed.items() if each)


def test_who_listens_without_a_commit_has_no_lag_yet() -> None:
    facts = {"new": GroupFacts("Stable", 1, frozenset({"t"})), "far": GroupFacts("Stable", 1, frozenset("u"))}
    found = measure_lag([TOPIC], {"new": {}, "far": {}, "old": {T0: 10, T1: 4}}, facts)
    assert [(each.group, each.lag, each.members) for each in found] == [("old", 0, None), ("new", None, 1)]


def test_a_commit_counts_on_its_own_topic_only() -> None:
    other = TopicEnds("u", (PartitionEnds(0, 0, 3),))
    found = measure_lag([TOPIC, other], {"g": {T0: 9, T1: 4, TopicPartition("u", 0): 0}}, {})
    assert [(each.topic, each.lag, each.committed) for each in found] == [
        ("u", 3, {0: 0}),
        ("t", 1, {0: 9, 1: 4}),
    ]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (describe("g", assign("t"), assign("t", "u")), GroupFacts("Stable", 2, frozenset({"t", "u"}))),
        (
            describe("g", b"", state="CompletingRebalance"),
            GroupFacts("CompletingRebalance", 1, frozenset()),
        ),
        (describe("g", assign("t"), b"\x00"), GroupFacts("Stable", 2, frozenset({"t"}))),
        (describe("g", b"\x00\x00" + b"\xff" * 8), GroupFacts("Stable", 1)),
        (describe("g", state="Empty"), GroupFacts("Empty", 0)),
        (describe("g", state="Dead"), GroupFacts("", None)),
        (describe("g", state="", error=16), GroupFacts("", None)),
    ],
    ids=["stable", "rebalancing", "written by a stranger", "null", "empty", "newer protocol", "error"],
)
def test_facts_are_read_from_the_brokers_answer(group: tuple[Any, ...], expected: GroupFacts) -> None:
    answer = DescribeGroupsResponse_v3.decode(DescribeGroupsResponse_v3(0, [group]).encode())
    assert read_facts(answer.to_object()["groups"][0]) == expected


def test_gaps_are_one_sentence() -> None:
    assert explain_gaps(3, 3, {}) is None
    assert explain_gaps(9, 3, {"b": "no", "a": "why"}) == (
        "2 of 3 consumer groups cannot be read, such as 'a': why; "
        "only the first 3 of 9 consumer groups by name are asked."
    )


async def test_each_broker_answers_for_its_own_groups() -> None:
    admin = StubAdmin({"near": 8, "stranger": -1}, {"far": 1, "member": -1})
    report = await read_with(admin).read()
    assert [(each.group, each.lag) for each in report.groups] == [("far", 19), ("near", 12), ("member", None)]
    assert report.topics == (TopicEnds("t", (PartitionEnds(0, 0, 10), PartitionEnds(1, 0, 10))),)
    assert report.groups_problem is None
    assert admin.described == [(1, ["far", "member"]), (0, ["near", "stranger"])]


async def test_a_group_that_cannot_be_read_hides_no_other() -> None:
    admin = StubAdmin({"good": 8, "gone": None, "secret": GroupAuthorizationFailedError()})
    report = await read_with(admin).read()
    assert [each.group for each in report.groups] == ["good"]
    assert report.groups_problem == (
        "2 of 3 consumer groups cannot be read, such as 'gone': its coordinator gave no offsets."
    )


async def test_many_groups_are_asked_a_few_at_a_time_and_not_all() -> None:
    admin = StubAdmin({f"g-{number:04}": number % 10 for number in range(MAX_GROUPS + 1)})
    report = await read_with(admin).read()
    assert len(report.groups) == MAX_GROUPS
    assert admin.most_at_once == GROUPS_AT_ONCE
    assert report.groups_problem == "Only the first 200 of 201 consumer groups by name are asked."


async def test_groups_of_others_than_consumers_are_not_asked() -> None:
    admin = StubAdmin({"workers": GroupAuthorizationFailedError()})
    admin.protocol = "connect"
    report = await read_with(admin).read()
    assert (report.groups, report.groups_problem) == ((), None)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (GroupAuthorizationFailedError(), "does not let this user see the consumer groups"),
        (GroupCoordinatorNotAvailableError(), "does not tell its consumer groups now"),
    ],
)
async def test_topics_are_told_where_groups_are_refused(refusal: KafkaError, said: str) -> None:
    admin = StubAdmin({})
    admin.refuses = refusal
    report = await read_with(admin).read()
    assert [each.topic for each in report.topics] == ["t"]
    assert report.groups == ()
    assert said in str(report.groups_problem)


@pytest.mark.parametrize("loss", [RequestTimedOutError(), KafkaConnectionError()])
async def test_a_lost_broker_is_unreachable(loss: KafkaError) -> None:
    lists = StubAdmin({})
    lists.refuses = loss
    for admin in (lists, StubAdmin({"g": loss})):
        with pytest.raises(Unreachable):
            await read_with(admin).read()
