"""Replicas of the Kafka queue under load: killed, frozen, added, drained. Nothing lost, no second answer."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.apache_kafka.cluster import Cluster
from tests.conftest import Launcher
from tests.long.replicas import ReplicaPlan, Replicas, torment
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import open_client

HANDED_OVER_WITHIN_SECONDS = 10.0


@pytest.fixture
def cluster(start_apache_kafka: Callable[..., Cluster], request: pytest.FixtureRequest) -> Cluster:
    """Brokers of this test's own."""
    return start_apache_kafka(request.config.getoption("--cluster"))


async def test_killed_and_frozen_replicas_lose_nothing_and_never_answer_twice(
    cluster: Cluster,
    launcher: Launcher,
    request: pytest.FixtureRequest,
    record_figures: Callable[[str], None],
) -> None:
    """Every accepted request is called back once and its usage told; who wakes up late changes nothing."""
    brokers = request.config.getoption("--cluster")
    plan = ReplicaPlan(kills=6, stops=1, stop_seconds=13.0)
    verdict = await torment(launcher, cluster.bootstrap_servers, brokers, plan)
    record_figures(f"{brokers} brokers, {verdict.describe()}")

    report = verdict.report
    assert (verdict.kills, verdict.stops) == (plan.kills, plan.stops)
    assert report.accepted > 300
    assert report.ok + report.identical == report.accepted
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    # What was on its way to the broker when a replica was frozen or killed can come twice.
    assert report.identical <= plan.stops + plan.kills
    assert verdict.repeated > 0
    # Usage is told at least once, and what is told twice is the same.
    assert (verdict.usage_missing, verdict.usage.conflicting) == (0, set())
    assert len(verdict.usage.values) >= report.ok
    # One that stood still has told nothing of what others own by now.
    assert verdict.usage.copies < report.accepted / 3


async def test_a_replica_may_come_and_go_under_load(cluster: Cluster, launcher: Launcher) -> None:
    """One is added, another drained: its calls are finished, and its partitions work on within seconds."""
    plan = ReplicaPlan(replicas=2, latency_ms=500)
    replicas = Replicas(launcher, cluster.bootstrap_servers, 1, plan)
    await asyncio.to_thread(replicas.start)
    ledger = SharedLedger()
    with TopicWatch(cluster.bootstrap_servers, [replicas.topic], ledger) as watch:
        async with Load(replicas.urls, [replicas.topic], ledger, per_second=60, one_queue=True) as load:
            await load.offer_some(120)
            await asyncio.to_thread(replicas.add)
            await load.offer_some(120)
            began = time.monotonic()
            report = await drain(replicas.urls[0])
            drained_seconds = time.monotonic() - began
            await load.offer_some(120)
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    judged = ledger.report()
    print(f"\ndrained in {drained_seconds:.1f} s; accepted {judged.accepted}, copies {judged.identical}")

    assert report["state"] == "done"
    assert drained_seconds < HANDED_OVER_WITHIN_SECONDS
    assert judged.ok == judged.accepted
    assert (judged.missing, judged.duplicate, judged.orphan) == (0, 0, 0)


async def drain(url: str) -> dict[str, object]:
    """Drains a replica; its report when that is over."""
    async with open_client(url) as client:
        (await client.post("/admin/v1/drain", json={"timeout_seconds": 60})).raise_for_status()
        while True:
            report: dict[str, object] = (await client.get("/admin/v1/drain")).json()
            if report["state"] != "running":
                return report
            await asyncio.sleep(0.05)
