"""The listening end of a broker's control socket."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from simulator.broker.control import is_listening
from simulator.broker.errors import BrokerError, ControlError
from simulator.broker.messages import MAX_LINE_BYTES, REQUEST, Problem, Refusal, Request

Carry = Callable[[Request], Awaitable[BaseModel]]


class ControlServer:
    """Answers control requests on a Unix socket that only this user can open; owns its connections."""

    def __init__(self, path: Path, carry_out: Carry) -> None:
        self.path = path
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, path: Path, carry_out: Carry) -> Self:
        """Listen on `path`, in place of a socket file nobody listens on; ControlError if somebody does."""
        control = cls(path, carry_out)
        await refuse_second_broker(path)
        try:
            listener = _bind(path)
            control._server = await asyncio.start_unix_server(
                control._accept, sock=listener, limit=MAX_LINE_BYTES
            )
        except OSError as error:
            raise ControlError(f"The control socket {path} cannot be opened: {error.strerror}.") from error
        return control

    async def close(self) -> None:
        """Take no more requests, cut the connections and remove the socket file."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(
            self._serve(reader, writer), name="control connection"
        )
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(answer.model_dump_json().encode() + b"\n")
                await writer.drain()
        except ValueError:  # how readline reports a line beyond the limit
            refusal = _refuse(f"A control request may be {MAX_LINE_BYTES} bytes long; this one is longer.")
            writer.write(refusal.model_dump_json().encode() + b"\n")
        except ConnectionError:
            pass  # the asker left; there is nobody to tell
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> BaseModel:
        try:
            return await self._carry_out(REQUEST.validate_json(line))
        except ValidationError as error:
            return _refuse(_describe(error))
        except BrokerError as error:
            return _refuse(str(error))


async def refuse_second_broker(path: Path) -> None:
    """Raise ControlError if a broker listens on this control socket, or something else is in its place."""
    if _is_socket(path) and await is_listening(path):
        port = path.stem.rpartition("-")[2]
        raise ControlError(f"A broker already runs on port {port}; stop it first or choose another --port.")


def _is_socket(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise ControlError(f"{path} is in the way of the control socket and is no socket; remove it.")
    return True


def _bind(path: Path) -> socket.socket:
    """A Unix socket at `path`, in place of the one that a killed broker left behind."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before listening: until then nobody can connect
    except OSError:
        listener.close()
        raise
    return listener


def _refuse(message: str) -> Refusal:
    return Refusal(error=Problem(message=message))


def _describe(error: ValidationError) -> str:
    """The first thing wrong with a request, as one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return (
        f"The control request is wrong at {place}: {message}."
        if place
        else f"The control request is wrong: {message}."
    )
