"""One client's connection: uvicorn's, with limits of its own, and an end that cannot take an answer with it.

uvicorn waits for the rest of a request for ever, and takes headers of any length. Here a request has to be
there within a time from its first byte, headers have a size, and there are only so many connections; whoever
breaks one of these is told so, in the one error body, and goes.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.web.errors import render_refusal

LINGER_SECONDS = 0.5
"""How long a closed connection still reads and drops what the client had under way."""
OPERATION = "receive_request"
CROWDED_RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take of us before it has said anything."""

    receive_seconds: float = 10.0
    """From the first byte of a request to its last."""
    header_bytes: int = 64 * 1024
    connections: int = 4000


class GentleTransport:
    """A transport whose `close` first ends our side alone, and the whole when the client has ended its own.

    Closing a socket with unread bytes sends a reset, which may overtake the answer and delete it at the
    client (RFC 9112, section 9.6).
    """

    __slots__ = (
        "_closing",
        "_transport",
        "abort",
        "get_extra_info",
        "linger_seconds",
        "pause_reading",
        "write",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._closing = False
        self.linger_seconds = LINGER_SECONDS
        """How long `close` waits for the client's end."""
        self.abort = transport.abort
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
        asyncio.get_running_loop().call_later(self.linger_seconds, self._transport.abort)


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    def __init__(self, *, limits: ConnectionLimits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._too_late: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._gentle: GentleTransport
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins; where there are too many, it ends again."""
        self._gentle = GentleTransport(cast("asyncio.Transport", transport))
        super().connection_made(cast("Any", self._gentle))
        if len(self.connections) > self._limits.connections:
            self._refuse(
                "There are too many connections; try again in a moment, or another instance.",
                503,
                LLMErrorCode.INTERNAL_ERROR,
            )
            return
        # Who connects and says nothing is waited for as long as one who has said something before.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends with the process: what comes of a request that was answered has a moment, and no more."""
        self._gentle.linger_seconds = LINGER_SECONDS
        if self._gentle.is_closing():
            self.loop.call_later(LINGER_SECONDS, self._gentle.abort)
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Takes bytes in; after the end of our side nothing can be answered, so nothing is begun."""
        if self.transport.is_closing():
            return
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > self._limits.header_bytes and not self.transport.is_closing():
            self._refuse(f"The headers are larger than {self._limits.header_bytes} bytes.", 431)

    def on_message_begin(self) -> None:
        """The first byte of a request was read."""
        super().on_message_begin()
        self._too_late = self.loop.call_later(self._limits.receive_seconds, self._cut_off)

    def on_headers_complete(self) -> None:
        """What follows is the body, whose limit is the route's.

        An answer that does not wait for its end ends the connection, and says so (RFC 9112, section 9.3).
        Most clients read no answer while they send: what they still send is dropped, for as long as a request
        may take.
        """
        self._header_bytes = -(1 << 62)
        before: RequestResponseCycle | None = self.cycle
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle is not before:
            self._keeps_alive, cycle.keep_alive = cycle.keep_alive, False
            self._gentle.linger_seconds = self._limits.receive_seconds

    def on_message_complete(self) -> None:
        """The last byte of a request was read."""
        self._stop_waiting()
        self._header_bytes = 0
        self._gentle.linger_seconds = LINGER_SECONDS
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn says it without telling anything
        """What is no HTTP is answered as everything else is."""
        self._refuse("The request is no valid HTTP/1.1.", 400)

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _cut_off(self) -> None:
        self._too_late = None
        self._gentle.linger_seconds = LINGER_SECONDS
        if self._gentle.is_closing():
            self._gentle.abort()  # it was answered long ago, and still sends
        else:
            self._refuse(f"The request was not complete within {self._limits.receive_seconds:g} s.", 408)

    def _refuse(self, sentence: str, status: int, code: LLMErrorCode = LLMErrorCode.INVALID_REQUEST) -> None:
        """Answers below the application, and ends the connection."""
        self._stop_waiting()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # The application waits for the rest: it is told that nobody is there any more.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        retry = CROWDED_RETRY_SECONDS if status == 503 else None
        answer = render_refusal(
            Refused(code, sentence, status=status, retry_after_seconds=retry),
            correlation_id=None,
            operation=OPERATION,
        )
        head = b"".join(b"%b: %b\r\n" % pair for pair in (*answer.raw_headers, (b"connection", b"close")))
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()
