"""Group commit through apsw against the standard library's sqlite3: the same file, statements and batches.

    python -m benchmarks.queue_file [--runs 9] [--payload-bytes 3000]

Runs alternate between the two, so that what else the machine does falls on both; prints for each size of
batch the medians of milliseconds a transaction and their ratio.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

SCHEMA = "CREATE TABLE request (sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT"
PUT = "INSERT INTO request (sequence, payload) VALUES (?, ?)"
READ = "SELECT sequence, payload FROM request WHERE sequence = ?"
LEAVE = "DELETE FROM request WHERE sequence = ?"
TRANSACTIONS = {1: 300, 100: 30, 1000: 6}


def open_sqlite3(path: Path) -> Any:
    """A connection of the standard library's."""
    return sqlite3.connect(path, isolation_level=None)


def open_apsw(path: Path) -> Any:
    """A connection of apsw's."""
    return apsw.Connection(str(path))


def measure(open_connection: Callable[[Path], Any], batch: int, payload: bytes) -> float:
    """Milliseconds a transaction that puts, reads and deletes `batch` rows."""
    with tempfile.TemporaryDirectory(prefix="queue-file-") as folder:
        connection = open_connection(Path(folder) / "queue.db")
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(SCHEMA)
        sequence = 0
        began = time.perf_counter()
        for _ in range(TRANSACTIONS[batch]):
            sequences = range(sequence, sequence + batch)
            sequence += batch
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(PUT, [(number, payload) for number in sequences])
            for number in sequences:
                connection.execute(READ, (number,)).fetchall()
            connection.executemany(LEAVE, [(number,) for number in sequences if number % 2])
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        connection.close()
    return seconds * 1000 / TRANSACTIONS[batch]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--payload-bytes", type=int, default=3000)
    options = parser.parse_args()
    payload = b"x" * options.payload_bytes
    print(f"sqlite3: SQLite {sqlite3.sqlite_version} · apsw: SQLite {apsw.sqlitelibversion()}")
    for batch in TRANSACTIONS:
        runs: dict[Callable[[Path], Any], list[float]] = {open_sqlite3: [], open_apsw: []}
        for _ in range(options.runs):
            for opener, times in runs.items():
                times.append(measure(opener, batch, payload))
        old, new = (statistics.median(times) for times in runs.values())
        print(
            f"{batch:>5} rows a transaction: sqlite3 {old:8.2f} ms, apsw {new:8.2f} ms, ratio {new / old:.2f}"
        )


if __name__ == "__main__":
    main()
