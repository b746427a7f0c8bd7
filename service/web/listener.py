"""Where the service listens: an address of its own, or a socket that whoever starts it holds open for it."""

import os
import socket
from dataclasses import dataclass

from service.core.errors import ServiceError

FIRST_HANDED_OVER = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class AddressUnavailable(ServiceError):
    """The address to listen on cannot be had."""


class HandedOverSocketUnusable(ServiceError):
    """What was handed over is not one listening TCP socket."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and whether others hold it too: then connections wait in it while we are away."""

    socket: socket.socket
    handed_over: bool

    @property
    def host(self) -> str:
        """The address it is bound to."""
        return str(self.socket.getsockname()[0])

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return int(self.socket.getsockname()[1])


def bind(host: str, port: int) -> Listener:
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
    return Listener(listener, handed_over=False)


def take_over() -> Listener | None:
    """The socket that systemd's protocol (sd_listen_fds(3)) hands to this very process, None where none is.

    Raises `HandedOverSocketUnusable`. The variables are taken out of the environment: they are for nobody
    whom we may start.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if process != str(os.getpid()) or count is None:
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if count != "1":
        shown = count if count.isdecimal() and len(count) < 10 else "no number"
        raise HandedOverSocketUnusable(
            f"LISTEN_FDS is {shown}: hand over exactly one listening TCP socket, or none."
        )
    try:
        os.set_inheritable(FIRST_HANDED_OVER, False)
        listener = socket.socket(fileno=FIRST_HANDED_OVER)
    except OSError as error:
        raise HandedOverSocketUnusable(
            f"LISTEN_FDS is 1, but file descriptor {FIRST_HANDED_OVER} is no socket ({error.strerror}): "
            "hand over a listening TCP socket."
        ) from error
    listens = (
        listener.family in {socket.AF_INET, socket.AF_INET6}
        and listener.type == socket.SOCK_STREAM
        and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
    if not listens:
        listener.detach()
        raise HandedOverSocketUnusable(
            "The socket that was handed over is not a listening TCP socket: with systemd, say "
            "ListenStream=ADDRESS:PORT and Accept=no."
        )
    return Listener(listener, handed_over=True)
