"""Kafka as a source: the callbacks themselves, as their callers see them, and the topics they stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict

from llmctl.client.callbacks import open_callbacks
from llmctl.client.lag import TopicsReport, open_topics_reader
from llmctl.tui.feeds.source import keep_trying
from llmctl.tui.model.clock import Clock
from llmctl.tui.model.frames import Callbacks, Sink, TopicFigures
from llmctl.tui.model.rows import make_row
from simulator.kafka_address import KafkaAddress

CALLBACKS = "kafka"
TOPICS = "topics"
WAIT_SECONDS = 0.5
TOPICS_EVERY_SECONDS = 5.0


class CallbackSource:
    """Puts callbacks into a sink as they arrive; reads without a group and commits nothing."""

    def __init__(self, kafka: KafkaAddress, topics: Sequence[str], clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        await keep_trying(CALLBACKS, sink, self._clock, lambda good: self._follow(sink, good))

    async def _follow(self, sink: Sink, succeed: Callable[[], None]) -> None:
        async with open_callbacks(self._kafka, self._topics) as stream:
            while True:
                records = await stream.read(WAIT_SECONDS)
                succeed()
                if records:
                    now = self._clock.now()
                    sink.take(Callbacks(now, tuple(make_row(record, now) for record in records)))


class TopicSource:
    """Puts the topics' ends and the lag of their consumer groups into a sink, every five seconds."""

    def __init__(self, kafka: KafkaAddress, topics: Sequence[str], clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        await keep_trying(TOPICS, sink, self._clock, lambda good: self._follow(sink, good))

    async def _follow(self, sink: Sink, succeed: Callable[[], None]) -> None:
        async with open_topics_reader(self._kafka, self._topics) as reader:
            while True:
                report = await reader.read()
                succeed()
                sink.take(TopicFigures(self._clock.now(), describe_report(report)))
                await asyncio.sleep(TOPICS_EVERY_SECONDS)


def describe_report(report: TopicsReport) -> dict[str, object]:
    """The report as plain JSON values."""
    return {
        "topics": [
            {
                "topic": each.topic,
                "partitions": len(each.partitions),
                "records": each.records,
                "end_total": each.end_total,
                "ends": [asdict(part) for part in each.partitions],
            }
            for each in report.topics
        ],
        "groups": [
            {
                "group": each.group,
                "state": each.state,
                "topic": each.topic,
                "lag": each.lag,
                "members": each.members,
            }
            for each in report.groups
        ],
        "groups_problem": report.groups_problem,
    }
