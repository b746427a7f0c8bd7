"""One connection, without a network."""

import socket
from typing import Any

import httpx
import pytest

from service.providers.connection import Connection


class Wire:
    """The transport that the loop would give a connection."""

    def __init__(self, end: socket.socket, peer: socket.socket) -> None:
        self.end = end
        self.peer = peer
        self.written = b""
        self.aborted = False

    def get_extra_info(self, _: str) -> socket.socket:
        return self.end

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def wire() -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Wire(ours, theirs)


def connect(wire: Any) -> Connection:
    connection = Connection()
    connection.connection_made(wire)
    return connection


async def test_answer_is_read_from_single_bytes(wire: Any) -> None:
    connection = connect(wire)
    connection.send(b"GET")
    for byte in b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc":
        connection.data_received(bytes([byte]))
    assert await connection.read_head() == (200, [(b"X-A", b"b"), (b"Content-Length", b"3")])
    assert not connection.is_done
    assert [await connection.read_chunk() for _ in range(4)] == [b"a", b"b", b"c", None]
    assert connection.is_quiet()
    assert wire.written == b"GET"


@pytest.mark.parametrize("happening", ["closed", "spoke"])
async def test_connection_that_the_peer_closed_or_wrote_to_is_not_reused(wire: Any, happening: str) -> None:
    connection = connect(wire)
    connection.send(b"GET")
    connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert connection.is_quiet()
    if happening == "closed":
        wire.peer.close()
    else:
        wire.peer.send(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert connection.is_done
    assert not connection.is_quiet()


async def test_nothing_is_written_to_a_lost_connection(wire: Any) -> None:
    connection = connect(wire)
    connection.connection_lost(None)
    with pytest.raises(httpx.ConnectError):
        connection.send(b"GET")
    assert wire.written == b""


def test_unasked_bytes_end_the_connection(wire: Any) -> None:
    connection = connect(wire)
    connection.data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert wire.aborted
    assert not connection.is_quiet()
