"""`llmctl drain` as a process, against the real service."""

import asyncio
import json

import httpx

from tests.flow.conftest import Body, Run, read_snapshot, submit_many, until_snapshot
from tests.flow.judge import Judge
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"


async def until_draining(client: httpx.AsyncClient) -> None:
    await until_snapshot(client, lambda now: now["phase"] == "draining", "the drain")


async def test_drain_says_what_was_finished_and_left_and_resume_opens_the_door(
    llmctl: Run, own_service: httpx.AsyncClient, judge: Judge, body: Body
) -> None:
    url = str(own_service.base_url)
    judge.gate.clear()
    await submit_many(own_service, body, 6)
    await until_snapshot(own_service, lambda now: now["in_flight"] == 4, "provider calls")

    drain = asyncio.create_task(llmctl("--url", url, "drain", "--timeout", f"{HANG_SECONDS:g}s"))
    await until_draining(own_service)
    judge.gate.set()
    ended = await drain
    totals = (await read_snapshot(own_service))["totals"]
    refused = await own_service.post(PATH, json=body)
    resumed = await llmctl("--url", url, "drain", "--resume")
    accepted = await own_service.post(PATH, json=body)

    report = json.loads(ended.out)
    assert (ended.code, report["state"], report["remaining_in_flight"]) == (0, "drained", 0)
    assert report["outbox"] == 0
    assert (report["finished"], report["left_queued"], totals["published"]) == (4, 2, 4)
    assert (refused.status_code, refused.json()["error"]["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert (resumed.code, json.loads(resumed.out)["state"]) == (0, "resumed")
    assert accepted.status_code == 202


async def test_drain_until_empty_leaves_nothing(
    llmctl: Run, own_service: httpx.AsyncClient, body: Body
) -> None:
    await own_service.post("/admin/v1/providers/openai/hold", json={"seconds": 10 * HANG_SECONDS})
    await submit_many(own_service, body, 6)

    drain = asyncio.create_task(llmctl("--url", str(own_service.base_url), "drain", "--until-empty"))
    await until_draining(own_service)
    await own_service.post("/admin/v1/providers/openai/release")
    ended = await drain
    totals = (await read_snapshot(own_service))["totals"]

    report = json.loads(ended.out)
    assert (ended.code, report["left_queued"], totals["published"]) == (0, 0, 6)
    assert report["finished"] == 6


async def test_drain_that_is_too_slow_exits_4_and_no_wait_exits_0(
    llmctl: Run, patient_service: httpx.AsyncClient, body: Body
) -> None:
    url = str(patient_service.base_url)
    await submit_many(patient_service, body, 2)
    ordered = await llmctl("--url", url, "drain", "--no-wait")
    ended = await llmctl("--url", url, "drain", "--timeout", "50ms", "--until-empty")
    assert (ordered.code, json.loads(ordered.out)["state"]) == (0, "draining")
    assert (ended.code, json.loads(ended.out)["state"]) == (4, "timeout")
    assert "--resume" in ended.err
