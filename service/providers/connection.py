"""One HTTP/1.1 connection to a provider: a request at a time, its answer read as it comes (RFC 9112)."""

import asyncio
import select
from collections import deque
from typing import Final, cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from service.providers.heads import find_end, make_strict

MAX_HEAD_BYTES: Final = 64 * 1024
READ_AHEAD_BYTES: Final = 256 * 1024
"""An answer that is not read stops the connection from reading further at about this size."""


class Connection(asyncio.Protocol):
    """Sends a request and hands out the answer; knows whether another one may follow.

    Whoever waits on it and is cancelled must `abort` it: what is left of the answer would otherwise be
    taken for the next one.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._reset()
        self._answered = True

    def _reset(self) -> None:
        self._parser = HttpResponseParser(self)
        self._failure: tuple[type[httpx.TransportError], str] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head = bytearray()
        """What has come of the head so far."""
        self._head_complete = False
        self._status = 0
        self._surplus = False
        self._chunks: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._paused = False
        self._answered = False
        self._keeps_alive = False

    # --- for the pool

    @property
    def is_done(self) -> bool:
        """Whether the answer is read to its end and the peer lets another request follow."""
        return self._answered and self._keeps_alive and not self._chunks and not self._lost

    def is_quiet(self) -> bool:
        """Whether the peer has sent nothing and closed nothing since.

        Looks at the socket itself, for the loop may not have come round to a close that is already there.
        """
        if not self.is_done:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def abort(self) -> None:
        """Closes at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, request: bytes) -> None:
        """Writes a whole request. Raises `httpx.ConnectError` where the connection is gone already."""
        assert self._transport is not None
        self._reset()
        if self._lost:
            raise httpx.ConnectError("The connection closed before anything was sent.")
        self._transport.write(request)

    async def read_head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """The status and the headers of the answer. Raises httpx's transport exceptions."""
        while not self._head_complete:
            self._raise_failure()
            await self._wait()
        return self._status, self._headers

    async def read_chunk(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises httpx's transport exceptions."""
        while not self._chunks:
            if self._answered:
                return None
            self._raise_failure()
            await self._wait()
        chunk = self._chunks.popleft()
        self._buffered_bytes -= len(chunk)
        if self._paused and not self._chunks:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return chunk

    def fail(self, kind: type[httpx.TransportError], sentence: str) -> None:
        """Ends the exchange under way with an exception and closes."""
        if not self._answered and self._failure is None:
            self._failure = (kind, sentence)
        self.abort()
        self._wake()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            kind, sentence = self._failure
            raise kind(sentence)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the socket."""
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """Takes a piece of the answer; anything that comes unasked ends the connection."""
        if self._answered:
            self.abort()
            return
        try:
            if not self._head_complete:
                data = self._parse_heads(data)
            if data:
                self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.fail(httpx.RemoteProtocolError, "The answer is no valid HTTP.")
            return
        if not self._head_complete and len(self._head) > MAX_HEAD_BYTES:
            self.fail(httpx.RemoteProtocolError, "The head of the answer is too large.")
        elif self._buffered_bytes > READ_AHEAD_BYTES and not self._paused and not self._answered:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _parse_heads(self, data: bytes) -> bytes:
        """Parses the head, and interim ones before it, once it is complete; returns what follows it."""
        searched = len(self._head)
        self._head += data
        while not self._head_complete:
            end = find_end(self._head, searched)
            if end is None:
                return b""
            head = bytes(self._head[:end])
            del self._head[:end]
            searched = 0
            self._parser.feed_data(make_strict(head))
        rest = bytes(self._head)
        self._head.clear()
        return rest

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the answer: completely only where its end is told by the close."""
        self._lost = True
        if self._head_complete and not self._answered and exc is None and not self._is_framed():
            self._answered = True
        elif self._head_complete and exc is None:
            self.fail(httpx.RemoteProtocolError, "The connection closed before the answer was complete.")
        else:
            self.fail(httpx.ReadError, "The connection broke before the answer was complete.")
        self._wake()

    def _is_framed(self) -> bool:
        return any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in self._headers)

    # --- called by the parser

    def on_message_begin(self) -> None:
        """Notes a second answer to one request: nothing that this peer sends can be trusted any more."""
        if self._answered:
            self._keeps_alive = False
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header."""
        if not self._head_complete:  # trailers are of no use
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Ends the head, unless it is an interim one."""
        if not self._surplus:
            self._status = self._parser.get_status_code()
            self._head_complete = self._status >= httpx.codes.OK

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body."""
        if not self._surplus:
            self._chunks.append(body)
            self._buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        """Ends the answer; an interim one (1xx) is forgotten and the real one follows."""
        if not self._head_complete:
            self._headers = []
        elif not self._surplus:
            self._answered = True
            self._keeps_alive = self._parser.should_keep_alive()
