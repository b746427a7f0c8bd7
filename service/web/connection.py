"""One client's connection: uvicorn's, with an end that cannot take an answer with it."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LINGER_SECONDS = 0.5
"""How long a closed connection still reads and drops what the client had under way."""


class GentleTransport:
    """A transport whose `close` first ends our side alone, and the whole when the client has ended its own.

    Closing a socket with unread bytes sends a reset, which may overtake the answer and delete it at the
    client (RFC 9112, section 9.6).
    """

    __slots__ = ("_closing", "_transport", "get_extra_info", "pause_reading", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._closing = False
        self.write = transport.write
        self.pause_reading = transport.pause_reading
        self.get_extra_info = transport.get_extra_info

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or self._transport.is_closing()

    def resume_reading(self) -> None:
        """Reads on, in a closed connection to drop it."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Ends our side once all is written; the rest follows when the client does, or after the limit."""
        if self._closing:
            return
        self._closing = True
        if self._transport.is_closing():
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        gentle: Any = GentleTransport(cast("asyncio.Transport", transport))
        super().connection_made(gentle)

    def data_received(self, data: bytes) -> None:
        """Takes bytes in; after the end of our side nothing can be answered, so nothing is begun."""
        if not self.transport.is_closing():
            super().data_received(data)
