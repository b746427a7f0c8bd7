"""Recordings: every frame with its moment, in one SQLite file that can be read while it is written.

The file holds figures, callbacks without what they say, topics, the state of a load run and what went wrong.
Texts (a judge's justification, an error's message, the caller's metadata) are in it only where asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from llmctl.exits import Failed, UsageProblem
from llmctl.tui.model.frames import Frame, Packed, Sink, pack, unpack

FORMAT = 1
WRITE_EVERY_SECONDS = 0.5
BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS frames (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL
);
"""


class Recorder:
    """Writes frames to a file and passes them on. A load run and a monitor may write the same file."""

    def __init__(self, path: Path, *, with_payloads: bool = False, then: Sink | None = None) -> None:
        self._path = path
        self._with_payloads = with_payloads
        self._then = then
        self._gathered: list[Packed] = []
        self._database: sqlite3.Connection | None = None
        self.frames = 0
        """How many were written."""

    def open(self) -> Self:
        """Opens or makes the file; Failed where that cannot be, UsageProblem where it is something else."""
        try:
            # Opened here and used from the threads of `write`, one after the other.
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
            _check_tables(database)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")  # a recording is no promise
            database.executescript(_SCHEMA)
            known = dict(database.execute("SELECT name, value FROM about"))
            if not known:
                database.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
                database.commit()
        except sqlite3.DatabaseError as problem:
            raise _refuse(self._path, problem) from problem
        _check_format(self._path, known.get("format", str(FORMAT)))
        self._database = database
        return self

    def take(self, frame: Frame) -> None:
        """Passes a frame on, and gathers it where that was no trouble."""
        if self._then is not None:
            self._then.take(frame)
        self._gathered.append(pack(frame, with_payloads=self._with_payloads))

    async def run(self) -> None:
        """Writes what has gathered, twice a second, until cancelled; Failed where that cannot be."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Writes what has gathered."""
        gathered, self._gathered = self._gathered, []
        if not gathered or self._database is None:
            return
        rows = [(each.at, each.kind, zlib.compress(json.dumps(each.body).encode(), 1)) for each in gathered]
        try:
            with self._database:
                self._database.executemany("INSERT INTO frames (at, kind, body) VALUES (?, ?, ?)", rows)
        except sqlite3.DatabaseError as problem:
            raise Failed(f"The recording {self._path} cannot be written any more: {problem}.") from problem
        self.frames += len(rows)

    def close(self) -> None:
        """Writes the rest and closes the file."""
        if self._database is not None:
            self.write()
            with contextlib.suppress(sqlite3.OperationalError):  # where another process still writes it
                self._database.execute("PRAGMA journal_mode=DELETE")  # one file, wherever it is taken
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Recording:
    """A recording that is read: from its beginning, or as it grows."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageProblem(f"There is no recording {path}.")
        self._path = path
        try:
            self._database = _connect_to_read(path)
            known = dict(self._database.execute("SELECT name, value FROM about"))
            begin, end = self._database.execute("SELECT min(at), max(at) FROM frames").fetchone()
        except sqlite3.DatabaseError as problem:
            raise _refuse(path, problem) from problem
        _check_format(path, known.get("format", ""))
        self.begin = float(begin or 0.0)
        """The moment of its first frame, 0 where it has none yet."""
        self.end = float(end or 0.0)
        """The moment of its last frame."""

    def read(self, after: int = 0, until: float | None = None) -> Iterator[tuple[int, Frame]]:
        """Frames with their numbers, in the order in which they were taken, from after one number on.

        `until` leaves out what came later. UsageProblem for a frame that cannot be read.
        """
        bound = float("inf") if until is None else until
        query = "SELECT number, at, kind, body FROM frames WHERE number > ? ORDER BY number"
        try:
            with contextlib.closing(self._database.execute(query, (after,))) as rows:
                for number, at, kind, body in rows:
                    if at > bound:
                        return
                    yield number, unpack(Packed(at, kind, json.loads(zlib.decompress(body))))
        except (sqlite3.DatabaseError, zlib.error, TypeError, ValueError) as problem:
            raise UsageProblem(f"The recording {self._path} cannot be read: {problem}.") from problem

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)


def _check_tables(database: sqlite3.Connection) -> None:
    """Refuses to write into the database of another program."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and tables.isdisjoint({"about", "frames"}):
        raise sqlite3.DatabaseError("its tables are others")


def _check_format(path: Path, told: str) -> None:
    if told != str(FORMAT):
        raise UsageProblem(
            f"{path} is a recording of the format {told or 'of another program'}, not {FORMAT}."
        )


def _refuse(path: Path, problem: sqlite3.DatabaseError) -> Failed | UsageProblem:
    if isinstance(problem, sqlite3.OperationalError) and "no such" not in str(problem):
        return Failed(f"The recording {path} cannot be opened: {problem}.")
    return UsageProblem(f"{path} is no recording of this program.")
