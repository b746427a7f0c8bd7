"""What the Kafka queue promises beyond every queue: what replicas of it do for, and to, one another."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from service.contracts.requests import QueuedRequest
from service.core.errors import AcceptedBefore, QueueUnavailable, Refused
from service.core.outcome import Spent, Usage
from service.core.records import Claim, UsageEntry
from service.queues.kafka.partition import locate_request
from service.queues.kafka.queue import KafkaQueue, QueueTopics
from tests.conftest import EMBEDDED, CreateTopic
from tests.long.kafka_queues import (
    EMBEDDED_SESSION_SECONDS,
    SHORTEST_SESSION_SECONDS,
    Member,
    create_queue_topics,
    joined,
)
from tests.ports.test_request_queue import make_callback, make_request, make_usage, peek_all
from tests.waiting import HANG_SECONDS, until

PARTITIONS = 4


async def claim_just(queue: KafkaQueue, count: int) -> list[Claim]:
    """Claims so many requests, as they come."""
    claims: list[Claim] = []
    async with asyncio.timeout(HANG_SECONDS):
        while len(claims) < count:
            claims.extend(await queue.claim(count - len(claims)))
    return claims


async def claim_nothing(queue: KafkaQueue, seconds: float = 0.5) -> None:
    """There is nothing to claim, for a while."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await queue.claim(1)


def ids_of(claims: Sequence[Claim]) -> list[str]:
    """The queue ids of claims."""
    return [claim.request.queue_id for claim in claims]


async def take_events(queue: KafkaQueue, count: int) -> list[str]:
    """Takes callbacks out of the outbox, those that had to be looked up included."""
    taken: list[str] = []

    async def settle() -> None:
        while True:
            topic, doubts = await queue.outbox.take_doubtful()
            await queue.outbox.settle(topic, doubts, ())

    settling = asyncio.create_task(settle())
    async with asyncio.timeout(HANG_SECONDS):
        while len(taken) < count:
            entries = await queue.outbox.take(count - len(taken))
            taken.extend(entry.callback.queue_id for entry in entries)
            await queue.outbox.delivered(entries, {})
            await asyncio.sleep(0)
    settling.cancel()
    return taken


class MakeReplica:
    """Makes replicas of one queue with four partitions."""

    def __init__(self, bootstrap_servers: str, topics: QueueTopics, session_seconds: float) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topics = topics
        self._session_seconds = session_seconds

    def __call__(self, name: str | None = None) -> Member:
        return Member(self.bootstrap_servers, self.topics, name, session_seconds=self._session_seconds)


@pytest.fixture
async def replica(bootstrap_servers: str, create_topic: CreateTopic, broker_kind: str) -> MakeReplica:
    """Makes replicas of a queue of this test's own."""
    session_seconds = EMBEDDED_SESSION_SECONDS if broker_kind == EMBEDDED else SHORTEST_SESSION_SECONDS
    return MakeReplica(
        bootstrap_servers, await create_queue_topics(create_topic, PARTITIONS), session_seconds
    )


async def test_two_replicas_share_the_requests(replica: MakeReplica) -> None:
    """Each request is claimed by one of them, whoever put it."""
    async with AsyncExitStack() as closing:
        one = await closing.enter_async_context(joined(replica("one")))
        two = await closing.enter_async_context(joined(replica("two")))
        await until(lambda: len(one.owned()) == len(two.owned()) == 2, what="sharing")
        requests = [make_request() for _ in range(40)]
        await asyncio.gather(*(one.put(request) for request in requests))

        found: list[str] = []

        async def work(queue: KafkaQueue) -> None:
            while True:
                found.extend(ids_of(await queue.claim(5)))

        working = [asyncio.create_task(work(queue)) for queue in (one, two)]
        await until(lambda: len(found) == 40, what="claims")
        for task in working:
            task.cancel()

    assert sorted(found) == sorted(request.queue_id for request in requests)


async def test_whoever_comes_next_knows_what_was_done(replica: MakeReplica) -> None:
    """Attempts, costs and times of rest survive a handover, and what is finished does not come back."""
    before = replica()
    await before.start()
    done, tried, resting, waiting = [make_request() for _ in range(4)]
    for request in (done, tried, resting):
        await before.queue.put(request)
    claims = {claim.request.queue_id: claim for claim in await claim_just(before.queue, 3)}
    await before.queue.complete(claims[done.queue_id], make_callback(claims[done.queue_id]))
    assert await take_events(before.queue, 1) == [done.queue_id]
    spent = Spent(Usage(10, 5, 2, 1, 0.25), 1.5, "model-x", calls=1)
    await before.queue.retry(claims[tried.queue_id], 0.0, spent)
    await before.queue.retry(claims[resting.queue_id], 3600.0, Spent())
    await before.queue.put(waiting)
    await before.stop()

    async with joined(replica()) as after:
        found = {claim.request.queue_id: claim for claim in await claim_just(after, 2)}
        await claim_nothing(after)

        assert found.keys() == {tried.queue_id, waiting.queue_id}
        assert (found[tried.queue_id].attempt, found[tried.queue_id].spent) == (2, spent)
        assert found[waiting.queue_id].attempt == 1
        assert (after.stats().waiting, after.stats().claimed, after.outbox.depth()) == (1, 2, 0)


async def test_work_under_way_is_left_to_whoever_began_it(replica: MakeReplica) -> None:
    """A replica that drains hands over at once; its calls go on, and their answers are sent by the others."""
    before = replica("before")
    await before.start()
    begun, waiting = make_request(), make_request()
    await before.queue.put(begun)
    (claim,) = await claim_just(before.queue, 1)

    async with joined(replica("after")) as after:
        before.part()
        await until(lambda: len(after.owned()) == 4, what="handing over")
        assert not before.queue.owned()
        await before.queue.put(waiting)
        (other,) = await claim_just(after, 1)
        assert other.request == waiting
        await claim_nothing(after)

        await before.queue.complete(claim, make_callback(claim))

        assert await take_events(after, 1) == [begun.queue_id]
        assert list(await before.queue.outbox.take(1)) == []
    await before.stop()


async def test_a_replica_that_is_alone_drains_to_the_end(replica: MakeReplica) -> None:
    """Nobody else could send the answers of its calls: it keeps its partitions until it stops."""
    alone = replica("alone")
    await alone.start()
    request = make_request()
    await alone.queue.put(request)
    (claim,) = await claim_just(alone.queue, 1)

    alone.part()
    await alone.queue.complete(claim, make_callback(claim))

    assert await take_events(alone.queue, 1) == [request.queue_id]
    assert len(alone.queue.owned()) == 4
    await alone.stop()


async def test_the_first_answer_counts_whoever_gave_it(replica: MakeReplica) -> None:
    """A replica that owns a partition no more cannot give a second answer, nor tell other usage."""
    before = replica("before")
    await before.start()
    request = make_request()
    await before.queue.put(request)
    (late,) = await claim_just(before.queue, 1)
    await before.queue.unclaim(late)
    (late,) = await claim_just(before.queue, 1)

    async with joined(replica("after")) as after:
        before.part()
        await until(lambda: len(after.owned()) == 4, what="handing over")
        assert not before.queue.owned()
        await before.queue.unclaim(late)
        (claim,) = await claim_just(after, 1)
        first = replace(make_callback(claim), usage=make_usage(1))
        await after.complete(claim, first)
        await before.queue.complete(late, replace(make_callback(late), usage=make_usage(2)))
        (entry,) = await after.outbox.take(9)
        assert entry.callback == replace(first, usage=None)
        (used,) = await after.usage.peek(9)
        assert used.sealed == make_usage(1)
        await after.usage.told([used])
        await after.outbox.delivered([entry], {})
        await before.queue.complete(late, replace(make_callback(late), usage=make_usage(3)))

        assert list(await after.outbox.take(9)) == []
        assert after.outbox.depth() == 0
        await after.put(make_request())
        (claim,) = await claim_just(after, 1)
        await after.complete(claim, replace(make_callback(claim), usage=make_usage(4)))
        assert [each.sealed for each in await after.usage.peek(9)] == [make_usage(4)]
    await before.stop()
    async with joined(replica("next")) as last:
        # The second answer is known as one also where the first was told long ago.
        assert [each.sealed for each in await last.usage.peek(9)] == [make_usage(4)]


def with_key(key: str, digest: str = "d1") -> QueuedRequest:
    """A request under an idempotency key."""
    return make_request(caller="team", idempotency_key=key, body_digest=digest)


async def test_a_key_is_known_to_every_replica(replica: MakeReplica) -> None:
    """The same key gives the same request at another replica, also at the same moment; one of them is run."""
    async with AsyncExitStack() as closing:
        one = await closing.enter_async_context(joined(replica("one")))
        two = await closing.enter_async_context(joined(replica("two")))
        first, again = with_key("k"), with_key("k")

        answers = await asyncio.gather(one.put(first), two.put(again), return_exceptions=True)

        (refused,) = [answer for answer in answers if isinstance(answer, AcceptedBefore)]
        winner = first if isinstance(answers[0], int) else again
        assert refused.receipt.queue_id == winner.queue_id
        for queue in (one, two):
            receipt = await queue.recall("team", "k")
            assert receipt is not None
            assert (receipt.queue_id, receipt.body_digest) == (winner.queue_id, "d1")
            assert await queue.recall("another", "k") is None
        found: list[str] = []
        working = [asyncio.create_task(_collect(queue, found)) for queue in (one, two)]
        await until(lambda: found, what="a claim")
        await asyncio.sleep(0.3)
        for task in working:
            task.cancel()

        assert found == [winner.queue_id]


async def _collect(queue: KafkaQueue, found: list[str]) -> None:
    while True:
        found.extend(ids_of(await queue.claim(5)))


async def test_a_request_whose_key_was_never_named_is_run(
    replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was killed between a request and its key leaves a request that another one names."""
    monkeypatch.setattr("service.queues.kafka.holdings.UNNAMED_KEY_SECONDS", 0.2)
    async with joined(replica()) as queue:
        request = with_key("half")
        memory = queue._memory
        with monkeypatch.context() as crash:
            crash.setattr(memory, "claim", _never)
            putting = asyncio.create_task(queue.put(request))
            await until(lambda: queue.stats().waiting == 1, what="reading")
            putting.cancel()

        (claim,) = await claim_just(queue, 1)

        assert claim.request == request
        receipt = await queue.recall("team", "half")
        assert receipt is not None
        assert receipt.queue_id == request.queue_id


async def _never(_: Any) -> None:
    await asyncio.Event().wait()


async def test_costs_of_all_replicas_add_up(replica: MakeReplica) -> None:
    """What each has spent today is known to the others, and after a restart."""
    async with AsyncExitStack() as closing:
        one = await closing.enter_async_context(joined(replica("one")))
        two = await closing.enter_async_context(joined(replica("two")))
        today = make_request().queued_at.date()
        for _ in range(2):
            request = make_request()
            await one.put(request)
        found: list[tuple[KafkaQueue, Claim]] = []

        async def take(queue: KafkaQueue) -> None:
            while True:
                found.extend((queue, claim) for claim in await queue.claim(1))

        working = [asyncio.create_task(take(queue)) for queue in (one, two)]
        await until(lambda: len(found) == 2, what="claims")
        for task in working:
            task.cancel()
        for queue, claim in found:
            await queue.retry(claim, 3600.0, Spent(Usage(1, 1, 0, 0, 0.25)))

        async def agreed() -> bool:
            return [await queue.spent_usd(today) for queue in (one, two)] == [0.5, 0.5]

        await until(agreed, what="the same sum")
    async with joined(replica("one")) as again:
        assert await again.spent_usd(today) == 0.5
        assert sum(each.charge.prompt_tokens for each in await again.list_charges(today)) == 2


async def test_what_is_no_request_becomes_a_dead_letter(replica: MakeReplica) -> None:
    """A record that cannot be read is set aside with its reason, and holds up no other."""
    async with joined(replica()) as queue:
        producer = AIOKafkaProducer(bootstrap_servers=replica.bootstrap_servers)
        await producer.start()
        await producer.send_and_wait(replica.topics.requests, b"hello", key=b"who?", partition=1)
        await producer.stop()
        request = make_request()
        await queue.put(request)

        assert ids_of(await claim_just(queue, 1)) == [request.queue_id]
        letters: list[Any] = []

        async def is_buried() -> bool:
            letters.clear()
            await queue._log.read_all(replica.topics.dead_letters, 1, letters.append)
            return bool(letters)

        await until(is_buried, what="a dead letter")
        (letter,) = letters
        assert letter.value == b"hello"
        assert dict(letter.headers)["reason"] == b"no request of this service"
        assert dict(letter.headers)["origin"] == f"{replica.topics.requests}-1-0".encode()
        await until(lambda: queue.stats().waiting == 0, what="passing it")


async def test_parked_callbacks_are_known_to_the_next_owner(replica: MakeReplica) -> None:
    """What an operator has to look at survives the replica; once delivered, it is gone for all."""
    async with joined(replica()) as before:
        request = make_request()
        await before.put(request)
        (claim,) = await claim_just(before, 1)
        await before.complete(claim, make_callback(claim))
        (entry,) = await before.outbox.take(1)
        await before.outbox.park(entry, "MESSAGE_TOO_LARGE")
    async with joined(replica()) as after:
        await until(lambda: after.outbox.parked(), what="dead letters")
        (parked,) = await after.outbox.list_parked(0, 9)
        assert (parked.queue_id, parked.reason) == (request.queue_id, "MESSAGE_TOO_LARGE")
        assert after.stats().waiting == 0

        assert await after.outbox.resend(None) == 1
        assert await take_events(after, 1) == [request.queue_id]
    async with joined(replica()) as last:
        assert (last.outbox.parked(), last.outbox.depth()) == (0, 0)


async def test_a_quiet_week_does_no_harm(replica: MakeReplica, broker_kind: str) -> None:
    """A partition whose journal Kafka has emptied meanwhile is taken over all the same."""
    if broker_kind == EMBEDDED:
        pytest.skip("the embedded broker deletes no records on demand")
    async with joined(replica()) as before:
        request = make_request()
        await before.put(request)
        (claim,) = await claim_just(before, 1)
        await before.complete(claim, make_callback(claim))
        assert await take_events(before, 1) == [request.queue_id]
    admin = AdminClient({"bootstrap.servers": replica.bootstrap_servers})
    everything = [
        TopicPartition(topic, number, OFFSET_END)
        for topic in (replica.topics.requests, replica.topics.journal)
        for number in range(4)
    ]
    for deleted in admin.delete_records(everything).values():
        await asyncio.to_thread(deleted.result, 20)

    async with joined(replica()) as after:
        later = make_request()
        await after.put(later)
        assert ids_of(await claim_just(after, 1)) == [later.queue_id]


async def test_texts_beyond_the_limit_are_read_when_their_turn_has_come(
    replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds what there is room for; order, deadlines and other providers know of all that waits."""
    monkeypatch.setattr("service.queues.kafka.holdings.MAX_REQUESTS_IN_MEMORY_BYTES", 2000)
    async with joined(replica()) as queue:
        requests = [make_request() for _ in range(60)]
        urgent = make_request(priority=9)
        past = make_request(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        await asyncio.gather(*(queue.put(request) for request in [*requests, urgent, past]))
        await until(lambda: not queue.unread(), what="reading")

        (expired,) = await queue.claim_expired(10)
        assert expired.request == past
        (first,) = await queue.claim(1)
        assert first.request == urgent
        rest = await claim_just(queue, 60)

        assert {claim.request.queue_id: claim.request for claim in rest} == {
            request.queue_id: request for request in requests
        }
        for claim in [first, *rest]:
            await queue.unclaim(claim)
        assert len(await claim_just(queue, 61)) == 61


async def test_topics_that_were_made_anew_are_read_anew(
    replica: MakeReplica, create_topic: CreateTopic, broker_kind: str
) -> None:
    """What the group has committed for the topics of that name before does not hide the new requests."""
    if broker_kind == EMBEDDED:
        pytest.skip("the embedded broker deletes no topics")
    async with joined(replica()) as before:
        requests = [make_request() for _ in range(8)]
        for request in requests:
            await before.put(request)
        for claim in await claim_just(before, 8):
            await before.complete(claim, make_callback(claim))
        await take_events(before, 8)
    admin = AdminClient({"bootstrap.servers": replica.bootstrap_servers})
    for deleted in admin.delete_topics([replica.topics.requests, replica.topics.journal]).values():
        await asyncio.to_thread(deleted.result, 20)
    for topic in (replica.topics.requests, replica.topics.journal):
        await until(
            lambda topic=topic: topic not in admin.list_topics(timeout=HANG_SECONDS).topics, what="deletion"
        )
        await create_topic(topic, 4)

    async with joined(replica()) as after:
        later = make_request()
        await after.put(later)
        assert ids_of(await claim_just(after, 1)) == [later.queue_id]


async def test_a_request_that_does_not_fit_is_refused_alone(replica: MakeReplica) -> None:
    """One that is larger than the topic takes, or waits longer than it is kept; others are not disturbed."""
    async with joined(replica()) as queue:
        large = make_request()
        text = large.request_data.model_copy(update={"essay_a": "x" * 1_100_000})
        with pytest.raises(Refused, match=r"max\.message\.bytes"):
            await queue.put(large.model_copy(update={"request_data": text}))

        assert queue.stats().usable
        assert await queue.put(make_request()) == 1


async def test_a_queue_without_its_topics_says_what_to_do(bootstrap_servers: str) -> None:
    """A topic that is missing is named, with the command that makes it."""
    absent = f"absent-{uuid4().hex[:8]}"
    topics = QueueTopics(absent, f"{absent}.journal", f"{absent}.memory", f"{absent}.dead")
    with pytest.raises(QueueUnavailable, match=rf"no topic {absent}; .*topics bootstrap --queue"):
        await Member(bootstrap_servers, topics).start()


async def test_any_replica_can_have_a_request_cancelled(replica: MakeReplica) -> None:
    """Who does not own its partition asks whoever does, and is told what came of it."""
    async with AsyncExitStack() as closing:
        one = await closing.enter_async_context(joined(replica("one")))
        two = await closing.enter_async_context(joined(replica("two")))
        await until(lambda: len(one.owned()) == len(two.owned()) == 2, what="sharing")
        for queue in (one, two):
            queue.cancel_held = canceller(queue)
        requests = [make_request(caller="red") for _ in range(8)]
        await asyncio.gather(*(one.put(request) for request in requests))

        async with asyncio.timeout(HANG_SECONDS):
            cancelled = [await one.cancel_elsewhere(each.queue_id, "red") for each in requests]
            again = await two.cancel_elsewhere(requests[0].queue_id, "red")
            unknown = await two.cancel_elsewhere(str(uuid4()), None)

    assert (cancelled, again, unknown) == ([True] * 8, False, False)


async def test_caller_cannot_cancel_anothers_request_on_another_replica(replica: MakeReplica) -> None:
    """The owner looks whose it is."""
    async with joined(replica()) as queue:
        queue.cancel_held = canceller(queue)
        request = make_request(caller="red")
        await queue.put(request)

        async with asyncio.timeout(HANG_SECONDS):
            assert not await queue.cancel_elsewhere(request.queue_id, "blue")
            assert await queue.cancel_elsewhere(request.queue_id, "red")


def canceller(queue: KafkaQueue) -> Any:
    """Cancels what a queue holds, as the engine does."""

    async def cancel_held(queue_id: str, caller: str | None) -> bool:
        claim = await queue.claim_cancelled(queue_id) if queue.holds(queue_id, caller) else None
        if claim is None:
            return False
        await queue.complete(claim, make_callback(claim))
        return True

    return cancel_held


async def test_whoever_comes_next_tells_the_usage_that_was_not_told(replica: MakeReplica) -> None:
    """What was told without a gap is told no more; the rest is, also after its callbacks were delivered."""
    count = 2 * PARTITIONS + 1
    async with joined(replica("one")) as one:
        for _ in range(count):
            await one.put(make_request())
        for number, claim in enumerate(await claim_just(one, count)):
            callback = replace(make_callback(claim), key=f"k{number}", usage=make_usage(number))
            await one.complete(claim, callback)
        await take_events(one, count)
        await peek_all(one, count)
        of_partition: dict[int, list[UsageEntry]] = {}
        for entry in await one.usage.peek(count):
            of_partition.setdefault(locate_request(entry.sequence)[0], []).append(entry)
        first, second, third = next(each for each in of_partition.values() if len(each) >= 3)[:3]
        await one.usage.told([first, third])

    async with joined(replica("two")) as two:
        keys = {key for key, _ in await peek_all(two, count - 1)}

    assert first.key not in keys
    assert {second.key, third.key} <= keys
    assert len(keys) == count - 1
