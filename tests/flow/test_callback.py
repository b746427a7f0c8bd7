"""From an accepted request to its callback on Kafka, read by a foreign client."""

import asyncio
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from service.contracts.codec import open_envelope
from service.contracts.enums import EssayComparisonWinner
from tests.flow.conftest import Body

PATH = "/api/v1/comparison"
pytestmark = pytest.mark.apache


async def test_e2e_callback_flow(client: httpx.AsyncClient, body: Body, topic: str, read_topic: Any) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace_id}-00f067aa0ba902b7-01"
    metadata = {"pair": 7, "nested": {"ä": [1, None, "x"]}, "big": 12345678901234567890123}

    response = await client.post(
        PATH, json=body | {"metadata": metadata}, headers={"X-Run-ID": "run-1", "traceparent": traceparent}
    )
    (record,) = await asyncio.to_thread(read_topic, topic, 1)

    accepted = response.json()
    queue_id = accepted["queue_id"]
    envelope = open_envelope(record.value())
    event_id = uuid5(NAMESPACE_URL, f"llm_provider.comparison_result:{queue_id}")
    assert response.status_code == 202
    assert accepted["status"] == "queued"
    assert accepted["callback_topic"] == topic
    assert record.key().decode() == accepted["correlation_id"]
    assert dict(record.headers()) == {
        "event_id": str(event_id).encode(),
        "event_type": b"llm_provider.comparison_result",
        "request_id": queue_id.encode(),
        "content-type": b"application/json",
        "run_id": b"run-1",
        "traceparent": traceparent.encode(),
    }
    assert envelope.event_id == event_id
    assert envelope.source_service == "llm_provider_service"
    assert envelope.data.request_id == queue_id
    assert envelope.data.is_success
    assert envelope.data.winner in EssayComparisonWinner
    assert envelope.data.trace_id == trace_id
    assert envelope.data.request_metadata == metadata
    assert envelope.data.requested_at <= envelope.data.completed_at
    (attempt,) = envelope.metadata["attempts"]
    assert (attempt["provider"], attempt["outcome"]) == (envelope.data.provider, "success")


async def test_many_at_once_are_each_called_back_once(
    client: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    responses = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(40)))
    records = await asyncio.to_thread(read_topic, topic, 40)
    accepted = [response.json()["queue_id"] for response in responses]
    called_back = [open_envelope(record.value()).data.request_id for record in records]
    assert sorted(called_back) == sorted(accepted)
    assert len(set(called_back)) == 40


async def test_expired_request_is_called_back_with_its_error(
    client: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    await client.post(PATH, json=body | {"ttl_seconds": 1e-9})
    (record,) = await asyncio.to_thread(read_topic, topic, 1)
    envelope = open_envelope(record.value())
    result = envelope.data
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_REQUEST_EXPIRED"
    assert envelope.metadata == {"attempts": []}
    assert result.model == "unknown"
