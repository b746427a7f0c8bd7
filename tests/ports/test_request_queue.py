"""What every queue promises: the same suite on the one in memory and the one on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.contracts.topics import derive_event_id
from service.core.outcome import AttemptRecord, Spent, Usage
from service.core.records import Callback, Claim, OutboxEntry
from service.queues.memory import MemoryQueue
from service.queues.sqlite import MAX_CALLBACKS_IN_MEMORY, SqliteQueue

Queue = MemoryQueue | SqliteQueue


def make_request(priority: int = 0, **fields: Any) -> QueuedRequest:
    """A queued request with texts that are not ASCII."""
    data = LLMComparisonRequest(
        user_prompt="Which is better?",
        essay_a="Æther, première ∑",
        essay_b="b",
        callback_topic="results",
        priority=priority,
        metadata={"pair": 1},
    )
    now = datetime.now(UTC)
    base = {"queue_id": str(uuid4()), "queued_at": now, "expires_at": now + timedelta(hours=1)}
    return QueuedRequest(
        correlation_id=data.correlation_id, callback_topic="results", request_data=data, **{**base, **fields}
    )


def make_callback(claim: Claim) -> Callback:
    """A callback with headers and bytes of its own."""
    queue_id = claim.request.queue_id
    sealed = SealedEnvelope(f'{{"n": "{queue_id}"}}'.encode(), (("event_id", b"\xff\x00"), ("x", b"")))
    return Callback(queue_id, "results", "key", sealed, success=True, accepted_unix_seconds=12.5)


@pytest.fixture(params=["memory", "sqlite"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Queue]:
    """A queue of each kind."""
    if request.param == "memory":
        yield MemoryQueue()
        return
    sqlite = SqliteQueue(tmp_path / "queue.db")
    await sqlite.open()
    yield sqlite
    await sqlite.close()


async def test_claims_what_was_put_unchanged_and_in_order(queue: Queue) -> None:
    """Requests come out as they went in, first come first served, each for its first attempt."""
    requests = [make_request() for _ in range(3)]

    positions = [await queue.put(request) for request in requests]
    claims = await queue.claim(10)

    assert positions == [1, 2, 3]
    assert [claim.request for claim in claims] == requests
    assert {claim.attempt for claim in claims} == {1}


async def test_claims_no_more_than_asked_for(queue: Queue) -> None:
    """The limit of a claim is kept, and the rest waits."""
    for _ in range(3):
        await queue.put(make_request())

    claims = await queue.claim(2)

    assert len(claims) == 2
    assert (queue.stats().waiting, queue.stats().claimed) == (1, 2)


async def test_serves_higher_priority_first(queue: Queue) -> None:
    """A request of higher priority overtakes those that wait."""
    low, high = make_request(priority=0), make_request(priority=9)
    await queue.put(low)
    await queue.put(high)

    claims = await queue.claim(2)

    assert [claim.request.queue_id for claim in claims] == [high.queue_id, low.queue_id]


async def test_claim_waits_for_the_first_request(queue: Queue) -> None:
    """A claim on an empty queue ends when something is put."""
    claiming = asyncio.ensure_future(queue.claim(1))
    await asyncio.sleep(0)
    assert not claiming.done()
    request = make_request()

    await queue.put(request)

    assert (await asyncio.wait_for(claiming, 5))[0].request == request


async def test_unclaimed_request_is_as_if_never_claimed(queue: Queue) -> None:
    """What is given back unstarted goes first again, and the attempt does not count."""
    first, second = make_request(), make_request()
    await queue.put(first)
    await queue.put(second)
    (claim,) = await queue.claim(1)

    await queue.unclaim(claim)
    claims = await queue.claim(2)

    assert [(c.request.queue_id, c.attempt) for c in claims] == [(first.queue_id, 1), (second.queue_id, 1)]


async def test_retry_counts_attempts_and_carries_what_was_spent(queue: Queue) -> None:
    """A second attempt knows its number and what the first has cost."""
    await queue.put(make_request())
    (claim,) = await queue.claim(1)
    spent = Spent(Usage(10, 5, 2, 1, 0.25), 1.5, "model-x", LLMErrorCode.PROVIDER_TIMEOUT, "too slow")

    await queue.retry(claim, 0.0, spent)
    (again,) = await asyncio.wait_for(queue.claim(1), 5)

    assert (again.attempt, again.spent) == (2, spent)


ATTEMPTS = (
    AttemptRecord(1_741_944_413_007, 1.2346, LLMProviderType.OPENAI, LLMErrorCode.PROVIDER_TIMEOUT),
    AttemptRecord(1_741_944_419_000, 0.0, LLMProviderType.GOOGLE, LLMErrorCode.PARSING_ERROR),
    AttemptRecord(1_741_944_425_999, 61.5, LLMProviderType.ANTHROPIC),
)


async def test_attempts_survive_a_retry(queue: Queue) -> None:
    """The next attempt knows when each one before it began, how long it took, who was asked and its end."""
    await queue.put(make_request())
    (claim,) = await queue.claim(1)

    await queue.retry(claim, 0.0, Spent(calls=3, attempts=ATTEMPTS))
    (again,) = await asyncio.wait_for(queue.claim(1), 5)

    assert again.spent == Spent(calls=3, attempts=ATTEMPTS)


async def test_attempts_survive_a_restart_in_little_space(tmp_path: Path) -> None:
    """What is stored of twenty attempts is read back by the next process, and is under two kilobytes."""
    path = tmp_path / "queue.db"
    before = SqliteQueue(path)
    await before.open()
    await before.put(make_request())
    (claim,) = await before.claim(1)
    many = (ATTEMPTS * 7)[:20]
    await before.retry(claim, 3600.0, Spent(calls=20, attempts=many))
    await before.close()

    after = SqliteQueue(path)
    await after.open()
    (again,) = await asyncio.wait_for(after.claim(1), 5)
    await after.close()

    assert (again.attempt, again.spent) == (2, Spent(calls=20, attempts=many))
    with closing(sqlite3.connect(path)) as connection:
        assert len(connection.execute("SELECT spent FROM request").fetchone()[0]) < 2000


async def test_row_of_a_version_that_noted_no_attempts_is_read(tmp_path: Path) -> None:
    """A request that an earlier version has tried is taken up with what it has cost."""
    path = tmp_path / "queue.db"
    before = SqliteQueue(path)
    await before.open()
    await before.put(make_request())
    await before.close()
    stored = (
        b'{"usage":{"prompt_tokens":10,"completion_tokens":5,"cached_tokens":2,"reasoning_tokens":1,'
        b'"cost_usd":0.25},"provider_seconds":1.5,"model":"model-x","last_code":"LLM_PROVIDER_TIMEOUT",'
        b'"last_message":"too slow","calls":1,"unconfirmed_usd":0.5}'
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE request SET attempts = 1, spent = ?", (stored,))

    after = SqliteQueue(path)
    await after.open()
    (claim,) = await asyncio.wait_for(after.claim(1), 5)
    await after.close()

    code = LLMErrorCode.PROVIDER_TIMEOUT
    expected = Spent(Usage(10, 5, 2, 1, 0.25), 1.5, "model-x", code, "too slow", 1, 0.5)
    assert (claim.attempt, claim.spent) == (2, expected)


async def test_retry_is_not_claimed_before_its_time(queue: Queue) -> None:
    """A request that is to wait does wait, and counts as waiting meanwhile."""
    await queue.put(make_request())
    (claim,) = await queue.claim(1)

    await queue.retry(claim, 3600.0, Spent())

    claiming = asyncio.ensure_future(queue.claim(1))
    done, _ = await asyncio.wait([claiming], timeout=0.05)
    claiming.cancel()
    assert not done
    assert (queue.stats().waiting, queue.stats().claimed) == (1, 0)
    assert queue.stats().oldest_accepted_at is not None


async def test_completed_request_moves_to_the_outbox(queue: Queue) -> None:
    """Completion empties the queue and fills the outbox with the very same bytes."""
    await queue.put(make_request())
    (claim,) = await queue.claim(1)
    callback = make_callback(claim)

    await queue.complete(claim, callback)
    (entry,) = await queue.outbox.take(10)

    assert entry.callback == callback
    assert (queue.stats().waiting, queue.stats().claimed, queue.outbox.depth()) == (0, 0, 1)


async def store(queue: Queue, count: int, topic: str = "results") -> list[OutboxEntry]:
    """Fills the outbox with callbacks for a topic, and takes them."""
    for _ in range(count):
        await queue.put(make_request())
        (claim,) = await queue.claim(1)
        await queue.complete(claim, replace(make_callback(claim), topic=topic))
    return list(await queue.outbox.take(count))


def event_id_of(entry: OutboxEntry) -> str:
    """How a callback is told among the records of its topic."""
    return str(derive_event_id(entry.callback.queue_id))


async def test_delivered_callback_is_forgotten(queue: Queue) -> None:
    """An acknowledged callback leaves the outbox."""
    entries = await store(queue, 1)

    await queue.outbox.delivered(entries, {})

    assert queue.outbox.depth() == 0


async def test_callback_put_back_is_taken_again(queue: Queue) -> None:
    """A failed send makes its callback available once more, unchanged."""
    (entry,) = await store(queue, 1)

    queue.outbox.put_back(entry)
    (again,) = await queue.outbox.take(1)

    assert again.callback == entry.callback
    assert queue.outbox.depth() == 1


async def test_arrival_and_room_wake_whoever_takes(queue: Queue) -> None:
    """What can be taken is said: when it arrives, is put back, settled or sent again."""
    outbox = queue.outbox
    outbox.changed.clear()
    (entry,) = await store(queue, 1)
    assert outbox.changed.is_set()

    outbox.changed.clear()
    outbox.put_back(entry)

    assert outbox.changed.is_set()
    assert list(await outbox.take(5, avoid={"results"})) == []
    assert len(await outbox.take(5)) == 1
    assert list(await outbox.take(5)) == []


async def test_doubtful_callback_is_not_handed_out(queue: Queue) -> None:
    """What may stand on its topic waits until the topic was read, and then is forgotten or handed out."""
    entries = await store(queue, 3)
    outbox = queue.outbox
    for entry in entries:
        outbox.doubt(entry)
    assert (list(await outbox.take(9)), outbox.depth()) == ([], 3)

    topic, doubts = await asyncio.wait_for(outbox.take_doubtful(), 5)
    await outbox.settle(topic, doubts, {event_id_of(entries[1])})
    left = await outbox.take(9)

    assert (topic, {doubt.event_id for doubt in doubts}) == ("results", set(map(event_id_of, entries)))
    assert [entry.callback for entry in left] == [entries[0].callback, entries[2].callback]
    assert {entry.stored_monotonic_seconds for entry in left} == {None}
    assert outbox.depth() == 2


async def test_position_of_a_topic_stands_still_while_a_callback_is_in_doubt(queue: Queue) -> None:
    """How far a topic was written is noted with deletions, but never past what still is to be read back."""
    first, second, third = await store(queue, 3)
    outbox = queue.outbox
    assert outbox.written_until("results") is None
    await outbox.begin_topic("results", {0: 4, 1: 7})
    await outbox.delivered([first], {"results": {0: 5}})
    assert outbox.written_until("results") == {0: 5, 1: 7}

    outbox.doubt(second)
    await outbox.delivered([third], {"results": {0: 9}})
    assert outbox.written_until("results") == {0: 5, 1: 7}
    topic, doubts = await asyncio.wait_for(outbox.take_doubtful(), 5)
    await outbox.settle(topic, doubts, {event_id_of(second)})
    await outbox.delivered([], {"results": {0: 10}})

    assert (outbox.written_until("results"), outbox.depth()) == ({0: 10, 1: 7}, 0)


async def test_parked_callback_waits_for_an_operator(queue: Queue) -> None:
    """What was refused for good is listed with its reason, is in nobody's way, and can be sent again."""
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
    """The age of the queue is that of its oldest request, whatever the priority."""
    early = datetime(2026, 1, 1, tzinfo=UTC)
    await queue.put(make_request(queued_at=early))
    await queue.put(make_request(priority=9))

    assert queue.stats().oldest_accepted_at == early
    await queue.claim(2)
    assert queue.stats().oldest_accepted_at is None


async def test_more_callbacks_than_fit_in_memory_all_come_out(queue: Queue) -> None:
    """An outbox that grew beyond its memory limit gives every callback once, with its own bytes."""
    count = MAX_CALLBACKS_IN_MEMORY + 50
    await asyncio.gather(*(queue.put(make_request()) for _ in range(count)))
    expected = {}
    for claim in await queue.claim(count):
        callback = make_callback(claim)
        expected[claim.request.queue_id] = callback
        await queue.complete(claim, callback)

    taken = []
    while len(taken) < count:
        taken.extend(await queue.outbox.take(700))

    assert {entry.callback.queue_id: entry.callback for entry in taken} == expected
    assert len(taken) == count
