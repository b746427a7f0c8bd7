"""A TCP relay on the chosen port, before the mock cluster's random one.

It can vanish, cut connections, answer late, and swallow answers.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Self

from simulator.broker.errors import BrokerError, PortInUse
from simulator.broker.groups import LEADER_WAITS_SECONDS, is_leaders_sync

CHUNK_BYTES = 256 * 1024
MAX_HELD_BYTES = 8 * 1024 * 1024  # per connection and direction, while answers are delayed
CONNECT_TIMEOUT_SECONDS = 10.0
LISTEN_BACKLOG = 1024
UPSTREAM_BACKLOG = 4  # the mock's own listener queues five; the kernel drops more, and retries after a second
FIRST_ANSWER_TIMEOUT_SECONDS = 0.1


class Flow:
    """One direction of a connection: bytes in order, each late by the delay when it arrived.

    None is lost but those that are due while `swallows` says so.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        delay_seconds: Callable[[bytes], float] = lambda _: 0.0,
        swallows: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._delay_seconds = delay_seconds
        self._swallows = swallows
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0

    async def run(self, first: bytes) -> None:
        """Carry `first` and what follows, then end the receiver as the sender did; OSError if one breaks."""
        self._hold(first)
        await self._release_due()
        while (chunk := await self._read()) != b"":
            if chunk:
                self._hold(chunk)
            await self._release_due()
        while self._held:
            await self._sleep_until_due()
            await self._release_due()
        self._writer.write_eof()

    def _hold(self, chunk: bytes) -> None:
        self._held.append((self._loop.time() + self._delay_seconds(chunk), chunk))
        self._held_bytes += len(chunk)

    async def _read(self) -> bytes | None:
        """The next chunk, empty at the end; None when a held chunk is due first."""
        if not self._held:
            return await self._reader.read(CHUNK_BYTES)
        if self._held_bytes >= MAX_HELD_BYTES:
            await self._sleep_until_due()
            return None
        try:
            # A read that is cancelled here leaves its bytes in the reader's buffer.
            async with asyncio.timeout_at(self._held[0][0]):
                return await self._reader.read(CHUNK_BYTES)
        except TimeoutError:
            return None

    async def _sleep_until_due(self) -> None:
        await asyncio.sleep(max(0.0, self._held[0][0] - self._loop.time()))

    async def _release_due(self) -> None:
        now = self._loop.time()
        while self._held and self._held[0][0] <= now:
            _, chunk = self._held.popleft()
            self._held_bytes -= len(chunk)
            if chunk and not self._swallows():
                self._writer.write(chunk)
        await self._writer.drain()


class Relay:
    """Listens on one address and carries every connection to another; owns all of them until `close`.

    The client must speak first, as Kafka's do: the connection behind is opened with its first bytes.
    """

    def __init__(self, listener: socket.socket, upstream_port: int) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self._reserved: socket.socket | None = listener
        self._server: asyncio.Server | None = None
        self._upstream_port = upstream_port
        self._connections: set[asyncio.Task[None]] = set()
        self._delay_seconds = 0.0
        self._end_of_loss: asyncio.TimerHandle | None = None
        self._robbed: set[asyncio.Task[None]] = set()  # connections whose answers were swallowed
        self._opening = asyncio.Semaphore(UPSTREAM_BACKLOG)

    @classmethod
    def bind(cls, host: str, port: int, *, upstream_port: int) -> Self:
        """Take the address, 0 for any free port, without listening yet; PortInUse if it is taken."""
        return cls(_bind(host, port), upstream_port)

    @property
    def is_up(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def delay_seconds(self) -> float:
        """How late each answer comes."""
        return self._delay_seconds

    def delay_answers(self, seconds: float) -> None:
        """Hold back what the broker sends from now on; requests still reach it at once."""
        self._delay_seconds = seconds

    @property
    def loss_left_seconds(self) -> float:
        """How much longer answers are swallowed; 0 if they are not."""
        if self._end_of_loss is None:
            return 0.0
        return max(0.0, self._end_of_loss.when() - asyncio.get_running_loop().time())

    def lose_answers(self, seconds: float) -> None:
        """Swallow every answer that is due in the next `seconds`; 0 ends it at once.

        Then the connections that lack an answer are cut: a client that waited for it notices, and no other
        one sees the rest of a stream whose beginning is missing.
        """
        if self._end_of_loss is not None:
            self._end_of_loss.cancel()
        if seconds:
            self._end_of_loss = asyncio.get_running_loop().call_later(seconds, self._stop_losing)
        else:
            self._stop_losing()

    async def cut(self) -> None:
        """Cut every connection now, with what is under way on it; clients may connect again at once."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def bring_up(self) -> None:
        """Take connections; PortInUse if another program began to listen here meanwhile."""
        if self._server is not None:
            return
        reserved, self._reserved = self._reserved, None
        if reserved is None:
            reserved = _bind(self.host, self.port)
        try:
            self._server = await asyncio.start_server(
                self._accept, sock=reserved, limit=CHUNK_BYTES, backlog=LISTEN_BACKLOG
            )
        except OSError as error:
            reserved.close()
            raise _translate(error, self.host, self.port) from error

    async def take_down(self) -> None:
        """Refuse connections and cut the existing ones; answers under way are lost, as in a crash."""
        if self._server is None:
            return
        await self._stop_listening()
        # Bound but not listening: clients are refused, and the port stays ours until `bring_up`.
        self._reserved = _bind(self.host, self.port)

    async def close(self) -> None:
        """Give the address up and cut every connection."""
        if self._end_of_loss is not None:
            self._end_of_loss.cancel()
            self._end_of_loss = None
        await self._stop_listening()

    async def _stop_listening(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.cut()

    def _stop_losing(self) -> None:
        self._end_of_loss = None
        for connection in self._robbed:
            connection.cancel()

    def _swallows_answer_of(self, connection: asyncio.Task[None]) -> bool:
        if self._end_of_loss is not None:
            self._robbed.add(connection)
        # A robbed connection gets nothing more, also between the end of the loss and its own.
        return connection in self._robbed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted by the kernel just before the listener closed
            writer.transport.abort()
            return
        connection = asyncio.get_running_loop().create_task(
            self._carry(reader, writer), name="relay connection"
        )
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(self._robbed.discard)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            return await asyncio.open_connection("127.0.0.1", self._upstream_port, limit=CHUNK_BYTES)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        connection = asyncio.current_task()
        assert connection is not None
        try:
            first_request = await reader.read(CHUNK_BYTES)
            async with self._opening:
                answers, requests = await self._connect()
                writers.append(requests)
                requests.write(first_request)
                # An answer proves that the mock has taken this connection out of its short queue.
                first_answer = await _read_soon(answers)
            answering = Flow(
                answers,
                writer,
                delay_seconds=lambda _: self._delay_seconds,
                swallows=lambda: self._swallows_answer_of(connection),
            )
            async with asyncio.TaskGroup() as both:
                both.create_task(Flow(reader, requests, _hold_back_leader).run(b""))
                both.create_task(answering.run(first_answer))
            for each in writers:
                each.close()
                await each.wait_closed()
        except* OSError:
            pass  # one side went away: the other is cut below, and there is nobody to tell
        finally:
            for each in writers:
                each.transport.abort()


def _hold_back_leader(chunk: bytes) -> float:
    return LEADER_WAITS_SECONDS if is_leaders_sync(chunk) else 0.0


async def _read_soon(reader: asyncio.StreamReader) -> bytes:
    """What comes first, or nothing if that takes longer than Kafka's first answer ever does."""
    try:
        async with asyncio.timeout(FIRST_ANSWER_TIMEOUT_SECONDS):
            return await reader.read(CHUNK_BYTES)
    except TimeoutError:
        return b""


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _translate(error, host, port) from error
    return listener


def _translate(error: OSError | OverflowError, host: str, port: int) -> BrokerError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Port {port} on {host} is already in use; choose another with --port, or 0 for any free one."
        )
    return BrokerError(f"Cannot listen on {host}:{port}: {error}; choose another --port.")
