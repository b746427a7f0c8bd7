"""A request is offered again where that may help, under its key, and as long as there is patience."""

from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest

from llmctl.client.http import Refused
from llmctl.client.patience import Patience
from llmctl.client.service import ServiceClient
from llmctl.exits import Unreachable
from service.contracts.requests import LLMQueuedResponse

URL = "http://service"
ACCEPTED = LLMQueuedResponse(
    queue_id="q-1", correlation_id=UUID(int=1), callback_topic="t", queue_position=1, message="m"
)
ERROR = {"error": {"error_code": "LLM_QUEUE_FULL", "message": "full"}}
Step = Callable[[httpx.Request], httpx.Response]


def accept(_: httpx.Request) -> httpx.Response:
    """202."""
    return httpx.Response(202, content=ACCEPTED.model_dump_json())


def refuse(status: int, **headers: str) -> Step:
    """Any other answer."""
    return lambda _: httpx.Response(status, json=ERROR, headers=headers)


def fail(problem: type[httpx.TransportError]) -> Step:
    """No answer."""

    def step(request: httpx.Request) -> httpx.Response:
        raise problem("x", request=request)

    return step


async def submit(patience: Patience, *steps: Step) -> tuple[LLMQueuedResponse | Refused, set[str]]:
    """What comes of it where the service does these in turn, and the keys that it saw."""
    keys: set[str] = set()
    course: Iterator[Step] = iter(steps)

    def handle(request: httpx.Request) -> httpx.Response:
        keys.add(request.headers["idempotency-key"])
        return next(course)(request)

    async with httpx.AsyncClient(base_url=URL, transport=httpx.MockTransport(handle)) as client:
        answer = await ServiceClient(client, URL).submit(b"{}", key="k", patience=patience)
    assert next(course, None) is None, "not every step was needed"
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
async def test_trouble_that_may_pass_is_borne(trouble: Step) -> None:
    """A refusal for now, and an answer that was lost on its way or behind a balancer."""
    assert await submit(Patience(5.0), trouble, accept) == (ACCEPTED, {"k"})


async def test_a_lost_answer_is_asked_for_without_patience_too() -> None:
    """Since the request may have been accepted."""
    assert (await submit(Patience(0.0), fail(httpx.ReadError), accept))[0] == ACCEPTED


async def test_a_service_that_was_there_is_waited_for() -> None:
    """One that never answered is not: the address may be wrong."""
    patience = Patience(5.0)
    with pytest.raises(Unreachable):
        await submit(patience, fail(httpx.ConnectError))
    await submit(patience, accept)
    assert (await submit(patience, fail(httpx.ConnectError), accept))[0] == ACCEPTED


async def test_a_service_that_refuses_has_been_there() -> None:
    """Its restart is waited for as well."""
    patience = Patience(5.0)
    full = refuse(503, **{"retry-after": "0"})
    assert (await submit(patience, full, fail(httpx.ConnectError), accept))[0] == ACCEPTED


@pytest.mark.parametrize("status", [401, 409, 413, 422])
async def test_a_refusal_for_good_is_told_at_once(status: int) -> None:
    """Nothing is sent again."""
    answer, _ = await submit(Patience(5.0), refuse(status))
    assert isinstance(answer, Refused)
    assert answer.status == status


async def test_at_the_end_of_patience_the_refusal_is_told() -> None:
    """A pause that is longer than patience is not begun; after a lost answer nothing is known."""
    answer, _ = await submit(Patience(5.0), refuse(503, **{"retry-after": "6"}))
    assert isinstance(answer, Refused)
    assert (answer.status, answer.code) == (503, "LLM_QUEUE_FULL")
    with pytest.raises(Unreachable) as doubt:
        await submit(Patience(5.0), fail(httpx.ReadError), refuse(503, **{"retry-after": "60"}))
    assert "whether that request was accepted is unknown" in str(doubt.value)


async def test_a_pause_may_be_said_as_a_date() -> None:
    """It counts from the date of the answer, so that no clock of ours plays a part."""
    now, soon, late = (f"Sun, 06 Nov 1994 08:49:{second:02d} GMT" for second in (37, 37, 59))
    answer, _ = await submit(Patience(5.0), refuse(503, date=now, **{"retry-after": soon}), accept)
    assert answer == ACCEPTED
    answer, _ = await submit(Patience(5.0), refuse(503, date=now, **{"retry-after": late}))
    assert isinstance(answer, Refused)


@pytest.mark.parametrize("said", ["", "soon", "nan", "inf", "-5"])
async def test_a_pause_that_makes_no_sense_is_a_short_one(said: str) -> None:
    """A second at most."""
    answer, _ = await submit(Patience(5.0), refuse(503, **{"retry-after": said}), accept)
    assert answer == ACCEPTED
