"""The receipts of a batch: what was accepted stands in a file, so that no run sends it again.

A receipt is handed to the system in one piece as soon as the answer is there, so that no kill can tear or
lose it; the disk has it within a tenth of a second. What a machine that lost its power has torn is cut off,
and its request sent again under the same key.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

from llmctl.exits import Failed, UsageProblem
from llmctl.jobs.batch_file import BatchFile, open_batch_file
from llmctl.jobs.batches import Line
from llmctl.jobs.receipt import Receipt, Standing, is_torn, read_receipts, read_standing
from llmctl.loop import own_tasks

SYNC_EVERY_SECONDS = 0.1


class Receipts:
    """The open file of receipts, and what the batch remembers beside it. One process has it at a time."""

    def __init__(self, path: Path, fd: int, batch: BatchFile, standing: Standing, torn_bytes: int) -> None:
        self.path = path
        self.standing = standing
        self.torn_bytes = torn_bytes
        """So much of a receipt that was being written as the machine died has been cut off."""
        self._fd = fd
        self._batch = batch
        self._written = asyncio.Event()

    @property
    def batch_id(self) -> UUID:
        """Of which the idempotency keys are made."""
        return self._batch.beginning.id

    @property
    def begun_ms(self) -> int:
        """When the first request of the batch can have been sent: milliseconds since 1970 UTC."""
        return self._batch.beginning.begun_ms

    @property
    def goes_on(self) -> bool:
        """Whether an earlier run has sent something, or may have."""
        return not self._batch.is_new or self.standing.count > 0

    @property
    def is_orphaned(self) -> bool:
        """There are receipts, but what was remembered beside them is gone."""
        return self._batch.is_new and self.standing.count > 0

    def holds(self, line: Line) -> bool:
        """Whether the request has been accepted."""
        return self.standing.holds(line.number, swapped=line.swapped)

    def is_changed(self, line: Line) -> bool:
        """Whether what was sent under this number is known, and was something else."""
        known = self._batch.recall(line.number, swapped=line.swapped)
        return known is not None and known != line.digest()

    def is_in_doubt(self, line: Line) -> bool:
        """Whether it was sent by an earlier run and has no receipt: it may have been accepted."""
        return not self.holds(line) and self._batch.recall(line.number, swapped=line.swapped) is not None

    def note(self, line: Line) -> None:
        """The request is about to be sent."""
        self._batch.note(line.number, line.digest(), swapped=line.swapped)

    def write(self, receipt: Receipt) -> None:
        """The request was accepted. Failed where the file cannot be written."""
        data = receipt.encode()
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as problem:
            raise _fail_to_write(self.path, problem) from problem
        self.standing.add(receipt.line, swapped=receipt.swapped)
        self._written.set()

    def read(self) -> Iterator[Receipt]:
        """Every receipt that stands in the file, in its order."""
        with self.path.open("rb") as file:
            yield from read_receipts(file, self.path)

    @asynccontextmanager
    async def kept_on_disk(self) -> AsyncIterator[None]:
        """Meanwhile what is written gets to the disk soon, off the event loop."""
        async with own_tasks() as tasks:
            syncing = tasks.create_task(self._sync_again_and_again(), name="sync the receipts")
            try:
                yield
            finally:
                syncing.cancel()

    async def _sync_again_and_again(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            await asyncio.to_thread(self.sync)
            await asyncio.sleep(SYNC_EVERY_SECONDS)

    def sync(self) -> None:
        """Waits until the disk has all of it; Failed where it cannot take it."""
        try:
            self._batch.sync()
            os.fsync(self._fd)
        except OSError as problem:
            raise _fail_to_write(self.path, problem) from problem


@contextmanager
def open_receipts(path: Path) -> Iterator[Receipts]:
    """The receipts of a new batch, or of one that goes on; what a crash has torn is set right.

    UsageProblem where another process has them, or where the file is something else.
    """
    with ExitStack() as closing:
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            closing.callback(os.close, fd)
            _lock(fd, path)
            standing, tail = read_standing(path)
            batch = open_batch_file(path, fd)
            closing.callback(batch.close)
            torn_bytes = _mend(fd, tail, batch)
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise UsageProblem(f"The receipts {str(path)!r} cannot be opened: {why}.") from problem
        receipts = Receipts(path, fd, batch, standing, torn_bytes)
        yield receipts
        receipts.sync()


def peek_standing(path: Path) -> Standing:
    """Which requests have a receipt; the file is not touched, and need not be there."""
    try:
        return read_standing(path)[0]
    except FileNotFoundError:
        return Standing()
    except OSError as problem:
        why = problem.strerror or str(problem)
        raise UsageProblem(f"The receipts {str(path)!r} cannot be read: {why}.") from problem


def _lock(fd: int, path: Path) -> None:
    """Until the file is closed, also by a kill."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageProblem(
            f"Another process is at work with the receipts {str(path)!r}; wait for its end or end it."
        ) from None


def _mend(fd: int, tail: bytes, batch: BatchFile) -> int:
    """Lets the next receipt begin on a line of its own; how many bytes were cut off for that."""
    if not tail:
        return 0
    if not is_torn(tail):
        os.write(fd, b"\n")
        return 0
    whole_bytes = os.fstat(fd).st_size - len(tail)
    os.ftruncate(fd, whole_bytes)
    if not whole_bytes:
        batch.begin_again(fd)
    return len(tail)


def _fail_to_write(path: Path, problem: OSError) -> Failed:
    why = problem.strerror or str(problem)
    return Failed(f"The receipts in {str(path)!r} cannot be written: {why}.")
