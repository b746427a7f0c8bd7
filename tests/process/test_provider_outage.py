"""A provider in trouble: its requests wait in the queue, none is burned, and they go out when it is back."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.free_ports import find_free_ports
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import open_client, until


@pytest.fixture
async def start_line(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> Callable[..., Any]:
    """Starts a provider and a service that asks it; returns the service, the provider and its port."""

    async def start(**settings: str) -> tuple[Any, Any, int]:
        (port,) = find_free_ports(1)
        provider = launcher.start("simulator.provider", "--port", str(port), "--latency-p50-ms", "30")
        base_url = provider.ready["base_urls"]["openai"]
        environment = {
            "PORT": "0",
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "QUEUE_PATH": str(tmp_path / "queue.db"),
            "OPENAI_API_KEY": "fake-key",
            "OPENAI_BASE_URL": base_url,
            **settings,
        }
        service = launcher.start(
            "service", env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in environment.items()}
        )
        return service, provider, port

    return start


async def read_provider(url: str) -> dict[str, Any]:
    """How the service sees its one provider."""
    async with open_client(url) as client:
        snapshot = (await client.get("/admin/v1/snapshot")).json()
    (provider,) = snapshot["providers"]
    return dict(provider)


async def test_outage_of_the_provider_burns_no_request(
    start_line: Callable[..., Any], launcher: Any, bootstrap_servers: str, topic: str
) -> None:
    """The provider dies under load: the circuit opens soon, requests wait, all are answered afterwards."""
    service, provider, port = await start_line()
    url = service.ready["url"]
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([url], [topic], ledger, per_second=60) as load:
            await until(lambda: watch.records >= 30, what="answers before the outage")
            provider.kill()

            async def circuit_is_open() -> bool:
                return bool((await read_provider(url))["circuit"] != "closed")

            await until(circuit_is_open, what="the circuit to open")
            calls_when_opened, opened_at = (
                (await read_provider(url))["calls"],
                asyncio.get_running_loop().time(),
            )
            await asyncio.sleep(3)  # the outage lasts; what passes here is the subject
            calls_in_outage = (await read_provider(url))["calls"] - calls_when_opened
            launcher.start("simulator.provider", "--port", str(port), "--latency-p50-ms", "30")
            outage_seconds = asyncio.get_running_loop().time() - opened_at

            async def circuit_is_closed() -> bool:
                return bool((await read_provider(url))["circuit"] == "closed")

            await until(circuit_is_closed, what="the circuit to close")
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    report = ledger.report()
    assert (report.missing, report.duplicate, report.failed) == (0, 0, 0)
    assert calls_in_outage <= 8 + 2 * outage_seconds


async def test_rate_set_for_a_provider_is_kept(
    start_line: Callable[..., Any], bootstrap_servers: str, topic: str
) -> None:
    """With 600 requests a minute configured no more than ten a second are asked; the rest waits, unharmed."""
    service, _, _ = await start_line(OPENAI_RPM="600")
    url = service.ready["url"]
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([url], [topic], ledger, per_second=100) as load:
            await until(lambda: load.accepted >= 100, what="100 accepted requests")
            load.stop_offering()
            await load.resolve()
            started, calls = asyncio.get_running_loop().time(), (await read_provider(url))["calls"]
            await watch.until_called_back()
            seconds = asyncio.get_running_loop().time() - started
            made = (await read_provider(url))["calls"] - calls
    report = ledger.report()
    assert (report.missing, report.duplicate, report.failed) == (0, 0, 0)
    assert made <= 10 * seconds + 11
