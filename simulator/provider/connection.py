"""The connection under a call: whether the caller is still there, and how to be rude to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "simulator.connection"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the kernel answers with RST instead of FIN."""


class CallerLeft(Exception):
    """The caller closed its connection before it had its answer."""


class Connection:
    """One client's connection; HTTP/1.1 has one call under way on it at a time."""

    def __init__(self, transport: asyncio.Transport | None = None) -> None:
        self._transport = transport
        self.is_gone = False
        self._on_gone: Callable[[], None] | None = None

    @classmethod
    def of(cls, scope: Any) -> Connection:
        """The one that a call came by; one without a wire where the server is not ours."""
        found = scope.get("extensions", {}).get(_EXTENSION)
        return found if isinstance(found, Connection) else cls()

    def when_gone(self, callback: Callable[[], None] | None) -> None:
        """Has the callback called if the caller leaves, in place of the one before."""
        self._on_gone = callback

    def lose(self) -> None:
        """The caller is gone."""
        self.is_gone = True
        if self._on_gone is not None:
            self._on_gone()

    def reset(self) -> None:
        """Cuts the connection so that the caller sees it reset, not closed."""
        if self._transport is None or self._transport.is_closing():
            return
        wire: socket.socket | None = self._transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


class ConnectionProtocol(HttpToolsProtocol):
    """Uvicorn's protocol that hands each call the connection it came by."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection = Connection(transport)
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: self._connection}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connection.lose()
