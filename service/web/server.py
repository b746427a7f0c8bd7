"""uvicorn, run by our own lifecycle: our socket, our signals, our order of shutdown."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.engine.phase import PhaseGate
from service.web.connection import Connection, ConnectionLimits
from service.web.listener import Listener

KEEP_ALIVE_SECONDS = 75
QUIET_SECONDS = 0.5
"""After the listener: open connections are closed when none has brought a request for so long."""
LAST_REQUESTS_LIMIT_SECONDS = 5.0
"""And at the latest after this; each answer closes its connection, so that a busy client runs out of them."""
CLOSE_LIMIT_SECONDS = 5
BACKLOG_CONNECTIONS = 2048
LOOK_AGAIN_SECONDS = 0.02


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it starts on our socket and stops when told."""

    def __init__(self, app: ASGIApp, gate: PhaseGate, limits: ConnectionLimits | None = None) -> None:
        self.listening = asyncio.Event()
        self._listener: Listener | None = None
        self._open = partial(Connection, limits=limits or ConnectionLimits())
        super().__init__(
            uvicorn.Config(
                PartingApp(app, gate),
                loop="none",
                http=cast("type[asyncio.Protocol]", self._open),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=CLOSE_LIMIT_SECONDS,
            )
        )

    async def serve_on(self, listener: Listener) -> None:
        """Serves until `stop`. The listener is closed with it, and never shut down: others may hold it."""
        self._listener = listener
        with listener.socket:
            # The loop gets a descriptor of its own: it can be taken off the socket while that stays open.
            await self.serve([listener.socket.dup()])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, and says so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the lifecycle."""
        yield

    async def finish(self) -> int:
        """Closes the listener, answers what open connections still bring; returns how many stay open."""
        assert self._listener is not None, "it was started"
        for server in self.servers:
            server.close()
        if not self._listener.handed_over:
            # Closing resets what nobody accepted. In a socket that others hold it waits for the next process.
            await self._accept_the_rest(self._listener.socket)
        self._listener.socket.close()
        await self._answer_the_last()
        return len(self.server_state.connections)

    def stop(self) -> None:
        """Ends `serve_on` after the answers that are under way."""
        self.should_exit = True

    async def _answer_the_last(self) -> None:
        # Closing one that is in use is a race that a client loses: its request is under way, unanswered.
        state = self.server_state
        now = time.monotonic()
        answered, quiet_at, limit_at = (
            state.total_requests,
            now + QUIET_SECONDS,
            now + LAST_REQUESTS_LIMIT_SECONDS,
        )
        while now < min(quiet_at, limit_at) and state.connections:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            now = time.monotonic()
            if state.total_requests != answered:
                answered, quiet_at = state.total_requests, now + QUIET_SECONDS

    async def _accept_the_rest(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            accepted.setblocking(False)
            await loop.connect_accepted_socket(
                lambda: self._open(
                    config=self.config, server_state=self.server_state, app_state=self.lifespan.state
                ),
                accepted,
            )


class PartingApp:
    """The application; while it drains each answer ends its connection, and clients go elsewhere."""

    def __init__(self, app: ASGIApp, gate: PhaseGate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_parting(message: Message) -> None:
            # Asked when the answer begins: the drain may have begun after the request.
            if message["type"] == "http.response.start" and self._gate.parting:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_parting)
