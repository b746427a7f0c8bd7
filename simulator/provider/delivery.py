"""How an answer goes out: whole, in drops, or not to its end."""

from __future__ import annotations

from starlette.types import Send

from simulator.provider.api import Wire
from simulator.provider.connection import CallerLeft, Connection
from simulator.provider.pauses import Pauses

_DROPS_PER_SECOND = 10


async def send_whole(send: Send, wire: Wire) -> None:
    """All of it."""
    await _begin(send, wire)
    await send({"type": "http.response.body", "body": wire.body})


async def send_half(send: Send, wire: Wire, connection: Connection) -> None:
    """The head and half of the body; then the connection is reset."""
    await _begin(send, wire)
    await send({"type": "http.response.body", "body": wire.body[: len(wire.body) // 2], "more_body": True})
    connection.reset()


async def send_in_drops(
    send: Send, wire: Wire, bytes_per_second: float, pauses: Pauses, connection: Connection
) -> None:
    """All of it, at so many real bytes a second; raises `CallerLeft`."""
    await _begin(send, wire)
    size = max(1, int(bytes_per_second / _DROPS_PER_SECOND))
    for start in range(0, len(wire.body), size):
        drop = wire.body[start : start + size]
        await pauses.pause(len(drop) / bytes_per_second, connection)
        if connection.is_gone:
            raise CallerLeft
        await send({"type": "http.response.body", "body": drop, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _begin(send: Send, wire: Wire) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in wire.headers.items()]
    headers.append((b"content-length", str(len(wire.body)).encode()))
    await send({"type": "http.response.start", "status": wire.status, "headers": headers})
