"""Requests that are cancelled: over real HTTP, with the callback that says so."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.contracts.codec import open_envelope
from service.contracts.events import LLMComparisonResultV1
from tests.flow.conftest import Body, ReadError, read_snapshot, submit_many, until_snapshot
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"


async def submit(client: httpx.AsyncClient, body: Body) -> str:
    (queue_id,) = await submit_many(client, body, 1)
    return queue_id


def open_results(records: list[Any]) -> dict[str, LLMComparisonResultV1]:
    results = [open_envelope(record.value()).data for record in records]
    assert len({result.request_id for result in results}) == len(results)
    return {result.request_id: result for result in results}


@pytest.mark.apache
async def test_queued_request_and_one_under_way_are_cancelled(
    patient_service: httpx.AsyncClient, body: Body, topic: str, read_topic: Any, read_error: ReadError
) -> None:
    """Each gets one callback long before the judge answers, which says whether the call may be billed."""
    begun = await submit(patient_service, body)
    await until_snapshot(patient_service, lambda now: now["in_flight"], "the call")
    queued = await submit(patient_service, body | {"metadata": {"pair": 7}})

    answers = [await patient_service.delete(f"{PATH}/{each}") for each in (queued, begun)]
    results = open_results(await asyncio.to_thread(read_topic, topic, 2))
    again = await patient_service.delete(f"{PATH}/{begun}")

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "cancelled")] * 2
    errors = {each: results[each].error_detail for each in (queued, begun)}
    assert {error.error_code for error in errors.values() if error} == {"LLM_REQUEST_CANCELLED"}
    assert [error.details["may_be_billed"] for error in errors.values() if error] == [False, True]
    assert results[queued].request_metadata == {"pair": 7}
    assert (again.status_code, read_error(again)["error_code"]) == (404, "LLM_NOT_FOUND")
    figures = await read_snapshot(patient_service)
    assert (figures["in_flight"], figures["queue"]["depth"], figures["totals"]["failed"]) == (0, 0, 2)
    assert (figures["providers"][0]["in_flight"], figures["providers"][0]["errors"]) == (0, 0)


async def test_two_who_cancel_the_same_request_are_told_the_same(
    patient_service: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    queue_id = await submit(patient_service, body)
    answers = await asyncio.gather(*(patient_service.delete(f"{PATH}/{queue_id}") for _ in range(2)))
    assert [answer.status_code for answer in answers] in ([202, 202], [202, 404], [404, 202])
    await submit(patient_service, body)
    assert (await patient_service.delete(f"{PATH}/{queue_id}")).status_code == 404
    assert list(open_results(await asyncio.to_thread(read_topic, topic, 1))) == [queue_id]


async def test_what_waits_is_cancelled_during_a_drain(
    patient_service: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    queue_ids = [await submit(patient_service, body) for _ in range(3)]
    await patient_service.post("/admin/v1/drain", json={"timeout_seconds": HANG_SECONDS})
    answers = [await patient_service.delete(f"{PATH}/{each}") for each in queue_ids]
    assert {answer.status_code for answer in answers} == {202}
    assert set(open_results(await asyncio.to_thread(read_topic, topic, 3))) == set(queue_ids)


async def test_unknown_request_cannot_be_cancelled(client: httpx.AsyncClient, read_error: ReadError) -> None:
    for unknown in (str(uuid4()), "x", "%00", "a" * 5000):
        response = await client.delete(f"{PATH}/{unknown}")
        assert (response.status_code, read_error(response)["error_code"]) == (404, "LLM_NOT_FOUND")


async def test_request_that_is_called_back_keeps_its_answer(
    client: httpx.AsyncClient, body: Body, topic: str, read_topic: Any
) -> None:
    queue_id = await submit(client, body | {"llm_config_overrides": {"provider_override": "mock"}})
    (record,) = await asyncio.to_thread(read_topic, topic, 1)
    response = await client.delete(f"{PATH}/{queue_id}")
    assert response.status_code == 404
    assert open_envelope(record.value()).data.is_success
