"""Rows of a queue file that cannot be read: set aside, counted, and in nobody's way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from service.contracts.codec import SealedEnvelope
from service.core.errors import QueueRejected
from service.core.outcome import Spent, Usage
from service.core.records import Callback
from service.queues.sqlite.queue import SqliteQueue
from tests.ports.making import make_request
from tests.waiting import HANG_SECONDS

SEALED = SealedEnvelope(b"value", (("h", b"v"),))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteQueue]:
    queue = SqliteQueue(path)
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def make_callback(queue_id: str) -> Callback:
    return Callback(queue_id, "t", "k", SEALED, success=True, accepted_unix_seconds=1.0, usage=SEALED)


@pytest.mark.parametrize(
    "damage",
    [
        "payload = x'7b'",
        "payload = x'00ff'",
        "payload = '{}'",
        "caller = CAST(x'ff' AS TEXT)",
        "queue_id = CAST(x'ff' AS TEXT)",
    ],
)
async def test_a_damaged_request_is_set_aside_and_the_others_are_claimed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "queue.db"
    good = make_request()
    async with opened(path) as queue:
        await queue.put(make_request())
        await queue.put(good)
    change(path, f"UPDATE request SET {damage} WHERE sequence = 1".replace("'{}'", "CAST('{}' AS BLOB)"))

    async with opened(path) as queue:
        claims = await asyncio.wait_for(queue.claim(5), HANG_SECONDS)
        while not claims:
            claims = await asyncio.wait_for(queue.claim(5), HANG_SECONDS)
        assert [claim.request for claim in claims] == [good]
        assert queue.stats().quarantined.count == 1
        assert queue.stats().quarantined.reason
    async with opened(path) as queue:
        assert queue.stats().quarantined.count == 1
        assert queue.stats().waiting == 1


@pytest.mark.parametrize(
    "spent",
    [
        "x'7b'",
        'CAST(\'{"usage": {"cost_usd": null}}\' AS BLOB)',
        'CAST(\'{"usage": {"prompt_tokens": "x"}}\' AS BLOB)',
        "CAST('{\"provider_seconds\": 1e999}' AS BLOB)",
        "CAST('{\"attempts\": [[1]]}' AS BLOB)",
    ],
)
async def test_a_damaged_record_of_what_was_spent_counts_as_nothing(tmp_path: Path, spent: str) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as queue:
        await queue.put(make_request())
    change(path, f"UPDATE request SET spent = {spent}")

    async with opened(path) as queue:
        (claim,) = await asyncio.wait_for(queue.claim(1), HANG_SECONDS)
        assert claim.spent == Spent()


@pytest.mark.parametrize(
    "damage", ["headers = x'7b'", "headers = CAST('[[1,2]]' AS BLOB)", "topic = CAST(x'ff' AS TEXT)"]
)
async def test_a_damaged_callback_is_set_aside_and_the_others_are_sent(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as queue:
        for _ in range(2):
            await queue.put(make_request())
        one, two = await queue.claim(2)
        await queue.complete(one, make_callback("one"))
        await queue.complete(two, make_callback("two"))
    change(path, f"UPDATE callback SET {damage} WHERE sequence = 1")
    change(path, "UPDATE usage_event SET headers = x'7b' WHERE sequence = 1")

    async with opened(path) as queue:
        assert [entry.callback.queue_id for entry in await queue.outbox.take(5)] == ["two"]
        assert [entry.sequence for entry in await queue.usage.peek(5)] == [2]
        assert (queue.stats().quarantined.count, queue.usage.depth()) == (2, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (make_callback("q"), Spent(Usage(prompt_tokens=2**63))),
        lambda: (make_callback("\ud800"), Spent()),
    ],
    ids=["a number SQLite does not have", "a text SQLite does not have"],
)
async def test_what_cannot_be_stored_is_told_apart_from_a_queue_that_is_away(
    tmp_path: Path, make: Callable[[], tuple[Callback, Spent]]
) -> None:
    async with opened(tmp_path / "queue.db") as queue:
        await queue.put(make_request())
        (claim,) = await queue.claim(1)
        callback, spent = make()
        odd = Callback(
            callback.queue_id, "t", "k", SEALED, success=True, accepted_unix_seconds=1.0, spent=spent
        )
        with pytest.raises(QueueRejected):
            await queue.complete(claim, odd)
        assert queue.stats().usable
        await queue.complete(claim, make_callback("q"))
