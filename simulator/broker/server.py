"""The embedded broker as a whole: mock cluster, relay and control socket, started and closed in order."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from simulator.broker.cluster import PRODUCE_API_KEY, MockCluster
from simulator.broker.control_server import ControlServer, refuse_second_broker
from simulator.broker.errors import BrokerError
from simulator.broker.messages import (
    BrokerStatus,
    ComeUp,
    CreateTopics,
    CutConnections,
    GoDown,
    ListTopics,
    LoseAnswers,
    RefuseProduce,
    Request,
    SetTopicError,
    Slow,
    StatusAnswer,
    Stop,
    TopicsAnswer,
)
from simulator.broker.produce_errors import name_error
from simulator.broker.relay import Relay
from simulator.broker.runtime import control_path, open_runtime_folder
from simulator.broker.topic import TopicSpec

MILLISECONDS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a running broker is reached by clients (`host:port`) and by its owner (the control socket)."""

    bootstrap_servers: str
    control: Path


class EmbeddedBroker:
    """Carries out control requests on a mock cluster and the relay in front of it, one at a time."""

    def __init__(self, cluster: MockCluster, relay: Relay, stop: asyncio.Event) -> None:
        self._cluster = cluster
        self._relay = relay
        self._stop = stop
        self._one_at_a_time = asyncio.Lock()

    @property
    def bootstrap_servers(self) -> str:
        """The address that clients use."""
        return f"{self._relay.host}:{self._relay.port}"

    async def carry_out(self, request: Request) -> StatusAnswer | TopicsAnswer:
        """Do what a control request asks; BrokerError if that is impossible."""
        async with self._one_at_a_time:
            match request:
                case CreateTopics(topics=topics):
                    return TopicsAnswer(topics=await self._create_topics(topics))
                case ListTopics():
                    return TopicsAnswer(topics=await asyncio.to_thread(self._cluster.topics))
                case GoDown():
                    await self._relay.take_down()
                case ComeUp():
                    await self._relay.bring_up()
                case Slow(milliseconds=milliseconds):
                    self._relay.delay_answers(milliseconds / MILLISECONDS_PER_SECOND)
                case CutConnections():
                    await self._relay.cut()
                case LoseAnswers(seconds=seconds):
                    self._relay.lose_answers(seconds)
                case SetTopicError(topic=topic, number=number):
                    await asyncio.to_thread(self._cluster.set_topic_error, topic, number)
                case RefuseProduce(number=number, count=count):
                    self._cluster.push_error(PRODUCE_API_KEY, *[number] * count)
                case Stop():
                    self._stop.set()
            return StatusAnswer(status=self._describe())

    async def _create_topics(self, topics: Sequence[TopicSpec]) -> tuple[TopicSpec, ...]:
        repeated = [name for name, times in Counter(topic.name for topic in topics).items() if times > 1]
        if repeated:
            raise BrokerError(f"Topic {repeated[0]!r} is named more than once; name each topic once.")
        existing = {topic.name: topic for topic in await asyncio.to_thread(self._cluster.topics)}
        for topic in topics:
            if found := existing.get(topic.name):
                raise BrokerError(f"Topic {topic.name!r} already exists, with {found.partitions} partitions.")
        for topic in topics:
            self._cluster.create_topic(topic.name, topic.partitions)
        return tuple(topics)

    def _describe(self) -> BrokerStatus:
        return BrokerStatus(
            state="up" if self._relay.is_up else "down",
            delay_milliseconds=round(self._relay.delay_seconds * MILLISECONDS_PER_SECOND),
            loses_answers_seconds=round(self._relay.loss_left_seconds, 3),
            topic_errors={name: name_error(code) for name, code in self._cluster.topic_errors.items()},
            connections=self._relay.connection_count,
            bootstrap_servers=self.bootstrap_servers,
            pid=os.getpid(),
        )


async def run_broker(
    port: int = 0,
    topics: Sequence[TopicSpec] = (),
    *,
    host: str = "127.0.0.1",
    on_ready: Callable[[BrokerAddress], None],
    stop: asyncio.Event,
) -> None:
    """Run a broker on `port` (0: any free one) with these topics until `stop`; BrokerError where that fails.

    `on_ready` is called once, when clients can connect and the control socket answers.
    """
    folder = open_runtime_folder()
    async with AsyncExitStack() as closing:
        cluster = MockCluster.create()
        closing.callback(cluster.close)
        if port:
            # Asked before the port is: a broker that plays dead does not listen on it.
            await refuse_second_broker(control_path(folder, port))
        relay = Relay.bind(host, port, upstream_port=cluster.bootstrap_port)
        closing.push_async_callback(relay.close)
        cluster.advertise(relay.host, relay.port)
        broker = EmbeddedBroker(cluster, relay, stop)
        control = await ControlServer.open(control_path(folder, relay.port), broker.carry_out)
        closing.push_async_callback(control.close)
        if topics:
            await broker.carry_out(CreateTopics(topics=tuple(topics)))
        await relay.bring_up()
        on_ready(BrokerAddress(broker.bootstrap_servers, control.path))
        await stop.wait()
