"""HTTP/1.1 as a load generator needs it: POSTs to one address, cheap, and honest about how each one ended.

A request is written once and never again by itself: what an unclear end means is for others to decide.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from simulator.load.connection import Connection, Exchange, OnEnd, Unreachable


@dataclass(frozen=True, slots=True)
class PostLimits:
    """How many connections there may be, how long a request may take, how large an answer may be."""

    max_connections: int
    answer_timeout_seconds: float = 30.0
    """From `post` to the end of the answer, the wait for a connection included."""
    connect_timeout_seconds: float = 10.0
    max_answer_bytes: int = 256 * 1024
    """Of one answer, its head included."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, taken apart."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Target:
        """The parts of an `http://` or `https://` URL; ValueError where it is none."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as problem:
            raise ValueError(f"{url!r} is no URL; write for example http://127.0.0.1:8080") from problem
        plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
            raise ValueError(f"{url!r} is no URL; write for example http://127.0.0.1:8080")
        tls = parts.scheme == "https"
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.hostname, port or (443 if tls else 80), (parts.path or "/") + query, tls)

    @property
    def authority(self) -> str:
        """As the Host header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Poster:
    """Posts to one target over connections that are opened on demand; the one used last is used first.

    All of it happens on the loop that runs when it is made. `post` returns at once, and the `on_end`
    of each request is called exactly once.
    """

    def __init__(
        self,
        target: Target,
        limits: PostLimits,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`headers` go with every request; an https target is verified by `tls`, or as the system does it.

        ValueError where a header holds a line break or anything else that is not printable ASCII.
        """
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._limits = limits
        self._tls = (tls or ssl.create_default_context()) if target.tls else None
        self._head = _write_head(target, headers)
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        self._closed = False

    def post(self, headers: bytes, body: bytes, on_end: OnEnd) -> None:
        """Sends a request as soon as there is a connection; further `headers` end with a line break each."""
        message = b"%b%bcontent-length: %d\r\n\r\n%b" % (self._head, headers, len(body), body)
        exchange = Exchange(message, on_end)
        if self._closed:
            exchange.end(Unreachable("the connections were closed"))
            return
        exchange.timer = self._loop.call_later(self._limits.answer_timeout_seconds, self._give_up, exchange)
        connection = self._find_idle()
        if connection is not None:
            connection.send(exchange)
            return
        self._waiting.append(exchange)
        self._open_for_waiting()

    async def close(self) -> None:
        """Closes all connections; what is under way ends as `Broken`, what waits as `Unreachable`."""
        self._closed = True
        opening = tuple(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.fail("the connections were closed")
        while self._waiting:
            self._waiting.popleft().end(Unreachable("the connections were closed"))

    def _give_up(self, exchange: Exchange) -> None:
        seconds = self._limits.answer_timeout_seconds
        if exchange.connection is not None:
            exchange.connection.fail(f"no answer within {seconds:g} s")
        else:
            self._waiting.remove(exchange)
            exchange.end(Unreachable(f"no connection within {seconds:g} s"))

    def _find_idle(self) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_quiet():
                return connection
            connection.fail("the connection was closed while nobody used it")
        return None

    def _open_for_waiting(self) -> None:
        """Sees to it that each waiting request has a connection coming, as far as the limit goes."""
        free = self._limits.max_connections - len(self._connections) - len(self._opening)
        for _ in range(min(free, len(self._waiting) - len(self._opening))):
            task = self._loop.create_task(self._open(), name="open a connection")
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        limits = self._limits
        try:
            async with asyncio.timeout(limits.connect_timeout_seconds):
                await self._loop.create_connection(
                    lambda: Connection(self, limits.max_answer_bytes),
                    self._target.host,
                    self._target.port,
                    ssl=self._tls,
                )
        except TimeoutError:
            self._refuse_waiting(f"no connection within {limits.connect_timeout_seconds:g} s")
        except (OSError, UnicodeError) as problem:  # the latter for a host name that DNS cannot carry
            self._refuse_waiting(f"no connection: {problem}")

    def _refuse_waiting(self, reason: str) -> None:
        if self._waiting:
            self._waiting.popleft().end(Unreachable(reason))

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.result()
        if not self._closed:
            self._open_for_waiting()

    # --- called by its connections

    def take(self, connection: Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)
        self.reuse(connection)

    def reuse(self, connection: Connection) -> None:
        """A connection is free for the next request."""
        if self._closed:
            connection.fail("the connections were closed")
        elif self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lose(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting and not self._closed:
            self._open_for_waiting()


def _write_head(target: Target, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {target.path} HTTP/1.1", f"host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    for line in lines:
        if not (line.isascii() and line.isprintable()):
            raise ValueError(
                f"the header {line.partition(':')[0]!r} may hold printable ASCII only; change its value"
            )
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")
