"""`python -m simulator.provider`: the fake provider as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Sequence

import uvloop

from simulator.provider.distributions import LONGEST_SECONDS
from simulator.provider.scenario import DEFAULT_SCENARIO, Scenario, ScenarioError, find_scenario, list_presets
from simulator.provider.server import ProviderAddress, ProviderError, run_provider

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
DEFAULT_PORT = 8089
MAX_OPEN_FILES = 10_240


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a fake provider until SIGTERM, SIGINT or the parent's end; the exit code."""
    options = _build_parser().parse_args(arguments)
    _raise_file_limit()
    try:
        scenario = _choose_scenario(options)
    except ScenarioError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options.port, scenario, exit_with_parent=options.exit_with_parent))
    except ProviderError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


def _choose_scenario(options: argparse.Namespace) -> Scenario:
    scenario = find_scenario(options.scenario)
    if options.seed is not None:
        scenario = scenario.with_seed(options.seed)
    if options.latency_p50_ms is not None:
        scenario = scenario.with_latency_p50_ms(options.latency_p50_ms)
    return scenario


async def _run(port: int, scenario: Scenario, *, exit_with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_parent:
        await _watch_parent(stop)
    await run_provider(port, scenario, on_ready=_report, stop=stop)


def _report(address: ProviderAddress) -> None:
    print(json.dumps({"ready": True, "base_urls": address.base_urls, "pid": os.getpid()}), flush=True)


def _raise_file_limit() -> None:
    """A connection takes a file, and the usual soft limit of 1,024 is less than what is to be served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _EndOfInput(asyncio.Protocol):
    """Sets `stop` when the other end of standard input is gone; the kernel closes it for a killed parent."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        self._stop.set()


async def _watch_parent(stop: asyncio.Event) -> None:
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: _EndOfInput(stop), sys.stdin)
    except (OSError, ValueError) as error:
        raise ProviderError(
            "--exit-with-parent watches standard input, which must be a pipe that the parent holds open."
        ) from error


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator.provider",
        description="A provider that judges essays without a model: same seed, same answers.",
    )
    parser.add_argument(
        "--port",
        type=_read_port,
        default=DEFAULT_PORT,
        help=f"the port to listen on, 0 for any free one (default {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--scenario",
        default=DEFAULT_SCENARIO,
        metavar="NAME|FILE",
        help=f"how it behaves: {', '.join(list_presets())}, or a TOML file (default {DEFAULT_SCENARIO})",
    )
    parser.add_argument("--seed", type=int, help="another seed, other answers (default: the scenario's)")
    parser.add_argument(
        "--latency-p50-ms",
        type=_read_latency,
        metavar="MS",
        help="the median response time in milliseconds instead of the scenario's, 0 for none",
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")
    return parser


def _read_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def _read_latency(text: str) -> float:
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not 0 <= milliseconds <= 1000 * LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time in milliseconds; give 0 or more, up to an hour"
        )
    return milliseconds


if __name__ == "__main__":
    sys.exit(main())
