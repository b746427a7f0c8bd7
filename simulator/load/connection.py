"""One HTTP/1.1 connection of a load generator (RFC 9112): a request at a time, and how it ended."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

OK: Final = 200
"""Below it an answer is an interim one, and another follows."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The whole answer came."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None
    """What `Retry-After` says, where it is a number."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The request was sent and no whole answer came: it may have been accepted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The request was never sent, for there was no connection."""

    reason: str


Outcome = Answered | Broken | Unreachable

OnEnd = Callable[[Outcome], None]


class Exchange:
    """One request and whom to tell how it ended."""

    __slots__ = ("connection", "message", "on_end", "timer")

    def __init__(self, message: bytes, on_end: OnEnd) -> None:
        self.message = message
        self.on_end = on_end
        self.timer: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None

    def end(self, outcome: Outcome) -> None:
        """Tells it; called once."""
        if self.timer is not None:
            self.timer.cancel()
        self.on_end(outcome)


class Owner(Protocol):
    """Whom a connection belongs to."""

    def take(self, connection: Connection) -> None:
        """It is there."""

    def reuse(self, connection: Connection) -> None:
        """It is free for the next request."""

    def lose(self, connection: Connection) -> None:
        """It is gone."""


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time."""

    def __init__(self, owner: Owner, max_answer_bytes: int) -> None:
        self._owner = owner
        self._max_answer_bytes = max_answer_bytes
        self._parser = HttpResponseParser(self)
        self._poll = select.poll()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._is_usable = False
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._status = 0
        self._chunks: list[bytes] = []
        self._answer_bytes = 0
        self._retry_after: bytes | None = None
        self._is_framed = False
        self._is_complete = False
        self._keeps_alive = False
        self._has_surplus = False

    def is_quiet(self) -> bool:
        """Whether the peer has sent nothing and closed nothing since its last answer.

        Looks at the socket itself, for the loop may not have come round to a close that is already there.
        """
        return self._is_usable and not self._poll.poll(0)

    def send(self, exchange: Exchange) -> None:
        """Writes a request."""
        assert self._transport is not None
        self._exchange = exchange
        exchange.connection = self
        self._transport.write(exchange.message)

    def fail(self, reason: str) -> None:
        """Closes at once; an exchange that is under way ends as broken."""
        self._is_usable = False
        if self._transport is not None:
            self._transport.abort()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(Broken(reason))

    def _finish(self) -> None:
        """Hands out the answer, after the connection went back: whoever hears it may send at once."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        answer = Answered(self._status, body, _read_seconds(self._retry_after))
        reusable = self._is_usable and self._keeps_alive and not self._has_surplus
        self._forget_answer()
        if reusable:
            self._owner.reuse(self)
        else:
            self.fail("the connection was not to be used again")
        exchange.end(answer)

    # --- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Offers itself for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._is_usable = True
        self._owner.take(self)

    def data_received(self, data: bytes) -> None:
        """Takes a piece of the answer; what comes unasked ends the connection."""
        if self._exchange is None:
            self.fail("the peer spoke unasked")
            return
        self._answer_bytes += len(data)
        if self._answer_bytes > self._max_answer_bytes:
            self.fail(f"the answer is larger than {self._max_answer_bytes} bytes")
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self._is_complete:  # what stands behind a whole answer does not spoil it
                self.fail("the answer is no valid HTTP")
                return
        if self._is_complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the answer: completely only where nothing but the close tells its end."""
        self._is_usable = False
        self._owner.lose(self)
        if self._exchange is None:
            return
        if self._status >= OK and not self._is_framed and exc is None:
            self._finish()
        else:
            began = "complete" if self._answer_bytes else "begun"
            self.fail(f"the connection {'closed' if exc is None else 'broke'} before the answer was {began}")

    # --- called by the parser

    def on_message_begin(self) -> None:
        """Notes a second answer to one request: nothing that this peer sends can be trusted any more."""
        self._has_surplus = self._is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps what is of interest."""
        size = 0 if self._is_complete else len(name)
        if size == 11 and name.lower() == b"retry-after":
            self._retry_after = value
        elif (size == 14 and name.lower() == b"content-length") or (
            size == 17 and name.lower() == b"transfer-encoding"
        ):
            self._is_framed = True

    def on_headers_complete(self) -> None:
        """Keeps the status, which stands as soon as the head is complete."""
        if not self._is_complete:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body."""
        if not self._is_complete:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Ends the answer, unless it was an interim one."""
        if self._status >= OK and not self._is_complete:
            self._is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()  # the parser knows it now and not later


def _read_seconds(value: bytes | None) -> float | None:
    return float(value) if value is not None and value.isdigit() else None
