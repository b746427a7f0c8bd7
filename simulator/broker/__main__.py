"""`python -m simulator.broker`: the embedded broker as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Sequence

from simulator.broker.errors import BrokerError
from simulator.broker.server import BrokerAddress, run_broker
from simulator.broker.topic import TopicSpec

EXIT_DONE = 0
EXIT_FAILED = 1
MAX_OPEN_FILES = 10_240  # what macOS grants at most; a connection takes three, so about 3,400 clients


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a broker until SIGTERM, SIGINT, the control's `stop` or the parent's end; the exit code."""
    options = _build_parser().parse_args(arguments)
    _raise_file_limit()
    try:
        asyncio.run(_run(options.port, options.topic, exit_with_parent=options.exit_with_parent))
    except BrokerError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


async def _run(port: int, topics: Sequence[TopicSpec], *, exit_with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_parent:
        await _watch_parent(stop)
    await run_broker(port, topics, on_ready=_report, stop=stop)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _report(address: BrokerAddress) -> None:
    ready = {
        "ready": True,
        "bootstrap_servers": address.bootstrap_servers,
        "control": str(address.control),
        "pid": os.getpid(),
    }
    print(json.dumps(ready), flush=True)


class _EndOfInput(asyncio.Protocol):
    """Sets `stop` when the other end of standard input is gone; the kernel closes it for a killed parent."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        self._stop.set()


async def _watch_parent(stop: asyncio.Event) -> None:
    if sys.stdin is None or not _is_pipe(sys.stdin.fileno()):
        raise BrokerError("--exit-with-parent needs standard input to be a pipe that the parent holds open.")
    await asyncio.get_running_loop().connect_read_pipe(lambda: _EndOfInput(stop), sys.stdin)


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator.broker",
        description="An embedded Kafka broker that keeps everything in memory.",
    )
    parser.add_argument(
        "--port", type=_read_port, default=0, help="the port to listen on, 0 for any free one (default)"
    )
    parser.add_argument(
        "--topic",
        type=_read_topic,
        action="append",
        default=[],
        metavar="NAME:PARTITIONS",
        help="create this topic",
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")
    return parser


def _read_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def _read_topic(text: str) -> TopicSpec:
    try:
        return TopicSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
