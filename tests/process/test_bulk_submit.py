"""`llmctl submit --file --receipts` is killed again and again: every line is called back, and none twice."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import ROOT, Child, Launcher
from tests.free_ports import find_free_ports
from tests.waiting import HANG_SECONDS, open_client, until

FEW_LINES = 1000
PARTITIONS = 6


@pytest.fixture
async def topic(embedded_broker: Child) -> str:
    """A topic of this test's own."""
    name = f"results.{uuid4().hex}"
    await BrokerControl(Path(embedded_broker.ready["control"])).create_topics([TopicSpec(name, PARTITIONS)])
    return name


@pytest.fixture
def settings(launcher: Launcher, embedded_broker: Child, tmp_path: Path) -> dict[str, str]:
    """A service that asks a fake provider of 50 ms."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "50")
    known = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": embedded_broker.ready["bootstrap_servers"],
        "QUEUE_PATH": str(tmp_path / "queue.db"),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
    }
    return {f"LLM_PROVIDER_SERVICE_{name}": value for name, value in known.items()}


class Bulk:
    """A file of numbered lines, its receipts, and the command that hands it in."""

    def __init__(self, folder: Path, topic: str, lines: int) -> None:
        self.lines = lines
        self._topic = topic
        self._folder = folder
        self._receipts = folder / "receipts.jsonl"
        self.batch_file = folder / "receipts.jsonl.batch"
        self._running: subprocess.Popen[bytes] | None = None
        with (folder / "lines.jsonl").open("w") as file:
            for number in range(1, lines + 1):
                body = {"user_prompt": "p", "essay_a": f"a {number}", "essay_b": "b"}
                file.write(json.dumps(body | {"metadata": {"number": number}}) + "\n")

    def start(self, url: str) -> None:
        """Runs the command, the same each time."""
        (self._folder / "llmctl.toml").touch(mode=0o600)
        self._running = subprocess.Popen(
            [
                *(sys.executable, "-m", "llmctl", "submit", "--file", "lines.jsonl", "--url", url),
                *("--callback-topic", self._topic, "--receipts", self._receipts.name, "--output", "json"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LLMCTL_CONFIG": str(self._folder / "llmctl.toml")},
        )

    def kill(self) -> bool:
        """SIGKILL; False where it had come to its end before."""
        assert self._running is not None
        self._running.kill()
        self._running.communicate()
        return self._running.returncode == -9

    def finish(self) -> tuple[int, str]:
        """Waits for its end; the exit code and what was said."""
        assert self._running is not None
        _, err = self._running.communicate(timeout=HANG_SECONDS)
        return self._running.returncode, err.decode()

    def count(self) -> int:
        """How many receipts there are."""
        return self._receipts.read_bytes().count(b"\n") if self._receipts.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """The receipts."""
        return [json.loads(line) for line in self._receipts.read_text().splitlines()]


@pytest.fixture
def make_bulk(tmp_path: Path, topic: str) -> Iterator[Callable[[int], Bulk]]:
    """Makes a file of so many lines; a command that still runs ends with the test."""
    made: list[Bulk] = []

    def make(lines: int) -> Bulk:
        made.append(Bulk(tmp_path, topic, lines))
        return made[-1]

    yield make
    for bulk in made:
        bulk.kill()


def read_everything(bootstrap_servers: str, topic: str) -> list[dict[str, Any]]:
    """The data of all events that stand on a topic, read by a foreign client."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex})
    try:
        places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
        wanted = sum(consumer.get_watermark_offsets(place, timeout=HANG_SECONDS)[1] for place in places)
        consumer.assign(places)
        records: list[Any] = []
        while len(records) < wanted:
            polled = consumer.consume(wanted - len(records), timeout=HANG_SECONDS)
            assert polled, f"only {len(records)} of {wanted} records could be read"
            records.extend(polled)
    finally:
        consumer.close()
    return [json.loads(record.value())["data"] for record in records]


async def until_idle(url: str, lines: int) -> None:
    """Until the service has nothing left to do: what is on the topic then is all that there ever will be."""
    async with open_client(url) as client:

        async def is_idle() -> bool:
            now = (await client.get("/admin/v1/snapshot")).json()
            return not (now["queue"]["depth"] or now["in_flight"] or now["outbox"]["depth"])

        await until(is_idle, what="the service is idle")


async def order(url: str, what: str) -> None:
    """Holds or releases the provider."""
    async with open_client(url) as client:
        (await client.post(f"/admin/v1/providers/openai/{what}", json={})).raise_for_status()


def check(bulk: Bulk, callbacks: list[dict[str, Any]]) -> None:
    """Every line has one receipt and one callback, and they name the same request."""
    numbers = list(range(1, bulk.lines + 1))
    assert sorted(each["request_metadata"]["number"] for each in callbacks) == numbers
    receipts = bulk.read()
    assert sorted(each["line"] for each in receipts) == numbers
    called_back = {each["request_metadata"]["number"]: each["request_id"] for each in callbacks}
    assert {each["line"]: each["queue_id"] for each in receipts} == called_back


@pytest.mark.parametrize(("lines", "kills"), [(120, 2), pytest.param(5000, 5, marks=pytest.mark.long)])
async def test_a_bulk_run_survives_kills(
    launcher: Launcher,
    settings: dict[str, str],
    embedded_broker: Child,
    topic: str,
    make_bulk: Callable[[int], Bulk],
    lines: int,
    kills: int,
    record_figures: Callable[[str], None],
) -> None:
    """SIGKILL before the first receipt and at moments all along the way; the same command goes on."""
    few = lines < FEW_LINES
    limit = {"LLM_PROVIDER_SERVICE_QUEUE_MAX_SIZE": str(lines // 2)} if few else {}
    service = launcher.start("service", env={**settings, **limit})
    url = service.ready["url"]
    bulk = make_bulk(lines)
    if few:  # the queue is full before the run is over: it waits until it is killed
        await order(url, "hold")
    began = time.monotonic()
    stood = []
    for kill in range(kills):
        bulk.start(url)
        # The first as soon as the batch is remembered, the others after a share of the lines that differs.
        least = kill * lines // kills - 7 * kill
        await until(
            lambda least=least: bulk.batch_file.exists() and bulk.count() >= least,
            what=f"{least} receipts",
        )
        assert bulk.kill(), "the run had ended before it was killed"
        stood.append(bulk.count())
    if few:
        await order(url, "release")
    bulk.start(url)
    code, said = bulk.finish()
    assert code == 0, said
    assert f"{stood[-1]} of {lines} requests stand in" in said
    seconds = time.monotonic() - began
    await until_idle(url, lines)
    callbacks = read_everything(embedded_broker.ready["bootstrap_servers"], topic)
    record_figures(
        f"{lines} lines, killed {kills} times at {stood} receipts: {len(bulk.read())} receipts, "
        f"{len(callbacks)} callbacks, {len(callbacks) - len({each['request_id'] for each in callbacks})} "
        f"twice, {seconds:.1f} s"
    )
    check(bulk, callbacks)
    assert stood == sorted(stood)
    assert stood[-1] < lines


async def test_a_bulk_run_waits_for_a_service_that_is_deployed(
    launcher: Launcher,
    settings: dict[str, str],
    embedded_broker: Child,
    topic: str,
    make_bulk: Callable[[int], Bulk],
) -> None:
    """The service is stopped under it, and then killed, and started anew each time: the run goes on."""
    (port,) = find_free_ports(1)
    again = {**settings, "LLM_PROVIDER_SERVICE_PORT": str(port)}
    service = launcher.start("service", env=again)
    url = service.ready["url"]
    bulk = make_bulk(300)
    bulk.start(url)
    await until(lambda: bulk.count() >= 60, what="60 receipts")
    assert service.stop() == 0
    service = launcher.start("service", env=again)
    await until(lambda: bulk.count() >= 160, what="160 receipts")
    service.kill()
    launcher.start("service", env=again)
    code, said = bulk.finish()
    assert (code, said) == (0, "")
    await until_idle(url, bulk.lines)
    check(bulk, read_everything(embedded_broker.ready["bootstrap_servers"], topic))
