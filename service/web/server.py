"""uvicorn, run by our own lifecycle: our socket, our signals, our order of shutdown."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from service.core.errors import ServiceError

KEEP_ALIVE_SECONDS = 75
CLOSE_LIMIT_SECONDS = 5
BACKLOG_CONNECTIONS = 2048


class AddressUnavailable(ServiceError):
    """The address to listen on cannot be had."""


def bind(host: str, port: int) -> socket.socket:
    """Takes the listening address before anything else is started. Raises `AddressUnavailable`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnavailable(f"The address {host} cannot be listened on: {error.strerror}.") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise AddressUnavailable(
            f"Port {port} on {host} cannot be listened on ({error.strerror}); set another "
            "LLM_PROVIDER_SERVICE_PORT."
        ) from error
    return listener


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it starts on our socket and stops when told."""

    def __init__(self, app: ASGIApp) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, and says so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the lifecycle."""
        yield

    def stop(self) -> None:
        """Ends `serve` after the answers that are under way."""
        self.should_exit = True
