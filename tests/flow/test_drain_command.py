"""`llmctl drain` as a process, against the real service."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import HANG_SECONDS, until

PATH = "/api/v1/comparison"
ROOT = Path(__file__).parents[2]


async def run_llmctl(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Runs llmctl in a pipe; exit code, stdout, stderr."""
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


async def submit(client: httpx.AsyncClient, body: dict[str, Any], count: int) -> None:
    """Submits requests at once."""
    responses = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(count)))
    assert {response.status_code for response in responses} == {202}


async def test_drain_says_what_was_finished_and_left_and_resume_opens_the_door(
    slow_service: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """Exit 0 with the figures; submits are refused meanwhile and accepted again after --resume."""
    url = str(slow_service.base_url)
    await submit(slow_service, body, 100)

    code, out, _ = await run_llmctl("--url", url, "drain", "--timeout", "20s")
    totals = (await slow_service.get("/admin/v1/snapshot")).json()["totals"]
    refused = await slow_service.post(PATH, json=body)
    resumed_code, resumed, _ = await run_llmctl("--url", url, "drain", "--resume")
    accepted = await slow_service.post(PATH, json=body)

    report = json.loads(out)
    assert (code, report["state"], report["remaining_in_flight"], report["outbox"]) == (0, "drained", 0, 0)
    assert totals["published"] + report["left_queued"] == 100
    assert 0 < report["finished"] <= totals["published"]
    assert report["left_queued"] > 0
    assert (refused.status_code, refused.json()["error"]["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert (resumed_code, json.loads(resumed)["state"]) == (0, "resumed")
    assert accepted.status_code == 202


async def test_drain_until_empty_leaves_nothing(
    slow_service: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """With --until-empty the queue is worked off."""
    await slow_service.post("/admin/v1/providers/openai/hold", json={"seconds": 600})
    await submit(slow_service, body, 24)

    drain = asyncio.create_task(run_llmctl("--url", str(slow_service.base_url), "drain", "--until-empty"))

    async def is_draining() -> bool:
        return bool((await slow_service.get("/admin/v1/snapshot")).json()["phase"] == "draining")

    await until(is_draining, what="the drain")
    await slow_service.post("/admin/v1/providers/openai/release")
    code, out, _ = await drain
    totals = (await slow_service.get("/admin/v1/snapshot")).json()["totals"]

    report = json.loads(out)
    assert (code, report["left_queued"], totals["published"]) == (0, 0, 24)
    assert report["finished"] == 24


async def test_drain_that_is_too_slow_exits_4_and_no_wait_exits_0(
    patient_service: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """A limit that passes is exit 4 with the figures; --no-wait only orders."""
    url = str(patient_service.base_url)
    await submit(patient_service, body, 2)

    ordered_code, ordered, _ = await run_llmctl("--url", url, "drain", "--no-wait")
    code, out, err = await run_llmctl("--url", url, "drain", "--timeout", "50ms", "--until-empty")

    assert (ordered_code, json.loads(ordered)["state"]) == (0, "draining")
    assert (code, json.loads(out)["state"]) == (4, "timeout")
    assert "--resume" in err


async def test_drain_of_a_dead_service_exits_3() -> None:
    """Nobody there: one sentence, exit 3."""
    code, out, err = await run_llmctl("--url", "http://127.0.0.1:1", "drain")

    assert (code, out) == (3, "")
    assert "llmctl up" in err


async def test_drain_of_production_is_not_done_unasked(
    slow_service: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Where nobody can be asked a context that is production is left alone, unless --yes is said."""
    config = tmp_path / "config.toml"
    config.write_text(f'[contexts.live]\nurl = "{slow_service.base_url}"\nenvironment = "prod"\n')
    env = {"LLMCTL_CONFIG": str(config), "LLMCTL_CONTEXT": "live"}

    code, _, err = await run_llmctl("drain", env=env)
    untouched = await slow_service.get("/readyz")
    sure_code, out, _ = await run_llmctl("drain", "--yes", env=env)

    assert (code, untouched.status_code) == (2, 200)
    assert "--yes" in err
    assert (sure_code, json.loads(out)["state"]) == (0, "drained")


async def test_wrong_usage_of_drain_exits_2() -> None:
    """Options that contradict each other are refused before anything is asked."""
    both, _, _ = await run_llmctl("drain", "--resume", "--until-empty")
    never, _, _ = await run_llmctl("drain", "--timeout", "0s")
    no_duration, _, _ = await run_llmctl("drain", "--timeout", "soon")

    assert (both, never, no_duration) == (2, 2, 2)
