"""A disk that fills up under the queue: refused early, nothing lost, and well again when there is room."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from simulator.load.ledger import Accepted
from tests.conftest import Child, Launcher
from tests.process.conftest import PATH, configure_service, find_openai, order_provider, start_provider
from tests.process.load import SharedLedger, TopicWatch
from tests.waiting import open_client, until

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


StartService = Callable[[int], Child]


@pytest.fixture
def start_service(launcher: Launcher, bootstrap_servers: str, small_disk: Path) -> StartService:
    """Starts a service whose queue is on the small disk."""
    provider = start_provider(launcher)

    def start(reserve_bytes: int) -> Child:
        settings = configure_service(
            bootstrap_servers,
            small_disk,
            find_openai(provider),
            QUEUE_DISK_RESERVE_BYTES=str(reserve_bytes),
        )
        return launcher.start("service", env=settings)

    return start


class Submitter:
    """Submits large requests and keeps the ledger."""

    def __init__(self, url: str, topic: str, ledger: SharedLedger) -> None:
        self._client = open_client(url)
        self._topic = topic
        self._ledger = ledger
        self.accepted = 0

    async def submit(self) -> httpx.Response:
        """Submits one request of about 90 KB."""
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
        """Submits until a request is refused; returns that response."""
        for _ in range(most):
            answer = await self.submit()
            if answer.status_code != 202:
                return answer
        pytest.fail(f"{most} requests were accepted")

    async def until_ready_is(self, status: int) -> None:
        async def is_so() -> bool:
            return (await self._client.get("/readyz")).status_code == status

        await until(is_so, what=f"readiness {status}")

    async def close(self) -> None:
        await self._client.aclose()


async def test_a_disk_that_is_nearly_full_refuses_early_and_finishes_what_it_has(
    start_service: StartService, bootstrap_servers: str, topic: str
) -> None:
    """503 while there is still room to finish what was accepted; when that is done, all is well again."""
    url = start_service(RESERVE_BYTES).ready["url"]
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        submitter = Submitter(url, topic, ledger)
        await order_provider(url, "hold")
        refused = await submitter.fill(400)

        assert refused.status_code == 503
        assert refused.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"
        assert "retry-after" in refused.headers
        await submitter.until_ready_is(503)
        await order_provider(url, "release")
        await watch.until_called_back()
        await submitter.until_ready_is(200)
        assert (await submitter.submit()).status_code == 202
        await watch.until_called_back()
        await submitter.close()
    report = ledger.report()
    assert report.accepted == submitter.accepted > 50
    assert (report.ok, report.missing, report.duplicate) == (report.accepted, 0, 0)


async def test_a_disk_that_is_full_loses_nothing(
    small_disk: Path, start_service: StartService, bootstrap_servers: str, topic: str
) -> None:
    """Somebody else fills the disk to the last byte: 503 at the door; with room again all is finished."""
    url = start_service(0).ready["url"]
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        submitter = Submitter(url, topic, ledger)
        await order_provider(url, "hold")
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
        await order_provider(url, "release")

        async def is_accepted() -> bool:
            return (await submitter.submit()).status_code == 202

        await until(is_accepted, what="room again")
        await watch.until_called_back()
        await submitter.close()
    report = ledger.report()
    assert (report.ok, report.missing, report.duplicate, report.orphan) == (report.accepted, 0, 0, 0)
