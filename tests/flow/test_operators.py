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
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
MANY = 40
"""More than a slow service has done before it hears of a drain."""


async def wait_for_drain(client: httpx.AsyncClient) -> dict[str, Any]:
    """Waits until a drain has ended; its report."""
    reports: list[dict[str, Any]] = []

    async def has_ended() -> bool:
        reports.append((await client.get("/admin/v1/drain")).json())
        return reports[-1]["state"] != "running"

    await until(has_ended, what="the end of the drain")
    return reports[-1]


async def submit_many(client: httpx.AsyncClient, body: dict[str, Any], count: int) -> list[str]:
    """Submits requests at once; the accepted ids."""
    responses = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(count)))
    assert {response.status_code for response in responses} == {202}
    return [response.json()["queue_id"] for response in responses]


async def wait_for_calls(client: httpx.AsyncClient) -> None:
    """Waits until the provider is being asked."""

    async def have_begun() -> bool:
        return bool((await client.get("/admin/v1/snapshot")).json()["in_flight"])

    await until(have_begun, what="the first call")


async def test_drain_finishes_what_was_started_and_resume_takes_it_back(
    slow_service: httpx.AsyncClient,
    body: dict[str, Any],
    topic: str,
    read_topic: Any,
    read_error: Callable[[httpx.Response], dict[str, Any]],
) -> None:
    """A drain refuses newcomers with a time to come back, calls back what was started, keeps the rest."""
    accepted = await submit_many(slow_service, body, MANY)
    await wait_for_calls(slow_service)

    ordered = await slow_service.post("/admin/v1/drain", json={"timeout_seconds": 20})
    refused = await slow_service.post(PATH, json=body)
    readiness = await slow_service.get("/readyz")
    report = await wait_for_drain(slow_service)

    assert (ordered.status_code, ordered.json()["state"], ordered.json()["phase"]) == (
        202,
        "running",
        "draining",
    )
    assert (refused.status_code, read_error(refused)["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert refused.headers["retry-after"].isdecimal()
    assert (readiness.status_code, read_error(readiness)["error_code"]) == (503, "LLM_SERVICE_DRAINING")
    assert (report["state"], report["in_flight"], report["outbox"]) == ("done", 0, 0)
    called_back = MANY - report["queued"]  # some of them perhaps before the drain was ordered
    assert report["queued"] > 0
    assert report["finished"] <= called_back
    assert len(await asyncio.to_thread(read_topic, topic, called_back)) == called_back

    resumed = await slow_service.post("/admin/v1/resume")
    accepted += await submit_many(slow_service, body, 1)
    records = await asyncio.to_thread(read_topic, topic, MANY + 1)

    assert (resumed.status_code, resumed.json()["phase"], resumed.json()["state"]) == (200, "ready", "none")
    assert sorted(open_envelope(record.value()).data.request_id for record in records) == sorted(accepted)


async def test_drain_until_empty_works_off_the_queue(
    slow_service: httpx.AsyncClient, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """With until_empty nothing is left behind."""
    await slow_service.post("/admin/v1/providers/openai/hold", json={"seconds": 600})
    await submit_many(slow_service, body, 10)

    await slow_service.post("/admin/v1/drain", json={"timeout_seconds": 60, "until_empty": True})
    await slow_service.post("/admin/v1/providers/openai/release")
    report = await wait_for_drain(slow_service)

    assert (report["state"], report["queued"], report["outbox"]) == ("done", 0, 0)
    assert report["finished"] == 10
    assert len(await asyncio.to_thread(read_topic, topic, 10)) == 10


async def test_drain_that_runs_out_of_time_says_so(
    slow_service: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """A limit that is too short ends the waiting, not the work."""
    await submit_many(slow_service, body, 8)

    await wait_for_calls(slow_service)  # a drain of what only waits is done at once
    await slow_service.post("/admin/v1/drain", json={"timeout_seconds": 0.05})
    report = await wait_for_drain(slow_service)

    assert report["state"] == "timed_out"
    assert report["phase"] == "draining"


@pytest.mark.parametrize(
    "order", [{"timeout_seconds": 0}, {"timeout_seconds": "5"}, {"until_empty": 1}, {"unknown": 1}, [1]]
)
async def test_faulty_drain_order_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, read_error: Callable[[httpx.Response], dict[str, Any]], order: Any
) -> None:
    """A wrong order leaves the service as it is."""
    response = await client.post("/admin/v1/drain", json=order)

    assert (response.status_code, read_error(response)["error_code"]) == (422, "LLM_INVALID_REQUEST")
    assert (await client.get("/readyz")).status_code == 200


async def test_snapshot_agrees_with_the_metrics(
    slow_service: httpx.AsyncClient, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """The snapshot has every promised key, and the figures of /metrics at that moment."""
    await submit_many(slow_service, body, 6)
    await slow_service.post(PATH, json=body | {"essay_a": ""})

    async def all_are_called_back() -> bool:
        snapshot = (await slow_service.get("/admin/v1/snapshot")).json()
        return bool(snapshot["totals"]["published"] == 6 and not snapshot["outbox"]["depth"])

    await until(all_are_called_back, what="six callbacks")
    snapshot = (await slow_service.get("/admin/v1/snapshot")).json()
    metrics = (await slow_service.get("/metrics")).text

    assert {"version", "time", "phase", "accepting", "queue", "in_flight", "outbox"} <= set(snapshot)
    assert snapshot["queue"].keys() >= {"backend", "depth", "capacity", "oldest_age_seconds"}
    if snapshot["queue"]["backend"] == "sqlite":
        assert snapshot["queue"]["disk"]["free_bytes"] > snapshot["queue"]["disk"]["reserve_bytes"] > 0
    else:
        assert set(snapshot["queue"]["topics"]) == {"requests", "journal", "memory", "dead_letters"}
    assert snapshot["totals"] == {
        "accepted": 6,
        "rejected": 1,
        "succeeded": 6,
        "failed": 0,
        "published": 6,
        "publish_failures": 0,
    }
    assert set(snapshot["rates"]) == set(snapshot["totals"])
    assert set(snapshot["latency"]) == {"accept", "queue_wait", "provider", "publish", "end_to_end"}
    for name, latency in snapshot["latency"].items():
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"], name
        assert latency["buckets"]["+Inf"] == 6
    (provider,) = snapshot["providers"]
    assert (provider["name"], provider["circuit"], provider["calls"], provider["errors"]) == (
        "openai",
        "closed",
        6,
        0,
    )
    assert (provider["in_flight"], provider["last_error"], provider["held_until"]) == (0, None, None)
    assert (snapshot["outbox"], snapshot["drain"]["state"]) == ({"depth": 0, "parked": 0}, "none")
    assert "llm_requests_accepted_total 6.0" in metrics
    assert 'llm_circuit_state{provider="openai"} 0.0' in metrics
    assert re.search(r'llm_tokens_total\{kind="prompt",provider="openai"\} [1-9]', metrics)


async def test_stream_sends_snapshots_as_events(client: httpx.AsyncClient) -> None:
    """The stream is the snapshot, twice a second, as server-sent events."""
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
    """Callers can see who may be asked for what."""
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


async def test_openapi_document_describes_every_route(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """The document is served, names every route, and its schema takes a valid request and refuses another."""
    document = (await client.get("/openapi.json")).json()
    docs = await client.get("/docs")

    assert set(document["paths"]) == {
        "/admin/v1/providers",
        "/admin/v1/providers/{name}/check",
        "/admin/v1/providers/{name}/hold",
        "/admin/v1/providers/{name}/release",
        "/api/v1/comparison",
        "/api/v1/comparison/{queue_id}",
        "/api/v1/providers",
        "/healthz",
        "/readyz",
        "/metrics",
        "/admin/v1/snapshot",
        "/admin/v1/stream",
        "/admin/v1/drain",
        "/admin/v1/resume",
        "/admin/v1/journal",
        "/admin/v1/log-level",
        "/admin/v1/usage",
        "/admin/v1/undelivered",
        "/admin/v1/undelivered/resend",
    }
    assert docs.status_code == 200
    assert "swagger" in docs.text.lower()
    schema = {"$ref": "#/components/schemas/LLMComparisonRequest", "components": document["components"]}
    jsonschema.validate(body, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body | {"unknown": 1}, schema)


async def test_same_key_and_body_is_the_same_request(
    client: httpx.AsyncClient, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """Ten concurrent submissions and one after the end give one queue id and one callback."""
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


async def test_same_key_with_another_body_is_a_conflict(
    client: httpx.AsyncClient,
    body: dict[str, Any],
    read_error: Callable[[httpx.Response], dict[str, Any]],
) -> None:
    """A key names one request: another body under it is refused, and the first stands."""
    key = {"Idempotency-Key": uuid4().hex}
    await client.post(PATH, json=body, headers=key)

    response = await client.post(PATH, json=body | {"priority": 1}, headers=key)

    assert (response.status_code, read_error(response)["error_code"]) == (409, "LLM_IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_faulty_idempotency_key_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], key: str
) -> None:
    """A key is 1 to 255 printable characters."""
    response = await client.post(PATH, json=body, headers={"Idempotency-Key": key})

    assert response.status_code == 422


async def test_expired_request_is_called_back_although_the_pool_is_full(
    patient_service: httpx.AsyncClient, body: dict[str, Any], create_topic: Any, read_topic: Any
) -> None:
    """A deadline that passes in the queue is told when it passes, not when a place becomes free."""
    expiring = f"results.{uuid4().hex}"
    await create_topic(expiring, 1)
    await submit_many(patient_service, body, 2)

    await patient_service.post(PATH, json=body | {"callback_topic": expiring, "ttl_seconds": 0.2})
    (record,) = await asyncio.to_thread(read_topic, expiring, 1)

    result = open_envelope(record.value()).data
    snapshot = (await patient_service.get("/admin/v1/snapshot")).json()
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_REQUEST_EXPIRED"
    assert (snapshot["in_flight"], snapshot["queue"]["depth"]) == (1, 1)


async def test_queue_that_cannot_be_written_is_told_and_recovers(
    slow_service: httpx.AsyncClient,
    body: dict[str, Any],
    tmp_path: Path,
    read_error: Callable[[httpx.Response], dict[str, Any]],
    request: pytest.FixtureRequest,
) -> None:
    """While another program holds the file, requests get 503 and readiness says so; then all is well."""
    if request.config.getoption("--queue") == "kafka":
        pytest.skip("the queue on Kafka has no file")
    with closing(sqlite3.connect(tmp_path / "queue.db", isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        refused = await slow_service.post(PATH, json=body)
        keyed = await slow_service.post(PATH, json=body, headers={"Idempotency-Key": "k"})
        readiness = await slow_service.get("/readyz")
        intruder.execute("ROLLBACK")

    assert (refused.status_code, read_error(refused)["error_code"]) == (503, "LLM_INTERNAL_ERROR")
    assert refused.headers["retry-after"].isdecimal()
    assert (keyed.status_code, read_error(keyed)["error_code"]) == (503, "LLM_INTERNAL_ERROR")
    assert (readiness.status_code, "queue" in read_error(readiness)["message"]) == (503, True)

    async def is_ready() -> bool:
        return (await slow_service.get("/readyz")).status_code == 200

    await until(is_ready, what="readiness")
    assert (await slow_service.post(PATH, json=body)).status_code == 202


async def test_full_queue_is_refused_with_a_time_to_come_back(
    launcher: Any,
    bootstrap_servers: str,
    tmp_path: Path,
    body: dict[str, Any],
    read_error: Callable[[httpx.Response], dict[str, Any]],
) -> None:
    """Of ten requests at a queue for four, four are taken and six are told to come back."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "30000")
    child = launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_QUEUE_MAX_SIZE": "4",
            "LLM_PROVIDER_SERVICE_DRAIN_TIMEOUT_SECONDS": "1",
            "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
            "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
        },
    )
    async with open_client(child.ready["url"]) as client:
        taken = [await client.post(PATH, json=body)]
        await wait_for_calls(client)
        taken += [await client.post(PATH, json=body) for _ in range(3)]
        refused = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(6)))

    assert [response.status_code for response in taken] == [202] * 4
    assert {(response.status_code, read_error(response)["error_code"]) for response in refused} == {
        (503, "LLM_QUEUE_FULL")
    }
    assert all(response.headers["retry-after"].isdecimal() for response in refused)
