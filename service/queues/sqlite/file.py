"""The queue's file: one owner, one writer thread, one transaction for everything that came in meanwhile.

Group commit: callers hand over operations and wait; what one turn of the event loop asks for goes to the
writer together. It takes all that has gathered meanwhile, runs it in one transaction and syncs once
(`synchronous=FULL`), so a thousand waiting callers share one sync. Operations of one batch touch different
rows, because each caller waits for its own before it gives the next one for that row; so statements of the
same text may be run together.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from service.core.errors import QueueLocked, QueueRejected, QueueUnavailable
from service.queues.sqlite.schema import SCHEMA, SCHEMA_VERSION

MAX_BATCH_OPERATIONS = 2000
BUSY_TIMEOUT_MILLISECONDS = 5000
MEASURE_EVERY_SECONDS = 0.5
WAL_LIMIT_BYTES = 64 * 1024 * 1024

_FILE_TROUBLE = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.InternalError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
    MemoryError,
    OSError,
)
"""Errors that every operation would meet; any other is the fault of the one that met it."""

Parameters = tuple[Any, ...]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and the parameters of one execution."""

    sql: str
    parameters: Parameters = ()


@dataclass(slots=True)
class _Operation:
    statements: Sequence[Statement]
    query: Statement | None
    on_commit: Callable[[], None] | None
    done: asyncio.Future[list[Row]]
    rows: list[Row] = field(default_factory=list)
    error: Exception | None = None


class SqliteFile:
    """Owns one queue file, from `open` to `close`.

    `open` raises `QueueLocked` where another process owns the file and `QueueUnavailable` where it cannot be
    used; it never changes a file that it refuses. `vfs` names the SQLite file system to use, None for the
    operating system's.
    """

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._vfs = vfs
        self.path = path.resolve()  # the lock is by name: a link must not be a second name
        self._lock_descriptor: int | None = None
        self._connection: apsw.Connection | None = None
        self._operations: queue.SimpleQueue[list[_Operation] | None] = queue.SimpleQueue()
        self._gathered: list[_Operation] = []
        self._writer: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.usable = True
        """Whether the last transaction could be committed."""
        self.reusable_bytes = 0
        """Space inside the file that new rows can take, as it was half a second before the last commit."""
        self._measure_at = 0.0

    async def open(self) -> None:
        """Locks the file for the life of this process, checks it, and starts the writer."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        self._writer = threading.Thread(target=self._write, name="queue-writer", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        """Waits until everything handed over is written, and gives the file back."""
        if self._writer is not None:
            self._hand_over()
            self._operations.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        await asyncio.to_thread(self._close)

    def submit(
        self,
        statements: Sequence[Statement],
        *,
        query: Statement | None = None,
        on_commit: Callable[[], None] | None = None,
    ) -> asyncio.Future[list[Row]]:
        """Hands over an operation; the future has the query's rows once all of it is on stable storage.

        `on_commit` is called on the event loop right before that, also where nobody waits any more. The
        future fails with `QueueUnavailable` where nothing of the operation was kept, and with
        `QueueRejected` if the fault lies with the operation itself.
        """
        if self._loop is None or self._writer is None:
            raise QueueUnavailable(f"The queue file {self.path} is not open.")
        operation = _Operation(statements, query, on_commit, self._loop.create_future())
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(operation)
        return operation.done

    def _hand_over(self) -> None:
        # All that one turn of the event loop asks for goes into one transaction: nobody could be told of an
        # earlier commit before the next turn anyway, and each commit costs as much as several requests.
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._operations.put(gathered)

    # From here on: other threads than the event loop's.

    def _open(self) -> None:
        try:
            _make_folder(self.path.parent)
            self._lock()
            # SQLite gives its -wal and -shm files the mode of the file itself: essays are for the owner only.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    os.fchmod(descriptor, 0o600)  # a copy that was put back may have any mode
            finally:
                os.close(descriptor)
            self._connection = self._connect()
        except OSError as error:
            self._close()
            raise QueueUnavailable(
                f"The queue file {self.path} cannot be opened: {error.strerror or error}."
            ) from error
        except apsw.Error as error:
            self._close()
            raise QueueUnavailable(
                f"The queue file {self.path} cannot be used: {error}. It was left as it is."
            ) from error
        except QueueUnavailable:
            self._close()
            raise

    def _lock(self) -> None:
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise QueueLocked(
                f"The queue file {self.path} is in use by process {owner}; "
                "stop that one first or set another QUEUE_PATH."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock_descriptor = descriptor

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), vfs=self._vfs)
        try:
            # Closing a refused file must not move what its -wal holds.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            is_new = self._check(connection)
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
            connection.execute("PRAGMA page_size=8192")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
            if is_new:
                connection.execute(f"BEGIN; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        except BaseException:
            connection.close(force=True)
            raise
        return connection

    def _check(self, connection: apsw.Connection) -> bool:
        """Returns whether the file is new; raises `QueueUnavailable` if it is not a sound file of ours."""
        version: int = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if version != SCHEMA_VERSION and (version or tables):
            raise QueueUnavailable(
                f"The queue file {self.path} was written by another version or program (schema {version}, "
                f"this version reads {SCHEMA_VERSION}); start the version that wrote it, or set another "
                "QUEUE_PATH. The file was left as it is."
            )
        problem: str = connection.pragma("quick_check", 1)
        if problem != "ok":
            raise QueueUnavailable(
                f"The queue file {self.path} is damaged ({problem}). It was left as it is: copy it, then try "
                "`sqlite3 FILE .recover`."
            )
        return version == 0

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(apsw.Error):  # the rows are synced already; nothing is lost with it
                self._connection.close()
            self._connection = None
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _write(self) -> None:
        """The writer thread: batches until `close`."""
        closing = False
        while not closing:
            first = self._operations.get()
            if first is None:
                return
            batch = first
            while len(batch) < MAX_BATCH_OPERATIONS:
                try:
                    operations = self._operations.get_nowait()
                except queue.Empty:
                    break
                if operations is None:
                    closing = True
                    break
                batch += operations
            self._commit(batch)
            self._measure()
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_resolve, batch)

    def _commit(self, batch: list[_Operation]) -> None:
        """Runs a batch in one transaction; where that fails, each operation in one of its own."""
        try:
            self._run(batch)
            self.usable = True
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller learns of it and the writer lives
            self.usable = not isinstance(error, _FILE_TROUBLE)
            if len(batch) == 1 or not self.usable:
                # It is the file, not one operation: trying each by itself would only wait once for each.
                kind = QueueRejected if self.usable else QueueUnavailable
                for operation in batch:
                    operation.error = kind(f"The queue file {self.path} cannot be written: {error}.")
                    operation.error.__cause__ = error
                return
            for operation in batch:
                self._commit([operation])

    def _measure(self) -> None:
        connection, now = self._connection, time.monotonic()
        if connection is None or now < self._measure_at:
            return
        self._measure_at = now + MEASURE_EVERY_SECONDS
        with contextlib.suppress(apsw.Error):
            self.reusable_bytes = connection.pragma("freelist_count") * connection.pragma("page_size")

    def _run(self, batch: list[_Operation]) -> None:
        connection = self._connection
        assert connection is not None
        grouped: dict[str, list[Parameters]] = {}
        for operation in batch:
            for statement in operation.statements:
                grouped.setdefault(statement.sql, []).append(statement.parameters)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, parameters in grouped.items():
                connection.executemany(sql, parameters)
            for operation in batch:
                if operation.query is not None:
                    query = operation.query
                    operation.rows = connection.execute(query.sql, query.parameters).fetchall()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, for the owner only, so that a power cut does not take them again."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resolve(batch: list[_Operation]) -> None:
    for operation in batch:
        if operation.error is None and operation.on_commit is not None:
            operation.on_commit()
        if operation.done.done():  # its caller was cancelled; what was handed over stands all the same
            continue
        if operation.error is None:
            operation.done.set_result(operation.rows)
        else:
            operation.done.set_exception(operation.error)
