"""`llmctl cancel` against a real service whose judge takes his time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.flow.cli.conftest import Run
from tests.flow.conftest import Body

LATE = str(uuid4())


@pytest.fixture
def submit(patient_service: httpx.AsyncClient, body: Body) -> Callable[[], Any]:
    async def hand_in() -> dict[str, Any]:
        return dict((await patient_service.post("/api/v1/comparison", json=body)).json())

    return hand_in


async def test_cancels_those_that_can_be_and_names_the_others(
    llmctl: Run, patient_service: httpx.AsyncClient, submit: Callable[[], Any]
) -> None:
    url = str(patient_service.base_url)
    ids = [(await submit())["queue_id"] for _ in range(3)]

    first = await llmctl("cancel", ids[0], ids[1], ids[0], "--url", url)
    second = await llmctl("cancel", ids[2], LATE, "--url", url, "--output", "table", env={"COLUMNS": "160"})

    told = [json.loads(line) for line in first.out.splitlines()]
    assert (first.code, second.code) == (0, 1)
    assert sorted(each["queue_id"] for each in told) == sorted(ids[:2])
    assert {(each["status"], each["error"]) for each in told} == {("cancelled", None)}
    assert ids[2] in second.out
    assert "too late" in second.out
    assert LATE in second.err
    assert "LLM_NOT_FOUND" in second.err


async def test_cancels_a_whole_batch_by_its_receipts(
    llmctl: Run, patient_service: httpx.AsyncClient, submit: Callable[[], Any], tmp_path: Path
) -> None:
    url = str(patient_service.base_url)
    accepted = [await submit() for _ in range(4)]
    receipts = tmp_path / "receipts.jsonl"
    lines = [
        {name: each[name] for name in ("queue_id", "correlation_id", "callback_topic")}
        | {"line": number, "accepted_at": "2026-01-02T03:04:05Z"}
        for number, each in enumerate(accepted[:3], start=1)
    ]
    receipts.write_text("".join(json.dumps(line) + "\n" for line in lines))

    by_receipts = await llmctl("cancel", "--receipts", str(receipts), "--url", url)
    by_list = await llmctl("cancel", "-", "--url", url, stdin=accepted[3]["queue_id"].encode())

    assert (by_receipts.code, by_list.code) == (0, 0)
    assert len(by_receipts.out.splitlines()) == 3
    assert (await patient_service.get("/admin/v1/snapshot")).json()["totals"]["failed"] == 4
