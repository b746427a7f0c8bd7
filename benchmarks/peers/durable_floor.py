"""The floor that keeps what it accepts: the same parts, a row before the 202, deleted after the callback.

It does not recover, repeat or check anything; it is what the parts of a durable service cost at least.
"""

import asyncio
import itertools
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.peers.process import announce, bind, end_with_parent
from benchmarks.peers.work import Document, Judge, accept, open_judge, open_producer
from service.queues.sqlite_file import SqliteFile, Statement

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

    async def keep(self, body: bytes) -> int:
        """Returns when the request is on stable storage: its number."""
        sequence, now = next(self._sequences), time.time()
        await self._file.submit([Statement(PUT, (sequence, now, now + 3600, body))])
        return sequence

    async def run(self, sequence: int, document: Document) -> None:
        """Asks, publishes and forgets."""
        callback = await self._judge.judge(document)
        await self._producer.send_and_wait(callback.topic, callback.value, callback.key)
        await self._file.submit([Statement(FORGET, (sequence,))])


class Front(asyncio.Protocol):
    """Answers every POST with 202 once it is kept; understands Content-Length only, one request at a time."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._held = b""
        self._under_way: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n") + 4) >= 4:
            head = self._held[:end].lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            if len(self._held) < end + length:
                return
            body, self._held = self._held[end : end + length], self._held[end + length :]
            task = asyncio.create_task(self._take(body))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _take(self, body: bytes) -> None:
        document, receipt = accept(body)
        sequence = await self._chain.keep(body)
        self._transport.write(
            b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(receipt), receipt)
        )
        await self._chain.run(sequence, document)


async def serve() -> None:
    """Serves until it is ended."""
    with tempfile.TemporaryDirectory(prefix="durable-floor-") as name:
        file = SqliteFile(Path(name) / "queue.db")
        await file.open()
        async with open_judge() as judge, open_producer() as producer:
            chain = Chain(file, judge, producer)
            with bind() as listener:
                server = await asyncio.get_running_loop().create_server(lambda: Front(chain), sock=listener)
                announce(listener)
                await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
