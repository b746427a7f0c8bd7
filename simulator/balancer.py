"""One address before several replicas: each new connection goes to the next one that is ready.

It carries bytes and knows no HTTP, but for one thing: where no replica is ready it says so as the service
would. A replica that is draining, away or starting is passed over from the moment that `/readyz` says so, at
most `LOOK_EVERY_SECONDS` later; connections that stand are the replica's own to end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

import httpx

LOOK_EVERY_SECONDS = 0.5
LOOK_LIMIT_SECONDS = 2.0
CONNECT_LIMIT_SECONDS = 2.0
BACKLOG = 1024

_NOBODY_BODY = (
    b'{"error":{"error_code":"LLM_INTERNAL_ERROR","message":"No replica is ready; try again in a moment."}}'
)
_NOBODY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: " + str(len(_NOBODY_BODY)).encode() + b"\r\n\r\n" + _NOBODY_BODY
)


class Balancer:
    """Listens on loopback from entering to leaving: `async with Balancer(8080, urls) as balancer`."""

    def __init__(self, host: str, port: int, replicas: Sequence[str]) -> None:
        self._host = host
        self._port = port
        self._replicas = tuple(replicas)
        self._ready: list[str] = list(replicas)
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Transport] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Client(self), self._host, self._port, backlog=BACKLOG
        )
        self._looking = asyncio.create_task(self._keep_looking(), name="balancer")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        for transport in tuple(self._connections):
            transport.abort()
        for opening in tuple(self._opening):
            opening.cancel()

    @property
    def url(self) -> str:
        """Where it listens. OSError where it does not."""
        if self._server is None:
            raise OSError("The balancer does not listen.")
        return f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}"

    def open(self, client: _Client) -> None:
        """Finds a replica for a connection that has come in."""
        opening = asyncio.create_task(self._connect(client), name="balancer-connect")
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    def hold(self, transport: asyncio.Transport) -> None:
        """A connection stands."""
        self._connections.add(transport)

    def release(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._connections.discard(transport)

    async def _connect(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        ready = self._ready
        self._turn += 1
        for n in range(len(ready)):
            host, port = _locate(ready[(self._turn + n) % len(ready)])
            try:
                async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
                    await loop.create_connection(lambda: _Replica(client, self), host, port)
            except (OSError, TimeoutError):
                continue
            return
        client.refuse()

    async def _keep_looking(self) -> None:
        async with httpx.AsyncClient(timeout=LOOK_LIMIT_SECONDS, trust_env=False) as asking:
            while True:
                answers = await asyncio.gather(*(_is_ready(asking, url) for url in self._replicas))
                self._ready = [url for url, ready in zip(self._replicas, answers, strict=True) if ready]
                await asyncio.sleep(LOOK_EVERY_SECONDS)


def _locate(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


async def _is_ready(asking: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await asking.get(f"{url}/readyz")).status_code == httpx.codes.OK
    return False


class _Client(asyncio.Protocol):
    """The side of whoever calls; what comes before a replica is found is kept."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._early = bytearray()
        self._replica: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._balancer.hold(transport)
        self._balancer.open(self)

    def data_received(self, data: bytes) -> None:
        if self._replica is None:
            self._early += data
            if self.transport is not None:
                self.transport.pause_reading()
        else:
            self._replica.write(data)

    def join(self, replica: asyncio.Transport) -> None:
        """A replica was found."""
        self._replica = replica
        if self._early:
            replica.write(bytes(self._early))
            self._early.clear()
        if self.transport is None or self.transport.is_closing():
            replica.close()
        else:
            self.transport.resume_reading()

    def refuse(self) -> None:
        """No replica was found."""
        if self.transport is not None:
            self.transport.write(_NOBODY)
            self.transport.close()

    def pause_writing(self) -> None:
        if self._replica is not None:
            self._replica.pause_reading()

    def resume_writing(self) -> None:
        if self._replica is not None:
            self._replica.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        if self.transport is not None:
            self._balancer.release(self.transport)
        if self._replica is not None:
            self._replica.close()


class _Replica(asyncio.Protocol):
    """The side of the replica."""

    def __init__(self, client: _Client, balancer: Balancer) -> None:
        self._client = client
        self._balancer = balancer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._balancer.hold(transport)
        self._client.join(transport)

    def data_received(self, data: bytes) -> None:
        if self._client.transport is not None:
            self._client.transport.write(data)

    def pause_writing(self) -> None:
        if self._client.transport is not None:
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._client.transport is not None:
            self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        if self._transport is not None:
            self._balancer.release(self._transport)
        if self._client.transport is not None:
            self._client.transport.close()
