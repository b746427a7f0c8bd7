"""Three ways to deliver an answer exactly once from a log of requests, against one broker of Apache Kafka.

    python -m benchmarks.kafka_commit [--rates 100 1000] [--partitions 4] [--seconds 6] [--rounds 3]
    python -m benchmarks.kafka_commit --plain

`transaction`: a producer for each partition of the requests; what has finished meanwhile is sent and its
offset committed in one transaction after another, after a pause of so many milliseconds.
`produce-then-commit`: an idempotent producer sends the callback, offsets are committed beside it; a crash in
between repeats it. `journal`: what the project does, the answer is written to a journal and read back before
its callback is sent.

Answers finish at random moments on an absolute schedule, the same for every way, and latency counts from
there: `done` as the sender knows it, `seen` as a read_committed consumer in a process of its own gets it. CPU
is milliseconds an answer, of this process and of the broker; sockets are those of the way. Ways take turns,
medians over the rounds are shown. `--plain` shows what a consumer that is not read_committed gets when a
transaction is aborted and its work is done again. Needs a JDK, Maven and Linux.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import confluent_kafka
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from benchmarks.peers.driver import read_cpu_seconds
from benchmarks.peers.process import end_with_parent
from service.kafka.producer import MAX_BATCH_BYTES
from service.queues.kafka import group as kafka_group
from service.queues.kafka.membership import COMMIT_EVERY_SECONDS
from tests.apache_kafka.cluster import Cluster

VALUE = b"x" * 1500
METADATA = "1:".ljust(200, "x")
WARM_UP_SECONDS = 1.0
QUIET_SECONDS = 0.3
"""What came twice is there within this time after the last."""
LIMIT_SECONDS = 30.0
HEAD = ("way", "rate", "achieved", "done p50", "p99 ms", "seen p50", "p99 ms", "cpu ms", "broker", "sockets")
ROW = "{:<20}" + "{:>9}" * (len(HEAD) - 1)
LOG = logging.getLogger("aiokafka")

Deliver = Callable[[bytes, int], Coroutine[Any, Any, None]]
"""Takes an answer's key and the partition of its request; returns when it knows of the delivery."""


class Run:
    """Topics and a group that nobody used before; what a way opens on them, and what it runs beside."""

    def __init__(self, name: str, servers: str, partitions: int) -> None:
        self.group, self.servers, self.partitions = name, servers, partitions
        self.requests, self.journal, self.callbacks = (
            f"{name}.{part}" for part in ("requests", "journal", "out")
        )
        self.opened = AsyncExitStack()
        self.beside: list[Coroutine[Any, Any, None]] = []

    async def create_topics(self) -> None:
        """Nothing needs to stand on the requests: an offset can be committed all the same."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        topics = (self.requests, self.journal, self.callbacks)
        await admin.create_topics([NewTopic(topic, self.partitions, 1) for topic in topics])
        await admin.close()

    async def open_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        """An idempotent producer as the service has it, or one that has transactions too."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers,
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional_id,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
        )
        return await self.opened.enter_async_context(producer)

    async def join(self, *topics: str) -> AIOKafkaConsumer:
        """A member of the group, as the service is one, that owns all partitions; every way needs one."""
        member = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.servers,
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            heartbeat_interval_ms=kafka_group.HEARTBEAT_INTERVAL_MILLISECONDS,
            fetch_max_wait_ms=kafka_group.FETCH_WAIT_MILLISECONDS,
        )
        await self.opened.enter_async_context(member)
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(member.assignment()) < self.partitions * len(topics):
                await member.getmany(timeout_ms=kafka_group.READ_WAIT_MILLISECONDS)
        return member


# --- the three ways


async def open_transaction(run: Run, pause_seconds: float) -> Deliver:
    """A producer has one transaction at a time, so each partition of the requests has one of its own."""
    gathered: list[list[tuple[bytes, asyncio.Future[None]]]] = [[] for _ in range(run.partitions)]
    something = [asyncio.Event() for _ in gathered]

    async def keep_committing(number: int, producer: AIOKafkaProducer) -> None:
        offset = 0
        while True:
            await something[number].wait()
            something[number].clear()
            taken, gathered[number] = gathered[number], []
            offset += len(taken)
            async with producer.transaction():
                sent = [await producer.send(run.callbacks, VALUE, key) for key, _ in taken]
                # aiokafka would commit without a record that was refused. And what it sends while the offsets
                # are being added is refused as NotEnoughReplicas, and sent again 100 ms later.
                await asyncio.gather(*sent)
                offsets = {TopicPartition(run.requests, number): OffsetAndMetadata(offset, METADATA)}
                await producer.send_offsets_to_transaction(offsets, run.group)
            for _, committed in taken:
                committed.set_result(None)
            await asyncio.sleep(pause_seconds)

    async def deliver(key: bytes, partition: int) -> None:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gathered[partition].append((key, committed))
        something[partition].set()
        await committed

    await run.join(run.requests)
    for number in range(run.partitions):
        run.beside.append(keep_committing(number, await run.open_producer(f"{run.group}-{number}")))
    return deliver


class Offsets:
    """Commits as a member of the group how many are finished, seldom enough to cost little."""

    def __init__(self, member: AIOKafkaConsumer) -> None:
        self._member = member
        self._finished: dict[TopicPartition, OffsetAndMetadata] = {}
        self._changed: set[TopicPartition] = set()
        self._something = asyncio.Event()

    def finish(self, topic: str, partition: int, metadata: str = METADATA) -> None:
        """One record more of a partition is finished."""
        place = TopicPartition(topic, partition)
        before = self._finished.get(place)
        self._finished[place] = OffsetAndMetadata(1 if before is None else before.offset + 1, metadata)
        self._changed.add(place)
        self._something.set()

    async def keep_committing(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            changed, self._changed = self._changed, set()
            await self._member.commit({place: self._finished[place] for place in changed})
            await asyncio.sleep(COMMIT_EVERY_SECONDS)


async def open_produce(run: Run) -> Deliver:
    """The callback, and its offset some time later."""
    offsets = Offsets(await run.join(run.requests))
    producer = await run.open_producer()

    async def deliver(key: bytes, partition: int) -> None:
        await producer.send_and_wait(run.callbacks, VALUE, key)
        offsets.finish(run.requests, partition)

    run.beside.append(offsets.keep_committing())
    return deliver


async def open_journal(run: Run) -> Deliver:
    """The queue writes and reads back, the relay sends; each has a producer of its own, as in the service."""
    member = await run.join(run.requests, run.journal)
    offsets = Offsets(member)
    writer, sender = await run.open_producer(), await run.open_producer()
    reading: dict[bytes, asyncio.Future[None]] = {}

    async def keep_reading() -> None:
        while True:
            fetched = await member.getmany(
                timeout_ms=kafka_group.READ_WAIT_MILLISECONDS, max_records=kafka_group.MAX_RECORDS_AT_ONCE
            )
            for records in fetched.values():
                for record in records:
                    reading.pop(record.key).set_result(None)

    async def deliver(key: bytes, partition: int) -> None:
        read_back = reading[key] = asyncio.get_running_loop().create_future()
        await writer.send_and_wait(run.journal, VALUE, key, partition)
        await read_back
        await sender.send_and_wait(run.callbacks, VALUE, key)
        offsets.finish(run.requests, partition)
        offsets.finish(run.journal, partition, "")

    run.beside += [keep_reading(), offsets.keep_committing()]
    return deliver


WAYS: dict[str, Callable[[Run], Awaitable[Deliver]]] = {
    "transaction-0ms": partial(open_transaction, pause_seconds=0.0),
    "transaction-5ms": partial(open_transaction, pause_seconds=0.005),
    "transaction-20ms": partial(open_transaction, pause_seconds=0.02),
    "produce-then-commit": open_produce,
    "journal": open_journal,
}


# --- measuring


def read(servers: str, topic: str, partitions: int, isolation: str, least: int) -> Iterator[tuple[str, str]]:
    """Key and value of each record from the beginning; ends when `least` have come and no more come."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "unused", "isolation.level": isolation}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(partitions)])
    while (record := consumer.poll(QUIET_SECONDS)) is not None or least > 0:
        if record is not None:
            assert record.error() is None, record.error()
            least -= 1
            yield (record.key() or b"").decode(), (record.value() or b"").decode()
    consumer.close()


def watch(servers: str, topic: str, partitions: int, warm: int, count: int) -> None:
    """In a process of its own: says when the first `warm` were seen, and at the end when each of all was."""
    seen = []
    for key, _ in read(servers, topic, partitions, "read_committed", warm + count):
        seen.append((key, time.monotonic()))
        if len(seen) == warm:
            print("warm", flush=True)
    print(json.dumps(seen), flush=True)
    os._exit(0)  # the thread that waits for the parent's end holds the standard input


async def offer(
    deliver: Deliver, name: str, count: int, rate: float, partitions: int
) -> dict[str, tuple[float, float]]:
    """Lets answers finish on schedule, whatever becomes of those before; when each finished and was done."""
    chance = random.Random(name)
    gaps = [chance.expovariate(rate) for _ in range(count)]
    stretch = count / rate / sum(gaps)
    moments: dict[str, tuple[float, float]] = {}
    due = time.monotonic()

    async def finish(key: str, partition: int, finished: float) -> None:
        await deliver(key.encode(), partition)
        moments[key] = finished, time.monotonic()

    async with asyncio.timeout(count / rate + LIMIT_SECONDS), asyncio.TaskGroup() as tasks:
        for number, gap in enumerate(gaps):
            due += gap * stretch
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # uvloop rounds its timers to the nearest millisecond, so that it may be a little early.
            finished = min(due, time.monotonic())
            tasks.create_task(finish(f"{name}-{number}", chance.randrange(partitions), finished))
    return moments


async def measure(run: Run, way: str, rate: float, seconds: float, broker_pid: int) -> tuple[float, ...]:
    """One run: a warm-up at the same rate, then what counts, as in `HEAD`; fails where not all came once."""
    await run.create_topics()
    warm, count = round(rate * WARM_UP_SECONDS), round(rate * seconds)
    told = json.dumps([run.servers, run.callbacks, run.partitions, warm, count])
    command = [sys.executable, "-m", "benchmarks.kafka_commit", "--exit-with-parent", "--watch", told]
    watcher = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert watcher.stdout is not None
    try:
        async with run.opened, asyncio.TaskGroup() as tasks:
            LOG.setLevel(logging.CRITICAL)  # topics and coordinators may not be ready at once
            sockets = count_sockets()
            deliver = await WAYS[way](run)
            beside = [tasks.create_task(each) for each in run.beside]
            early = await offer(deliver, "warm", warm, rate, run.partitions)
            async with asyncio.timeout(LIMIT_SECONDS):
                await watcher.stdout.readline()
            LOG.setLevel(logging.WARNING)
            sockets = count_sockets() - sockets
            cpu, broker_cpu = time.process_time(), read_cpu_seconds(broker_pid)
            moments = await offer(deliver, "answer", count, rate, run.partitions)
            cpu, broker_cpu = time.process_time() - cpu, read_cpu_seconds(broker_pid) - broker_cpu
            async with asyncio.timeout(LIMIT_SECONDS):
                arrivals = json.loads(await watcher.stdout.read())
            for task in beside:
                task.cancel()
    finally:
        if watcher.returncode is None:
            watcher.kill()
        await watcher.wait()
    seen = dict(arrivals)
    if len(seen) != len(arrivals) or seen.keys() != early.keys() | moments.keys():
        raise SystemExit(
            f"{way}: of {warm + count} answers {len(seen)} were seen, {len(arrivals)} times in all."
        )
    begun, ended = min(moments.values())[0], max(done for _, done in moments.values())
    done_ms = sorted((done - finished) * 1000 for finished, done in moments.values())
    seen_ms = sorted((seen[key] - finished) * 1000 for key, (finished, _) in moments.items())
    latencies = (each[count * share // 100] for each in (done_ms, seen_ms) for share in (50, 99))
    return count / (ended - begun), *latencies, cpu / count * 1000, broker_cpu / count * 1000, sockets


def count_sockets() -> int:
    """How many this process has open."""
    return sum(path.is_socket() for path in Path("/proc/self/fd").iterdir())


async def measure_all(options: argparse.Namespace, servers: str, broker_pid: int) -> None:
    """All rounds, and the table."""
    rows: dict[tuple[float, str], list[tuple[float, ...]]] = {}
    for turn in range(options.rounds):
        for rate in options.rates:
            for way in options.only or WAYS:
                run = Run(f"{way}-{rate:g}-{turn}", servers, options.partitions)
                figures = await measure(run, way, rate, options.seconds, broker_pid)
                rows.setdefault((rate, way), []).append(figures)
    print(ROW.format(*HEAD))
    for rate in options.rates:
        for way in options.only or WAYS:
            medians = map(statistics.median, zip(*rows[rate, way], strict=True))
            print(ROW.format(way, f"{rate:g}", *(f"{each:.{2 if each < 10 else 1}f}" for each in medians)))


async def show_plain(servers: str) -> None:
    """An answer in a transaction that is aborted, and another one to the same request in the next."""
    run = Run("plain", servers, 1)
    await run.create_topics()
    LOG.setLevel(logging.CRITICAL)
    async with run.opened:
        producer = await run.open_producer("plain")
        await producer.begin_transaction()
        await producer.send_and_wait(run.callbacks, b"the left essay is better", b"request")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(run.callbacks, b"the right essay is better", b"request")
            offsets = {TopicPartition(run.requests, 0): OffsetAndMetadata(1, METADATA)}
            await producer.send_offsets_to_transaction(offsets, run.group)
    for isolation, least in (("read_uncommitted", 2), ("read_committed", 1)):
        answers = [value for _, value in read(servers, run.callbacks, 1, isolation, least)]
        print(f"To one request a {isolation} consumer sees {len(answers)} answer(s): {', '.join(answers)}.")


def main() -> None:
    """Starts the broker and measures, or shows; with `--watch` it is the process that watches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 1000], help="answers a second")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WAYS)
    parser.add_argument("--plain", action="store_true", help="what an aborted transaction looks like")
    parser.add_argument("--watch", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        end_with_parent()
        watch(*options.watch)
    with tempfile.TemporaryDirectory(prefix="kafka-commit-") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            servers, broker_pid = cluster.bootstrap_servers, cluster.pids[1]
            uvloop.run(show_plain(servers) if options.plain else measure_all(options, servers, broker_pid))
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
