"""Listening to all callbacks of a topic: each once, from any position, however slow the listener."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from llmctl.client import listening, topic_reader
from llmctl.client.feed import Feed
from llmctl.library import (
    Callback,
    ComparisonClient,
    Listener,
    Position,
    PositionLost,
    Start,
    TopicUnreadable,
    connect,
)
from simulator.kafka_address import KafkaAddress
from tests.conftest import CreateTopic
from tests.flow.client.callbacks import CallBack, open_writer
from tests.flow.client.conftest import Up
from tests.waiting import HANG_SECONDS, open_client, until

NO_SERVICE = "http://127.0.0.1:1"


@pytest.fixture
async def broker_topic(create_topic: CreateTopic) -> str:
    name = f"program-{uuid4().hex}"
    await create_topic(name, 3)
    return name


@pytest.fixture
async def broker_call_back(bootstrap_servers: str) -> AsyncIterator[CallBack]:
    async with open_writer(bootstrap_servers) as write:
        yield write


@pytest.fixture
async def broker_client(bootstrap_servers: str) -> AsyncIterator[ComparisonClient]:
    """A client without a service on that broker."""
    async with connect(NO_SERVICE, bootstrap_servers) as client:
        yield client


async def take(listener: Listener, number: int) -> list[Callback]:
    async with asyncio.timeout(HANG_SECONDS):
        return [await anext(listener) for _ in range(number)]


def names(callbacks: list[Callback]) -> list[str]:
    return [callback.queue_id for callback in callbacks]


@pytest.mark.apache
async def test_only_what_is_new(
    broker_client: ComparisonClient, broker_topic: str, broker_call_back: CallBack
) -> None:
    await broker_call_back(broker_topic, "old", partition=1)
    async with broker_client.callbacks(broker_topic) as callbacks:
        await broker_call_back(broker_topic, "q-1", "q-2", partition=1)
        (first, second) = await take(callbacks, 2)
    assert names([first, second]) == ["q-1", "q-2"]
    assert (first.topic, first.partition, first.offset) == (broker_topic, 1, 1)
    assert first.result.is_success
    assert first.run_id is None


@pytest.mark.apache
async def test_each_event_once(
    broker_client: ComparisonClient, broker_topic: str, broker_call_back: CallBack
) -> None:
    await broker_call_back(broker_topic, "q-1", "q-1", "q-2", "q-1", partition=0)
    async with broker_client.callbacks(broker_topic, start="beginning") as callbacks:
        old = await take(callbacks, 2)
        await broker_call_back(broker_topic, "q-2", "q-3", "q-1", "q-3", "q-4", partition=0)
        new = await take(callbacks, 2)
    assert names(old) == ["q-1", "q-2"]
    assert names(new) == ["q-3", "q-4"]
    assert new[-1].offset == 8


@pytest.mark.apache
async def test_a_copy_changes_nothing_for_who_awaits(
    broker_client: ComparisonClient, broker_topic: str, broker_call_back: CallBack
) -> None:
    pending = await broker_client.expect("q-1", broker_topic)
    await broker_call_back(broker_topic, "q-1", "q-1", "q-2")
    first = await pending
    await (await broker_client.expect("q-2", broker_topic, start=pending.position))
    assert await pending == first


@pytest.mark.apache
async def test_it_goes_on_where_another_process_stopped(
    bootstrap_servers: str, broker_topic: str, broker_call_back: CallBack
) -> None:
    sent = [f"q-{number}" for number in range(40)]
    await broker_call_back(broker_topic, *sent)
    handed: list[str] = []
    start: Start = "beginning"
    for share in (1, 13, 26):
        async with (
            connect(NO_SERVICE, bootstrap_servers) as client,
            client.callbacks(broker_topic, start=start) as callbacks,
        ):
            found = await take(callbacks, share)
        handed += names(found)
        start = Position.from_json(found[-1].position.to_json())
    assert sorted(handed) == sorted(sent)


@pytest.mark.apache
async def test_a_position_is_known_before_the_first_callback(
    broker_client: ComparisonClient, broker_topic: str, broker_call_back: CallBack
) -> None:
    before = await broker_client.find_position(broker_topic)
    async with broker_client.callbacks(broker_topic) as callbacks:
        assert callbacks.position == before
    await broker_call_back(broker_topic, "q-1")
    async with broker_client.callbacks(broker_topic, start=before) as callbacks:
        assert names(await take(callbacks, 1)) == ["q-1"]
    assert before.offsets == {broker_topic: {0: 0, 1: 0, 2: 0}}


async def test_many_listeners_share_the_consumer(
    up: Up, topic: str, call_back: CallBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: KafkaAddress) -> Any:
        pytest.fail("a second consumer was opened")

    monkeypatch.setattr(listening, "open_reader", refuse)
    async with connect(up.url, up.bootstrap_servers) as client, AsyncExitStack() as closing:
        listeners = [await closing.enter_async_context(client.callbacks(topic)) for _ in range(50)]
        await call_back(topic, "q-1", "q-2", "q-3", partition=0)
        found = await asyncio.gather(*(take(each, 3) for each in listeners))
    assert [names(each) for each in found] == [["q-1", "q-2", "q-3"]] * 50


async def test_a_slow_listener_keeps_nobody_waiting_and_misses_nothing(
    up: Up, topic: str, call_back: CallBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    open_reader = topic_reader.open_reader

    @asynccontextmanager
    async def note(kafka: KafkaAddress) -> AsyncIterator[topic_reader.TopicReader]:
        async with open_reader(kafka) as reader:
            readers.append("opened")
            yield reader
        readers.append("closed")

    monkeypatch.setattr(listening, "open_reader", note)
    monkeypatch.setattr(listening, "Feed", partial(Feed, limit=3))
    sent = [f"q-{number}" for number in range(60)]
    handed: list[Callback] = []
    async with connect(up.url, up.bootstrap_servers) as client, client.callbacks(topic) as callbacks:
        for start in range(0, 60, 20):
            await call_back(topic, *sent[start : start + 20], partition=0)
            handed += await take(callbacks, 1)
            result = await client.compare(
                "Which?", "First.", "Second.", callback_topic=await up.create_topic()
            )
            assert result.is_success
            handed += await take(callbacks, 19)
        taking = asyncio.create_task(take(callbacks, 1))
        await until(lambda: readers and readers[-1] == "closed", what="the end of its own consumer")
        await call_back(topic, "q-60", partition=0)
        handed += await taking
    assert names(handed) == [*sent, "q-60"]
    assert [callback.offset for callback in handed] == list(range(61))


async def test_a_loop_that_is_left_and_entered_again(
    topic: str, call_back: CallBack, client: ComparisonClient
) -> None:
    await call_back(topic, "q-1", "q-2", partition=0)
    found = []
    async with asyncio.timeout(HANG_SECONDS):
        async for callback in client.callbacks(topic, start="beginning"):
            found.append(callback)
            break
        async for callback in client.callbacks(topic, start=found[0].position):
            found.append(callback)
            break
    assert names(found) == ["q-1", "q-2"]


async def test_what_is_not_for_us_is_passed_over(
    up: Up, topic: str, call_back: CallBack, caplog: pytest.LogCaptureFixture
) -> None:
    claim = [("event_type", b"llm_provider.comparison_result")]
    async with (
        connect(up.url, up.bootstrap_servers) as client,
        AIOKafkaProducer(bootstrap_servers=up.bootstrap_servers) as producer,
        client.callbacks(topic) as callbacks,
    ):
        await producer.send_and_wait(topic, b"canary", partition=0)
        await producer.send_and_wait(topic, b"canary", partition=0, headers=claim)
        await producer.send_and_wait(topic, None, key=b"k", partition=0, headers=claim)
        await call_back(topic, "q-1", partition=0)
        (found,) = await take(callbacks, 1)
    said = [record.message for record in caplog.records if record.name == "llmctl.client"]
    assert found.offset == 3
    assert [message.split(":")[0] for message in said] == [
        f"the record at offset {offset} of {topic}/0 is no valid callback and is passed over"
        for offset in (1, 2)
    ]
    assert "canary" not in "".join(said)


async def test_simulated_runs_are_left_out(up: Up, topic: str) -> None:
    async with (
        connect(up.url, up.bootstrap_servers) as client,
        client.callbacks(topic) as real,
        client.callbacks(topic, run_id="run-2") as one,
        client.callbacks(topic, all_runs=True) as every,
        open_client(up.url) as http,
    ):
        body = {"user_prompt": "Which?", "essay_a": "a", "essay_b": "b", "callback_topic": topic}
        for run in ("run-1", "run-2", None):
            headers = {} if run is None else {"X-Run-ID": run}
            (await http.post("/api/v1/comparison", json=body, headers=headers)).raise_for_status()
        runs = {callback.run_id for callback in await take(every, 3)}
        assert runs == {"run-1", "run-2", None}
        assert (await take(real, 1))[0].run_id is None
        assert (await take(one, 1))[0].run_id == "run-2"


async def test_what_retention_removed_is_said(up: Up, call_back: CallBack, client: ComparisonClient) -> None:
    topic = await up.create_topic(partitions=1)
    numbers = count()

    async def fill() -> None:  # the embedded broker keeps about 5 MB of a partition
        for _ in range(7):
            await call_back(topic, *(f"q-{next(numbers)}" for _ in range(20)), padding=50_000)

    start = await client.find_position(topic)
    await fill()
    with pytest.raises(PositionLost, match=f"{topic}/0 has no offset 0 any more") as lost:
        await take(client.callbacks(topic, start=start), 1)
    callbacks = client.callbacks(topic, start=lost.value.position)
    (first,) = await take(callbacks, 1)
    assert first.offset == lost.value.position.offsets[topic][0] > 0
    with pytest.raises(PositionLost):
        await client.expect("q-0", topic, start=start)


async def test_positions_that_make_no_sense(topic: str, client: ComparisonClient) -> None:
    with pytest.raises(ValueError, match=f"says nothing about the topic '{topic}'"):
        await anext(client.callbacks(topic, start=Position({"other": {0: 1}})))
    with pytest.raises(PositionLost, match=f"beyond the end of {topic}/0, {topic}/7: .* made anew") as lost:
        await anext(client.callbacks(topic, start=Position({topic: {0: 5, 1: 0, 7: 3}})))
    with pytest.raises(ValueError, match="at least one topic"):
        client.callbacks()
    with pytest.raises(TopicUnreadable, match="no topic"):
        await anext(client.callbacks(f"{topic}x"))
    assert lost.value.position == Position({topic: {0: 0, 1: 0}})


async def test_an_outage_of_the_broker_is_waited_through(up: Up, topic: str, call_back: CallBack) -> None:
    await call_back(topic, *(f"q-{number}" for number in range(10)), partition=0)
    async with (
        connect(up.url, up.bootstrap_servers) as client,
        client.callbacks(topic) as live,
        client.callbacks(topic, start="beginning") as older,
    ):
        assert len(await take(older, 1)) == 1
        taking = asyncio.create_task(take(live, 1))
        await up.control.down()
        await up.control.up()
        await call_back(topic, "q-new", partition=1)
        assert names(await taking) == ["q-new"]
        assert len(await take(older, 10)) == 10
