"""The load generator alone: how fast and how punctual it is against a stub that answers 202 at once.

    python -m benchmarks.generator [--rate 2000/s] [--duration 10s] [--workers 1] [--shape '…']

The generator's workers are bound to the first CPU that there is; the stub, a bare asyncio protocol in a
process of its own, and this process, which only counts, to the others. Prints the rate that was reached, the
lateness (from intended to sent), the time to the 202, CPU time a request, and how late the loop was at most.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import uvloop

from simulator.load.dispatch import WorkerPlan
from simulator.load.histogram import Histogram
from simulator.load.shape import parse_shape
from simulator.load.submits import SubmitEnd
from simulator.load.workers import Workers

LEAD_SECONDS = 0.3
TARGET_PER_SECOND = 2000
TARGET_P99_SECONDS = 0.005


class Stub(asyncio.Protocol):
    """Answers each POST with the 202 of a service that has nothing to do."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._accepted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            if len(self._held) < end + 4 + length:
                return
            self._held = self._held[end + 4 + length :]
            self._accepted += 1
            body = b'{"queue_id":"%d-%d","status":"queued","queue_position":1,"message":"Queued."}' % (
                id(self),
                self._accepted,
            )
            self._transport.write(
                b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )


async def serve() -> None:
    """Runs a stub until standard input ends; its port is the one line that it prints."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@dataclass
class Tally:
    """What the workers told."""

    ends: Counter[str] = field(default_factory=Counter)
    lateness: Histogram = field(default_factory=Histogram)
    accept: Histogram = field(default_factory=Histogram)
    first: float = float("inf")
    last: float = 0.0
    lag: float = 0.0
    cpu: dict[int, tuple[float, float]] = field(default_factory=dict)
    """CPU seconds of each worker, at its first batch and by now."""


async def measure(plan: WorkerPlan, workers_count: int, generator_cpu: int | None) -> Tally:
    """Runs the generator once."""
    tally = Tally()
    async with Workers(plan, workers_count) as workers:
        if generator_cpu is not None:
            for pid in workers.pids:
                os.sched_setaffinity(pid, {generator_cpu})
        workers.begin(time.monotonic() + LEAD_SECONDS)
        async for batch in workers.batches():
            pulse = batch.pulse
            begun, _ = tally.cpu.setdefault(batch.worker, (pulse.cpu_seconds, 0.0))
            tally.cpu[batch.worker] = (begun, pulse.cpu_seconds)
            tally.lag = max(tally.lag, pulse.loop_lag_seconds)
            tally.lateness.merge(batch.lateness)
            for submit in batch.submits:
                tally.ends[submit.end.value] += 1
                if submit.end is SubmitEnd.ACCEPTED and submit.sent is not None:
                    tally.accept.record(submit.ended - submit.sent)
                    tally.first = min(tally.first, submit.sent)
                    tally.last = max(tally.last, submit.sent)
    return tally


def report(tally: Tally) -> None:
    """Prints it, and whether the target was met."""
    accepted = tally.ends[SubmitEnd.ACCEPTED.value]
    rate = (accepted - 1) / (tally.last - tally.first)
    cpu_microseconds = sum(now - begun for begun, now in tally.cpu.values()) / accepted * 1e6
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(f"ends      {dict(tally.ends)}")
    print(f"rate      {rate:,.0f}/s")
    for name, histogram in (("lateness", tally.lateness), ("accept", tally.accept)):
        shares = (histogram.percentile(0.5), histogram.percentile(0.99), histogram.greatest)
        p50, p99, most = (1000 * seconds for seconds in shares)
        print(f"{name:<9} p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {most:.2f} ms")
    print(f"cpu       {cpu_microseconds:.0f} µs a request in the workers")
    print(f"loop      late by {tally.lag * 1000:.1f} ms at most")
    print(f"parent    {(own.ru_utime + own.ru_stime) / accepted * 1e6:.0f} µs a request")
    met = rate >= TARGET_PER_SECOND * 0.99 and tally.lateness.percentile(0.99) < TARGET_P99_SECONDS
    print(f"target    {TARGET_PER_SECOND:,}/s with p99 lateness < 5 ms: {'met' if met else 'not met'}")


def main() -> None:
    """Starts the stub, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", default="2000/s")
    parser.add_argument("--duration", default="10s")
    parser.add_argument("--shape", help="instead of poisson arrivals at that rate for so long")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
        return
    shape = parse_shape(options.shape or f"poisson {options.rate} {options.duration}")
    cpus = sorted(os.sched_getaffinity(0))
    generator_cpu = cpus[0] if len(cpus) > 1 else None
    if generator_cpu is not None:
        os.sched_setaffinity(0, set(cpus[1:]))  # the stub inherits it
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.generator", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as stub:
        assert stub.stdout is not None
        assert stub.stdin is not None
        plan = WorkerPlan(
            url=f"http://127.0.0.1:{int(stub.stdout.readline())}",
            run_id="benchmark",
            callback_topics=("benchmark.results",),
            shape=str(shape),
            seed=1,
        )
        print(f"shape     {shape}")
        report(uvloop.run(measure(plan, options.workers, generator_cpu)))
        stub.stdin.close()


if __name__ == "__main__":
    main()
