"""The client sends a request again under its key if that can help, for as long as its patience lasts."""

from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest

from llmctl.client import service
from llmctl.client.http import Refused
from llmctl.client.patience import Patience
from llmctl.client.service import DEFAULT_RETRY_PAUSE_SECONDS, LEAST_RETRY_PAUSE_SECONDS, ServiceClient
from llmctl.exits import Unreachable
from service.contracts.requests import LLMQueuedResponse
from tests.waiting import HANG_SECONDS

URL = "http://service"
ACCEPTED = LLMQueuedResponse(
    queue_id="q-1", correlation_id=UUID(int=1), callback_topic="t", queue_position=1, message="m"
)
ERROR = {"error": {"error_code": "LLM_QUEUE_FULL", "message": "full"}}
Step = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEFAULT_RETRY_PAUSE_SECONDS", "LEAST_RETRY_PAUSE_SECONDS", "RESEND_PAUSE_SECONDS"):
        monkeypatch.setattr(service, name, 0.0)
    monkeypatch.setattr(service, "RESEND_LIMIT_SECONDS", HANG_SECONDS)


def accept(_: httpx.Request) -> httpx.Response:
    return httpx.Response(202, content=ACCEPTED.model_dump_json())


def refuse(status: int, **headers: str) -> Step:
    return lambda _: httpx.Response(status, json=ERROR, headers=headers)


def fail(problem: type[httpx.TransportError]) -> Step:
    def step(request: httpx.Request) -> httpx.Response:
        raise problem("x", request=request)

    return step


async def submit(patience: Patience, *steps: Step) -> tuple[LLMQueuedResponse | Refused, set[str]]:
    """Submits to a service that takes these steps in turn; returns the result and the keys it saw."""
    keys: set[str] = set()
    remaining: Iterator[Step] = iter(steps)

    def handle(request: httpx.Request) -> httpx.Response:
        keys.add(request.headers["idempotency-key"])
        return next(remaining)(request)

    async with httpx.AsyncClient(base_url=URL, transport=httpx.MockTransport(handle)) as client:
        answer = await ServiceClient(client, URL).submit(b"{}", key="k", patience=patience)
    assert next(remaining, None) is None, "not every step was needed"
    return answer, keys


@pytest.mark.parametrize(
    "trouble",
    [
        refuse(503, **{"retry-after": "0"}),
        refuse(502),
        refuse(504),
        fail(httpx.ReadError),
        fail(httpx.RemoteProtocolError),
    ],
)
async def test_a_request_is_sent_again_after_passing_trouble(trouble: Step) -> None:
    assert await submit(Patience(HANG_SECONDS), trouble, accept) == (ACCEPTED, {"k"})


async def test_a_lost_answer_is_asked_for_again_without_patience_too() -> None:
    """The request may have been accepted."""
    assert (await submit(Patience(0.0), fail(httpx.ReadError), accept))[0] == ACCEPTED


async def test_only_a_service_that_has_answered_before_is_waited_for() -> None:
    """If it never answered, the address may be wrong."""
    patience = Patience(HANG_SECONDS)
    with pytest.raises(Unreachable):
        await submit(patience, fail(httpx.ConnectError))
    await submit(patience, accept)
    assert (await submit(patience, fail(httpx.ConnectError), accept))[0] == ACCEPTED


async def test_a_503_counts_as_an_answer() -> None:
    full = refuse(503, **{"retry-after": "0"})
    assert (await submit(Patience(HANG_SECONDS), full, fail(httpx.ConnectError), accept))[0] == ACCEPTED


@pytest.mark.parametrize("status", [401, 409, 413, 422])
async def test_a_final_refusal_is_returned_at_once(status: int) -> None:
    answer, _ = await submit(Patience(HANG_SECONDS), refuse(status))
    assert isinstance(answer, Refused)
    assert answer.status == status


async def test_a_pause_longer_than_patience_is_not_begun() -> None:
    answer, _ = await submit(Patience(5.0), refuse(503, **{"retry-after": "6"}))
    assert isinstance(answer, Refused)
    assert (answer.status, answer.code) == (503, "LLM_QUEUE_FULL")
    with pytest.raises(Unreachable, match="whether that request was accepted is unknown"):
        await submit(Patience(5.0), fail(httpx.ReadError), refuse(503, **{"retry-after": "3600"}))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        *((text, DEFAULT_RETRY_PAUSE_SECONDS) for text in ("", "soon", "nan", "inf")),
        ("-5", LEAST_RETRY_PAUSE_SECONDS),
        ("Sun, 06 Nov 1994 08:49:37 GMT", LEAST_RETRY_PAUSE_SECONDS),
        ("Sun, 06 Nov 1994 08:49:59 GMT", 22.0),
    ],
)
def test_retry_after_is_read(retry_after: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date counts from the date of the answer, so our clock plays no part."""
    monkeypatch.undo()
    headers = httpx.Headers({"retry-after": retry_after, "date": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert service._read_pause(headers) == seconds
