"""A topic is described once the broker shows what the controller has changed."""

from collections.abc import Sequence

import pytest

from llmctl.client import topics
from llmctl.client.topic_changes import TopicChange
from llmctl.client.topics import TopicFacts, TopicWish, bootstrap_topics
from simulator.kafka_address import KafkaAddress

OLD = TopicFacts("t", 2, 1, {})
NEW = TopicFacts("t", 5, 1, {"retention.ms": "60000"})
CHANGED = TopicWish("t", partitions=5, config={"retention.ms": "60000"})


@pytest.mark.parametrize("lagging", [[OLD], [OLD, TopicFacts("t", 5, 1, {})]], ids=["partitions", "setting"])
async def test_a_broker_that_lags_is_described_again(
    monkeypatch: pytest.MonkeyPatch, lagging: list[TopicFacts]
) -> None:
    described = [OLD, *lagging, NEW]

    async def describe(_: KafkaAddress, names: Sequence[str]) -> dict[str, TopicFacts]:
        return {"t": described.pop(0)}

    async def apply(_: KafkaAddress, changes: Sequence[TopicChange]) -> dict[str, str]:
        return {}

    async def find_no_embedded(_: KafkaAddress) -> None:
        return None

    monkeypatch.setattr(topics, "describe_topics", describe)
    monkeypatch.setattr(topics, "apply_changes", apply)
    monkeypatch.setattr(topics, "find_embedded", find_no_embedded)
    monkeypatch.setattr(topics, "LOOK_AGAIN_SECONDS", 0)

    (outcome,) = await bootstrap_topics(KafkaAddress("k:9092"), [CHANGED], apply=True)

    assert (outcome.state, outcome.partitions, described) == ("changed", 5, [])
