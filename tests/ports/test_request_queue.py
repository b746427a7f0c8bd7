"""What every queue promises: the same suite on the one in memory, on disk, and on both brokers."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import QueuedRequest
from service.contracts.topics import derive_event_id
from service.core.charges import Charge, Payer
from service.core.outcome import AttemptRecord, Spent, Usage
from service.core.records import Claim, OutboxEntry, Place, UsageEntry
from service.queues.kafka.queue import KafkaQueue
from service.queues.memory import MemoryQueue
from service.queues.sqlite.outbox import MAX_CALLBACKS_IN_MEMORY
from service.queues.sqlite.queue import SqliteQueue
from tests.conftest import choose_creator, find_broker
from tests.long.kafka_queues import Member, create_queue_topics, joined
from tests.ports.making import make_callback, make_request, opened
from tests.waiting import HANG_SECONDS, until

Queue = MemoryQueue | SqliteQueue | KafkaQueue


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("kafka-embedded", marks=pytest.mark.long),
        pytest.param("kafka-apache", marks=pytest.mark.long),
    ]
)
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Queue]:
    if request.param == "memory":
        yield MemoryQueue()
        return
    if request.param.startswith("kafka-"):
        broker_kind = request.param.removeprefix("kafka-")
        topics = await create_queue_topics(choose_creator(request, broker_kind), partitions=1)
        async with joined(Member(find_broker(request, broker_kind), topics)) as kafka:
            yield kafka
        return
    async with opened(tmp_path / "queue.db") as sqlite:
        yield sqlite


async def put(queue: Queue, request: QueuedRequest) -> int:
    """Puts a request, and waits until it can be claimed."""
    position = await queue.put(request)
    if isinstance(queue, KafkaQueue):
        await until(lambda: not queue.unread(), what="reading")
    return position


async def put_and_claim(queue: Queue) -> Claim:
    await put(queue, make_request())
    (claim,) = await queue.claim(1)
    return claim


async def test_claims_what_was_put_unchanged_and_in_order(queue: Queue) -> None:
    requests = [make_request() for _ in range(3)]

    positions = [await put(queue, request) for request in requests]
    claims = list(await queue.claim(2))
    assert (len(claims), queue.stats().waiting, queue.stats().claimed) == (2, 1, 2)
    claims += await queue.claim(10)

    assert positions == [1, 2, 3]
    assert [claim.request for claim in claims] == requests
    assert {claim.attempt for claim in claims} == {1}


async def test_serves_higher_priority_first(queue: Queue) -> None:
    low, high = make_request(priority=0), make_request(priority=9)
    await put(queue, low)
    await put(queue, high)

    claims = await queue.claim(2)

    assert [claim.request.queue_id for claim in claims] == [high.queue_id, low.queue_id]


async def test_claim_waits_for_the_first_request(queue: Queue) -> None:
    claiming = asyncio.ensure_future(queue.claim(1))
    await asyncio.sleep(0)
    assert not claiming.done()
    request = make_request()

    await put(queue, request)

    assert (await asyncio.wait_for(claiming, HANG_SECONDS))[0].request == request


async def test_unclaimed_request_is_as_if_never_claimed(queue: Queue) -> None:
    first, second = make_request(), make_request()
    await put(queue, first)
    await put(queue, second)
    (claim,) = await queue.claim(1)

    await queue.unclaim(claim)
    claims = await queue.claim(2)

    assert [(c.request.queue_id, c.attempt) for c in claims] == [(first.queue_id, 1), (second.queue_id, 1)]


ATTEMPTS = (
    AttemptRecord(1_741_944_413_007, 1.2346, LLMProviderType.OPENAI, LLMErrorCode.PROVIDER_TIMEOUT),
    AttemptRecord(1_741_944_419_000, 0.0, LLMProviderType.GOOGLE, LLMErrorCode.PARSING_ERROR),
    AttemptRecord(1_741_944_425_999, 61.5, LLMProviderType.ANTHROPIC),
)


async def test_retry_counts_attempts_and_carries_what_was_spent(queue: Queue) -> None:
    claim = await put_and_claim(queue)
    usage, code = Usage(10, 5, 2, 1, 0.25), LLMErrorCode.PROVIDER_TIMEOUT
    spent = Spent(usage, 1.5, "model-x", code, "too slow", calls=3, attempts=ATTEMPTS)

    await queue.retry(claim, 0.0, spent)
    (again,) = await asyncio.wait_for(queue.claim(1), HANG_SECONDS)

    assert (again.attempt, again.spent) == (2, spent)


async def test_attempts_survive_a_restart_in_little_space(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as before:
        await before.put(make_request())
        (claim,) = await before.claim(1)
        many = (ATTEMPTS * 7)[:20]
        await before.retry(claim, 3600.0, Spent(calls=20, attempts=many))

    async with opened(path) as after:
        (again,) = await asyncio.wait_for(after.claim(1), HANG_SECONDS)

    assert (again.attempt, again.spent) == (2, Spent(calls=20, attempts=many))
    with closing(sqlite3.connect(path)) as connection:
        assert len(connection.execute("SELECT spent FROM request").fetchone()[0]) < 2000


async def test_row_of_a_version_that_noted_no_attempts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as before:
        await before.put(make_request())
    stored = (
        b'{"usage":{"prompt_tokens":10,"completion_tokens":5,"cached_tokens":2,"reasoning_tokens":1,'
        b'"cost_usd":0.25},"provider_seconds":1.5,"model":"model-x","last_code":"LLM_PROVIDER_TIMEOUT",'
        b'"last_message":"too slow","calls":1,"unconfirmed_usd":0.5}'
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE request SET attempts = 1, spent = ?", (stored,))

    async with opened(path) as after:
        (claim,) = await asyncio.wait_for(after.claim(1), HANG_SECONDS)

    code = LLMErrorCode.PROVIDER_TIMEOUT
    expected = Spent(Usage(10, 5, 2, 1, 0.25), 1.5, "model-x", code, "too slow", 1, 0.5)
    assert (claim.attempt, claim.spent) == (2, expected)


async def test_retry_is_not_claimed_before_its_time(queue: Queue) -> None:
    claim = await put_and_claim(queue)

    await queue.retry(claim, 3600.0, Spent())

    claiming = asyncio.ensure_future(queue.claim(1))
    done, _ = await asyncio.wait([claiming], timeout=0.05)
    claiming.cancel()
    assert not done
    assert (queue.stats().waiting, queue.stats().claimed) == (1, 0)
    assert queue.stats().oldest_accepted_at is not None


async def test_completed_request_moves_to_the_outbox(queue: Queue) -> None:
    claim = await put_and_claim(queue)
    callback = make_callback(claim)

    await queue.complete(claim, callback)
    (entry,) = await queue.outbox.take(10)

    assert entry.callback == callback
    assert (queue.stats().waiting, queue.stats().claimed, queue.outbox.depth()) == (0, 0, 1)


async def store(queue: Queue, count: int, topic: str = "results") -> list[OutboxEntry]:
    for _ in range(count):
        claim = await put_and_claim(queue)
        await queue.complete(claim, replace(make_callback(claim), topic=topic))
    return list(await queue.outbox.take(count))


def event_id_of(entry: OutboxEntry) -> str:
    return str(derive_event_id(entry.callback.queue_id))


async def test_delivered_callback_is_forgotten(queue: Queue) -> None:
    first, second = await store(queue, 2)

    await queue.outbox.delivered([first, replace(second, place=Place(0, 7))], {})

    assert queue.outbox.depth() == 0


async def test_callback_that_arrives_or_is_put_back_wakes_the_sender(queue: Queue) -> None:
    outbox = queue.outbox
    outbox.changed.clear()
    (entry,) = await store(queue, 1)
    assert outbox.changed.is_set()

    outbox.changed.clear()
    outbox.put_back(entry)

    assert outbox.changed.is_set()
    assert list(await outbox.take(5, avoid={"results"})) == []
    assert [again.callback for again in await outbox.take(5)] == [entry.callback]
    assert (list(await outbox.take(5)), outbox.depth()) == ([], 1)


async def test_doubtful_callback_is_not_handed_out(queue: Queue) -> None:
    entries = await store(queue, 3)
    outbox = queue.outbox
    for entry in entries:
        outbox.doubt(entry)
    assert (list(await outbox.take(9)), outbox.depth()) == ([], 3)

    topic, doubts = await asyncio.wait_for(outbox.take_doubtful(), HANG_SECONDS)
    await outbox.settle(topic, doubts, {event_id_of(entries[1])})
    left = await outbox.take(9)

    assert (topic, {doubt.event_id for doubt in doubts}) == ("results", set(map(event_id_of, entries)))
    assert [entry.callback for entry in left] == [entries[0].callback, entries[2].callback]
    assert {entry.stored_monotonic_seconds for entry in left} == {None}
    assert outbox.depth() == 2


async def test_position_of_a_topic_stands_still_while_a_callback_is_in_doubt(queue: Queue) -> None:
    first, second, third = await store(queue, 3)
    outbox = queue.outbox
    assert outbox.written_until("results") is None
    await outbox.begin_topic("results", {0: 4, 1: 7})
    await outbox.delivered([first], {"results": {0: 5}})
    assert outbox.written_until("results") == {0: 5, 1: 7}

    outbox.doubt(second)
    await outbox.delivered([third], {"results": {0: 9}})
    assert outbox.written_until("results") == {0: 5, 1: 7}
    topic, doubts = await asyncio.wait_for(outbox.take_doubtful(), HANG_SECONDS)
    await outbox.settle(topic, doubts, {event_id_of(second)})
    await outbox.delivered([], {"results": {0: 10}})

    assert (outbox.written_until("results"), outbox.depth()) == ({0: 10, 1: 7}, 0)


async def test_parked_callback_waits_for_an_operator(queue: Queue) -> None:
    one, two, three = await store(queue, 3)
    outbox = queue.outbox
    for entry, reason in ((one, "MESSAGE_TOO_LARGE"), (three, "INVALID_TOPIC_EXCEPTION")):
        await outbox.park(entry, reason)
    await outbox.delivered([two], {})
    assert (outbox.depth(), outbox.parked(), list(await outbox.take(9))) == (0, 2, [])

    listed = await outbox.list_parked(after=0, limit=10)
    assert [(parked.queue_id, parked.reason) for parked in listed] == [
        (one.callback.queue_id, "MESSAGE_TOO_LARGE"),
        (three.callback.queue_id, "INVALID_TOPIC_EXCEPTION"),
    ]
    assert (listed[0].correlation_id, listed[0].topic, listed[0].success) == ("key", "results", True)
    assert (listed[0].size_bytes, listed[0].accepted_unix_seconds) == (len(one.callback.sealed.value), 12.5)
    assert list(await outbox.list_parked(after=listed[0].sequence, limit=1)) == listed[1:]

    assert await outbox.resend(["not parked", one.callback.queue_id]) == 1
    (again,) = await outbox.take(9)
    assert (again.callback, outbox.parked()) == (one.callback, 1)
    assert (await outbox.resend(None), await outbox.resend(None), outbox.parked()) == (1, 0, 0)


async def test_stats_tell_the_oldest_waiting_request(queue: Queue) -> None:
    early = datetime.now(UTC) - timedelta(hours=3)
    await put(queue, make_request(queued_at=early))
    await put(queue, make_request(priority=9))

    assert queue.stats().oldest_accepted_at == early
    await queue.claim(2)
    assert queue.stats().oldest_accepted_at is None


async def test_more_callbacks_than_fit_in_memory_all_come_out(queue: Queue) -> None:
    count = MAX_CALLBACKS_IN_MEMORY + 5
    await asyncio.gather(*(queue.put(make_request()) for _ in range(count)))
    expected = {}
    claims: list[Claim] = []
    while len(claims) < count:
        claims.extend(await queue.claim(count))
    for claim in claims:
        expected[claim.request.queue_id] = make_callback(claim)
    await asyncio.gather(*(queue.complete(claim, expected[claim.request.queue_id]) for claim in claims))

    taken = []
    async with asyncio.timeout(HANG_SECONDS):
        while len(taken) < count:
            taken.extend(await queue.outbox.take(700))
            await asyncio.sleep(0)  # what is to be taken may have to be read first

    assert {entry.callback.queue_id: entry.callback for entry in taken} == expected
    assert len(taken) == count


async def test_waiting_request_can_be_claimed_to_cancel_it(queue: Queue) -> None:
    first, unwanted = make_request(), make_request()
    await put(queue, first)
    await put(queue, unwanted)

    claim = await asyncio.wait_for(queue.claim_cancelled(unwanted.queue_id), HANG_SECONDS)

    assert claim is not None
    assert (claim.request, claim.attempt) == (unwanted, 0)
    await queue.complete(claim, make_callback(claim))
    (other,) = await queue.claim(10)
    assert other.request == first
    assert not queue.holds(unwanted.queue_id, None)
    assert await queue.claim_cancelled(unwanted.queue_id) is None


async def test_resting_request_can_be_claimed_to_cancel_it(queue: Queue) -> None:
    claim = await put_and_claim(queue)
    spent = Spent(Usage(10, 5, 0, 0, 0.25), 1.5, "model-x", LLMErrorCode.PROVIDER_TIMEOUT, "slow", 1)
    await queue.retry(claim, 3600.0, spent)

    again = await asyncio.wait_for(queue.claim_cancelled(claim.request.queue_id), HANG_SECONDS)

    assert again is not None
    assert (again.attempt, again.spent) == (1, spent)
    assert (queue.stats().waiting, queue.stats().claimed) == (0, 1)
    await queue.complete(again, make_callback(again))
    assert (queue.stats().waiting, queue.stats().claimed) == (0, 0)


@pytest.mark.parametrize("end", ["retry", "unclaim", "complete"])
async def test_request_in_work_can_be_cancelled_unless_it_completes(queue: Queue, end: str) -> None:
    """The one who cancels gets the request before any worker; an outcome that became durable stays."""
    claim = await put_and_claim(queue)
    cancelling = asyncio.ensure_future(queue.claim_cancelled(claim.request.queue_id))
    await asyncio.sleep(0)
    assert not cancelling.done()

    if end == "retry":
        await queue.retry(claim, 3600.0, Spent(calls=1))
    elif end == "unclaim":
        await queue.unclaim(claim)
    else:
        await queue.complete(claim, make_callback(claim))
    again = await asyncio.wait_for(cancelling, HANG_SECONDS)

    assert (again and again.request) == (None if end == "complete" else claim.request)


async def test_holds_tells_whose_a_request_is(queue: Queue) -> None:
    mine = make_request(caller="red")
    await put(queue, mine)

    assert queue.holds(mine.queue_id, "red")
    assert queue.holds(mine.queue_id, None)
    assert not queue.holds(mine.queue_id, "blue")
    assert not queue.holds(str(uuid4()), None)


async def test_journal_tells_what_was_called_back(queue: Queue) -> None:
    for _ in range(3):
        await put(queue, make_request())
    claims = await queue.claim(2)
    for claim in claims:
        await queue.complete(claim, make_callback(claim))
    entries = []
    async with asyncio.timeout(HANG_SECONDS):
        while len(entries) < 2:
            entries += await queue.outbox.take(10)
            await asyncio.sleep(0)
    placed = [replace(entry, place=Place(4, 700 + index)) for index, entry in enumerate(entries)]
    await queue.outbox.delivered(placed, {})

    found, after = [], None
    while True:
        page = await queue.list_journal(after, 1)
        found.extend(page.entries)
        if page.next is None:
            break
        after = page.next

    assert [each.queue_id for each in found] == [claim.request.queue_id for claim in claims]
    assert {(each.correlation_id, each.topic, each.success) for each in found} == {("key", "results", True)}
    assert {each.accepted_unix_seconds for each in found} == {12.5}
    if isinstance(queue, KafkaQueue):
        assert all(each.answered_unix_seconds and each.place is None for each in found)
    else:
        assert [each.place for each in found] == [Place(4, 700), Place(4, 701)]
        assert all(each.published_unix_seconds for each in found)
    with pytest.raises(ValueError, match="place"):
        await queue.list_journal("x-", 1)


@pytest.mark.parametrize("queue", ["memory", "sqlite"], indirect=True)
async def test_journal_knows_what_was_found_after_a_crash(queue: Queue) -> None:
    claim = await put_and_claim(queue)
    await queue.complete(claim, make_callback(claim))
    (entry,) = await queue.outbox.take(1)
    queue.outbox.doubt(entry)
    topic, doubts = await queue.outbox.take_doubtful()

    await queue.outbox.settle(topic, doubts, {doubt.event_id for doubt in doubts})

    (found,) = (await queue.list_journal(None, 10)).entries
    assert (found.queue_id, found.place) == (claim.request.queue_id, None)


@pytest.mark.parametrize(("retention_seconds", "kept"), [(3600.0, 1), (1e-6, 0), (0.0, 0)])
async def test_journal_on_disk_is_kept_for_so_long(
    tmp_path: Path, retention_seconds: float, kept: int
) -> None:
    async with opened(tmp_path / "queue.db", journal_retention_seconds=retention_seconds) as queue:
        request = make_request()
        await queue.put(request)
        (claim,) = await queue.claim(1)
        await queue.complete(claim, replace(make_callback(claim), key=str(request.correlation_id)))
        await queue.outbox.delivered(await queue.outbox.take(1), {})
        noted = len((await queue.list_journal(None, 10)).entries)

        await queue.forget_ended()
        page = await queue.list_journal(None, 10)

    assert noted == (retention_seconds > 0)
    assert [entry.correlation_id for entry in page.entries] == [str(request.correlation_id)] * kept


async def test_charges_are_added_up_by_caller_provider_and_model(queue: Queue) -> None:
    first_day = datetime.now(UTC).date()
    for caller in ("red", "red", None):
        await put(queue, make_request(caller=caller))
    claims = await queue.claim(3)
    attempt = AttemptRecord(1, 0.1, LLMProviderType.OPENAI)
    first = Spent(Usage(10, 2, 0, 0, 0.25), model="model-x", calls=1, attempts=(attempt,))
    await queue.retry(claims[0], 0.0, first)
    (again,) = await asyncio.wait_for(queue.claim(1), HANG_SECONDS)
    for claim in (again, *claims[1:]):
        await queue.complete(claim, replace(make_callback(claim), spent=claim.spent + first))

    charges = await queue.list_charges(first_day)
    last_day = datetime.now(UTC).date()
    total: dict[Payer, Charge] = {}
    for each in charges:  # of two days, if the test runs across midnight
        total[each.payer] = total.get(each.payer, Charge()) + each.charge
    assert total == {
        Payer("red", "openai", "model-x"): Charge(3, 30, 6, 0.75),
        Payer(None, "openai", "model-x"): Charge(1, 10, 2, 0.25),
    }
    days = {first_day, last_day}
    assert {each.day for each in charges} <= days
    assert sum([await queue.spent_usd(day) for day in days]) == 1.0
    assert await queue.list_charges(last_day + timedelta(days=1)) in ((), [])


def make_usage(number: int) -> SealedEnvelope:
    return SealedEnvelope(f'{{"usage": {number}, "of": "é"}}'.encode(), (("event_id", b"\xff\x01"),))


async def peek_all(queue: Queue, count: int) -> list[tuple[str, SealedEnvelope]]:
    """Waits for `count` usage events; returns them in the order of their text."""
    entries: Sequence[UsageEntry] = ()

    async def are_there() -> bool:
        nonlocal entries
        entries = await queue.usage.peek(10)
        return len(entries) >= count

    await until(are_there, what="usage events")
    return sorted(((each.key, each.sealed) for each in entries), key=lambda each: each[1].value)


async def test_usage_events_wait_until_they_are_told(queue: Queue) -> None:
    for _ in range(4):
        await put(queue, make_request())
    claims = await queue.claim(4)
    for number, claim in enumerate(claims[:3]):
        await queue.complete(claim, replace(make_callback(claim), key=f"k{number}", usage=make_usage(number)))
    await queue.complete(claims[3], make_callback(claims[3]))
    expected = [(f"k{number}", make_usage(number)) for number in range(3)]

    assert await peek_all(queue, 3) == expected
    await queue.outbox.delivered(await queue.outbox.take(10), {})
    assert await peek_all(queue, 3) == expected
    told = [each for each in await queue.usage.peek(10) if each.key != "k1"]
    await queue.usage.told(told)

    async def is_left() -> bool:
        assert len(await queue.usage.peek(10)) == 1
        return queue.usage.depth() == 1

    assert await peek_all(queue, 1) == [expected[1]]
    await until(is_left, what="the count of what is left")
    await queue.usage.told(await queue.usage.peek(10))
    assert queue.usage.depth() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await queue.usage.peek(1)


async def test_usage_events_are_counted_though_none_can_be_told(queue: Queue) -> None:
    for _ in range(4):
        await put(queue, make_request())
    first, *others = await queue.claim(4)
    await queue.complete(first, replace(make_callback(first), usage=make_usage(0)))
    assert len(await peek_all(queue, 1)) == 1
    for number, claim in enumerate(others, 1):
        await queue.complete(claim, replace(make_callback(claim), usage=make_usage(number)))
        await put(queue, make_request())
        await queue.claim(1)

    async def are_counted() -> bool:
        assert len(await queue.usage.peek(1)) == 1
        return queue.usage.depth() == 4

    await until(are_counted, what="the count of what waits")
