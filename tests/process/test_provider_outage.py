"""A provider in trouble: its requests wait in the queue, none fails, and they go out when it is back."""

import time
from pathlib import Path
from typing import Any

from tests.conftest import Child, Launcher
from tests.free_ports import find_free_ports
from tests.process.conftest import configure_service, find_openai
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import open_client, until


def start_provider(launcher: Launcher, port: int) -> Child:
    return launcher.start("simulator.provider", "--port", str(port), "--latency-p50-ms", "10")


def start_service(launcher: Launcher, servers: str, folder: Path, provider: Child, **settings: str) -> str:
    settings = configure_service(servers, folder, find_openai(provider), **settings)
    return str(launcher.start("service", env=settings).ready["url"])


async def read_provider(url: str) -> dict[str, Any]:
    """Returns how the service sees its one provider."""
    async with open_client(url) as client:
        (provider,) = (await client.get("/admin/v1/snapshot")).json()["providers"]
    return dict(provider)


async def until_circuit_is(url: str, *, closed: bool) -> None:
    async def is_so() -> bool:
        return ((await read_provider(url))["circuit"] == "closed") is closed

    await until(is_so, what=f"circuit closed: {closed}")


async def test_outage_of_the_provider_burns_no_request(
    launcher: Launcher, bootstrap_servers: str, topic: str, tmp_path: Path
) -> None:
    """The circuit opens, requests wait with few calls made, and all are answered afterwards."""
    (port,) = find_free_ports(1)
    provider = start_provider(launcher, port)
    url = start_service(launcher, bootstrap_servers, tmp_path, provider)
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([url], [topic], ledger, per_second=100) as load:
            await until(lambda: watch.records >= 30, what="callbacks before the outage")
            provider.kill()
            await until_circuit_is(url, closed=False)
            accepted, calls = load.accepted, (await read_provider(url))["calls"]
            await until(lambda: load.accepted >= accepted + 150, what="150 requests in the outage")
            calls_in_outage = (await read_provider(url))["calls"] - calls
            start_provider(launcher, port)
            await until_circuit_is(url, closed=True)
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    report = ledger.report()
    assert (report.missing, report.duplicate, report.failed) == (0, 0, 0)
    assert calls_in_outage < 150 / 2, "an open circuit lets only probes through"


async def test_rate_set_for_a_provider_is_kept(
    launcher: Launcher, bootstrap_servers: str, topic: str, tmp_path: Path
) -> None:
    """With 600 requests a minute, no more than ten a second are sent; the rest waits, unharmed."""
    (port,) = find_free_ports(1)
    provider = start_provider(launcher, port)
    url = start_service(launcher, bootstrap_servers, tmp_path, provider, OPENAI_RPM="600")
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([url], [topic], ledger, per_second=100) as load:
            started, calls = time.monotonic(), (await read_provider(url))["calls"]
            await load.offer_just(50)
            await load.resolve()
            await watch.until_called_back(quiet_seconds=0.0)
            made = (await read_provider(url))["calls"] - calls
            seconds = time.monotonic() - started
    report = ledger.report()
    assert (report.missing, report.duplicate, report.failed) == (0, 0, 0)
    assert made <= 10 * seconds + 11
