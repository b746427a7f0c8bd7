"""The floor: what the parts cost where nothing is kept, checked or waited for. It loses all when it ends."""

import asyncio
from collections.abc import Callable
from typing import cast

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.peers.process import announce, bind, end_with_parent
from benchmarks.peers.work import Document, Judge, accept, open_judge, open_producer


class Chain:
    """Takes a request from its 202 to its callback."""

    def __init__(self, judge: Judge, producer: AIOKafkaProducer) -> None:
        self._judge = judge
        self._producer = producer
        self._under_way: set[asyncio.Task[None]] = set()

    def take(self, body: bytes, transport: asyncio.Transport) -> None:
        """Answers at once, and begins."""
        document, receipt = accept(body)
        write_receipt(transport, receipt)
        task = asyncio.create_task(self._run(document))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, document: Document) -> None:
        callback = await self._judge.judge(document)
        await self._producer.send_and_wait(callback.topic, callback.value, callback.key)


class Front(asyncio.Protocol):
    """Hands on the body of every POST and the way to answer it; understands Content-Length only."""

    def __init__(self, take: Callable[[bytes, asyncio.Transport], None]) -> None:
        self._take = take
        self._held = b""

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
            self._take(body, self._transport)


def write_receipt(transport: asyncio.Transport, receipt: bytes) -> None:
    """A 202."""
    transport.write(
        b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(receipt), receipt)
    )


async def serve() -> None:
    """Serves until it is ended."""
    async with open_judge() as judge, open_producer() as producer:
        chain = Chain(judge, producer)
        with bind() as listener:
            server = await asyncio.get_running_loop().create_server(lambda: Front(chain.take), sock=listener)
            announce(listener)
            await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
