"""What a batch must remember beside its receipts, so that a crash at any moment leads to no second request.

`RECEIPTS.batch` holds the batch's id, of which the idempotency keys of its lines are made, and for each
request the digest of the body that was last sent under its key:

    llmctl batch 1 ID INODE MTIME BEGUN      in ASCII, filled up with blanks to 128 bytes, the last a newline
    8 bytes for each request                 where line N has 2N - 2, with the essays exchanged 2N - 1

Zeros say that nothing is known. The receipts themselves can hold neither: their shape is fixed, and the id is
needed before the first of them. A receipts file that is still empty goes on with a batch only where it is the
very file that the batch began with: whoever throws away the receipts begins anew.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from llmctl.exits import UsageProblem
from llmctl.jobs.batches import DIGEST_BYTES

SUFFIX = ".batch"
HEADER_BYTES = 128
_MAGIC = ["llmctl", "batch", "1"]
_NOTHING = bytes(DIGEST_BYTES)


@dataclass(frozen=True)
class Beginning:
    """The first line of the file."""

    id: UUID
    inode: int
    mtime_ns: int
    """Of the receipts file, at a moment at which it was empty."""
    begun_ms: int
    """Milliseconds since 1970 UTC."""

    @classmethod
    def of(cls, receipts_fd: int, *, id_: UUID | None = None, begun_ms: int | None = None) -> Beginning:
        """A new batch, or the same one after its receipts were emptied."""
        now = os.fstat(receipts_fd)
        return cls(id_ or uuid4(), now.st_ino, now.st_mtime_ns, begun_ms or int(time.time() * 1000))

    def encode(self) -> bytes:
        """As it stands in the file."""
        words = [*_MAGIC, self.id.hex, str(self.inode), str(self.mtime_ns), str(self.begun_ms)]
        return (" ".join(words).ljust(HEADER_BYTES - 1) + "\n").encode()

    @classmethod
    def decode(cls, raw: bytes) -> Beginning:
        """Reads it; ValueError where it is something else."""
        words = raw.decode("ascii").split()
        if len(raw) != HEADER_BYTES or words[:3] != _MAGIC:
            raise ValueError("no batch file")
        hexadecimal, *numbers = words[3:]
        inode, mtime_ns, begun_ms = map(int, numbers)
        return cls(UUID(hexadecimal), inode, mtime_ns, begun_ms)

    def fits(self, receipts_fd: int) -> bool:
        """Whether a file of receipts is the one that it began with, or holds what came of it."""
        now = os.fstat(receipts_fd)
        return now.st_size > 0 or (now.st_ino, now.st_mtime_ns) == (self.inode, self.mtime_ns)


class BatchFile:
    """The file while it is open; whoever holds the lock of the receipts owns it."""

    def __init__(self, fd: int, beginning: Beginning, *, is_new: bool) -> None:
        self._fd = fd
        self.beginning = beginning
        self.is_new = is_new

    def recall(self, line: int, *, swapped: bool) -> bytes | None:
        """The digest of the body that was last sent; None where none was, or it is not known."""
        found = os.pread(self._fd, DIGEST_BYTES, _place(line, swapped=swapped))
        return found if len(found) == DIGEST_BYTES and found != _NOTHING else None

    def note(self, line: int, digest: bytes, *, swapped: bool) -> None:
        """A body is about to be sent."""
        os.pwrite(self._fd, digest, _place(line, swapped=swapped))

    def begin_again(self, receipts_fd: int) -> None:
        """The receipts have been emptied, and it is still the same batch."""
        known = self.beginning
        self.beginning = Beginning.of(receipts_fd, id_=known.id, begun_ms=known.begun_ms)
        os.pwrite(self._fd, self.beginning.encode(), 0)

    def sync(self) -> None:
        """Waits until the disk has it."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._fd)


def open_batch_file(receipts_path: Path, receipts_fd: int) -> BatchFile:
    """Opens the file beside the receipts, or begins a batch. UsageProblem where another file has its name."""
    path = find_batch_file(receipts_path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        beginning = _read_beginning(fd, path)
        if beginning is not None and beginning.fits(receipts_fd):
            return BatchFile(fd, beginning, is_new=False)
        beginning = Beginning.of(receipts_fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, beginning.encode(), 0)
        os.fsync(fd)
        _sync_folder(path.parent)
        return BatchFile(fd, beginning, is_new=True)
    except BaseException:
        os.close(fd)
        raise


def find_batch_file(receipts_path: Path) -> Path:
    """The name of the file beside the receipts."""
    return receipts_path.with_name(receipts_path.name + SUFFIX)


def _read_beginning(fd: int, path: Path) -> Beginning | None:
    """None where the file is new; a crash before its first line was written leaves it so as well."""
    raw = os.pread(fd, HEADER_BYTES, 0)
    if not raw:
        return None
    try:
        return Beginning.decode(raw)
    except ValueError:
        raise UsageProblem(
            f"The file {str(path)!r} is none of llmctl's, and `submit` keeps what it must remember under "
            "this name; take another --receipts."
        ) from None


def _place(line: int, *, swapped: bool) -> int:
    return HEADER_BYTES + DIGEST_BYTES * (2 * (line - 1) + swapped)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
