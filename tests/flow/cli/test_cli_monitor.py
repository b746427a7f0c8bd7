"""`llmctl monitor` without its screen: figures printed once, recordings, and what cannot be asked for."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.flow.cli.conftest import Run
from tests.flow.conftest import Body, read_snapshot, until_snapshot
from tests.waiting import HANG_SECONDS


@pytest.fixture
async def busy_service(service_url: str, client: httpx.AsyncClient, body: Body) -> str:
    """A service that has called back three times."""
    before = (await read_snapshot(client))["totals"]["published"]
    for _ in range(3):
        (await client.post("/api/v1/comparison", json=body)).raise_for_status()

    def is_idle(now: dict[str, Any]) -> bool:
        under_way = now["queue"]["depth"] or now["in_flight"] or now["outbox"]["depth"]
        return not under_way and now["totals"]["published"] >= before + 3

    await until_snapshot(client, is_idle, "the callbacks")
    return service_url


def read_metric(text: str, name: str) -> float:
    lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_once_prints_what_the_metrics_say(
    llmctl: Run, busy_service: str, client: httpx.AsyncClient
) -> None:
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
    table = await llmctl("monitor", "--once", "--output", "table", "--url", busy_service)
    assert table.code == 0, table.err
    assert "queue depth" in table.out
    assert "publish p50 / p99" in table.out


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
    llmctl: Run, busy_service: str, topic: str, tmp_path: Path
) -> None:
    words = ("monitor", topic, "--headless", "--url", busy_service)
    ended = await record(llmctl, words, {"figures": 1, "topics": 1, "source": 1}, tmp_path)
    assert ended.code == 0
    assert "frames in" in ended.err


async def test_load_run_writes_a_recording(llmctl: Run, tmp_path: Path) -> None:
    words = ("simulate", "load", "--rate", "5/s", "--output", "json")
    await record(llmctl, words, {"run": 2, "figures": 2, "callbacks": 1}, tmp_path)


async def test_browser_gets_the_screen(dead_port: int) -> None:
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
    while True:
        try:
            async with browser.get(address) as answer:
                assert answer.status == 200
                assert "llmctl monitor" in await answer.text()
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
