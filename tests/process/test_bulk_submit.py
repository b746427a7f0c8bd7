"""`llmctl submit --file --receipts` is killed again and again: every line is called back, and none twice."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Child, Launcher
from tests.free_ports import find_free_ports
from tests.process.conftest import (
    configure_service,
    find_openai,
    order_provider,
    read_records,
    start_provider,
    stopped,
)
from tests.waiting import HANG_SECONDS, until


@pytest.fixture
def provider(launcher: Launcher) -> Child:
    return start_provider(launcher)


@pytest.fixture
def settings(provider: Child, bootstrap_servers: str, tmp_path: Path) -> dict[str, str]:
    return configure_service(bootstrap_servers, tmp_path, find_openai(provider))


class Bulk:
    """A file of numbered requests, its receipts, and the command that submits it."""

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
        """Returns False if the command had ended before."""
        assert self._running is not None
        self._running.kill()
        self._running.communicate()
        return self._running.returncode == -9

    def finish(self) -> tuple[int, str]:
        """Waits for its end; returns the exit code and stderr."""
        assert self._running is not None
        _, err = self._running.communicate(timeout=HANG_SECONDS)
        return self._running.returncode, err.decode()

    def count(self) -> int:
        """Returns how many receipts there are."""
        return self._receipts.read_bytes().count(b"\n") if self._receipts.exists() else 0

    def read(self) -> list[dict[str, Any]]:
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


def check(bulk: Bulk, bootstrap_servers: str, topic: str) -> None:
    """Every line has one receipt and one callback, and they name the same request."""
    records = read_records(bootstrap_servers, topic, bulk.lines)
    callbacks = [json.loads(record.value())["data"] for record in records]
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
    bootstrap_servers: str,
    topic: str,
    make_bulk: Callable[[int], Bulk],
    lines: int,
    kills: int,
    record_figures: Callable[[str], None],
) -> None:
    """SIGKILL before the first receipt and at moments all along the run; the same command resumes it."""
    limit = {"LLM_PROVIDER_SERVICE_QUEUE_MAX_SIZE": str(lines - 1)}
    url = launcher.start("service", env={**settings, **limit}).ready["url"]
    bulk = make_bulk(lines)
    await order_provider(url, "hold")  # the queue is full before the run ends: it waits until it is killed
    began = time.monotonic()
    stood = []
    for kill in range(kills):
        bulk.start(url)
        # The first as soon as the batch file exists, the others after different numbers of receipts.
        least = kill * lines // kills - 7 * kill
        await until(
            lambda least=least: bulk.batch_file.exists() and bulk.count() >= least,
            what=f"{least} receipts",
        )
        assert bulk.kill(), "the run had ended before it was killed"
        stood.append(bulk.count())
    await order_provider(url, "release")
    bulk.start(url)
    code, said = bulk.finish()
    assert code == 0, said
    assert f"{stood[-1]} of {lines} requests stand in" in said
    seconds = time.monotonic() - began
    record_figures(f"{lines} lines, killed {kills} times at {stood} receipts, {seconds:.1f} s")
    check(bulk, bootstrap_servers, topic)
    assert stood == sorted(stood)
    assert stood[-1] < lines


async def test_a_bulk_run_waits_for_a_service_that_is_deployed(
    launcher: Launcher,
    provider: Child,
    settings: dict[str, str],
    bootstrap_servers: str,
    topic: str,
    make_bulk: Callable[[int], Bulk],
) -> None:
    """The service is stopped and started again, then killed and started again: the run goes on."""
    (port,) = find_free_ports(1)
    # With its provider suspended, the service has room for less than the run: it cannot end.
    limits = {"PORT": str(port), "QUEUE_MAX_SIZE": "100"}
    settings |= {f"LLM_PROVIDER_SERVICE_{name}": value for name, value in limits.items()}
    service = launcher.start("service", env=settings)
    url = service.ready["url"]
    await order_provider(url, "hold")
    bulk = make_bulk(200)
    with stopped(provider):
        bulk.start(url)
        await until(lambda: bulk.count() >= 40, what="40 receipts")
        assert service.stop() == 0
        service = launcher.start("service", env=settings)
        await until(lambda: bulk.count() >= 80, what="80 receipts")
        service.kill()
        launcher.start("service", env=settings)
    code, said = bulk.finish()
    assert (code, said) == (0, "")
    check(bulk, bootstrap_servers, topic)
