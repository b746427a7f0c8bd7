"""Durable puts into the queue against bare inserts of the same bytes, 100 in a transaction.

    python -m benchmarks.enqueue [--runs 7] [--requests 10000] [--callers 100 1000] [--essay-characters 2500]

Runs alternate, each with a file of its own and `synchronous=FULL`; prints medians of rows a second and their
ratio. A put is what the intake waits for: it also names its row, writes the request as JSON, and tells its
caller.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import apsw
import uvloop

from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.queues.sqlite.queue import SqliteQueue

BATCH = 100
SCHEMA = "CREATE TABLE request (sequence INTEGER PRIMARY KEY, at REAL NOT NULL, payload BLOB NOT NULL) STRICT"
PUT = "INSERT INTO request (sequence, at, payload) VALUES (?, ?, ?)"


@contextmanager
def new_file() -> Iterator[Path]:
    """Where a queue's file may be made."""
    with tempfile.TemporaryDirectory(prefix="enqueue-") as folder:
        yield Path(folder) / "queue.db"


def make_request(essay_characters: int) -> QueuedRequest:
    """A request as the intake makes it."""
    essay = "An essay of some words. " * (essay_characters // 24)
    data = LLMComparisonRequest(user_prompt="Which?", essay_a=essay, essay_b=essay, callback_topic="results")
    now = datetime.now(UTC)
    return QueuedRequest(
        queue_id=str(uuid4()),
        correlation_id=data.correlation_id,
        callback_topic=data.callback_topic,
        request_data=data,
        queued_at=now,
        expires_at=now + timedelta(hours=1),
    )


def insert(requests: int, request: QueuedRequest) -> float:
    """Bare inserts: rows a second."""
    payload = request.model_dump_json().encode()
    with new_file() as path:
        connection = apsw.Connection(str(path))
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(SCHEMA)
        began = time.perf_counter()
        for first in range(0, requests, BATCH):
            connection.execute("BEGIN IMMEDIATE")
            rows = [(number, time.time(), payload) for number in range(first, first + BATCH)]
            connection.executemany(PUT, rows)
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        connection.close()
    return requests / seconds


async def put(requests: int, request: QueuedRequest, callers: int) -> float:
    """Puts by so many callers at once, each waiting for its own: rows a second."""
    with new_file() as path:
        queue = SqliteQueue(path)
        await queue.open()
        tickets = itertools.count(1)

        async def call() -> None:
            while next(tickets) <= requests:
                await queue.put(request)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())
        seconds = time.perf_counter() - began
        await queue.close()
    return requests / seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--callers", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--essay-characters", type=int, default=2500)
    options = parser.parse_args()
    request = make_request(options.essay_characters)
    inserted: list[float] = []
    done: dict[int, list[float]] = {callers: [] for callers in options.callers}
    for _ in range(options.runs):
        inserted.append(insert(options.requests, request))
        for callers, rates in done.items():
            rates.append(uvloop.run(put(options.requests, request, callers)))
    bare = statistics.median(inserted)
    print(f"{len(request.model_dump_json())} bytes a row; bare inserts, {BATCH} a transaction: {bare:,.0f}/s")
    for callers, rates in done.items():
        rate = statistics.median(rates)
        print(f"puts by {callers:>5} callers at once: {rate:,.0f}/s, ratio {rate / bare:.2f}")


if __name__ == "__main__":
    main()
