"""The floor that keeps what it accepts: the same parts, a row before the 202, deleted after the callback.

It does not recover, repeat or check anything; it is what the parts of a durable service cost at least.
"""

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.peers.floor import Front, write_receipt
from benchmarks.peers.process import announce, bind, end_with_parent
from benchmarks.peers.work import Judge, accept, open_judge, open_producer
from service.queues.sqlite.file import SqliteFile, Statement

PUT = (
    "INSERT INTO request "
    "(sequence, accepted_unix_seconds, expires_unix_seconds, priority, attempts, payload) "
    "VALUES (?, ?, ?, 0, 0, ?)"
)
FORGET = "DELETE FROM request WHERE sequence = ?"


class Chain:
    """Takes a request from its row to its callback."""

    def __init__(self, file: SqliteFile, judge: Judge, producer: AIOKafkaProducer) -> None:
        self._file = file
        self._judge = judge
        self._producer = producer
        self._sequences = itertools.count(1)
        self._under_way: set[asyncio.Task[None]] = set()

    def take(self, body: bytes, transport: asyncio.Transport) -> None:
        """Begins; the answer follows when the request is on stable storage."""
        task = asyncio.create_task(self._run(body, transport))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, body: bytes, transport: asyncio.Transport) -> None:
        document, receipt = accept(body)
        sequence, now = next(self._sequences), time.time()
        await self._file.submit([Statement(PUT, (sequence, now, now + 3600, body))])
        write_receipt(transport, receipt)
        callback = await self._judge.judge(document)
        await self._producer.send_and_wait(callback.topic, callback.value, callback.key)
        await self._file.submit([Statement(FORGET, (sequence,))])


async def serve() -> None:
    """Serves until it is ended."""
    with tempfile.TemporaryDirectory(prefix="durable-floor-") as name:
        file = SqliteFile(Path(name) / "queue.db")
        await file.open()
        async with open_judge() as judge, open_producer() as producer:
            chain = Chain(file, judge, producer)
            with bind() as listener:
                server = await asyncio.get_running_loop().create_server(
                    lambda: Front(chain.take), sock=listener
                )
                announce(listener)
                await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
