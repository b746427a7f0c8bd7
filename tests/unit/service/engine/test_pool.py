"""The requests in flight: bounded, claimed only while ready, finished on drain."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.guard import Limits
from service.core.outcome import Judgement, ProviderReply, Usage
from service.core.records import Claim
from service.engine.drain import drain_in_flight_requests, flush
from service.engine.guards import Guards
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool
from service.queues.backlog import name_provider
from service.queues.memory import MemoryQueue
from service.telemetry.clock import SystemClock
from tests.waiting import HANG_SECONDS, until

MOCK = LLMProviderType.MOCK
REPLY = ProviderReply(Judgement(EssayComparisonWinner.ESSAY_A, "Better.", 0.9), "m", Usage(10, 10))


MODELS = dict.fromkeys(LLMProviderType, "model-1")


class Workshop:
    def __init__(self, concurrency: int, limits: dict[LLMProviderType, Limits] | None = None) -> None:
        self.queue = MemoryQueue()
        self.gate = PhaseGate()
        self.started: list[Claim] = []
        self.release = asyncio.Event()
        self.guards = Guards(limits or {}, MOCK, SystemClock(), self.queue.nudge, MODELS)
        self.pool = Pool(
            queue=self.queue,
            process=self.process,
            gate=self.gate,
            guards=self.guards,
            concurrency=concurrency,
        )

    async def put(self, make_request: Any, count: int) -> None:
        for _ in range(count):
            await self.queue.put(make_request())

    async def process(self, claim: Claim) -> None:
        self.started.append(claim)
        await self.release.wait()
        self.guards.succeed(claim.sequence, REPLY)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.pool.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_held_provider_blocks_no_other(make_request: Any) -> None:
    openai, google = LLMProviderType.OPENAI, LLMProviderType.GOOGLE
    shop = Workshop(concurrency=2, limits={openai: Limits(10), google: Limits(10)})
    shop.release.set()
    shop.guards.hold(openai, None)
    for provider in (openai, openai, openai, google, google):
        await shop.queue.put(make_request(llm_config_overrides={"provider_override": provider}))
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await until(lambda: shop.pool.finished == 2)
        assert {name_provider(claim.request) for claim in shop.started} == {"google"}
        assert shop.queue.stats().waiting == 3
        shop.guards.free(openai)
        await until(lambda: shop.pool.finished == 5)

    assert [claim.attempt for claim in shop.started] == [1] * 5


async def test_claims_written_during_a_refusal_go_back_uncounted(make_request: Any) -> None:
    shop = Workshop(concurrency=10, limits={MOCK: Limits(10)})
    requests = [make_request() for _ in range(4)]
    shop.gate.advance(Phase.READY)
    claim = shop.queue.claim
    failure = ProviderFailure(
        LLMErrorCode.PROVIDER_RATE_LIMIT, "no", retryable=True, retry_after_seconds=3600.0, of_account=True
    )

    async def claim_during_refusal(*asked: Any) -> Any:
        claims = await claim(*asked)
        if shop.started:
            shop.guards.fail(shop.started[0].sequence, failure)
        return claims

    shop.queue.claim = claim_during_refusal  # type: ignore[method-assign]
    async with shop.running():
        await shop.queue.put(requests[0])
        await until(lambda: shop.started)
        for request in requests[1:]:
            await shop.queue.put(request)
        await until(lambda: shop.guards.state(MOCK).held_seconds is not None)
        await until(lambda: shop.queue.stats().waiting == 3)
        assert (len(shop.started), shop.pool.in_flight_count()) == (1, 1)
        shop.guards.free(MOCK)
        shop.release.set()
        await until(lambda: shop.pool.finished == 4)

    assert [one.request for one in shop.started] == requests
    assert [one.attempt for one in shop.started] == [1] * 4


async def test_provider_and_pool_never_exceed_their_concurrency(make_request: Any) -> None:
    for shop in (Workshop(10, {MOCK: Limits(3)}), Workshop(3, {MOCK: Limits(10)})):
        await shop.put(make_request, 9)
        async with shop.running():
            await asyncio.sleep(0)
            assert shop.queue.stats().claimed == 0, "claimed before the service is ready"
            shop.gate.advance(Phase.READY)
            await until(lambda shop=shop: len(shop.started) == 3)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (len(shop.started), shop.pool.in_flight_count()) == (3, 3)
            shop.release.set()
            await until(lambda shop=shop: shop.pool.finished == 9)

        assert (len(shop.started), shop.pool.has_in_flight_requests()) == (9, False)
        assert shop.guards.state(MOCK).under_way == 0


async def test_requests_are_paced_and_resume_without_another_event(make_request: Any) -> None:
    shop = Workshop(concurrency=10, limits={MOCK: Limits(10, requests_per_minute=1200.0)})
    shop.release.set()
    started = asyncio.get_running_loop().time()
    await shop.put(make_request, 25)
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await until(lambda: shop.pool.finished == 25)

    # 20 a second: the first second's worth at once, the other five in a quarter of a second.
    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_pool_keeps_requests_that_nothing_else_refers_to(make_request: Any) -> None:
    """The loop holds its tasks weakly."""
    hung: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()
    started: list[int] = []
    finished: list[int] = []

    async def process(claim: Claim) -> None:
        started.append(claim.sequence)
        hung.add(waited_for := asyncio.get_running_loop().create_future())
        await waited_for
        finished.append(claim.sequence)

    shop = Workshop(concurrency=5)
    shop.pool._process = process
    await shop.put(make_request, 5)
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await until(lambda: len(started) == 5)
        gc.collect()
        assert len(hung) == 5, f"{5 - len(hung)} requests vanished"
        for waited_for in tuple(hung):
            waited_for.set_result(None)
        await until(lambda: len(finished) == 5)

    assert sorted(finished) == sorted(started)


async def test_drain_finishes_in_flight_requests_and_claims_no_more_until_it_is_resumed(
    make_request: Any,
) -> None:
    shop = Workshop(concurrency=3)
    await shop.put(make_request, 1)
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await until(lambda: shop.started)
        draining = asyncio.create_task(drain_in_flight_requests(shop.pool, timeout_minutes=5))
        await until(lambda: shop.gate.current is Phase.DRAINING)
        await shop.put(make_request, 1)
        assert not draining.done()
        shop.release.set()
        assert await asyncio.wait_for(draining, HANG_SECONDS)
        assert (len(shop.started), shop.queue.stats().waiting) == (1, 1)
        shop.gate.advance(Phase.READY)
        await until(lambda: len(shop.started) == 2)


async def test_drain_gives_up_at_its_limit(make_request: Any) -> None:
    shop = Workshop(concurrency=1)
    await shop.put(make_request, 1)
    shop.gate.advance(Phase.READY)

    async with shop.running():
        await until(lambda: shop.started)
        assert not await drain_in_flight_requests(shop.pool, timeout_minutes=0.001)
        assert shop.pool.in_flight_count() == 1


async def test_empty_outbox_is_flushed_at_once() -> None:
    assert await asyncio.wait_for(flush(MemoryQueue().outbox, "callbacks", timeout_seconds=60), HANG_SECONDS)


@pytest.mark.parametrize(
    ("first", "then"),
    [(Phase.STOPPED, Phase.READY), (Phase.READY, Phase.STARTING), (Phase.STOPPED, Phase.DRAINING)],
)
def test_phase_never_steps_back(first: Phase, then: Phase) -> None:
    gate = PhaseGate()
    gate.advance(first)

    with pytest.raises(ValueError, match="no way from"):
        gate.advance(then)
