"""`python -m simulator.load.worker`: a process that sends its share of a load.

It reads a plan and then orders from standard input, one a line, and writes batches to standard output
(`dispatch` has both). It ends when all is sent and told, or when its standard input ends.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, cast

import uvloop

from simulator.load.arrivals import iterate_arrivals
from simulator.load.bodies import BodyOptions, EssayBodies
from simulator.load.dispatch import (
    MAX_LINE_BYTES,
    Begin,
    Pulse,
    Release,
    Stop,
    WorkerBatch,
    WorkerPlan,
    read_order,
    write_ready,
)
from simulator.load.sender import Sender, SendLimits
from simulator.load.shape import Shape, parse_shape
from simulator.load.submits import Submit
from simulator.load.trace import read_traces
from simulator.load.transport import Poster, PostLimits, Target
from simulator.load.turns import Arrivals, Releases, Schedule

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
TELL_EVERY_SECONDS: Final = 0.05
PATH: Final = "/api/v1/comparison"
OTHER_FILES: Final = 64
"""Files that are open beside the connections."""


def main() -> int:
    """Send until all is sent or standard input ends; the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run())
    except ValueError as problem:  # the plan, or what it names
        print(" ".join(str(problem).split()), file=sys.stderr)
        return EXIT_USAGE


async def _run() -> int:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    output = _Output()
    await loop.connect_write_pipe(lambda: output, sys.stdout)
    plan_line = await orders.readline()
    if not plan_line:
        return EXIT_DONE
    worker = Worker(WorkerPlan.model_validate_json(plan_line), output)
    output.write(write_ready())
    if await worker.work(orders):
        await output.finish()
    return EXIT_DONE


class _Output(asyncio.Protocol):
    """The pipe to the parent."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        if not self._lost.done():
            self._lost.set_result(None)

    def write(self, line: bytes) -> None:
        """Puts a line on its way."""
        assert self._transport is not None
        self._transport.write(line)

    async def finish(self) -> None:
        """Returns when all is written, or nobody reads it any more."""
        assert self._transport is not None
        self._transport.close()
        await self._lost


class Worker:
    """Sends one share of a load and tells about it."""

    def __init__(self, plan: WorkerPlan, output: _Output) -> None:
        """ValueError where the plan cannot be followed."""
        self._plan = plan
        self._output = output
        self._shape = read_traces(parse_shape(plan.shape))
        options = BodyOptions(plan.run_id, plan.callback_topics, plan.provider_override)
        self._bodies = EssayBodies(options)
        limits = PostLimits(plan.max_outstanding, plan.answer_timeout_seconds, plan.connect_timeout_seconds)
        target = Target.parse(plan.url.rstrip("/") + PATH)
        self._poster = Poster(target, limits, _write_headers(plan))
        self._submits: list[Submit] = []
        self._lag_seconds = 0.0
        _raise_file_limit(plan.max_outstanding + OTHER_FILES)

    async def work(self, orders: asyncio.StreamReader) -> bool:
        """Follows orders until all is sent and told, or, which gives False, until nobody is left to hear it.

        Raises whatever went wrong meanwhile.
        """
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(lambda _, context: _fail(failed, context))
        line = await orders.readline()
        if not line:
            return False
        match read_order(line):
            case Begin(at=at):
                arrivals = _find_arrivals(self._shape, self._plan, at)
            case other:
                raise ValueError(f"a worker is told to begin first, not to {other.order}")
        limits = SendLimits(self._plan.max_outstanding, self._plan.resolve_limit_seconds)
        sender = Sender(self._poster, self._bodies, arrivals, self._submits.append, limits)
        # What is there now stays; a collection that walks through it would only delay sends.
        gc.collect()
        gc.freeze()
        works = {
            "sending": sender.run(),
            "orders": _follow(orders, sender, arrivals),
            "telling": self._keep_telling(sender),
        }
        is_done = "sending" in await _run_until_first(works, failed)
        if is_done:
            self._tell(sender, is_last=True)
        await self._poster.close()
        return is_done

    async def _keep_telling(self, sender: Sender) -> None:
        while True:
            due = time.monotonic() + TELL_EVERY_SECONDS
            await asyncio.sleep(TELL_EVERY_SECONDS)
            self._lag_seconds = max(self._lag_seconds, time.monotonic() - due)
            self._tell(sender, is_last=False)

    def _tell(self, sender: Sender, *, is_last: bool) -> None:
        pulse = Pulse(sender.open, sender.unresolved, sender.sent, time.process_time(), self._lag_seconds)
        batch = WorkerBatch(
            self._plan.worker,
            time.monotonic(),
            tuple(self._submits),
            sender.take_lateness(),
            pulse,
            is_last,
        )
        self._submits.clear()
        self._lag_seconds = 0.0
        for line in batch.pack():
            self._output.write(line)


def _find_arrivals(shape: Shape, plan: WorkerPlan, begin: float) -> Schedule | Releases:
    if shape.is_closed:
        return Releases(plan.worker, plan.workers)
    return Schedule(iterate_arrivals(shape, plan.seed), begin, plan.worker, plan.workers)


async def _follow(orders: asyncio.StreamReader, sender: Sender, arrivals: Arrivals) -> None:
    """Returns when whoever gives the orders is gone."""
    while line := await orders.readline():
        match read_order(line):
            case Release(count=count, at=at) if isinstance(arrivals, Releases):
                arrivals.add(count, at)
                sender.wake()
            case Stop(at=at, finish_by=finish_by):
                sender.stop(at, finish_by)
            case other:
                raise ValueError(f"a worker that sends {type(arrivals).__name__} knows no {other.order}")


async def _run_until_first(
    works: Mapping[str, Coroutine[None, None, None]], failed: asyncio.Future[None]
) -> frozenset[str]:
    """Runs all until one ends, and then ends all; the names of those that had ended."""
    tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
    try:
        done, _ = await asyncio.wait([*tasks, failed], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return frozenset(task.get_name() for task in tasks if task in done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _fail(failed: asyncio.Future[None], context: Mapping[str, Any]) -> None:
    """What breaks in a callback of the loop's breaks the worker."""
    if not failed.done():
        failed.set_exception(context.get("exception") or RuntimeError(context["message"]))


def _write_headers(plan: WorkerPlan) -> dict[str, str]:
    headers = {"content-type": "application/json", "x-run-id": plan.run_id}
    if plan.token is not None:
        headers["authorization"] = f"Bearer {plan.token}"
    return headers


def _raise_file_limit(wanted: int) -> None:
    """A connection takes a file, and the usual soft limit of 1,024 may be less than what is to be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    sys.exit(main())
