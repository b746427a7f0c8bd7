"""Hands requests in and waits for their callbacks; prints one sample as JSON.

    python -m benchmarks.peers.driver --url URL --bootstrap-servers HOST:PORT --pid PID --seconds 3 \
        (--in-flight 100 | --rate 300)

`--url` and `--pid` name one process or several, with commas: then they get the requests by turns.

Closed: so many requests are always between their sending and their callback. Open: so many a second begin at
even distances, whatever comes back. What is counted are the callbacks that come between the warm-up and the
end, so that slow ones are not left out; then no more is sent and the rest is waited for.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import uvloop
from confluent_kafka import Consumer, TopicPartition

from simulator.load.bodies import BodyOptions, EssayBodies
from simulator.load.connection import Answered, Outcome
from simulator.load.transport import Poster, PostLimits, Target

TOPIC = "chain.results"
PARTITIONS = 6
MAX_CONNECTIONS = 256
WARM_UP_SECONDS = 2.0
"""Twice what a slow candidate takes for the first 1,000, which all come at once."""
PROBE_LIMIT_SECONDS = 30.0
REST_LIMIT_SECONDS = 20.0
REFUSED_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Sample:
    """What one load came to; latencies from the intended sending to the callback, in ms."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    failed: int
    """Not accepted, or without a callback at the end."""


class Callbacks(threading.Thread):
    """Reads the keys of the records that come to the topic, and hands them to the loop in batches."""

    def __init__(self, bootstrap_servers: str, load: "Load") -> None:
        super().__init__(daemon=True)
        self._loop = asyncio.get_running_loop()
        self._load = load
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": uuid4().hex,
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 2,  # the embedded broker does not wake a waiting fetch
            }
        )
        ends = []
        for partition in range(PARTITIONS):
            place = TopicPartition(TOPIC, partition)
            _, end = self._consumer.get_watermark_offsets(place, timeout=10)
            ends.append(TopicPartition(TOPIC, partition, end))
        self._consumer.assign(ends)

    def run(self) -> None:
        """Reads until the process ends."""
        while True:
            first = self._consumer.poll(1.0)
            if first is None:
                continue
            records = [first, *self._consumer.consume(500, timeout=0)]
            keys = [record.key() for record in records if record.error() is None]
            self._loop.call_soon_threadsafe(self._load.take, keys)


class Load:
    """Requests under way, and how long those took whose callbacks came while it was measured."""

    def __init__(self, posters: Sequence[Poster]) -> None:
        self._posters = posters
        self._bodies = EssayBodies(BodyOptions(run_id=uuid4().hex, callback_topics=(TOPIC,)))
        self._number = 0
        self._under_way: dict[bytes, float] = {}
        self._none_left = asyncio.Event()
        self._measured: tuple[float, float] = (math.inf, math.inf)
        self.repeats = False
        """Whether each callback is followed by the next request, until the end."""
        self.seconds: list[float] = []
        self.refused = 0

    @property
    def under_way(self) -> int:
        """Requests without a callback yet."""
        return len(self._under_way)

    def measure(self, begin: float, end: float) -> None:
        """Counts what comes between two moments of the monotonic clock."""
        self._measured = (begin, end)

    def send(self, intended: float) -> None:
        """Hands in one more."""
        body = self._bodies.build(self._number)
        self._number += 1
        key = body.correlation_id.encode()
        self._under_way[key] = intended
        self._none_left.clear()
        poster = self._posters[self._number % len(self._posters)]
        poster.post(b"", body.content, partial(self._answered, key))

    def take(self, keys: Sequence[bytes]) -> None:
        """Callbacks came."""
        now = time.monotonic()
        begin, end = self._measured
        for key in keys:
            intended = self._under_way.pop(key, None)
            if intended is None:
                continue
            if begin <= now < end:
                self.seconds.append(now - intended)
            if self.repeats and now < end:
                self.send(time.monotonic())
        self._look_whether_all_came()

    async def finish(self, limit_seconds: float) -> None:
        """Returns when nothing is under way any more, or the limit is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await self._none_left.wait()

    def _look_whether_all_came(self) -> None:
        if not self._under_way:
            self._none_left.set()

    def _answered(self, key: bytes, outcome: Outcome) -> None:
        if isinstance(outcome, Answered) and outcome.status == 202:
            return
        self._under_way.pop(key, None)
        self._look_whether_all_came()
        self.refused += 1
        if self.repeats and time.monotonic() < self._measured[1]:
            asyncio.get_running_loop().call_later(REFUSED_PAUSE_SECONDS, lambda: self.send(time.monotonic()))


async def drive(options: argparse.Namespace) -> Sample:
    """Warms up, measures, waits for the rest."""
    headers = {"content-type": "application/json"}
    urls, pids = options.url.split(","), [int(pid) for pid in options.pid.split(",")]
    limits = PostLimits(max_connections=MAX_CONNECTIONS // len(urls))
    posters = [Poster(Target.parse(f"{url}/api/v1/comparison"), limits, headers) for url in urls]
    load = Load(posters)
    Callbacks(options.bootstrap_servers, load).start()
    load.send(time.monotonic())
    await load.finish(PROBE_LIMIT_SECONDS)  # a consumer group may take seconds to form
    if load.under_way:
        raise SystemExit("The candidate does not call back; run it by hand to see why.")
    begin = time.monotonic() + WARM_UP_SECONDS
    end = begin + options.seconds
    load.measure(begin, end)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all(load, options, end))
        await asyncio.sleep(begin - time.monotonic())
        cpu = sum(map(read_cpu_seconds, pids))
        await asyncio.sleep(end - time.monotonic())
        cpu = sum(map(read_cpu_seconds, pids)) - cpu
    await load.finish(REST_LIMIT_SECONDS)
    for poster in posters:
        await poster.close()
    return summarize(load, options.seconds, cpu)


async def send_all(load: Load, options: argparse.Namespace, end: float) -> None:
    """Fills what is to be in flight, or sends at even distances until the end."""
    if options.in_flight:
        load.repeats = True
        for _ in range(options.in_flight):
            load.send(time.monotonic())
        return
    intended = time.monotonic()
    while intended < end:
        await asyncio.sleep(max(0.0, intended - time.monotonic()))
        load.send(intended)
        intended += 1 / options.rate


def summarize(load: Load, seconds: float, cpu_seconds: float) -> Sample:
    """The figures of one load."""
    done = sorted(load.seconds)
    failed = load.refused + load.under_way
    if not done:
        return Sample(0.0, math.inf, math.inf, math.inf, failed)
    return Sample(
        requests_per_second=len(done) / seconds,
        p50_ms=done[len(done) // 2] * 1000,
        p99_ms=done[len(done) * 99 // 100] * 1000,
        cpu_ms_per_request=cpu_seconds / len(done) * 1000,
        failed=failed,
    )


def read_cpu_seconds(pid: int) -> float:
    """What a process has used, its threads included (proc(5), `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Drives one load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--pid", required=True, help="whose CPU time is read")
    parser.add_argument("--seconds", type=float, default=3.0)
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--in-flight", type=int)
    load.add_argument("--rate", type=float)
    print(json.dumps(asdict(uvloop.run(drive(parser.parse_args())))))


if __name__ == "__main__":
    main()
