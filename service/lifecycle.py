"""The life of the process: start in order, run, drain on a signal, close in reverse."""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog

from service.engine.drain import drain_in_flight_requests, flush
from service.engine.phase import Phase
from service.settings import Settings, SettingsInvalid
from service.web.connection import ConnectionLimits
from service.web.listener import Listener, bind, take_over
from service.web.server import Server
from service.wiring import Service

EXIT_DONE = 0
EXIT_CUT_OFF = 4
EXIT_INTERRUPTED = 130

_log = structlog.get_logger("service.lifecycle")


class Stopping:
    """Turns signals, and the end of the parent process, into one event."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._loop.add_signal_handler(signal.SIGINT, self._on_sigint)

    def watch_parent(self) -> None:
        """Stops when stdin ends: the parent holds its other end, and lets go of it however it dies."""
        descriptor = sys.stdin.fileno()

        def read() -> None:
            if not os.read(descriptor, 4096):
                self._loop.remove_reader(descriptor)
                self._request("parent process ended")

        self._loop.add_reader(descriptor, read)

    def _on_sigterm(self) -> None:
        if self.requested.is_set():
            _log.warning("second SIGTERM ignored, the service is already stopping")
        self._request("SIGTERM")

    def _on_sigint(self) -> None:
        if self.requested.is_set():
            # Whoever presses Ctrl-C twice means it: nothing is closed, as with SIGKILL, and nothing lost.
            _log.warning("second SIGINT, leaving at once; the next start takes up what is queued or begun")
            os._exit(EXIT_INTERRUPTED)
        self._request("SIGINT")

    def _request(self, reason: str) -> None:
        if not self.requested.is_set():
            _log.info("stopping", reason=reason)
            self.requested.set()


async def run(service: Service, *, exit_with_parent: bool = False) -> int:
    """Runs a service until it is told to stop; returns the exit code.

    0: everything that was started is finished. 4: the drain limit cut calls off; they are made again by the
    next start. Raises `ServiceError` where it cannot start.
    """
    stopping = Stopping()
    if exit_with_parent:
        stopping.watch_parent()
    listener = _open_listener(service.settings)
    try:
        await service.queue.open()
    except BaseException:
        listener.socket.close()
        raise
    if service.usage is None and (left := service.queue.usage.depth()):
        _log.warning("usage events wait in the queue, and USAGE_TOPIC says nothing of where to", count=left)
    try:
        return await _serve(service, stopping, listener)
    finally:
        await service.publisher.close()
        if service.usage is not None:
            await service.usage.publisher.close()
        await service.directory.close()
        for provider in service.providers:
            await provider.close()
        await service.queue.close()
        await asyncio.to_thread(service.tracing.close)
        _log.info("stopped")


def _open_listener(settings: Settings) -> Listener:
    """The socket that was handed over, else one on HOST and PORT; the same rules hold for both."""
    listener = take_over()
    if listener is None:
        return bind(settings.host, settings.port)
    objection = settings.find_exposure(listener.host, "The address of the socket that was handed over")
    if objection is not None:
        raise SettingsInvalid(f"Wrong setting: {objection}.")
    return listener


async def _serve(service: Service, stopping: Stopping, listener: Listener) -> int:
    settings = service.settings
    limits = ConnectionLimits(
        receive_seconds=settings.receive_timeout_seconds, connections=settings.max_connections
    )
    server = Server(service.app, service.gate, limits)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(_owned("web", server.serve_on(listener)), name="web")
        background = {
            name: tasks.create_task(_owned(name, work), name=name)
            for name, work in (
                *_usage_tasks(service),
                ("queue", service.queue.run(service.gate.wait_until_claiming)),
                ("publisher", service.publisher.run()),
                ("topics", service.directory.run()),
                ("relay", service.relay.run()),
                ("read-back", service.read_back.run()),
                ("pool", service.pool.run()),
                ("reaper", service.reaper.run()),
                ("drain", service.drain.run()),
                ("cancellation", service.cancellation.run()),
            )
        }
        await server.listening.wait()
        service.gate.advance(Phase.READY)
        _settle_garbage_collector()
        _announce(listener)
        await stopping.requested.wait()
        service.operations.note_stopping()
        drained = await _drain(service)
        service.gate.advance(Phase.STOPPED)
        _log.info("listener closed, answering what open connections still bring")
        still_open = await server.finish()
        server.stop()
        await serving
        _log.info("connections closed", closed_by_us=still_open)
        # The publisher still sends what is pending; the relay lives on, to delete what is acknowledged.
        background["publisher"].cancel()
        await service.publisher.close()
        await service.relay.settle()
        for task in background.values():
            task.cancel()
    return EXIT_DONE if drained else EXIT_CUT_OFF


def _usage_tasks(service: Service) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    if service.usage is not None:
        yield "usage-publisher", service.usage.publisher.run()
        yield "usage-feed", service.usage.feed.run()


async def _drain(service: Service) -> bool:
    """Finishes what was started, then hands the outbox over; both within the one limit."""
    limit_seconds = service.settings.drain_timeout_seconds
    started = time.monotonic()
    drained = await drain_in_flight_requests(service.pool, timeout_minutes=limit_seconds / 60)
    deadline = started + limit_seconds
    await flush(service.queue.outbox, "callbacks", max(0.0, deadline - time.monotonic()))
    if service.usage is not None:
        await flush(service.queue.usage, "usage events", max(0.0, deadline - time.monotonic()))
    _log.info(
        "drained" if drained else "calls cut off by the drain limit, the next start makes them again",
        in_flight=service.pool.in_flight_count(),
        queued=service.queue.stats().waiting,
        outbox=service.queue.outbox.depth(),
    )
    return drained


async def _owned(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Runs a background task; where it dies, says which one before the whole process stops."""
    try:
        await work
    except Exception:
        _log.exception("background task died, the service stops", task=name)
        raise


def _settle_garbage_collector() -> None:
    # What was built at the start lives as long as the process: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _announce(listener: Listener) -> None:
    """Tells where the service listens: one line of JSON on stdout for whoever started it, and a log line."""
    host, port = listener.host, listener.port
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _log.info("ready", url=url, handed_over=listener.handed_over)
    if not sys.stdout.isatty():
        print(json.dumps({"ready": True, "url": url, "pid": os.getpid()}), flush=True)
