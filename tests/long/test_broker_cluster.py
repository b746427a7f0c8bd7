"""Apache Kafka's brokers killed and returned under load: nothing lost, no two different answers.

One broker, and three with each partition on all of them and two of them enough.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.apache_kafka.cluster import Cluster
from tests.conftest import Child, Launcher
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS, open_client

PARTITIONS = 6
DOWN_SECONDS = 5.0
LATENCY_WINDOW_SECONDS = 60.0
"""What the service's own percentiles look back on."""


def make_topic(cluster: Cluster, brokers: int) -> str:
    """A topic on all brokers, of which all but one are enough."""
    name = f"results.{uuid4().hex}"
    replicas = min(3, brokers)
    config = {"min.insync.replicas": str(max(1, replicas - 1))}
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    topic = NewTopic(name, PARTITIONS, replicas, config=config)
    admin.create_topics([topic])[name].result(HANG_SECONDS)
    return name


def start_service(launcher: Launcher, bootstrap_servers: str, folder: Path) -> Child:
    """A service that asks a fake provider of 50 ms."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "50")
    environment = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "QUEUE_PATH": str(folder / "queue.db"),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
    }
    return launcher.start(
        "service", env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in environment.items()}
    )


async def read_publish_p99_ms(url: str) -> float:
    """Outcome durable to acknowledged, over the service's last minute."""
    async with open_client(url) as client:
        snapshot = (await client.get("/admin/v1/snapshot")).json()
    return float(snapshot["latency"]["publish"]["p99"]) * 1000


@pytest.mark.parametrize("brokers", [1, 3])
async def test_brokers_that_are_killed_and_return_lose_nothing(
    brokers: int,
    start_apache_kafka: Callable[..., Cluster],
    launcher: Launcher,
    tmp_path: Path,
    record_figures: Callable[[str], None],
) -> None:
    """Every accepted request is called back; copies are the same bytes, and only of what was under way."""
    per_second, quiet_seconds = 100.0, LATENCY_WINDOW_SECONDS + 5.0
    cluster = await asyncio.to_thread(start_apache_kafka, brokers)
    topic = await asyncio.to_thread(make_topic, cluster, brokers)
    service = await asyncio.to_thread(start_service, launcher, cluster.bootstrap_servers, tmp_path)
    ledger, p99s_ms = SharedLedger(), []
    with TopicWatch(cluster.bootstrap_servers, [topic], ledger) as watch:
        async with Load([service.ready["url"]], [topic], ledger, per_second=per_second) as load:
            began = time.monotonic()
            for number in list(cluster.pids)[: 2 if brokers > 1 else 1]:
                await asyncio.sleep(quiet_seconds)
                p99s_ms.append(await read_publish_p99_ms(service.ready["url"]))
                await asyncio.to_thread(cluster.kill, number)
                await asyncio.sleep(DOWN_SECONDS)
                await asyncio.to_thread(cluster.start_again, number)
            await asyncio.sleep(quiet_seconds)
            p99s_ms.append(await read_publish_p99_ms(service.ready["url"]))
            offered_seconds = time.monotonic() - began
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    report = ledger.report()
    record_figures(
        f"{brokers} brokers, {per_second:g}/s for {offered_seconds:.0f} s: accepted {report.accepted}, "
        f"ok {report.ok}, missing {report.missing}, conflicting {report.conflicting}, "
        f"identical copies {report.identical}; ends {dict(load.ends())}; publish p99 of the minute "
        f"before each kill and of the last: {', '.join(f'{each:.1f}' for each in p99s_ms)} ms"
    )

    assert report.accepted > per_second * (quiet_seconds + DOWN_SECONDS)
    assert report.ok == report.accepted
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    assert report.identical <= per_second * 2
