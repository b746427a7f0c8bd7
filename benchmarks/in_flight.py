"""5,000 requests through one service process with 1,000 provider calls in flight at once.

    python -m benchmarks.in_flight [--requests 5000] [--latency-ms 5000] [--rate 250] [--connections 64]

Brings up the embedded broker, the fake provider and the service, submits at an even rate, and
prints the ledger, the most calls seen in flight, and the latencies: `publish` (outcome durable to the ack of
the broker) from the snapshot, `delivery` (outcome known to received) as a reader of the topic sees it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
from confluent_kafka import Consumer, TopicPartition

from service.providers.transport import open_transport
from simulator.essays import pairs_path
from simulator.load.ledger import Accepted, Ledger, Received

TOPIC = "benchmark.results"
PARTITIONS = 6
QUIET_SECONDS = 1.0
WATCH_EVERY_SECONDS = 0.5
LIMIT_SECONDS = 120.0


@contextmanager
def run_module(module: str, *arguments: str, env: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """A module of ours as a process; its ready line."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--exit-with-parent", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(30)


class Reader(threading.Thread):
    """Reads the topic with a foreign client and notes when each record came."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(daemon=True)
        self.facts: list[Received] = []
        self.deliveries: list[float] = []
        self.done = threading.Event()
        self._grown = threading.Condition()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "benchmark",
                "fetch.wait.max.ms": 20,
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])

    def run(self) -> None:
        """Reads until told that all is done."""
        while not self.done.is_set():
            for record in self._consumer.consume(500, timeout=0.02):
                now = time.time()
                self.facts.append(Received(TOPIC, record.key(), tuple(record.headers()), record.value(), now))
                completed_at = orjson.loads(record.value())["data"]["completed_at"]
                self.deliveries.append(now - _to_unix(completed_at))
            with self._grown:
                self._grown.notify_all()
        self._consumer.close()

    def wait_for(self, count: int) -> None:
        """Blocks until so many records have come, or the limit is over."""
        with self._grown:
            self._grown.wait_for(lambda: len(self.facts) >= count, LIMIT_SECONDS)


def _to_unix(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


async def submit_all(
    url: str, bodies: Sequence[bytes], connections: int, rate: float
) -> tuple[list[Accepted], list[float]]:
    """Hands in every body; what was accepted, and how long each took in seconds."""
    transport = open_transport(max_connections=connections)
    accepted: list[Accepted] = []
    latencies: list[float] = []
    waiting = iter(enumerate(bodies))
    begun = time.perf_counter()

    async def work() -> None:
        for number, body in waiting:
            if rate:  # on an absolute schedule: a late one does not delay those after it
                await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            headers = {"content-type": "application/json", "content-length": str(len(body))}
            request = httpx.Request("POST", f"{url}/api/v1/comparison", headers=headers, content=body)
            started = time.perf_counter()
            response = await transport.handle_async_request(request)
            answer = orjson.loads(await response.aread())
            latencies.append(time.perf_counter() - started)
            assert response.status_code == 202, answer
            accepted.append(Accepted(answer["queue_id"], UUID(answer["correlation_id"]), TOPIC, time.time()))

    await asyncio.gather(*(work() for _ in range(connections)))
    await transport.aclose()
    return accepted, latencies


async def watch(url: str, done: asyncio.Event) -> int:
    """The most calls seen in flight."""
    most = 0
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
        while not done.is_set():
            most = max(most, (await client.get("/admin/v1/snapshot")).json()["in_flight"])
            await asyncio.sleep(WATCH_EVERY_SECONDS)
    return most


def percentile(values: Sequence[float], quantile: float) -> float:
    """A percentile in milliseconds."""
    return round(sorted(values)[int(quantile * (len(values) - 1))] * 1000, 1)


async def measure(
    url: str, pid: int, bootstrap_servers: str, count: int, connections: int, rate: float
) -> dict[str, Any]:
    """One run."""
    pairs = [json.loads(line) for line in pairs_path().read_text().splitlines()]
    bodies = [
        orjson.dumps({**pairs[n % len(pairs)], "callback_topic": TOPIC, "metadata": {"n": n}})
        for n in range(count)
    ]
    reader = Reader(bootstrap_servers)
    reader.start()
    done = asyncio.Event()
    watching = asyncio.create_task(watch(url, done))
    started, cpu_before = time.perf_counter(), _cpu_seconds(pid)
    accepted, latencies = await submit_all(url, bodies, connections, rate)
    submitted_seconds = time.perf_counter() - started
    await asyncio.to_thread(reader.wait_for, count)
    seconds, cpu = time.perf_counter() - started, _cpu_seconds(pid) - cpu_before
    done.set()
    await asyncio.sleep(QUIET_SECONDS)
    reader.done.set()
    await asyncio.to_thread(reader.join)
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
        snapshot = (await client.get("/admin/v1/snapshot")).json()
    report = Ledger().fold(*accepted, *reader.facts).report()
    publish = snapshot["latency"]["publish"]
    return {
        "ledger": report.totals,
        "most_in_flight": await watching,
        "requests_per_second": round(count / seconds),
        "accepted_per_second": round(count / submitted_seconds),
        "service_cpu_ms_per_request": round(cpu / count * 1000, 3),
        "accept_ms": {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)},
        "publish_ms": {name: round(publish[name] * 1000, 1) for name in ("p50", "p99", "max")},
        "delivery_ms": {
            "p50": percentile(reader.deliveries, 0.5),
            "p99": percentile(reader.deliveries, 0.99),
            "max": percentile(reader.deliveries, 1.0),
        },
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Runs it once and prints one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--latency-ms", type=float, default=5000, help="median of the fake provider")
    parser.add_argument("--rate", type=float, default=250, help="requests a second; 0 as fast as possible")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = stack.enter_context(
            run_module("simulator.broker", "--port", "0", "--topic", f"{TOPIC}:{PARTITIONS}")
        )
        provider = stack.enter_context(
            run_module("simulator.provider", "--port", "0", "--latency-p50-ms", str(options.latency_ms))
        )
        service = stack.enter_context(
            run_module(
                "service",
                env={
                    "LLM_PROVIDER_SERVICE_PORT": "0",
                    "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
                    "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(Path(folder) / "queue.db"),
                    "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
                    "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider["base_urls"]["openai"],
                },
            )
        )
        figures = asyncio.run(
            measure(
                service["url"],
                service["pid"],
                broker["bootstrap_servers"],
                options.requests,
                options.connections,
                options.rate,
            )
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
