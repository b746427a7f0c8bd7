"""A disk that fills up under the queue: refused early, nothing lost, and well again when there is room."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from simulator.load.ledger import Accepted
from tests.conftest import Child, Launcher
from tests.process.load import SharedLedger, TopicWatch
from tests.waiting import open_client, until

PATH = "/api/v1/comparison"
DISK_BYTES = 24 * 1024 * 1024
RESERVE_BYTES = 8 * 1024 * 1024
ESSAY = "A long essay, with many words. " * 3000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def start_service(launcher: Launcher, embedded_broker: Child, place: Path, reserve_bytes: int) -> Child:
    """A service whose queue is on the small disk."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "100")
    settings = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": embedded_broker.ready["bootstrap_servers"],
        "QUEUE_PATH": str(place / "queue.db"),
        "QUEUE_DISK_RESERVE_BYTES": str(reserve_bytes),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
    }
    return launcher.start(
        "service", env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in settings.items()}
    )


class Submitter:
    """Hands in large requests and keeps the ledger."""

    def __init__(self, url: str, topic: str, ledger: SharedLedger) -> None:
        self._client = open_client(url)
        self._topic = topic
        self._ledger = ledger
        self.accepted = 0

    async def submit(self) -> httpx.Response:
        """One request of about 90 KB."""
        correlation_id = uuid4()
        answer = await self._client.post(
            PATH,
            json={
                "user_prompt": "Which is better?",
                "essay_a": ESSAY,
                "essay_b": "b",
                "callback_topic": self._topic,
                "correlation_id": str(correlation_id),
            },
        )
        if answer.status_code == 202:
            self.accepted += 1
            self._ledger.fold(Accepted(answer.json()["queue_id"], correlation_id, self._topic, 0.0))
        return answer

    async def fill(self, most: int) -> httpx.Response:
        """Hands in until one is refused; that answer."""
        for _ in range(most):
            answer = await self.submit()
            if answer.status_code != 202:
                return answer
        pytest.fail(f"{most} requests were accepted")

    async def hold(self) -> None:
        """Nothing is worked on, so that what is handed in stays where it is."""
        (await self._client.post("/admin/v1/providers/openai/hold", json={})).raise_for_status()

    async def release(self) -> None:
        """Everything is worked on again."""
        (await self._client.post("/admin/v1/providers/openai/release", json={})).raise_for_status()

    async def ready(self) -> int:
        """What readiness says."""
        return (await self._client.get("/readyz")).status_code

    async def close(self) -> None:
        """Ends."""
        await self._client.aclose()


async def test_a_disk_that_is_nearly_full_refuses_early_and_finishes_what_it_has(
    small_disk: Path, launcher: Launcher, embedded_broker: Child, topic: str
) -> None:
    """503 while there is still room to finish what was accepted; when that is done, all is well again."""
    service = await asyncio.to_thread(start_service, launcher, embedded_broker, small_disk, RESERVE_BYTES)
    ledger = SharedLedger()
    with TopicWatch(embedded_broker.ready["bootstrap_servers"], [topic], ledger) as watch:
        submitter = Submitter(service.ready["url"], topic, ledger)

        await submitter.hold()
        refused = await submitter.fill(400)

        assert refused.status_code == 503
        assert refused.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"
        assert "retry-after" in refused.headers
        await until(_is(submitter.ready, 503), what="not ready")
        await submitter.release()
        await watch.until_called_back()
        await until(_is(submitter.ready, 200), what="ready again")
        assert (await submitter.submit()).status_code == 202
        await watch.until_called_back()
        await submitter.close()
    report = ledger.report()
    assert report.accepted == submitter.accepted > 50
    assert (report.ok, report.missing, report.duplicate) == (report.accepted, 0, 0)


async def test_a_disk_that_is_full_loses_nothing(
    small_disk: Path, launcher: Launcher, embedded_broker: Child, topic: str
) -> None:
    """Somebody else fills the disk to the last byte: 503 at the door; with room again all is finished."""
    service = await asyncio.to_thread(start_service, launcher, embedded_broker, small_disk, 0)
    ledger = SharedLedger()
    with TopicWatch(embedded_broker.ready["bootstrap_servers"], [topic], ledger) as watch:
        submitter = Submitter(service.ready["url"], topic, ledger)
        await submitter.hold()
        for _ in range(30):
            assert (await submitter.submit()).status_code == 202
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                pass  # full

        refused = await submitter.fill(400)
        assert refused.status_code == 503
        ballast.unlink()
        await submitter.release()

        async def is_accepted() -> bool:
            return (await submitter.submit()).status_code == 202

        await until(is_accepted, what="room again")
        await watch.until_called_back()
        await submitter.close()
    report = ledger.report()
    assert (report.ok, report.missing, report.duplicate, report.orphan) == (report.accepted, 0, 0, 0)


def _is(ask: Any, expected: int) -> Any:
    async def look() -> bool:
        return bool(await ask() == expected)

    return look
