"""What the queue on disk promises beyond the port: restarts, one owner, refusals that change nothing."""

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from service.contracts.codec import SealedEnvelope
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.errors import QueueLocked, QueueUnavailable
from service.core.outcome import Spent, Usage
from service.core.records import Callback
from service.queues.sqlite import SqliteQueue


@pytest.fixture
def make_request() -> Callable[[], QueuedRequest]:
    """Makes queued requests."""

    def make() -> QueuedRequest:
        data = LLMComparisonRequest(user_prompt="p", essay_a="a", essay_b="b", callback_topic="t")
        now = datetime.now(UTC)
        return QueuedRequest(
            queue_id=str(uuid4()),
            correlation_id=data.correlation_id,
            callback_topic="t",
            request_data=data,
            queued_at=now,
            expires_at=now + timedelta(hours=1),
        )

    return make


async def test_restart_takes_up_requests_attempts_and_callbacks(
    tmp_path: Path, make_request: Callable[[], QueuedRequest]
) -> None:
    """Waiting and claimed requests and unsent callbacks are all there after a restart, bytes and all."""
    path = tmp_path / "queue.db"
    before = SqliteQueue(path)
    await before.open()
    waiting, claimed, done = make_request(), make_request(), make_request()
    for request in (done, claimed, waiting):
        await before.put(request)
    done_claim, claimed_claim = await before.claim(2)
    callback = Callback("q", "t", "k", SealedEnvelope(b"\x00bytes", (("h", b"v"),)), False, 1.5)
    await before.complete(done_claim, callback)
    await before.retry(claimed_claim, 3600, Spent(Usage(1, 2)))
    await before.close()

    after = SqliteQueue(path)
    await after.open()
    claims = await after.claim(5)
    (entry,) = await after.outbox.take(5)
    await after.close()

    assert [(c.request, c.attempt, c.spent) for c in claims] == [
        (claimed, 2, Spent(Usage(1, 2))),
        (waiting, 1, Spent()),
    ]
    assert (entry.callback, entry.stored_monotonic_seconds) == (callback, None)


async def test_second_owner_is_refused_by_name(tmp_path: Path) -> None:
    """A second process on the same file is told who holds it."""
    owner = SqliteQueue(tmp_path / "queue.db")
    await owner.open()

    with pytest.raises(QueueLocked, match=r"in use by process \d+"):
        await SqliteQueue(tmp_path / "queue.db").open()

    await owner.close()
    again = SqliteQueue(tmp_path / "queue.db")
    await again.open()
    await again.close()


async def test_files_are_for_the_owner_only(
    tmp_path: Path, make_request: Callable[[], QueuedRequest]
) -> None:
    """No other user of the machine can read essays: folder 0700, every file 0600."""
    folder = tmp_path / "state"
    queue = SqliteQueue(folder / "queue.db")
    await queue.open()
    await queue.put(make_request())

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    await queue.close()

    assert modes.pop("state") == 0o700
    assert set(modes) >= {"queue.db", "queue.db-wal"}
    assert set(modes.values()) == {0o600}


def damage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\x5a" * 8000)


def rejuvenate(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()


def garble(path: Path) -> None:
    path.write_bytes(b"not a database at all, " * 100)


@pytest.mark.parametrize("spoil", [damage, rejuvenate, garble])
async def test_unusable_file_is_refused_and_left_alone(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """A damaged file, a newer version's and a foreign one are refused with a sentence, and not touched."""
    path = tmp_path / "queue.db"
    spoil(path)
    digest = sha256(path.read_bytes()).hexdigest()

    with pytest.raises(QueueUnavailable, match=str(path)):
        await SqliteQueue(path).open()

    assert sha256(path.read_bytes()).hexdigest() == digest


async def test_one_poisoned_operation_does_not_fail_its_batch(
    tmp_path: Path, make_request: Callable[[], QueuedRequest]
) -> None:
    """Where a batch cannot be committed, only the operation at fault fails."""
    queue = SqliteQueue(tmp_path / "queue.db")
    await queue.open()
    for _ in range(3):
        await queue.put(make_request())
    one, two, three = await queue.claim(3)
    good = Callback("q", "t", "k", SealedEnvelope(b"v", ()), True, 0.0)
    bad = Callback("q", "\ud800", "k", SealedEnvelope(b"v", ()), True, 0.0)

    outcomes = await asyncio.gather(
        queue.complete(one, good),
        queue.complete(two, bad),
        queue.complete(three, good),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), QueueUnavailable, type(None)]
    assert queue.outbox.depth() == 2
    await queue.close()


async def test_row_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, make_request: Callable[[], QueuedRequest]
) -> None:
    """What another version wrote stays in the file; the requests behind it are served."""
    path = tmp_path / "queue.db"
    before = SqliteQueue(path)
    await before.open()
    for _ in range(2):
        await before.put(make_request())
    await before.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE request SET payload = x'7b7d' WHERE sequence = 1")

    after = SqliteQueue(path)
    await after.open()
    claims = await after.claim(5)
    await after.close()

    assert [claim.sequence for claim in claims] == [2]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM request").fetchone() == (2,)


async def test_cancelled_claim_gives_its_requests_back(
    tmp_path: Path, make_request: Callable[[], QueuedRequest]
) -> None:
    """A claim that is cancelled while its attempt is being counted loses nothing."""
    queue = SqliteQueue(tmp_path / "queue.db")
    await queue.open()
    request = make_request()
    await queue.put(request)
    claiming = asyncio.ensure_future(queue.claim(1))
    await asyncio.sleep(0)

    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    (claim,) = await asyncio.wait_for(queue.claim(1), 5)
    await queue.close()

    assert (claim.request, claim.attempt) == (request, 1)
