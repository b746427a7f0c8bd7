"""More than one replica, side by side: N services with a queue file each, and N that share a queue on Kafka.

    python -m benchmarks.scale_out [--rounds 3] [--seconds 6] [--replicas 1 2 4] [--in-flight 1000]

One broker of Apache Kafka, a provider that answers after 200 ms, a driver that hands requests to the replicas
by turns and keeps so many under way. All of them share the machine's CPUs: the table tells what each request
costs the replicas together, and where the machine is used up. Needs Linux and what the tests of Apache Kafka
need.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.chain import DRIVE_LIMIT_SECONDS, summarize
from benchmarks.in_flight import run_module
from benchmarks.peers.driver import PARTITIONS, TOPIC, Sample, read_cpu_seconds
from service.contracts.topics import name_journal, name_memory
from tests.apache_kafka.cluster import Cluster

PREFIX = "LLM_PROVIDER_SERVICE_"
QUEUE_PARTITIONS = 12
LATENCY_MS = 200
TOPIC_LIMIT_SECONDS = 30.0


@dataclass(frozen=True)
class Setup:
    """So many replicas with one of the two queues."""

    backend: str
    replicas: int

    @property
    def name(self) -> str:
        """As the table names it."""
        return f"{self.backend}, {self.replicas}"


@contextmanager
def running_replicas(
    setup: Setup, bootstrap_servers: str, base_url: str
) -> Iterator[list[dict[str, object]]]:
    """The replicas' ready lines."""
    queue = f"requests.{uuid4().hex[:12]}"
    if setup.backend == "kafka":
        create_topics(
            bootstrap_servers,
            {
                queue: QUEUE_PARTITIONS,
                name_journal(queue): QUEUE_PARTITIONS,
                name_memory(queue): 1,
                f"{queue}.dead-letters": QUEUE_PARTITIONS,
            },
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-out-")))
        started = []
        for number in range(setup.replicas):
            settings = {
                "PORT": "0",
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "QUEUE_BACKEND": setup.backend,
                "QUEUE_PATH": str(folder / f"queue-{number}.db"),
                "REQUEST_TOPIC": queue,
                "REQUEST_GROUP": queue,
                "DEAD_LETTER_TOPIC": f"{queue}.dead-letters",
                "REPLICA_NAME": f"replica-{number}",
                "OPENAI_API_KEY": "key",
                "OPENAI_BASE_URL": base_url,
                "OPENAI_MAX_CONCURRENCY": "2000",
                "DRAIN_TIMEOUT_SECONDS": "5",
            }
            environment = {PREFIX + name: value for name, value in settings.items()}
            started.append(stack.enter_context(run_module("service", env=environment)))
        yield started


def create_topics(bootstrap_servers: str, topics: dict[str, int]) -> None:
    """Creates topics with so many partitions each."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    created = admin.create_topics([NewTopic(name, count) for name, count in topics.items()])
    for answer in created.values():
        answer.result(TOPIC_LIMIT_SECONDS)


def drive(
    replicas: Sequence[dict[str, object]], bootstrap_servers: str, in_flight: int, seconds: float
) -> Sample:
    """One load, by a driver in a process of its own; the provider's latency is taken off."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.driver",
        "--in-flight",
        in_flight,
        "--seconds",
        seconds,
    ]
    command += ["--url", ",".join(str(each["url"]) for each in replicas)]
    command += ["--pid", ",".join(str(each["pid"]) for each in replicas)]
    command += ["--bootstrap-servers", bootstrap_servers]
    answer = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, check=True, timeout=DRIVE_LIMIT_SECONDS
    )
    figures = json.loads(answer.stdout)
    for name in ("p50_ms", "p99_ms"):
        figures[name] -= LATENCY_MS
    return Sample(**figures)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backends", nargs="+", default=["sqlite", "kafka"])
    parser.add_argument("--in-flight", type=int, default=1000)
    options = parser.parse_args()
    setups = [Setup(backend, count) for count in options.replicas for backend in options.backends]
    samples: dict[Setup, list[Sample]] = {setup: [] for setup in setups}
    kafka_cpu_ms: dict[Setup, list[float]] = {setup: [] for setup in setups}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-out-kafka-")))
        cluster = Cluster(folder, 1)
        stack.callback(cluster.stop)
        cluster.start()
        servers = cluster.bootstrap_servers
        create_topics(servers, {TOPIC: PARTITIONS})
        provider = stack.enter_context(
            run_module("benchmarks.peers.provider", "--latency-ms", str(LATENCY_MS))
        )
        (broker,) = cluster.pids.values()
        for _ in range(options.rounds):
            for setup in setups:
                with running_replicas(setup, servers, provider["base_url"]) as replicas:
                    before = read_cpu_seconds(broker)
                    sample = drive(replicas, servers, options.in_flight, options.seconds)
                    spent = read_cpu_seconds(broker) - before
                    samples[setup].append(sample)
                    handled = sample.requests_per_second * options.seconds
                    kafka_cpu_ms[setup].append(spent / max(1.0, handled) * 1000)
    print(f"{options.in_flight:,} in flight, provider {LATENCY_MS} ms, {os.cpu_count()} CPUs\n")
    print(
        "| queue, replicas | requests/s | CPU ms/request | broker's, about | added p50 ms | p99 ms | failed |"
    )
    print("|---|---|---|---|---|---|---|")
    for setup in setups:
        row = summarize(samples[setup])
        print(
            f"| {setup.name} | {row.requests_per_second:,.0f} | {row.cpu_ms_per_request:.2f} "
            f"| {statistics.median(kafka_cpu_ms[setup]):.2f} "
            f"| {row.p50_ms:.0f} | {row.p99_ms:.0f} | {row.failed} |"
        )


if __name__ == "__main__":
    main()
