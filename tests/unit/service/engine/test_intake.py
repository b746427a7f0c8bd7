"""Admission: durable before the answer, refused before it is durable."""

import asyncio
from typing import Any

import pytest

from service.callbacks.memory import MemoryTopicDirectory
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import QueueUnavailable, Refused
from service.core.records import Submission
from service.core.topic_policy import TopicPolicy
from service.engine.idempotency import Idempotency
from service.engine.intake import Intake
from service.engine.phase import Phase, PhaseGate
from service.engine.routing import Router
from service.providers.mock import MockProvider
from service.queues.memory import MemoryQueue


class Door:
    def __init__(self, clock: Any, make_request: Any, max_size: int = 3) -> None:
        self._make_request = make_request
        self.queue = MemoryQueue()
        self.gate = PhaseGate()
        self.directory = MemoryTopicDirectory({"results"})
        self.intake = Intake(
            gate=self.gate,
            queue=self.queue,
            outbox=self.queue.outbox,
            undelivered=self.queue.outbox,
            idempotency=Idempotency(self.queue),
            topics=lambda _: TopicPolicy(["*"]),
            directory=self.directory,
            router=Router({LLMProviderType.MOCK: MockProvider()}, LLMProviderType.MOCK),
            clock=clock,
            max_size=max_size,
            default_ttl_seconds=60,
        )

    async def submit(self, **fields: Any) -> Any:
        return await self.intake.submit(self._make_request(**fields).request_data, Submission())


@pytest.fixture
def door(clock: Any, make_request: Any) -> Door:
    door = Door(clock, make_request)
    door.gate.advance(Phase.READY)
    return door


async def refusal(door: Door, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await door.submit(**fields)
    return caught.value


async def test_accepted_request_is_in_the_queue_with_its_deadline(door: Door, clock: Any) -> None:
    """A request's own time to live replaces the default, however long it is."""
    accepted = await door.submit()
    await door.submit(ttl_seconds=5)
    await door.submit(ttl_seconds=1e300)
    first, second, third = (claim.request for claim in await door.queue.claim(3))

    assert (first.queue_id, accepted.queue_position) == (accepted.queue_id, 1)
    assert (first.expires_at - clock.now()).total_seconds() == 60
    assert (second.expires_at - clock.now()).total_seconds() == 5
    assert third.expires_at > clock.now()


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        (None, LLMErrorCode.INTERNAL_ERROR),
        (Phase.DRAINING, LLMErrorCode.SERVICE_DRAINING),
        (Phase.STOPPED, LLMErrorCode.SERVICE_DRAINING),
    ],
)
async def test_service_that_is_not_ready_refuses_with_a_wait(
    clock: Any, make_request: Any, phase: Phase | None, code: LLMErrorCode
) -> None:
    door = Door(clock, make_request)
    if phase:
        door.gate.advance(Phase.READY)
        door.gate.advance(phase)

    refused = await refusal(door)

    assert (refused.code, refused.status) == (code, 503)
    assert refused.retry_after_seconds


async def test_full_queue_refuses(door: Door) -> None:
    """Waiting, claimed and undelivered requests count."""
    for _ in range(3):
        await door.submit()
    await door.queue.claim(1)

    refused = await refusal(door)

    assert (refused.code, refused.status) == (LLMErrorCode.QUEUE_FULL, 503)
    assert refused.retry_after_seconds


async def test_requests_being_written_count_against_the_limit(door: Door) -> None:
    started = asyncio.Event()
    really_put = door.queue.put

    async def slow_put(request: Any, estimated_tokens: int) -> int:
        await started.wait()
        return await really_put(request, estimated_tokens)

    door.queue.put = slow_put  # type: ignore[method-assign]
    submitting = [asyncio.ensure_future(door.submit()) for _ in range(10)]
    await asyncio.sleep(0)
    started.set()
    outcomes = await asyncio.gather(*submitting, return_exceptions=True)

    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 3


async def test_queue_that_cannot_be_written_refuses(door: Door) -> None:
    async def fail(request: Any, estimated_tokens: int) -> int:
        raise QueueUnavailable("disk full")

    door.queue.put = fail  # type: ignore[method-assign]

    refused = await refusal(door)

    assert (refused.code, refused.status) == (LLMErrorCode.INTERNAL_ERROR, 503)
    assert refused.retry_after_seconds


async def test_unknown_topic_is_refused_and_a_known_one_accepted_during_an_outage(door: Door) -> None:
    absent = await refusal(door, callback_topic="absent")
    door.directory.reachable = False
    unknowable = await refusal(door, callback_topic="absent")
    accepted = await door.submit()

    assert (absent.code, absent.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert (unknowable.code, unknowable.status) == (LLMErrorCode.INTERNAL_ERROR, 503)
    assert accepted.callback_topic == "results"
