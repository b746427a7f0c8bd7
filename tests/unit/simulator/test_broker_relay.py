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
from tests.waiting import HANG_SECONDS, until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def relay_before(serve: Serve) -> AsyncIterator[Relay]:
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
    reader, writer = await asyncio.open_connection(relay.host, relay.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echo(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: bytearray | None = None
) -> None:
    """Sends everything back, and ends when the client has ended."""
    try:
        while chunk := await reader.read(65_536):
            if received is not None:
                received.extend(chunk)
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


@pytest.fixture(autouse=True)
def let_connecting_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.broker.relay.CONNECT_TIMEOUT_SECONDS", HANG_SECONDS)


async def read_until_cut(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02])
async def test_every_byte_arrives_once_and_in_order(delay_seconds: float) -> None:
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
    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read(-1))).encode())
        writer.close()

    async with relay_before(answer_after_the_end) as relay, connect(relay) as (reader, writer):
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read(-1) == b"100000"
        await until(lambda: relay.connection_count == 0)


async def test_a_server_that_ends_first_ends_the_client_too() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(3))
        writer.close()

    async with relay_before(hang_up) as relay, connect(relay) as (reader, writer):
        writer.write(b"bye")
        assert await reader.read(-1) == b"bye"


async def test_an_answer_is_late_by_the_delay_and_requests_are_not() -> None:
    async with recording_relay() as (relay, received):
        async with connect(relay) as (_, writer):
            relay.delay_answers(2 * HANG_SECONDS)
            writer.write(b"ask")
            await until(lambda: received)
        async with connect(relay) as (reader, writer):
            relay.delay_answers(0.1)
            started = time.monotonic()
            writer.write(b"ask")
            assert await reader.read(10) == b"ask"
            assert time.monotonic() - started >= 0.1


async def test_delayed_answers_overlap_in_order(skip_time: Callable[[float], None]) -> None:
    async with relay_before(echo) as relay, connect(relay) as (reader, writer):
        relay.delay_answers(100.0)
        for number in range(10):
            writer.write(bytes([number]))
            await asyncio.sleep(0.01)
            if number == 4:
                relay.delay_answers(0.0)
        skip_time(100.0)
        assert await reader.readexactly(10) == bytes(range(10))


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
                async with asyncio.timeout(0.2):
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
    """Nobody else can take its port meanwhile; afterwards it is the same port."""
    async with relay_before(echo) as relay:
        async with connect(relay) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await relay.take_down()
            assert await read_until_cut(reader) == b""
        assert (relay.is_up, relay.connection_count) == (False, 0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(relay.host, relay.port)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((relay.host, relay.port))
        await relay.take_down()
        await relay.bring_up()
        await relay.bring_up()
        async with connect(relay) as (reader, writer):
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"


async def test_a_cut_ends_every_connection_once_and_takes_the_next() -> None:
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
    async with relay_before(lambda reader, writer: echo(reader, writer, received)) as relay:
        yield relay, received


async def lose_answer(relay: Relay, *writers: asyncio.StreamWriter) -> None:
    """Writes to each connection, and returns when the answers are lost."""
    for writer in writers:
        writer.write(b"!")
    await until(lambda: len(relay._robbed) == len(writers), "lost answers")


async def test_lost_answers_cost_only_the_connection(skip_time: Callable[[float], None]) -> None:
    async with recording_relay() as (relay, received):
        async with connect(relay) as (old, old_writer), connect(relay) as (new, new_writer):
            old_writer.write(b"1")
            assert await old.readexactly(1) == b"1"
            relay.lose_answers(100.0)
            await lose_answer(relay, old_writer, new_writer)  # the new one had no answer yet
            skip_time(100.0)
            assert await read_until_cut(old) == await read_until_cut(new) == b""
            assert sorted(received) == sorted(b"1!!")
        assert relay.loss_left_seconds == 0.0
        async with connect(relay) as (reader, writer):
            writer.write(b"4")
            assert await reader.readexactly(1) == b"4"


async def test_a_connection_that_lacks_no_answer_is_kept(skip_time: Callable[[float], None]) -> None:
    async with (
        recording_relay() as (relay, _),
        connect(relay) as (idle, idle_writer),
        connect(relay) as (robbed, robbed_writer),
    ):
        for reader, writer in ((idle, idle_writer), (robbed, robbed_writer)):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        relay.lose_answers(100.0)
        await lose_answer(relay, robbed_writer)
        skip_time(100.0)
        assert await read_until_cut(robbed) == b""
        idle_writer.write(b"y")
        assert await idle.readexactly(1) == b"y"


async def test_a_loss_can_be_ended_early() -> None:
    """A loss of 0 s cancels the one before it."""
    async with relay_before(echo) as relay, connect(relay) as (reader, writer):
        relay.lose_answers(HANG_SECONDS)
        assert 0.0 < relay.loss_left_seconds <= HANG_SECONDS
        relay.lose_answers(0.0)
        assert relay.loss_left_seconds == 0.0
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_a_loss_outlives_a_shutdown_of_the_listener(skip_time: Callable[[float], None]) -> None:
    async with recording_relay() as (relay, _):
        relay.lose_answers(100.0)
        await relay.take_down()
        await relay.bring_up()
        async with connect(relay) as (reader, writer):
            await lose_answer(relay, writer)
            skip_time(100.0)
            assert await read_until_cut(reader) == b""


async def test_a_client_is_cut_where_nothing_listens_behind_the_relay() -> None:
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


async def test_a_burst_of_clients_does_not_overflow_the_short_queue_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulator.broker.relay.FIRST_ANSWER_TIMEOUT_SECONDS", HANG_SECONDS)
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
    async with relay_before(echo) as relay:
        with pytest.raises(PortInUse, match=f"Port {relay.port} .* already in use"):
            Relay.bind("127.0.0.1", relay.port, upstream_port=1)
