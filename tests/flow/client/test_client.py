"""Programs on the library against `llmctl up`: submitting, awaiting, cancelling, being refused."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import respx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from llmctl.library import (
    BrokerOutOfReach,
    CallbackUnreadable,
    ClientClosed,
    ComparisonClient,
    ComparisonFailed,
    LLMComparisonResultV1,
    LLMErrorCode,
    Refused,
    ServiceOutOfReach,
    TimedOut,
    TopicUnreadable,
    connect,
)
from tests.flow.client.callbacks import CallBack
from tests.flow.client.conftest import Up
from tests.waiting import HANG_SECONDS

PROMPT = "Which essay is better?"
ESSAYS = ("The first essay.", "The second essay.")


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    make = AIOKafkaConsumer

    def note(*given: Any, **named: Any) -> Any:
        made.append(make(*given, **named))
        return made[-1]

    monkeypatch.setattr("llmctl.client.topic_reader.AIOKafkaConsumer", note)
    return made


@pytest.mark.parametrize("many", [100, pytest.param(1_000, marks=pytest.mark.long)])
async def test_many_awaits_at_once(up: Up, topic: str, consumers: list[Any], many: int) -> None:
    async with connect(up.url, up.bootstrap_servers) as client:
        before = len(asyncio.all_tasks())

        async def compare(number: int) -> LLMComparisonResultV1:
            return await client.compare(
                PROMPT, f"First essay {number}.", "Second.", callback_topic=topic, metadata={"number": number}
            )

        callers = [asyncio.create_task(compare(number)) for number in range(many)]
        results = await asyncio.gather(*callers)

        assert [result.request_metadata["number"] for result in results] == list(range(many))
        assert len({result.request_id for result in results}) == many
        assert len(asyncio.all_tasks()) <= before + 5
    assert len(consumers) == 1


async def test_many_topics_on_one_consumer(up: Up, consumers: list[Any], client: ComparisonClient) -> None:
    topics = [await up.create_topic(partitions=1) for _ in range(12)]
    waves = [
        asyncio.create_task(client.compare(PROMPT, *ESSAYS, callback_topic=topic, metadata={"to": topic}))
        for topic in topics * 3
    ]
    results = await asyncio.gather(*waves)
    assert [result.request_metadata["to"] for result in results] == topics * 3
    assert len(consumers) == 1


async def test_one_who_gives_up_takes_nothing_from_the_others(
    up: Up, topic: str, client: ComparisonClient
) -> None:
    await up.operate("providers/openai/hold", seconds=10 * HANG_SECONDS)
    try:
        pending = await client.submit(PROMPT, *ESSAYS, callback_topic=topic)
        hasty = asyncio.create_task(pending.result())
        await asyncio.sleep(0)
        hasty.cancel()
    finally:
        await up.operate("providers/openai/release")
    assert (await pending).request_id == pending.queue_id
    with pytest.raises(asyncio.CancelledError):
        await hasty


async def test_a_callback_may_come_before_the_202(up: Up, topic: str, call_back: CallBack) -> None:
    async with connect(up.url, up.bootstrap_servers, timeout_seconds=HANG_SECONDS) as client:

        async def answer(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content)
            await call_back(topic, "stranger", "q-1", "q-1", correlation_id=UUID(body["correlation_id"]))
            before = 0
            async with asyncio.timeout(HANG_SECONDS):
                while before < 3:  # until the client has read them
                    before = sum((await client.find_position(topic)).offsets[topic].values())
                    await asyncio.sleep(0.01)
            accepted = {"queue_id": "q-1", "status": "queued", "queue_position": 1, "message": ""}
            accepted |= {"correlation_id": body["correlation_id"], "callback_topic": topic}
            return httpx.Response(202, json=accepted)

        async with respx.mock(base_url=up.url) as service:
            service.post("/api/v1/comparison").mock(side_effect=answer)
            result = await client.compare(PROMPT, *ESSAYS, callback_topic=topic)
    assert result.request_id == "q-1"


async def test_callers_may_share_a_correlation_id(topic: str, client: ComparisonClient) -> None:
    shared = uuid4()
    results = await asyncio.gather(
        *(
            client.compare(
                PROMPT, *ESSAYS, callback_topic=topic, correlation_id=shared, metadata={"number": number}
            )
            for number in range(5)
        )
    )
    assert [result.request_metadata["number"] for result in results] == list(range(5))
    assert {result.correlation_id for result in results} == {shared}


async def test_the_same_key_is_the_same_request(topic: str, client: ComparisonClient) -> None:
    both = [client.submit(PROMPT, *ESSAYS, callback_topic=topic, idempotency_key="order-7") for _ in range(2)]
    first, second = await asyncio.gather(*both)
    assert first.queue_id == second.queue_id
    assert await first == await second
    with pytest.raises(Refused) as refused:
        await client.submit("Other?", *ESSAYS, callback_topic=topic, idempotency_key="order-7")
    assert (refused.value.status, refused.value.code) == (409, LLMErrorCode.IDEMPOTENCY_CONFLICT)


async def test_a_refusal_is_an_exception_without_the_texts(topic: str, client: ComparisonClient) -> None:
    with pytest.raises(Refused, match="LLM_INVALID_PROMPT") as refused:
        await client.compare(PROMPT, "canary essay", " ", callback_topic=topic)
    assert refused.value.status == 422
    assert "canary" not in str(refused.value)


async def test_a_topic_that_does_not_exist_is_refused_before_anything_is_sent(
    up: Up, topic: str, client: ComparisonClient
) -> None:
    with pytest.raises(TopicUnreadable, match=f"no topic '{topic}x'.*did you mean {topic}"):
        await client.compare(PROMPT, *ESSAYS, callback_topic=f"{topic}x")
    assert f"{topic}x" not in {each.name for each in await up.control.topics()}


async def test_a_cancelled_request_says_so(up: Up, topic: str, client: ComparisonClient) -> None:
    await up.operate("providers/openai/hold", seconds=10 * HANG_SECONDS)
    try:
        pending = await client.submit(PROMPT, *ESSAYS, callback_topic=topic)
        assert await client.cancel(pending.queue_id)
        with pytest.raises(ComparisonFailed) as failed:
            await pending
        assert not await client.cancel(pending.queue_id)
    finally:
        await up.operate("providers/openai/release")
    assert failed.value.error.error_code is LLMErrorCode.REQUEST_CANCELLED
    assert failed.value.result.error_detail == failed.value.error


async def test_a_draining_service_is_asked_again_no_longer_than_the_limit(up: Up, topic: str) -> None:
    async with connect(up.url, up.bootstrap_servers, retry_limit_seconds=0.0) as client:
        await up.operate("drain")
        try:
            with pytest.raises(Refused) as refused:
                await client.compare(PROMPT, *ESSAYS, callback_topic=topic)
        finally:
            await up.operate("resume")
    assert (refused.value.status, refused.value.code) == (503, LLMErrorCode.SERVICE_DRAINING)


async def test_a_compare_that_is_not_accepted_in_time_leaves_its_key(
    up: Up, topic: str, client: ComparisonClient
) -> None:
    await client.find_position(topic)
    await up.operate("drain")
    try:
        with pytest.raises(TimedOut, match="idempotency_key") as late:
            await client.compare(PROMPT, *ESSAYS, callback_topic=topic, timeout_seconds=0.3)
    finally:
        await up.operate("resume")
    assert late.value.queue_id is None
    again = await client.compare(
        PROMPT, *ESSAYS, callback_topic=topic, idempotency_key=late.value.idempotency_key or ""
    )
    assert again.is_success


async def test_an_outage_of_the_broker_is_waited_through(
    up: Up, topic: str, client: ComparisonClient
) -> None:
    await client.compare(PROMPT, *ESSAYS, callback_topic=topic)
    await up.control.down()
    try:
        pending = await client.submit(PROMPT, *ESSAYS, callback_topic=topic)
        waiting = [asyncio.create_task(pending.result()) for _ in range(3)]
        with pytest.raises(TimedOut, match=pending.queue_id) as late:
            await pending.result(timeout_seconds=0.2)
    finally:
        await up.control.up()
    results = await asyncio.gather(*waiting)
    assert isinstance(late.value, TimeoutError)
    assert late.value.queue_id == pending.queue_id
    assert late.value.position == pending.position
    assert [await pending] * 3 == results
    assert results[0].request_id == pending.queue_id
    assert results[0].correlation_id == pending.correlation_id


async def test_a_callback_is_found_by_another_process(up: Up, topic: str, call_back: CallBack) -> None:
    async with connect(up.url, up.bootstrap_servers) as client:
        await call_back(topic, *(f"stranger-{number}" for number in range(50)))
        pending = await client.submit(PROMPT, *ESSAYS, callback_topic=topic)
        await pending
        await call_back(topic, *(f"later-{number}" for number in range(50)))
    async with connect(up.url, up.bootstrap_servers) as other:
        found = await other.expect(
            pending.queue_id, topic, start=pending.position, timeout_seconds=HANG_SECONDS
        )
        assert (await found.result(timeout_seconds=0)).request_id == pending.queue_id
    async with connect(up.url, up.bootstrap_servers) as third:
        missing = await third.expect(pending.queue_id, topic)
        with pytest.raises(TimedOut):
            await missing.result(timeout_seconds=0)


async def test_a_callback_that_is_no_callback_is_said(up: Up, topic: str) -> None:
    async with (
        connect(up.url, up.bootstrap_servers) as client,
        AIOKafkaProducer(bootstrap_servers=up.bootstrap_servers) as producer,
    ):
        pending = await client.expect("q-1", topic)
        await producer.send_and_wait(topic, b"{canary}", headers=[("request_id", b"q-1")])
        with pytest.raises(CallbackUnreadable, match=r"q-1 .*offset 0 of") as unreadable:
            await pending
    assert "canary" not in str(unreadable.value)


async def test_nobody_at_the_address(up: Up, topic: str, dead_port: int) -> None:
    async with connect(f"http://me:canary@127.0.0.1:{dead_port}", up.bootstrap_servers) as client:
        with pytest.raises(ServiceOutOfReach, match=r"No service answers at .* `url=`") as problem:
            await client.compare(PROMPT, *ESSAYS, callback_topic=topic)
        assert "canary" not in str(problem.value)
        with pytest.raises(ServiceOutOfReach):
            await client.cancel("q-1")
    with pytest.raises(BrokerOutOfReach, match=r"No Kafka broker answers at .* `bootstrap_servers=`"):
        async with connect(up.url, f"127.0.0.1:{dead_port}"):
            pytest.fail("there is nothing to connect to")


async def test_what_the_body_raises_comes_out_as_it_is(up: Up) -> None:
    group = ExceptionGroup("mine", [ValueError("a"), ValueError("b")])
    for problem in (KeyError("k"), group):
        with pytest.raises(type(problem)) as raised:
            async with connect(up.url, up.bootstrap_servers):
                raise problem
        assert raised.value is problem


async def test_whoever_waits_as_the_client_closes_is_told(up: Up, topic: str) -> None:
    client: ComparisonClient
    async with connect(up.url, up.bootstrap_servers) as client:
        pending = await client.expect("never", topic)
        listener = await client.callbacks(topic).__aenter__()
        waiting = [asyncio.create_task(pending.result()), asyncio.create_task(anext(listener))]
        await asyncio.sleep(0)
    for each in waiting:
        with pytest.raises(ClientClosed):
            await each
    with pytest.raises(ClientClosed):
        await client.submit(PROMPT, *ESSAYS, callback_topic=topic)
