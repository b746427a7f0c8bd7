"""The relay in front of the mock cluster, between real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from simulator.broker.errors import PortInUse
from simulator.broker.relay import MAX_HELD_BYTES, UPSTREAM_BACKLOG, Relay
from tests.waiting import HANG_SECONDS

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def relay_before(serve: Serve) -> AsyncIterator[Relay]:
    """A relay in front of a server that treats each connection with `serve`."""
    upstream = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay = Relay.bind("127.0.0.1", 0, upstream_port=upstream.sockets[0].getsockname()[1])
    await relay.bring_up()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield relay
    finally:
        await relay.close()
        upstream.close()


@asynccontextmanager
async def connect(relay: Relay) -> AsyncIterator[Connection]:
    """A client's connection to the relay."""
    reader, writer = await asyncio.open_connection(relay.host, relay.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and end when the client has ended."""
    try:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the client has ended, and only then say how much that was."""
    writer.write(str(len(await reader.read(-1))).encode())
    writer.close()


async def read_until_cut(reader: asyncio.StreamReader) -> bytes:
    """What still comes before the connection ends, whether by FIN or by RST."""
    try:
        return await reader.read(-1)
    except ConnectionResetError:
        return b""


async def wait_until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; the fixture's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - the condition is a plain value, nothing announces it
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02])
async def test_every_byte_arrives_once_and_in_order(delay_seconds: float) -> None:
    """Five megabytes in odd portions come back as they went, delayed or not."""
    sent = random.Random(7).randbytes(5_000_003)
    async with relay_before(echo) as relay, connect(relay) as (reader, writer):
        relay.delay_answers(delay_seconds)
        receiving = asyncio.create_task(reader.read(-1))
        for start in range(0, len(sent), 77_777):
            writer.write(sent[start : start + 77_777])
            await writer.drain()
        writer.write_eof()
        assert await receiving == sent


async def test_a_client_that_has_ended_still_gets_its_answer() -> None:
    """Half a connection closes without the other half."""
    async with relay_before(answer_after_the_end) as relay, connect(relay) as (reader, writer):
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read(-1) == b"100000"
        await wait_until(lambda: relay.connection_count == 0)


async def test_a_server_that_ends_first_ends_the_client_too() -> None:
    """The end of the answers reaches the client after their last byte."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(3))
        writer.close()

    async with relay_before(hang_up) as relay, connect(relay) as (reader, writer):
        writer.write(b"bye")
        assert await reader.read(-1) == b"bye"


async def test_an_answer_is_late_by_the_delay_and_requests_are_not() -> None:
    """The server has the request long before the client has the answer."""
    arrived: list[float] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(10))
        arrived.append(time.monotonic())
        writer.close()

    async with relay_before(note) as relay, connect(relay) as (reader, writer):
        relay.delay_answers(0.3)
        started = time.monotonic()
        writer.write(b"ask")
        assert await reader.read(10) == b"ask"
        answered = time.monotonic()
        assert answered - started >= 0.3
        assert arrived[0] < answered - 0.1


async def test_delayed_answers_overlap_and_a_shorter_delay_does_not_overtake() -> None:
    """Ten answers of 0.3 s come within one delay, and order holds when the delay ends midway."""
    async with relay_before(echo) as relay, connect(relay) as (reader, writer):
        relay.delay_answers(0.3)
        started = time.monotonic()
        for number in range(10):
            writer.write(bytes([number]))
            await asyncio.sleep(0.01)
            if number == 4:
                relay.delay_answers(0.0)
        assert await reader.readexactly(10) == bytes(range(10))
        assert 0.3 <= time.monotonic() - started < 1.4  # one after the other they take 1.5 s


@pytest.mark.parametrize("delay_seconds", [0.0, 60.0])
async def test_a_client_that_does_not_read_stops_the_server(delay_seconds: float) -> None:
    """The relay holds a bounded amount for a slow reader, it does not buffer the whole answer."""
    handed_over = 0
    stuck = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal handed_over
        try:
            while True:
                writer.write(b"x" * 1_000_000)
                async with asyncio.timeout(0.5):
                    await writer.drain()
                handed_over += 1_000_000
        except TimeoutError:
            stuck.set()
        finally:
            writer.transport.abort()

    async with relay_before(flood) as relay:
        relay.delay_answers(delay_seconds)
        quiet = socket.create_connection((relay.host, relay.port))
        quiet.send(b"everything, please")
        try:
            await stuck.wait()
        finally:
            quiet.close()
        kernel_buffers = 30_000_000  # two connections' send and receive buffers, as large as Linux grows them
        assert handed_over < MAX_HELD_BYTES + kernel_buffers


async def test_down_cuts_and_refuses_and_up_takes_connections_again() -> None:
    """A relay that is down is a closed port; afterwards it is the same port."""
    async with relay_before(echo) as relay:
        async with connect(relay) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await relay.take_down()
            assert await read_until_cut(reader) == b""
        assert (relay.is_up, relay.connection_count) == (False, 0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(relay.host, relay.port)
        await relay.take_down()
        await relay.bring_up()
        await relay.bring_up()
        async with connect(relay) as (reader, writer):
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"


async def test_a_relay_that_is_down_keeps_its_port() -> None:
    """The kernel gives the port to nobody else, though nothing listens on it."""
    async with relay_before(echo) as relay:
        await relay.take_down()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((relay.host, relay.port))


async def test_a_cut_ends_every_connection_once_and_takes_the_next() -> None:
    """What is under way is lost with its connection; a client that comes back at once is served."""
    async with relay_before(echo) as relay:
        async with connect(relay) as (one, writer), connect(relay) as (other, other_writer):
            for each in (writer, other_writer):
                each.write(b"x")
            assert await one.readexactly(1) == await other.readexactly(1) == b"x"
            relay.delay_answers(60.0)
            writer.write(b"under way")
            await relay.cut()
            relay.delay_answers(0.0)
            assert await read_until_cut(one) == await read_until_cut(other) == b""
        assert relay.is_up
        async with connect(relay) as (reader, writer):
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"


@asynccontextmanager
async def recording_relay() -> AsyncIterator[tuple[Relay, bytearray]]:
    """A relay before an echo, and the bytes that the echo has received."""
    received = bytearray()

    async def note_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                received.extend(chunk)
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async with relay_before(note_and_echo) as relay:
        yield relay, received


async def test_lost_answers_cost_the_connection_and_not_the_request() -> None:
    """A request arrives, its answer never does, the connection ends with the loss, the next one is well."""
    async with recording_relay() as (relay, received):
        async with connect(relay) as (old, old_writer), connect(relay) as (new, new_writer):
            old_writer.write(b"1")
            assert await old.readexactly(1) == b"1"
            relay.lose_answers(0.3)
            started = time.monotonic()
            old_writer.write(b"2")
            new_writer.write(b"3")  # on a connection that had no answer yet
            assert await read_until_cut(old) == await read_until_cut(new) == b""
            assert time.monotonic() - started >= 0.25
            assert sorted(received) == sorted(b"123")
        assert relay.loss_left_seconds == 0.0
        async with connect(relay) as (reader, writer):
            writer.write(b"4")
            assert await reader.readexactly(1) == b"4"


async def test_a_connection_that_lacks_no_answer_outlives_the_loss() -> None:
    """Only what was robbed is cut at the end."""
    async with (
        recording_relay() as (relay, _),
        connect(relay) as (idle, idle_writer),
        connect(relay) as (robbed, robbed_writer),
    ):
        for reader, writer in ((idle, idle_writer), (robbed, robbed_writer)):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        relay.lose_answers(0.3)
        robbed_writer.write(b"!")
        assert await read_until_cut(robbed) == b""
        idle_writer.write(b"y")
        assert await idle.readexactly(1) == b"y"


async def test_a_loss_can_be_ended_early() -> None:
    """A loss of 0 s takes back the one before it."""
    async with relay_before(echo) as relay, connect(relay) as (reader, writer):
        relay.lose_answers(60.0)
        assert 59.0 < relay.loss_left_seconds <= 60.0
        relay.lose_answers(0.0)
        assert relay.loss_left_seconds == 0.0
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_a_loss_outlives_a_shutdown_of_the_listener() -> None:
    """Down and up in the middle of a loss end neither it nor its limit."""
    async with recording_relay() as (relay, _):
        relay.lose_answers(0.3)
        await relay.take_down()
        await relay.bring_up()
        assert relay.loss_left_seconds > 0
        async with connect(relay) as (reader, writer):
            writer.write(b"x")
            assert await read_until_cut(reader) == b""


async def test_a_client_is_cut_where_nothing_listens_behind_the_relay() -> None:
    """A connection that cannot be carried ends; it does not hang."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        relay = Relay.bind("127.0.0.1", 0, upstream_port=closed.getsockname()[1])
        await relay.bring_up()
        try:
            async with asyncio.timeout(HANG_SECONDS), connect(relay) as (reader, writer):
                writer.write(b"x")
                assert await read_until_cut(reader) == b""
        finally:
            await relay.close()


async def test_a_burst_of_clients_does_not_overflow_the_short_queue_behind() -> None:
    """No more connections are opened than the mock queues, until it has answered one of them."""
    waiting = peak = 0

    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, peak
        waiting += 1
        peak = max(peak, waiting)
        request = await reader.readexactly(1)
        for _ in range(20):  # the other clients' turn, which would connect by now if they were let
            await asyncio.sleep(0)
        waiting -= 1
        writer.write(request)
        writer.close()

    async def ask(relay: Relay) -> bytes:
        async with connect(relay) as (reader, writer):
            writer.write(b"?")
            return await reader.readexactly(1)

    async with relay_before(answer_slowly) as relay:
        assert set(await asyncio.gather(*[ask(relay) for _ in range(40)])) == {b"?"}
    assert 1 <= peak <= UPSTREAM_BACKLOG


async def test_a_taken_port_is_named() -> None:
    """A second listener on one port is refused with a sentence."""
    async with relay_before(echo) as relay:
        with pytest.raises(PortInUse, match=f"Port {relay.port} .* already in use"):
            Relay.bind("127.0.0.1", relay.port, upstream_port=1)
