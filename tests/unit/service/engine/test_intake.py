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
    """An intake in front of a queue in memory."""

    def __init__(self, clock: Any, max_size: int = 3) -> None:
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

    async def submit(self, request: Any) -> Any:
        """Submits what a queued request holds."""
        return await self.intake.submit(request.request_data, Submission())


@pytest.fixture
def door(clock: Any) -> Door:
    """A door that is open."""
    door = Door(clock)
    door.gate.advance(Phase.READY)
    return door


async def refusal(door: Door, request: Any) -> Refused:
    """The refusal of a request."""
    with pytest.raises(Refused) as caught:
        await door.submit(request)
    return caught.value


async def test_accepted_request_stands_in_the_queue(door: Door, make_request: Any, clock: Any) -> None:
    """What is answered is what was queued, with the deadline that applies."""
    accepted = await door.submit(make_request())
    (claim,) = await door.queue.claim(1)

    assert claim.request.queue_id == accepted.queue_id
    assert (claim.request.expires_at - clock.now()).total_seconds() == 60
    assert accepted.queue_position == 1


async def test_deadline_of_the_request_wins(door: Door, make_request: Any, clock: Any) -> None:
    """A request's own time to live replaces the default, however far away it is."""
    await door.submit(make_request(ttl_seconds=5))
    await door.submit(make_request(ttl_seconds=1e300))
    claims = await door.queue.claim(2)

    assert (claims[0].request.expires_at - clock.now()).total_seconds() == 5
    assert claims[1].request.expires_at > clock.now()


@pytest.mark.parametrize(
    ("phase", "code"),
    [(Phase.DRAINING, LLMErrorCode.SERVICE_DRAINING), (Phase.STOPPED, LLMErrorCode.SERVICE_DRAINING)],
)
async def test_closed_door_refuses_with_a_time_to_come_back(
    door: Door, make_request: Any, phase: Phase, code: LLMErrorCode
) -> None:
    """A draining service takes nothing and says when to try again."""
    door.gate.advance(phase)

    refused = await refusal(door, make_request())

    assert (refused.code, refused.status) == (code, 503)
    assert refused.retry_after_seconds


async def test_starting_service_refuses(clock: Any, make_request: Any) -> None:
    """Before it is ready a service takes nothing."""
    refused = await refusal(Door(clock), make_request())

    assert (refused.code, refused.status) == (LLMErrorCode.INTERNAL_ERROR, 503)


async def test_full_queue_refuses_and_counts_all_that_is_held(door: Door, make_request: Any) -> None:
    """Waiting, claimed and undelivered requests count against the one limit."""
    for _ in range(3):
        await door.submit(make_request())
    await door.queue.claim(1)

    refused = await refusal(door, make_request())

    assert (refused.code, refused.status) == (LLMErrorCode.QUEUE_FULL, 503)
    assert refused.retry_after_seconds


async def test_burst_cannot_slip_past_the_limit(door: Door, make_request: Any) -> None:
    """Requests that are being written count too: of ten at once, three are taken."""
    started = asyncio.Event()
    really_put = door.queue.put

    async def slow_put(request: Any, estimated_tokens: int) -> int:
        await started.wait()
        return await really_put(request, estimated_tokens)

    door.queue.put = slow_put  # type: ignore[method-assign]
    submitting = [asyncio.ensure_future(door.submit(make_request())) for _ in range(10)]
    await asyncio.sleep(0)
    started.set()
    outcomes = await asyncio.gather(*submitting, return_exceptions=True)

    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 3


async def test_queue_that_cannot_be_written_refuses(door: Door, make_request: Any) -> None:
    """Where nothing can be made durable nothing is accepted."""

    async def fail(request: Any, estimated_tokens: int) -> int:
        raise QueueUnavailable("disk full")

    door.queue.put = fail  # type: ignore[method-assign]

    refused = await refusal(door, make_request())

    assert (refused.code, refused.status) == (LLMErrorCode.INTERNAL_ERROR, 503)
    assert refused.retry_after_seconds


async def test_unknown_topic_is_refused_and_known_one_survives_an_outage(
    door: Door, make_request: Any
) -> None:
    """An absent topic is the caller's fault; while the broker is away a known one is still taken."""
    absent = await refusal(door, make_request(callback_topic="absent"))
    door.directory.reachable = False
    unknowable = await refusal(door, make_request(callback_topic="absent"))
    accepted = await door.submit(make_request())

    assert (absent.code, absent.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert (unknowable.code, unknowable.status) == (LLMErrorCode.INTERNAL_ERROR, 503)
    assert accepted.callback_topic == "results"
