"""What the queue on disk promises beyond the port: restarts, one owner, refusals that change nothing."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from service.contracts.codec import SealedEnvelope
from service.core.errors import QueueLocked, QueueRejected, QueueUnavailable
from service.core.outcome import Spent, Usage
from service.core.records import Callback
from service.queues.sqlite.file import SqliteFile, Statement
from service.queues.sqlite.queue import SqliteQueue
from tests.ports.making import make_request, opened, put_and_claim
from tests.waiting import HANG_SECONDS


async def test_restart_takes_up_requests_attempts_and_callbacks(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as before:
        waiting, claimed, done = make_request(), make_request(), make_request()
        for request in (done, claimed, waiting):
            await before.put(request)
        done_claim, claimed_claim = await before.claim(2)
        callback = Callback("q", "t", "k", SealedEnvelope(b"\x00bytes", (("h", b"v"),)), False, 1.5)
        await before.complete(done_claim, callback)
        await before.retry(claimed_claim, 3600, Spent(Usage(1, 2)))

    async with opened(path) as after:
        claims = await after.claim(5)
        (entry,) = await after.outbox.take(5)

    assert [(c.request, c.attempt, c.spent) for c in claims] == [
        (claimed, 2, Spent(Usage(1, 2))),
        (waiting, 1, Spent()),
    ]
    assert (entry.callback, entry.stored_monotonic_seconds) == (callback, None)


async def test_usage_that_was_not_told_survives_its_callback(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    usage = SealedEnvelope(b"\x00used", (("h", b"v"),))
    async with opened(path) as before:
        (claim,) = await put_and_claim(before)
        await before.complete(claim, Callback("q", "t", "k", SealedEnvelope(b"", ()), True, 1.5, usage=usage))
        await before.outbox.delivered(await before.outbox.take(1), {})

    async with opened(path) as after:
        (claim,) = await put_and_claim(after)
        await after.complete(claim, Callback("q", "t", "k2", SealedEnvelope(b"", ()), True, 1.5, usage=usage))
        entries = await after.usage.peek(10)
        await after.usage.told(entries[:1])

    assert [(each.key, each.sealed) for each in entries] == [("k", usage), ("k2", usage)]
    async with opened(path) as again:
        assert [each.key for each in await again.usage.peek(10)] == ["k2"]


async def test_second_owner_is_refused_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path / "queue.db"):
        with pytest.raises(QueueLocked, match=r"in use by process \d+"):
            await SqliteQueue(tmp_path / "queue.db").open()
    async with opened(tmp_path / "queue.db"):
        pass


@pytest.mark.parametrize("is_restored", [False, True])
async def test_files_are_readable_by_the_owner_only(tmp_path: Path, is_restored: bool) -> None:
    """A new folder gets mode 0700 and every file 0600, also a file restored from a backup as 0644."""
    folder = tmp_path / "state"
    if is_restored:
        folder.mkdir(mode=0o700)
        (folder / "queue.db").touch()
        (folder / "queue.db").chmod(0o644)
    async with opened(folder / "queue.db") as queue:
        await queue.put(make_request())

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}

    assert modes.pop("state") == 0o700
    assert modes.keys() >= {"queue.db", "queue.db-wal"}
    assert set(modes.values()) == {0o600}


async def test_folders_that_are_made_for_the_file_are_on_stable_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    async with opened(tmp_path / "state" / "of" / "queue.db"):
        pass

    assert synced == [folder.stat().st_ino for folder in (tmp_path, tmp_path / "state")]


def write_newer(path: Path, *, has_log: bool) -> None:
    source = Path(f"{path}.source")
    with closing(sqlite3.connect(source)) as connection:
        if has_log:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE of_the_newer (a)")
        connection.execute("PRAGMA user_version=99")
        path.write_bytes(source.read_bytes())
        if has_log:
            Path(f"{path}-wal").write_bytes(Path(f"{source}-wal").read_bytes())


def read_file_and_log(path: Path) -> list[bytes]:
    return [each.read_bytes() for each in (path, Path(f"{path}-wal")) if each.exists()]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\x5a" * 8000), "It was left as it is"),
        (lambda path: path.write_bytes(b"not a database at all, " * 100), "It was left as it is"),
        (lambda path: write_newer(path, has_log=False), "schema 99"),
        (lambda path: write_newer(path, has_log=True), "schema 99"),
    ],
    ids=["damaged", "foreign", "newer", "newer with its log"],
)
async def test_unusable_file_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "queue.db"
    spoil(path)
    before = read_file_and_log(path)

    with pytest.raises(QueueUnavailable, match=f"{path}.*{reason}"):
        await SqliteQueue(path).open()

    assert read_file_and_log(path) == before


def test_sqlite_is_past_the_bug_that_could_reset_a_log_too_early() -> None:
    assert tuple(int(part) for part in apsw.sqlitelibversion().split(".")) >= (3, 51, 3)


class FullDisk(apsw.VFS):
    def __init__(self) -> None:
        self.full = False
        super().__init__("full-disk", base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return FullDiskFile(self, name, flags)


class FullDiskFile(apsw.VFSFile):
    def __init__(self, disk: FullDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.full:
            raise apsw.FullError("database or disk is full")
        super().xWrite(data, offset)


async def test_full_disk_fails_the_whole_batch_and_what_was_accepted_before_stands(tmp_path: Path) -> None:
    disk = FullDisk()
    file = SqliteFile(tmp_path / "queue.db", vfs="full-disk")
    await file.open()
    note = "INSERT INTO written VALUES (?, 0, 0)"
    await file.submit([Statement(note, ("before",))])

    disk.full = True
    outcomes = await asyncio.gather(
        *(file.submit([Statement(note, (topic,))]) for topic in "ab"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [QueueUnavailable] * 2
    assert str(outcomes[0]) == f"The queue file {file.path} cannot be written: database or disk is full."
    assert not file.usable

    disk.full = False
    await file.submit([Statement(note, ("after",))])
    assert file.usable
    rows = await file.submit((), query=Statement("SELECT topic FROM written ORDER BY topic"))
    await file.close()
    assert rows == [("after",), ("before",)]


async def test_one_poisoned_operation_does_not_fail_its_batch(tmp_path: Path) -> None:
    async with opened(tmp_path / "queue.db") as queue:
        one, two, three = await put_and_claim(queue, 3)
        good = Callback("q", "t", "k", SealedEnvelope(b"v", ()), True, 0.0)
        bad = Callback("q", "\ud800", "k", SealedEnvelope(b"v", ()), True, 0.0)

        completing = [queue.complete(*each) for each in ((one, good), (two, bad), (three, good))]
        outcomes = await asyncio.gather(*completing, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [type(None), QueueRejected, type(None)]
        assert queue.outbox.depth() == 2


async def test_row_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    async with opened(path) as before:
        for _ in range(2):
            await before.put(make_request())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE request SET payload = x'7b7d' WHERE sequence = 1")

    async with opened(path) as after:
        claims = await after.claim(5)

    assert [claim.sequence for claim in claims] == [2]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM request").fetchone() == (2,)


async def test_cancelled_claim_gives_its_requests_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "queue.db") as queue:
        request = make_request()
        await queue.put(request)
        claiming = asyncio.ensure_future(queue.claim(1))
        await asyncio.sleep(0)

        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        (claim,) = await asyncio.wait_for(queue.claim(1), HANG_SECONDS)

    assert (claim.request, claim.attempt) == (request, 1)
