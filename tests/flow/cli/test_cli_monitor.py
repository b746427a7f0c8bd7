"""`llmctl monitor` without its screen: figures printed once, recordings, and what cannot be asked for."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest

from tests.flow.cli.conftest import Run, RunHere
from tests.waiting import HANG_SECONDS, until


@pytest.fixture
async def busy_service(service_url: str, client: httpx.AsyncClient, create_topic: Any) -> str:
    """A service that has called back three times."""
    topic = f"results.{uuid4().hex}"
    await create_topic(topic, 2)
    body = {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic}
    before = (await client.get("/admin/v1/snapshot")).json()["totals"]["published"]
    for _ in range(3):
        (await client.post("/api/v1/comparison", json=body)).raise_for_status()

    async def called_back() -> bool:
        now = (await client.get("/admin/v1/snapshot")).json()
        is_idle = not (now["queue"]["depth"] or now["in_flight"] or now["outbox"]["depth"])
        return bool(is_idle and now["totals"]["published"] >= before + 3)

    await until(called_back, what="the callbacks")
    return service_url


def read_metric(text: str, name: str) -> float:
    """The sum of a metric's values in a Prometheus exposition."""
    lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_once_prints_what_the_metrics_say(
    llmctl: Run, busy_service: str, client: httpx.AsyncClient
) -> None:
    """The printed figures are those of `/metrics` at that moment."""
    ended = await llmctl("monitor", "--once", "--output", "json", "--url", busy_service)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    metrics = (await client.get("/metrics")).text
    service = told["service"]
    assert service["phase"] == "ready"
    assert service["totals"]["accepted"] == read_metric(metrics, "llm_requests_accepted_total")
    assert service["totals"]["published"] == read_metric(metrics, "callback_events_published_total")
    assert service["queue"]["depth"] == read_metric(metrics, "llm_queue_depth")
    assert service["in_flight"] == read_metric(metrics, "llm_requests_in_flight")
    assert told["latency"]["publish"]["p99"] > 0
    assert told["stale"] is False


async def test_once_as_a_table(llmctl: Run, busy_service: str) -> None:
    """People get a table."""
    ended = await llmctl("monitor", "--once", "--output", "table", "--url", busy_service)
    assert ended.code == 0, ended.err
    assert "queue depth" in ended.out
    assert "publish p50 / p99" in ended.out


async def test_once_without_a_service(llmctl: Run, dead_port: int) -> None:
    """A service that is not there is one sentence and exit code 3."""
    ended = await llmctl("monitor", "--once", "--url", f"http://127.0.0.1:{dead_port}")
    assert (ended.code, ended.out) == (3, "")
    assert "No service answers" in ended.err


def test_screen_needs_a_terminal(llmctl_here: RunHere) -> None:
    """In a pipe there is no screen, and the sentence says what to do instead."""
    ended = llmctl_here("monitor", "--mock")
    assert ended.code == 2
    assert "--once --output json" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--once", "--headless"], "choose one"),
        (["--replay", "x", "--mock"], "choose one"),
        (["--mock", "--control"], "--mock shows no service"),
        (["--serve", "--control"], "read-only"),
        (["--headless"], "--record"),
        (["--speed", "2"], "--replay"),
        (["--record-payloads"], "--record"),
        (["--alert", "colour > 5"], "no metric"),
        (["--alert", "goodput < 50%"], "referee"),
        (["--replay", "/nowhere/x.llmrec", "--once"], "shows no service"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_makes_no_sense_is_refused(llmctl_here: RunHere, options: list[str], said: str) -> None:
    """Options that want different things, or have no effect, are wrong usage with one sentence."""
    ended = llmctl_here("monitor", *options)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def count_frames(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as database:
        return dict(database.execute("SELECT kind, count(*) FROM frames GROUP BY kind"))


async def record(llmctl: Run, words: tuple[str, ...], enough: dict[str, int], folder: Path) -> Any:
    """Records for longer and longer until there are enough frames: a busy machine needs more time."""
    for seconds in (2, 10, 60, 200):
        file = folder / f"{seconds}.llmrec"
        ended = await llmctl(*words, "--duration", f"{seconds}s", "--record", str(file))
        # A machine too busy to send in time exits with 6; the recording counts all the same.
        assert ended.code in {0, 6}, ended.err
        counts = count_frames(file)
        if all(counts.get(kind, 0) >= least for kind, least in enough.items()):
            return ended
    pytest.fail(f"only {counts}")


async def test_headless_records_what_is_seen_and_no_texts(
    llmctl: Run, busy_service: str, bootstrap_servers: str, topic: str, tmp_path: Path
) -> None:
    """A recording without a screen holds the service's figures, and ends after its time."""
    words = ("monitor", topic, "--headless", "--url", busy_service, "--bootstrap-servers", bootstrap_servers)
    ended = await record(llmctl, words, {"figures": 1, "topics": 1, "source": 1}, tmp_path)
    assert ended.code == 0
    assert "frames in" in ended.err


async def test_load_run_writes_a_recording(llmctl: Run, tmp_path: Path) -> None:
    """`simulate load --record` records the run itself, the service and the callbacks in one file."""
    words = ("simulate", "load", "--rate", "5/s", "--output", "json")
    await record(llmctl, words, {"run": 2, "figures": 2, "callbacks": 1}, tmp_path)


async def test_browser_gets_the_screen(dead_port: int) -> None:
    """Served on loopback, the screen comes through the browser's websocket, and ends with its visitor."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmctl", "monitor", "--mock", "--serve", "--serve-port", str(dead_port),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{dead_port}"
    try:
        async with asyncio.timeout(HANG_SECONDS), aiohttp.ClientSession() as browser:
            await until_served(browser, address)
            async with browser.ws_connect(f"{address}/ws?width=120&height=36") as screen:
                seen = b""
                while b"a made-up service" not in seen:
                    seen += (await screen.receive()).data or b""
    finally:
        process.terminate()
        await process.wait()
    assert b"LIVE CALLBACKS" in seen


async def until_served(browser: aiohttp.ClientSession, address: str) -> None:
    """Waits until the page is there."""
    while True:
        try:
            async with browser.get(address) as answer:
                assert answer.status == 200
                assert "llmctl monitor" in await answer.text()
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
