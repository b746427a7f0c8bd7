"""The operators' routes over real HTTP: snapshot, stream, drain and resume, providers, documents."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest

from service.contracts.codec import open_envelope
from tests.flow.conftest import Body, ReadError, read_snapshot, submit_many, until_snapshot
from tests.flow.judge import Judge
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"


async def wait_for_drain(client: httpx.AsyncClient) -> dict[str, Any]:
    await until_snapshot(client, lambda now: now["drain"]["state"] != "running", "the end of the drain")
    return dict((await client.get("/admin/v1/drain")).json())


async def until_called(client: httpx.AsyncClient, count: int = 1) -> None:
    await until_snapshot(client, lambda now: now["in_flight"] == count, "provider calls")


@pytest.mark.apache
async def test_drain_finishes_what_was_started_and_resume_takes_it_back(
    own_service: httpx.AsyncClient,
    judge: Judge,
    body: Body,
    topic: str,
    read_topic: Any,
    read_error: ReadError,
) -> None:
    judge.gate.clear()
    accepted = await submit_many(own_service, body, 6)
    await until_called(own_service, 4)

    ordered = await own_service.post("/admin/v1/drain", json={"timeout_seconds": HANG_SECONDS})
    refused = await own_service.post(PATH, json=body)
    readiness = await own_service.get("/readyz")
    judge.gate.set()
    report = await wait_for_drain(own_service)

    assert (ordered.status_code, ordered.json()["state"]) == (202, "running")
    assert ordered.json()["phase"] == "draining"
    assert (refused.status_code, read_error(refused)["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert refused.headers["retry-after"].isdecimal()
    assert (readiness.status_code, read_error(readiness)["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert (report["state"], report["in_flight"], report["outbox"]) == ("done", 0, 0)
    assert (report["queued"], report["finished"]) == (2, 4)
    assert len(await asyncio.to_thread(read_topic, topic, 4)) == 4

    resumed = await own_service.post("/admin/v1/resume")
    accepted += await submit_many(own_service, body, 1)
    records = await asyncio.to_thread(read_topic, topic, 7)

    assert (resumed.status_code, resumed.json()["phase"], resumed.json()["state"]) == (200, "ready", "none")
    assert sorted(open_envelope(record.value()).data.request_id for record in records) == sorted(accepted)


async def test_drain_that_runs_out_of_time_says_so(patient_service: httpx.AsyncClient, body: Body) -> None:
    await submit_many(patient_service, body, 2)
    await until_called(patient_service)  # a drain of what only waits is done at once
    await patient_service.post("/admin/v1/drain", json={"timeout_seconds": 0.05})
    report = await wait_for_drain(patient_service)
    assert report["state"] == "timed_out"
    assert report["phase"] == "draining"


@pytest.mark.parametrize(
    "order", [{"timeout_seconds": 0}, {"timeout_seconds": "5"}, {"until_empty": 1}, {"unknown": 1}, [1]]
)
async def test_faulty_drain_order_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, read_error: ReadError, order: Any
) -> None:
    response = await client.post("/admin/v1/drain", json=order)
    assert (response.status_code, read_error(response)["error_code"]) == (422, "LLM_INVALID_REQUEST")
    assert (await client.get("/readyz")).status_code == 200


async def test_snapshot_agrees_with_the_metrics(
    own_service: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    await submit_many(own_service, body, 6)
    await own_service.post(PATH, json=body | {"essay_a": ""})

    await until_snapshot(
        own_service,
        lambda now: now["totals"]["published"] == 6 and not now["outbox"]["depth"],
        "six callbacks",
    )
    snapshot = await read_snapshot(own_service)
    metrics = (await own_service.get("/metrics")).text

    assert {"version", "time", "phase", "accepting", "queue", "in_flight", "outbox"} <= set(snapshot)
    assert snapshot["queue"].keys() >= {"backend", "depth", "capacity", "oldest_age_seconds"}
    if snapshot["queue"]["backend"] == "sqlite":
        assert snapshot["queue"]["disk"]["free_bytes"] > snapshot["queue"]["disk"]["reserve_bytes"] > 0
    else:
        assert set(snapshot["queue"]["topics"]) == {"requests", "journal", "memory", "dead_letters"}
    accepted = {"accepted": 6, "succeeded": 6, "published": 6}
    assert snapshot["totals"] == accepted | {"rejected": 1, "failed": 0, "publish_failures": 0}
    assert set(snapshot["rates"]) == set(snapshot["totals"])
    assert set(snapshot["latency"]) == {"accept", "queue_wait", "provider", "publish", "end_to_end"}
    for name, latency in snapshot["latency"].items():
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"], name
        assert latency["buckets"]["+Inf"] == 6
    (provider,) = snapshot["providers"]
    assert (provider["name"], provider["circuit"], provider["calls"]) == ("openai", "closed", 6)
    assert provider["errors"] == 0
    assert (provider["in_flight"], provider["last_error"], provider["held_until"]) == (0, None, None)
    assert (snapshot["outbox"], snapshot["drain"]["state"]) == ({"depth": 0, "parked": 0}, "none")
    assert "llm_requests_accepted_total 6.0" in metrics
    assert 'llm_requests_rejected_total{error_code="LLM_INVALID_PROMPT"} 1.0' in metrics
    assert 'llm_circuit_state{provider="openai"} 0.0' in metrics
    assert re.search(r'llm_tokens_total\{kind="prompt",provider="openai"\} [1-9]', metrics)


async def test_stream_sends_snapshots_as_events(client: httpx.AsyncClient) -> None:
    events: list[str] = []
    async with asyncio.timeout(HANG_SECONDS), client.stream("GET", "/admin/v1/stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            events.append(line)
            if len([one for one in events if one.startswith("data: ")]) == 2:
                break

    snapshots = [json.loads(line.removeprefix("data: ")) for line in events if line.startswith("data: ")]
    assert events[0] == "event: snapshot"
    assert [snapshot["phase"] for snapshot in snapshots] == ["ready", "ready"]
    assert snapshots[0]["time"] < snapshots[1]["time"]


async def test_providers_tell_models_and_limits(client: httpx.AsyncClient) -> None:
    providers = {row["name"]: row for row in (await client.get("/api/v1/providers")).json()["providers"]}

    assert providers["mock"]["default"]
    assert "gpt-4o-mini" in providers["openai"]["models"]
    assert (providers["openai"]["circuit"], providers["openai"]["max_concurrency"]) == ("closed", 1000)
    assert set(providers["openai"]["prices"]) == set(providers["openai"]["models"])
    assert providers["openai"]["prices"]["gpt-4o-mini"] == {
        "prompt_usd_per_million": 0.15,
        "completion_usd_per_million": 0.6,
        "long_prompt": None,
    }


async def test_openapi_schema_takes_a_valid_request_and_no_other(
    client: httpx.AsyncClient, body: Body
) -> None:
    document = (await client.get("/openapi.json")).json()
    docs = await client.get("/docs")
    assert docs.status_code == 200
    assert "swagger" in docs.text.lower()
    schema = {"$ref": "#/components/schemas/LLMComparisonRequest", "components": document["components"]}
    jsonschema.validate(body, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body | {"unknown": 1}, schema)


async def test_same_key_and_body_is_the_same_request(
    client: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    reordered = json.dumps(dict(reversed(body.items())), indent=3).encode()

    responses = await asyncio.gather(*(client.post(PATH, json=body, headers=key) for _ in range(10)))
    await asyncio.to_thread(read_topic, topic, 1)
    later = await client.post(PATH, content=reordered, headers=key | {"content-type": "application/json"})
    marker = await client.post(PATH, json=body)
    records = await asyncio.to_thread(read_topic, topic, 2)

    assert {response.status_code for response in (*responses, later)} == {202}
    assert len({response.json()["queue_id"] for response in (*responses, later)}) == 1
    called_back = {open_envelope(record.value()).data.request_id for record in records}
    assert called_back == {later.json()["queue_id"], marker.json()["queue_id"]}


async def test_expired_request_is_called_back_although_the_pool_is_full(
    patient_service: httpx.AsyncClient, body: Body, create_topic: Any, read_topic: Any
) -> None:
    expiring = f"results.{uuid4().hex}"
    await create_topic(expiring, 1)
    await submit_many(patient_service, body, 2)

    await patient_service.post(PATH, json=body | {"callback_topic": expiring, "ttl_seconds": 0.2})
    (record,) = await asyncio.to_thread(read_topic, expiring, 1)

    result = open_envelope(record.value()).data
    snapshot = await read_snapshot(patient_service)
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_REQUEST_EXPIRED"
    assert (snapshot["in_flight"], snapshot["queue"]["depth"]) == (1, 1)


async def test_queue_that_cannot_be_written_is_told_and_recovers(
    own_service: httpx.AsyncClient,
    body: Body,
    tmp_path: Path,
    read_error: ReadError,
    request: pytest.FixtureRequest,
) -> None:
    if request.config.getoption("--queue") == "kafka":
        pytest.skip("the queue on Kafka has no file")
    with closing(sqlite3.connect(tmp_path / "queue.db", isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        refused, keyed = await asyncio.gather(
            own_service.post(PATH, json=body),
            own_service.post(PATH, json=body, headers={"Idempotency-Key": "k"}),
        )
        readiness = await own_service.get("/readyz")
        intruder.execute("ROLLBACK")

    assert (refused.status_code, read_error(refused)["error_code"]) == (503, "LLM_INTERNAL_ERROR")
    assert refused.headers["retry-after"].isdecimal()
    assert (keyed.status_code, read_error(keyed)["error_code"]) == (503, "LLM_INTERNAL_ERROR")
    assert (readiness.status_code, "queue" in read_error(readiness)["message"]) == (503, True)

    async def is_ready() -> bool:
        return (await own_service.get("/readyz")).status_code == 200

    await until(is_ready, what="readiness")
    assert (await own_service.post(PATH, json=body)).status_code == 202


async def test_full_queue_is_refused_with_a_time_to_come_back(
    start_judged: Callable[..., str], judge: Judge, body: Body, read_error: ReadError
) -> None:
    judge.gate.clear()
    async with open_client(start_judged(QUEUE_MAX_SIZE="4")) as client:
        taken = [await client.post(PATH, json=body)]
        await until_called(client)
        taken += [await client.post(PATH, json=body) for _ in range(3)]
        refused = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(6)))
    judge.gate.set()

    assert [response.status_code for response in taken] == [202] * 4
    assert {(response.status_code, read_error(response)["error_code"]) for response in refused} == {
        (503, "LLM_QUEUE_FULL")
    }
    assert all(response.headers["retry-after"].isdecimal() for response in refused)
