"""A service among slow clients, and over time: good requests notice nothing, and nothing grows."""

import asyncio
import contextlib
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import Child, Launcher
from tests.process.load import Load, SharedLedger, TopicWatch

HEAD = b"POST /api/v1/comparison HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n"
RECEIVE_SECONDS = 10.0
MAX_CALLS = 60
MAX_CLIENT_CONNECTIONS = 40
DRIP_SECONDS = 1.0


@pytest.fixture
async def topic(embedded_broker: Child) -> str:
    """A topic of this test's own."""
    name = f"results.{uuid4().hex}"
    await BrokerControl(Path(embedded_broker.ready["control"])).create_topics([TopicSpec(name, 6)])
    return name


@pytest.fixture
def service(launcher: Launcher, embedded_broker: Child, tmp_path: Path) -> Child:
    """A service that asks a fake provider of 50 ms."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "50")
    settings = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": embedded_broker.ready["bootstrap_servers"],
        "QUEUE_PATH": str(tmp_path / "queue.db"),
        "RECEIVE_TIMEOUT_SECONDS": str(RECEIVE_SECONDS),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_MAX_CONCURRENCY": str(MAX_CALLS),
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
    }
    return launcher.start(
        "service", env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in settings.items()}
    )


class SlowClients:
    """Sockets that begin a request and send a byte a second; who is cut off comes again."""

    def __init__(self, url: str, count: int) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        self.longest_seconds = 0.0
        """For how long one of them was borne at most."""
        self.cut_off = 0

    async def __aenter__(self) -> "SlowClients":
        self._tasks = [asyncio.create_task(self._bother()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _bother(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection(*self._address)
            began = time.monotonic()
            ending = asyncio.create_task(reader.read())
            try:
                writer.write(HEAD)
                while not ending.done():
                    await asyncio.wait([ending], timeout=DRIP_SECONDS)
                    with contextlib.suppress(OSError):
                        writer.write(b" ")
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                self.cut_off += 1
            finally:
                ending.cancel()
                writer.close()


@dataclass(frozen=True)
class AcceptTimes:
    """How long acceptance took in a span of time, in seconds."""

    p99: float
    usual_p95: float
    """The median of the p95 of each second."""
    longest: float

    @classmethod
    def of(cls, load: Load, since: float, until: float) -> Self:
        """Of `time.monotonic()`."""
        every = load.accept_seconds(since, until)
        by_second = (load.accept_seconds(since + n, since + n + 1) for n in range(int(until - since)))
        usual = statistics.median(percentile(of_second, 0.95) for of_second in by_second if of_second)
        return cls(percentile(every, 0.99), usual, every[-1])


async def test_slow_clients_do_not_slow_the_others(
    service: Child, embedded_broker: Child, topic: str, record_figures: Callable[[str], None]
) -> None:
    """They are cut off in time, and the acceptance of good requests is as quick as without them."""
    count, seconds = 500, 60.0
    ledger = SharedLedger()
    with TopicWatch(embedded_broker.ready["bootstrap_servers"], [topic], ledger) as watch:
        async with Load([service.ready["url"]], [topic], ledger, per_second=100) as load:
            await load.offer_some(200)
            began = time.monotonic()
            await load.offer_some(round(100 * seconds))
            async with SlowClients(service.ready["url"], count) as slow:
                await load.offer_some(200)
                among = time.monotonic()
                await load.offer_some(round(100 * seconds))
                ended = time.monotonic()
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    alone, amid = (
        AcceptTimes.of(load, since, until) for since, until in ((began, among - 3), (among, ended))
    )
    report = ledger.report()
    record_figures(
        f"{count} slow sockets for {seconds:g} s: accept p99 {alone.p99 * 1000:.1f} ms alone, "
        f"{amid.p99 * 1000:.1f} ms among them; in the median second the p95 is "
        f"{alone.usual_p95 * 1000:.1f} ms alone, {amid.usual_p95 * 1000:.1f} ms among them; {slow.cut_off} "
        f"cut off, the last after at most {slow.longest_seconds:.1f} s; accepted {report.accepted}, "
        f"ok {report.ok}"
    )

    assert report.ok == report.accepted > 100 * seconds
    assert slow.cut_off >= count
    assert slow.longest_seconds < RECEIVE_SECONDS + 5
    # Of single seconds, for a busy machine spoils some of either; nor did anyone wait for a slow one's end.
    assert amid.usual_p95 < 5 * alone.usual_p95
    assert amid.longest < RECEIVE_SECONDS / 2


@dataclass(frozen=True)
class Sample:
    """What a process uses."""

    at: float
    memory_bytes: int
    descriptors: int


async def test_nothing_grows_under_lasting_load(
    service: Child, embedded_broker: Child, topic: str, record_figures: Callable[[str], None]
) -> None:
    """Memory and descriptors are at the end what they were after warming up, and nothing is lost."""
    seconds, per_second = 600.0, 320.0
    ledger, samples = SharedLedger(), []
    idle = measure(service.process.pid)
    with TopicWatch(embedded_broker.ready["bootstrap_servers"], [topic], ledger) as watch:
        # As many connections as are needed: those of the clients are descriptors of the service, too.
        async with Load(
            [service.ready["url"]],
            [topic],
            ledger,
            per_second=per_second,
            max_connections=MAX_CLIENT_CONNECTIONS,
        ) as load:
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                await load.offer_some(round(per_second))
                samples.append(measure(service.process.pid))
            load.stop_offering()
            await load.resolve()
            await watch.until_called_back()
        load.check()
    report = ledger.report()
    # The first third warms up: pools, caches of the allocator, the log of the queue's file.
    lasting = samples[len(samples) // 3 :]
    slope = fit_slope([(each.at, each.memory_bytes) for each in lasting])
    descriptors = [each.descriptors for each in lasting]
    record_figures(
        f"{per_second:g}/s for {seconds:g} s: memory {lasting[0].memory_bytes / 1e6:.1f} to "
        f"{lasting[-1].memory_bytes / 1e6:.1f} MB, slope {slope / 1000:.2f} KB/s; descriptors "
        f"{min(descriptors)} to {max(descriptors)}; accepted {report.accepted}, ok {report.ok}"
    )

    assert report.ok == report.accepted > per_second * seconds * 0.9
    assert slope * (lasting[-1].at - lasting[0].at) < 12_000_000
    # A busy moment opens all the connections there may be, and they are kept for a while.
    assert max(descriptors) <= idle.descriptors + MAX_CALLS + MAX_CLIENT_CONNECTIONS + 20


def measure(pid: int) -> Sample:
    """By proc(5)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(
        time.monotonic(), pages * resource.getpagesize(), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    )


def fit_slope(points: list[tuple[float, int]]) -> float:
    """The slope of the line of least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def percentile(values: list[float], part: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * part))]
