"""The service's responses as results and exceptions, and when a request is sent again."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
import respx

from llmctl.client import service as service_client
from llmctl.client.http import open_http
from llmctl.client.sending import SENT_AT_ONCE, Sender
from llmctl.library import LLMErrorCode, Refused, ServiceOutOfReach
from tests.waiting import HANG_SECONDS

URL = "http://service:8080"
PATH = "/api/v1/comparison"
BODY = b'{"user_prompt": "canary"}'
ACCEPTED = {
    "queue_id": "q-1",
    "correlation_id": str(UUID(int=7)),
    "status": "queued",
    "callback_topic": "t",
    "queue_position": 1,
    "message": "queued",
}


def refuse(status: int, code: LLMErrorCode, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"error_code": code, "message": "no"}}, headers=headers)


@pytest.fixture
async def service() -> AsyncIterator[respx.MockRouter]:
    async with respx.mock(base_url=URL) as router:
        yield router


@pytest.fixture
async def sender(service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    for name in ("LEAST_RETRY_PAUSE_SECONDS", "RESEND_PAUSE_SECONDS"):
        monkeypatch.setattr(service_client, name, 0.0)
    async with open_http(URL, "canary-token") as http:
        yield Sender(http, URL, HANG_SECONDS)


async def test_a_202(sender: Sender, service: respx.MockRouter) -> None:
    route = service.post(PATH).respond(202, json=ACCEPTED)
    accepted = await sender.submit(BODY, "key-1")
    (call,) = route.calls
    assert (accepted.queue_id, accepted.correlation_id) == ("q-1", UUID(int=7))
    assert call.request.content == BODY
    assert call.request.headers["idempotency-key"] == "key-1"
    assert call.request.headers["authorization"] == "Bearer canary-token"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (422, LLMErrorCode.INVALID_PROMPT),
        (409, LLMErrorCode.IDEMPOTENCY_CONFLICT),
        (413, LLMErrorCode.CONTENT_TOO_LONG),
        (401, LLMErrorCode.UNAUTHORIZED),
        (403, LLMErrorCode.FORBIDDEN),
    ],
)
async def test_a_refusal(sender: Sender, service: respx.MockRouter, status: int, code: LLMErrorCode) -> None:
    route = service.post(PATH).mock(return_value=refuse(status, code))
    with pytest.raises(Refused, match=f"{code}: no") as refused:
        await sender.submit(BODY, "key-1")
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.error == {"error_code": code, "message": "no"}
    assert route.call_count == 1


async def test_a_full_service_is_asked_again(sender: Sender, service: respx.MockRouter) -> None:
    full = refuse(503, LLMErrorCode.QUEUE_FULL, **{"Retry-After": "0"})
    route = service.post(PATH).mock(side_effect=[full, full, httpx.Response(202, json=ACCEPTED)])
    assert (await sender.submit(BODY, "key-1")).queue_id == "q-1"
    assert [call.request.headers["idempotency-key"] for call in route.calls] == ["key-1"] * 3


async def test_a_service_that_stays_full_is_refused_with_its_own_words(
    sender: Sender, service: respx.MockRouter
) -> None:
    full = refuse(503, LLMErrorCode.QUEUE_FULL, **{"Retry-After": "3600"})
    service.post(PATH).mock(return_value=full)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await sender.submit(BODY, "key-1")
        assert (refused.value.status, refused.value.code) == (503, LLMErrorCode.QUEUE_FULL)
        before = sender._patience
        async with sender._share_patience() as fresh:
            assert fresh is not before
            assert fresh.heard


async def test_a_lost_answer_is_asked_for_again(sender: Sender, service: respx.MockRouter) -> None:
    lost = httpx.ReadError("broken")
    route = service.post(PATH).mock(side_effect=[lost, httpx.Response(202, json=ACCEPTED)])
    assert (await sender.submit(BODY, "key-1")).queue_id == "q-1"
    assert {call.request.headers["idempotency-key"] for call in route.calls} == {"key-1"}


async def test_what_answers_is_not_the_service(sender: Sender, service: respx.MockRouter) -> None:
    service.post(PATH).respond(200, html="<html>")
    service.delete(f"{PATH}/q-1").respond(404, html="<html>")
    for asking in (sender.submit(BODY, "key-1"), sender.cancel("q-1")):
        with pytest.raises(ServiceOutOfReach, match=r"is not this service .* check `url=`") as problem:
            await asking
        assert "canary" not in str(problem.value)


async def test_nobody_answers(sender: Sender, service: respx.MockRouter) -> None:
    service.post(PATH).mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(ServiceOutOfReach, match="No service answers at http://service:8080") as problem:
        await sender.submit(BODY, "key-1")
    assert problem.value.idempotency_key == "key-1"


async def test_no_more_are_sent_at_once_than_there_are_turns(
    sender: Sender, service: respx.MockRouter
) -> None:
    """Callers wait for their turn outside httpx, so none of its timeouts passes meanwhile."""
    under_way, most = 0, 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return httpx.Response(202, json=ACCEPTED)

    service.post(PATH).mock(side_effect=answer)
    await asyncio.gather(*(sender.submit(BODY, f"key-{number}") for number in range(SENT_AT_ONCE + 50)))
    assert most == SENT_AT_ONCE


@pytest.mark.parametrize(
    ("answer", "cancelled"),
    [
        (httpx.Response(202, json={"queue_id": "a/b", "status": "cancelled"}), True),
        (refuse(404, LLMErrorCode.NOT_FOUND), False),
    ],
)
async def test_cancelling(
    sender: Sender, service: respx.MockRouter, answer: httpx.Response, cancelled: bool
) -> None:
    """The id goes out as one segment of the path."""
    route = service.delete(path__regex=rf"{PATH}/.*").mock(return_value=answer)
    assert await sender.cancel("a/b") is cancelled
    assert route.calls[0].request.url.raw_path == f"{PATH}/a%2Fb".encode()


async def test_cancelling_is_refused(sender: Sender, service: respx.MockRouter) -> None:
    service.delete(f"{PATH}/q-1").mock(return_value=refuse(401, LLMErrorCode.UNAUTHORIZED))
    with pytest.raises(Refused, match="LLM_UNAUTHORIZED"):
        await sender.cancel("q-1")
