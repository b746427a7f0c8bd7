"""`llmctl drain` as a process, against the real service."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.flow.conftest import read_snapshot, submit_many, until_snapshot
from tests.flow.judge import Judge
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"
ROOT = Path(__file__).parents[2]


async def run_llmctl(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmctl",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", **(env or {})},
    )
    out, err = await asyncio.wait_for(process.communicate(), HANG_SECONDS)
    assert "Traceback" not in err.decode()
    return process.returncode or 0, out.decode(), err.decode()


async def until_draining(client: httpx.AsyncClient) -> None:
    await until_snapshot(client, lambda now: now["phase"] == "draining", "the drain")


async def test_drain_says_what_was_finished_and_left_and_resume_opens_the_door(
    own_service: httpx.AsyncClient, judge: Judge, body: dict[str, Any]
) -> None:
    url = str(own_service.base_url)
    judge.gate.clear()
    await submit_many(own_service, body, 6)
    await until_snapshot(own_service, lambda now: now["in_flight"] == 4, "provider calls")

    drain = asyncio.create_task(run_llmctl("--url", url, "drain", "--timeout", f"{HANG_SECONDS:g}s"))
    await until_draining(own_service)
    judge.gate.set()
    code, out, _ = await drain
    totals = (await read_snapshot(own_service))["totals"]
    refused = await own_service.post(PATH, json=body)
    resumed_code, resumed, _ = await run_llmctl("--url", url, "drain", "--resume")
    accepted = await own_service.post(PATH, json=body)

    report = json.loads(out)
    assert (code, report["state"], report["remaining_in_flight"], report["outbox"]) == (0, "drained", 0, 0)
    assert (report["finished"], report["left_queued"], totals["published"]) == (4, 2, 4)
    assert (refused.status_code, refused.json()["error"]["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert (resumed_code, json.loads(resumed)["state"]) == (0, "resumed")
    assert accepted.status_code == 202


async def test_drain_until_empty_leaves_nothing(own_service: httpx.AsyncClient, body: dict[str, Any]) -> None:
    await own_service.post("/admin/v1/providers/openai/hold", json={"seconds": 10 * HANG_SECONDS})
    await submit_many(own_service, body, 6)

    drain = asyncio.create_task(run_llmctl("--url", str(own_service.base_url), "drain", "--until-empty"))
    await until_draining(own_service)
    await own_service.post("/admin/v1/providers/openai/release")
    code, out, _ = await drain
    totals = (await read_snapshot(own_service))["totals"]

    report = json.loads(out)
    assert (code, report["left_queued"], totals["published"]) == (0, 0, 6)
    assert report["finished"] == 6


async def test_drain_that_is_too_slow_exits_4_and_no_wait_exits_0(
    patient_service: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    url = str(patient_service.base_url)
    await submit_many(patient_service, body, 2)

    ordered_code, ordered, _ = await run_llmctl("--url", url, "drain", "--no-wait")
    code, out, err = await run_llmctl("--url", url, "drain", "--timeout", "50ms", "--until-empty")

    assert (ordered_code, json.loads(ordered)["state"]) == (0, "draining")
    assert (code, json.loads(out)["state"]) == (4, "timeout")
    assert "--resume" in err


async def test_drain_of_a_dead_service_exits_3() -> None:
    code, out, err = await run_llmctl("--url", "http://127.0.0.1:1", "drain")

    assert (code, out) == (3, "")
    assert "llmctl up" in err


async def test_drain_of_production_is_not_done_unasked(
    own_service: httpx.AsyncClient, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[contexts.live]\nurl = "{own_service.base_url}"\nenvironment = "prod"\n')
    env = {"LLMCTL_CONFIG": str(config), "LLMCTL_CONTEXT": "live"}

    code, _, err = await run_llmctl("drain", env=env)
    untouched = await own_service.get("/readyz")
    sure_code, out, _ = await run_llmctl("drain", "--yes", env=env)

    assert (code, untouched.status_code) == (2, 200)
    assert "--yes" in err
    assert (sure_code, json.loads(out)["state"]) == (0, "drained")


async def test_wrong_usage_of_drain_exits_2() -> None:
    """Options that contradict each other are refused before anything is asked."""
    wrong = (("--resume", "--until-empty"), ("--timeout", "0s"), ("--timeout", "soon"))

    ended = await asyncio.gather(*(run_llmctl("drain", *options) for options in wrong))

    assert [code for code, _, _ in ended] == [2, 2, 2]
