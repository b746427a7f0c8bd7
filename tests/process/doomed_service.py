"""The service in processes that kill themselves with SIGKILL at a named point, `point:n`: at its n-th pass.

Points are put around methods of what `build` returns, from the outside. This module imports everything once
and starts a service for each line on stdin, in a fork, which saves the second that an import takes.
"""

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import aiokafka.conn
import uvloop

from service.lifecycle import run
from service.providers.connection import Connection
from service.settings import Settings, load_settings
from service.telemetry.logs import configure_logs
from service.wiring import Service, build
from tests.process.faults import FAULTS


class Fuse:
    """Counts the passes of one point and kills this process at the n-th."""

    def __init__(self, passes: int) -> None:
        self._left = passes
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Counts a pass; whether it is the last."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def burn(self) -> None:
        """Counts a pass and kills at the last."""
        if self.spend():
            die()


def die() -> NoReturn:
    """Ends this process as a power cut would: nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _before(owner: Any, name: str, fuse: Fuse) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        fuse.burn()
        return await original(*arguments, **named)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, fuse: Fuse) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        result = await original(*arguments, **named)
        fuse.burn()
        return result

    setattr(owner, name, wrapped)


def _before_durable_commit(service: Service, fuse: Fuse) -> None:
    """A request was handed to the writer, and nothing of it is in the file."""
    file = service.queue._file
    original = file._run

    def wrapped(batch: list[Any]) -> None:
        statements = [statement.sql for operation in batch for statement in operation.statements]
        if any(sql.startswith("INSERT INTO request ") for sql in statements):
            fuse.burn()
        original(batch)

    file._run = wrapped


def _in_commit(service: Service, fuse: Fuse) -> None:
    """The statements of a transaction have run, and SQLite is about to write it."""
    file = service.queue._file
    original = file._connect

    def hook() -> bool:
        fuse.burn()
        return False

    def wrapped() -> Any:
        connection = original()
        connection.set_commit_hook(hook)
        return connection

    file._connect = wrapped


def _committed_untold(service: Service, fuse: Fuse) -> None:
    """A transaction is on the disk, and nobody who waits for it knows."""
    file = service.queue._file
    original = file._run

    def wrapped(batch: list[Any]) -> None:
        original(batch)
        if any(operation.statements for operation in batch):
            fuse.burn()

    file._run = wrapped


def _in_provider_call(service: Service, fuse: Fuse) -> None:
    """The request is on its way to the provider, its answer is not there."""
    original = Connection.read_head

    async def wrapped(self: Connection) -> Any:
        if fuse.spend():
            _die_when_written()
        return await original(self)

    Connection.read_head = wrapped


def _in_send(service: Service, fuse: Fuse) -> None:
    """Callbacks are on their way to the broker, its answer is not there."""
    original = aiokafka.conn.AIOKafkaConnection.send

    def wrapped(self: Any, request: Any, *arguments: Any, **named: Any) -> Any:
        answer = original(self, request, *arguments, **named)
        if type(request).__name__ == "ProduceRequest" and fuse.spend():
            _die_when_written()
        return answer

    aiokafka.conn.AIOKafkaConnection.send = wrapped


def _die_when_written() -> None:
    # uvloop hands bytes to the socket at the end of the round in which they were written.
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, die)


POINTS: dict[str, Callable[[Service, Fuse], None]] = {
    "before-durable-commit": _before_durable_commit,
    "in-commit": _in_commit,
    "committed-untold": _committed_untold,
    "after-commit-before-202": lambda service, fuse: _after(service.queue, "put", fuse),
    "claimed-before-call": lambda service, fuse: _after(service.queue, "claim", fuse),
    "in-provider-call": _in_provider_call,
    "after-provider-answer": lambda service, fuse: _after(service.providers[0], "compare", fuse),
    "after-outcome-stored": lambda service, fuse: _after(service.queue, "complete", fuse),
    "topic-begun": lambda service, fuse: _after(service.queue.outbox, "begin_topic", fuse),
    "in-send": _in_send,
    "after-broker-ack-before-delete": lambda service, fuse: _before(service.queue.outbox, "delivered", fuse),
    "after-delete": lambda service, fuse: _after(service.queue.outbox, "delivered", fuse),
    "read-back-before-settle": lambda service, fuse: _before(service.queue.outbox, "settle", fuse),
    "read-back-after-settle": lambda service, fuse: _after(service.queue.outbox, "settle", fuse),
}
"""Where a process can be killed, in the order in which a request comes by."""


def arm(service: Service, crash_at: str) -> None:
    """Puts the point of `point:n` around what it concerns."""
    point, _, passes = crash_at.rpartition(":")
    POINTS[point](service, Fuse(int(passes)))


def main(crash_at: str, fault: str = "") -> int:
    """Runs the service as `service.__main__` does, with a crash point and a fault; returns the exit code."""
    configure_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(load_settings(), crash_at, fault))


async def _run(settings: Settings, crash_at: str, fault: str) -> int:
    built = build(settings)
    if fault:
        FAULTS[fault](built)
    if crash_at:
        arm(built, crash_at)
    return await run(built, exit_with_parent=True)


def serve_forks() -> int:
    """Starts a service for each line on stdin, one at a time, until stdin ends."""
    assert threading.active_count() == 1, "a fork keeps only one thread"
    _tell({"fork_server": os.getpid()})
    while line := _read_line():
        order = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_run_child(order))
        _tell({"started": child})
        _, status = os.waitpid(child, 0)
        _tell({"ended": child, "code": os.waitstatus_to_exitcode(status)})
    return 0


def _run_child(order: dict[str, Any]) -> int:
    os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.environ.update(order["env"])
    random.seed()
    try:
        return main(order["crash_at"], order["fault"])
    except BaseException as error:  # noqa: BLE001 - the log is all that is left of a child
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        return 1


def _read_line() -> bytes:
    # Byte by byte and unbuffered: the child watches the same stdin for its end.
    os.set_blocking(0, True)  # the child before has set it otherwise, and the two share it
    line = b""
    while byte := os.read(0, 1):
        line += byte
        if byte == b"\n":
            return line
    return b""


def _tell(fact: dict[str, Any]) -> None:
    os.write(1, json.dumps(fact).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(serve_forks())
