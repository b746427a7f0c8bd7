"""One reader serves all topics: they come and go, obstacles pass, and a failure reaches all waiters."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from llmctl.client import dispatcher as dispatching
from llmctl.client import topic_reader
from llmctl.client.connection import _running
from llmctl.client.dispatcher import Dispatcher
from llmctl.client.positions import Place
from llmctl.client.problems import BrokerOutOfReach, ClientClosed, TopicUnreadable
from llmctl.client.topic_reader import Gap, ReadingHindered, TopicReader, TopicRefused
from llmctl.client.topics import TopicFacts
from llmctl.exits import Unreachable
from simulator.kafka_address import KafkaAddress
from tests.unit.llmctl.client.records import Record
from tests.waiting import until


class FakeReader(TopicReader):
    def __init__(self) -> None:
        super().__init__(None, "kafka:9092")
        self.results: asyncio.Queue[Sequence[Any] | Exception] = asyncio.Queue()
        self.partitions: dict[str, int] = {}
        self.looked_at = 0.0

    async def read(self, wait_seconds: float) -> Sequence[Any]:
        try:
            async with asyncio.timeout(wait_seconds):
                result = await self.results.get()
        except TimeoutError:
            return ()
        if isinstance(result, Exception):
            raise result
        return result

    def list_partitions(self, topic: str) -> frozenset[int]:
        self.looked_at = asyncio.get_running_loop().time()
        return frozenset(range(self.partitions.get(topic, 0)))

    async def find_ends(self, places: Collection[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, 10)

    def _assign(self) -> None:
        pass


class Cluster:
    def __init__(self) -> None:
        self.topics = {"t": 1, "u": 2}
        self.asked = 0
        self.away = False

    async def read_topics(self, _: KafkaAddress) -> Mapping[str, TopicFacts]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unreachable("No Kafka broker answers; name another with --bootstrap-servers.")
        return {name: TopicFacts(name, partitions, 1) for name, partitions in self.topics.items()}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(dispatching, "read_topics", cluster.read_topics)
    monkeypatch.setattr(topic_reader, "read_topics", cluster.read_topics)
    monkeypatch.setattr(dispatching, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(dispatching, "RETRY_PAUSE_SECONDS", 0.0)
    return cluster


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def dispatcher(reader: FakeReader, cluster: Cluster) -> Dispatcher:
    reader.partitions = dict(cluster.topics)
    return Dispatcher(reader, KafkaAddress("kafka:9092"))


def make_record(queue_id: str, topic: str = "t") -> Record:
    return Record(topic, 0, 10, b"k", b"{", [("request_id", queue_id.encode())])


async def test_topics_are_added_together(dispatcher: Dispatcher, cluster: Cluster) -> None:
    await asyncio.gather(*(dispatcher.follow([topic]) for topic in ["t", "u"] * 50))
    assert cluster.asked <= 2
    asked = cluster.asked
    await dispatcher.follow(["u", "t"])
    assert cluster.asked == asked
    assert dispatcher.find_places(["t", "u"]) == {("t", 0): 10, ("u", 0): 10, ("u", 1): 10}
    assert dispatcher.find_position(["t"]).offsets == {"t": {0: 10}}


async def test_one_unknown_topic_does_not_stand_in_the_way_of_others(dispatcher: Dispatcher) -> None:
    found = await asyncio.gather(
        dispatcher.follow(["t"]), dispatcher.follow(["tt"]), dispatcher.follow(["u"]), return_exceptions=True
    )
    assert isinstance(found[1], TopicUnreadable)
    assert str(found[1]).startswith("There is no topic 'tt' at kafka:9092")
    assert [type(each) for each in (found[0], found[2])] == [tuple, tuple]


async def test_a_broker_out_of_reach_can_be_asked_again(dispatcher: Dispatcher, cluster: Cluster) -> None:
    cluster.away = True
    with pytest.raises(BrokerOutOfReach, match="`bootstrap_servers=`"):
        await dispatcher.follow(["t"])
    cluster.away = False
    assert len(await dispatcher.follow(["t"])) == 1


async def test_hindrances_are_waited_through(dispatcher: Dispatcher, reader: FakeReader) -> None:
    async with _running(dispatcher):
        (watch,) = await dispatcher.follow(["t"])
        waiter = watch.wait_for("q-1")
        for each in (
            ReadingHindered("x"),
            BrokerOutOfReach("y"),
            Gap({("t", 0): (5, 9)}),
            [make_record("q-1")],
        ):
            reader.results.put_nowait(each)
        assert (await waiter.wait()).request_id == "q-1"
    assert watch.gap is not None


async def test_a_refused_topic_ends_alone(dispatcher: Dispatcher, reader: FakeReader) -> None:
    async with _running(dispatcher):
        refused, other = await dispatcher.follow(["t", "u"])
        lost, found = refused.wait_for("q-1"), other.wait_for("q-2")
        reader.results.put_nowait(TopicRefused("t", "kafka:9092"))
        reader.results.put_nowait([make_record("q-2", "u")])
        with pytest.raises(TopicUnreadable, match="does not allow reading the topic 't'"):
            await lost.wait()
        assert (await found.wait()).request_id == "q-2"
        assert ("t", 0) not in reader.places


async def test_what_breaks_it_is_said_to_all_who_wait(dispatcher: Dispatcher, reader: FakeReader) -> None:
    waiting: list[asyncio.Task[Any]] = []

    async def use() -> None:
        async with _running(dispatcher):
            (watch,) = await dispatcher.follow(["t"])
            waiters = [watch.wait_for(f"q-{number}") for number in range(100)]
            waiting.extend(asyncio.create_task(waiter.wait()) for waiter in waiters)
            await asyncio.sleep(0)
            reader.results.put_nowait(ZeroDivisionError("canary"))
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await use()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(problem) for problem in found} == {
        "Reading callbacks from kafka:9092 broke; connect again. ZeroDivisionError"
    }
    assert {type(problem) for problem in found} == {ClientClosed}
    with pytest.raises(ClientClosed):
        await dispatcher.follow(["t"])


async def test_new_partitions_are_read_from_their_beginning(
    dispatcher: Dispatcher, reader: FakeReader
) -> None:
    async with _running(dispatcher):
        (watch,) = await dispatcher.follow(["t"])
        waiter = watch.wait_for("q-1")
        reader.partitions["t"] = 3
        reader.results.put_nowait([])
        await until(lambda: len(reader.places) == 3)
    assert reader.places == {("t", 0): 10, ("t", 1): 0, ("t", 2): 0}
    assert waiter.is_settled


async def test_a_deleted_topic_is_ended_once_the_cluster_confirms_it(
    dispatcher: Dispatcher, reader: FakeReader, cluster: Cluster
) -> None:
    """A broker that omits a topic for a moment, or does not answer, ends nothing."""
    async with _running(dispatcher):
        (watch,) = await dispatcher.follow(["t"])
        waiter = watch.wait_for("q-1")
        reader.partitions["t"] = 0
        asked = cluster.asked
        await until(lambda: cluster.asked > asked + 2)
        cluster.away = True
        await until(lambda: cluster.asked > asked + 5)
        assert not waiter.is_settled
        cluster.away = False
        del cluster.topics["t"]
        with pytest.raises(TopicUnreadable, match="'t' at kafka:9092 was deleted"):
            await waiter.wait()


async def test_a_topic_of_which_nobody_expects_anything_is_dropped(
    dispatcher: Dispatcher, reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _running(dispatcher):
        watch, other = await dispatcher.follow(["t", "u"])
        waiter = watch.wait_for("q-1")
        monkeypatch.setattr(dispatching, "IDLE_LIMIT_SECONDS", 0.01)  # not before somebody waits on "t"
        await until(lambda: ("u", 0) not in reader.places)
        assert ("t", 0) in reader.places
        with dispatcher.attend([watch]):
            waiter.fail(KeyError())
            since = asyncio.get_running_loop().time()
            await until(lambda: reader.looked_at > since + 0.05)
            assert ("t", 0) in reader.places
        await until(lambda: ("t", 0) not in reader.places)
        (again,) = await dispatcher.follow(["u"])
    assert again is not other
