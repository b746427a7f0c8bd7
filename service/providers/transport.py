"""What carries HTTP calls to providers: httpx's interface over a pool of our own.

httpx's own pool walks through all of its connections for every call and comes to a standstill with a
thousand in flight, and of the libraries that are fast enough none closes a cancelled call;
`docs/adr/0003-provider-transport.md` has the figures. Providers call the transport directly with
`httpx.Request`, without an `httpx.AsyncClient` around it, and so see httpx's types alone.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import httpx

from service.providers.connection import Connection
from service.providers.packing import Unpacker, find_packing

_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})

_Origin = tuple[str, str, int]
"""Scheme, host, port."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How many connections there may be and how long each wait for one may take."""

    max_connections: int
    connection_wait_seconds: float = 30.0
    connect_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 60.0


def open_transport(
    *,
    max_connections: int,
    connection_wait_seconds: float = 30.0,
    connect_timeout_seconds: float = 10.0,
    idle_timeout_seconds: float = 60.0,
    trusted_certificates_pem: Iterable[str] = (),
) -> httpx.AsyncBaseTransport:
    """Opens a pool of HTTP/1.1 connections for one provider.

    At most `max_connections` calls are under way at a time; a further one waits `connection_wait_seconds`
    for its turn and then raises `httpx.PoolTimeout`. Connecting takes at most `connect_timeout_seconds`,
    TLS included. A connection that nobody used for `idle_timeout_seconds` is not used again. Certificates
    are verified against certifi's list and `trusted_certificates_pem`. Redirects are not followed, calls
    are not repeated, cookies are not kept, and nothing is taken from the environment. How long a call may
    take is its caller's to say (`asyncio.timeout`): cancelling a call closes its connection.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    for certificate in trusted_certificates_pem:
        context.load_verify_locations(cadata=certificate)
    limits = TransportLimits(
        max_connections, connection_wait_seconds, connect_timeout_seconds, idle_timeout_seconds
    )
    return PooledTransport(limits, context)


class PooledTransport(httpx.AsyncBaseTransport):
    """Sends each request on the connection that was used last, or on a new one."""

    def __init__(self, limits: TransportLimits, tls: ssl.SSLContext) -> None:
        self._limits = limits
        self._tls = tls
        self._slots = asyncio.Semaphore(limits.max_connections)
        self._idle: dict[_Origin, deque[tuple[Connection, float]]] = {}
        self._busy: set[Connection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns as soon as the head of the answer is there; the body is read from its stream.

        A compressed body (gzip, deflate) comes out of the stream unpacked, in pieces of a bounded size.
        """
        message = await _serialize(request)
        origin = _find_origin(request.url)
        await self._take_slot()
        connection: Connection | None = None
        try:
            connection = self._reuse(origin) or await self._connect(origin)
            self._busy.add(connection)
            connection.send(message)
            status, headers = await connection.read_head()
            body = _Body(self, origin, connection, headers)
        except BaseException:
            self._free(connection)
            raise
        return httpx.Response(status, headers=headers, stream=body, request=request)

    async def aclose(self) -> None:
        """Closes all connections; a call that is still under way ends with `httpx.CloseError`."""
        self._closed = True
        for connection in self._busy:
            connection.fail(httpx.CloseError, "The transport was closed.")
        for idle in self._idle.values():
            for connection, _ in idle:
                connection.abort()
        self._idle.clear()

    async def _take_slot(self) -> None:
        if self._closed:
            raise httpx.ConnectError("The transport is closed.")
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.connection_wait_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("No connection became free in time.") from error

    def _reuse(self, origin: _Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = time.monotonic() - self._limits.idle_timeout_seconds
        while idle:
            connection, since = idle.pop()
            if since >= oldest and connection.is_quiet():
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: _Origin) -> Connection:
        scheme, host, port = origin
        tls = self._tls if scheme == "https" else None
        try:
            async with asyncio.timeout(self._limits.connect_timeout_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection, host, port, ssl=tls
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("No connection came about in time.") from error
        except (OSError, UnicodeError) as error:  # the latter for a host name that DNS cannot carry
            raise httpx.ConnectError("The connection failed.") from error
        return connection

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        """Takes a connection back after its answer was read to the end."""
        if self._closed or not connection.is_done:
            self._free(connection)
            return
        self._busy.discard(connection)
        self._slots.release()
        now = time.monotonic()
        idle = self._idle.setdefault(origin, deque())
        idle.append((connection, now))
        while idle[0][1] < now - self._limits.idle_timeout_seconds:
            idle.popleft()[0].abort()

    def _free(self, connection: Connection | None) -> None:
        """Closes a connection whose answer nobody will read further."""
        if connection is not None:
            connection.abort()
            self._busy.discard(connection)
        self._slots.release()


class _Body(httpx.AsyncByteStream):
    """The body of one answer; the connection goes back to the pool when it is closed."""

    def __init__(
        self,
        pool: PooledTransport,
        origin: _Origin,
        connection: Connection,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self._headers = headers
        self._complete = False
        self._released = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        packing = find_packing(self._headers)
        unpack = Unpacker(packing) if packing else None
        while (chunk := await self._connection.read_chunk()) is not None:
            if unpack is None:
                yield chunk
            else:
                for piece in unpack.feed(chunk):
                    yield piece
        self._complete = True
        if unpack is not None:
            unpack.finish()

    async def aclose(self) -> None:
        if self._released:
            return
        self._released = True
        if self._complete:
            self._pool._keep(self._origin, self._connection)  # noqa: SLF001 - the two are one
        else:
            self._pool._free(self._connection)  # noqa: SLF001


def _find_origin(url: httpx.URL) -> _Origin:
    if url.scheme not in {"http", "https"} or not url.host:
        raise httpx.UnsupportedProtocol("The URL is neither http:// nor https://.")
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


async def _serialize(request: httpx.Request) -> bytes:
    stream = request.stream
    body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else await request.aread()
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    named_host = False
    for name, value in request.headers.raw:
        lowered = name.lower()
        named_host |= lowered == b"host"
        if lowered not in _OURS:
            lines.append(b"%b: %b" % (name, value))
    if not named_host:
        lines.insert(1, b"Host: %b" % request.url.netloc)
    lines.append(b"Content-Length: %d" % len(body))
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head:
        raise httpx.LocalProtocolError("A header holds a line break.")
    return b"%b\r\n\r\n%b" % (head, body)
