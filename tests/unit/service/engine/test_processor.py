"""One claimed request to one outcome, whatever the provider does."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import LLMComparisonResultV1
from service.contracts.requests import QueuedRequest
from service.core.errors import ProviderFailure, QueueUnavailable
from service.core.guard import Limits
from service.core.outcome import Judgement, ProviderReply, Spent, Usage
from service.core.records import ProviderCall
from service.engine import processor as processor_module
from service.engine.budget import Budget, BudgetLimits
from service.engine.cancellation import Wishes
from service.engine.guards import Guards
from service.engine.processor import Processor
from service.engine.routing import Router
from service.providers.catalogue import CATALOGUE
from service.queues.memory import MemoryQueue
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracing
from tests.waiting import HANG_SECONDS

OPENAI = LLMProviderType.OPENAI
REPLY = ProviderReply(
    Judgement(EssayComparisonWinner.ESSAY_B, "Clearer.", 0.8), "model-1", Usage(100, 20, cost_usd=0.01)
)


@dataclass
class ScriptedProvider:
    script: list[ProviderReply | Exception]
    calls: list[ProviderCall] = field(default_factory=list)
    clock: Any = None
    seconds_per_call: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it answers at once; cleared, a call lasts until it is set."""
    name: LLMProviderType = OPENAI
    default_model: str = "model-1"

    def __post_init__(self) -> None:
        self.answering.set()

    def find_objection(self, model: str, overrides: Any) -> str | None:
        return f"there is no {model}" if model == "absent" else None

    async def compare(self, call: ProviderCall) -> ProviderReply:
        self.calls.append(call)
        self.asked.set()
        await self.answering.wait()
        if self.clock is not None:
            self.clock.seconds += self.seconds_per_call
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def close(self) -> None:
        """Has nothing to close."""


def failure(code: LLMErrorCode = LLMErrorCode.PROVIDER_TIMEOUT, **fields: Any) -> ProviderFailure:
    return ProviderFailure(
        code, "It failed.", **{"retryable": True, "usage": Usage(10, 1, cost_usd=0.001), **fields}
    )


@dataclass
class Bench:
    """A processor between a queue in memory and a scripted provider."""

    queue: MemoryQueue
    provider: ScriptedProvider
    processor: Processor
    wishes: Wishes
    make_request: Any

    async def put(self, **fields: Any) -> QueuedRequest:
        request: QueuedRequest = self.make_request(**fields)
        await self.queue.put(request)
        return request

    async def work(self) -> None:
        admit = self.processor._guards.admit
        (claim,) = await asyncio.wait_for(self.queue.claim(1, admit), HANG_SECONDS)
        await self.processor.process(claim)

    async def start_call(self) -> tuple[QueuedRequest, asyncio.Future[None]]:
        """Puts a request whose call does not end by itself."""
        self.provider.answering.clear()
        request = await self.put()
        working = asyncio.ensure_future(self.work())
        await asyncio.wait_for(self.provider.asked.wait(), HANG_SECONDS)
        return request, working

    async def envelope(self) -> Any:
        (entry,) = await asyncio.wait_for(self.queue.outbox.take(10), HANG_SECONDS)
        return entry.callback.sealed.envelope

    async def result(self) -> LLMComparisonResultV1:
        return (await self.envelope()).data

    async def error(self) -> ErrorDetail:
        error = (await self.result()).error_detail
        assert error is not None
        return error


@pytest.fixture
def bench(clock: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a bench with a script; retries come back at once."""
    monkeypatch.setattr(processor_module.random, "random", lambda: 0.0)

    def make(
        *script: ProviderReply | Exception,
        max_attempts: int = 3,
        limits: BudgetLimits | None = None,
        guarded: bool = False,
    ) -> Bench:
        queue, provider, wishes = MemoryQueue(), ScriptedProvider(list(script)), Wishes()
        processor = Processor(
            queue=queue,
            router=Router({OPENAI: provider}, OPENAI),
            guards=Guards(
                {OPENAI: Limits(10)} if guarded else {}, OPENAI, clock, queue.nudge, {OPENAI: "model-1"}
            ),
            budget=Budget(limits or BudgetLimits(), CATALOGUE, queue, clock),
            wishes=wishes,
            tracing=NoTracing(),
            meter=Metrics(["model-1"]),
            clock=clock,
            max_attempts=max_attempts,
            provider_timeout_seconds=7,
        )
        return Bench(queue, provider, processor, wishes, make_request)

    return make


async def test_success_becomes_a_callback(bench: Any) -> None:
    b = bench(REPLY)
    request = await b.put(metadata={"pair": 1})

    await b.work()

    result = await b.result()
    assert (result.winner, result.justification, result.confidence) == ("essay_b", "Clearer.", 0.8)
    assert (result.request_id, result.correlation_id) == (request.queue_id, request.correlation_id)
    assert (result.provider, result.model, result.cost_estimate) == ("openai", "model-1", 0.01)
    assert result.token_usage.total_tokens == 120
    assert result.request_metadata == {"pair": 1}
    assert b.queue.stats().claimed == 0


async def test_call_carries_the_overrides(bench: Any) -> None:
    b = bench(REPLY)
    overrides = {
        "model_override": "model-2",
        "temperature_override": 0.3,
        "system_prompt_override": "Be strict.",
        "max_tokens_override": 99,
    }
    await b.put(llm_config_overrides=overrides)

    await b.work()

    call = b.provider.calls[0]
    sent = (call.model, call.temperature, call.system_prompt, call.max_tokens)
    assert sent == ("model-2", 0.3, "Be strict.", 99)
    assert (call.timeout_seconds, call.attempt) == (7, 1)
    assert all(text in call.user_prompt for text in ("Which is better?", "one", "two"))


async def test_final_failure_becomes_an_error_callback_at_once(bench: Any) -> None:
    b = bench(failure(LLMErrorCode.PROVIDER_RATE_LIMIT, retryable=False, details={"status": 429}))
    await b.put()

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.PROVIDER_RATE_LIMIT
    assert result.error_detail.details["status"] == 429
    assert (result.token_usage.total_tokens, result.cost_estimate) == (11, 0.001)


async def test_callback_counts_and_lists_all_attempts(bench: Any, clock: Any) -> None:
    b = bench(failure(), failure(LLMErrorCode.PARSING_ERROR), REPLY)
    b.provider.clock, b.provider.seconds_per_call = clock, 1.23456
    await b.put()

    for _ in range(3):
        clock.seconds += 10.0
        await b.work()

    envelope = await b.envelope()
    assert envelope.data.is_success
    assert envelope.data.token_usage.total_tokens == 120 + 2 * 11
    assert envelope.data.cost_estimate == pytest.approx(0.012)
    assert [call.attempt for call in b.provider.calls] == [1, 2, 3]
    assert envelope.metadata == {
        "attempts": [
            {
                "started_at": f"2026-01-01T00:00:{at}Z",
                "seconds": 1.2346,
                "provider": "openai",
                "outcome": outcome,
            }
            for at, outcome in (
                ("10.000", "LLM_PROVIDER_TIMEOUT"),
                ("21.235", "LLM_PARSING_ERROR"),
                ("32.469", "success"),
            )
        ]
    }


async def test_last_attempt_ends_in_the_error_of_the_provider(bench: Any) -> None:
    b = bench(failure(), failure(), failure(LLMErrorCode.PROVIDER_UNAVAILABLE))
    await b.put()

    for _ in range(3):
        await b.work()

    envelope = await b.envelope()
    error = envelope.data.error_detail
    assert (error.error_code, error.details["attempts"]) == (LLMErrorCode.PROVIDER_UNAVAILABLE, 3)
    outcomes = [attempt["outcome"] for attempt in envelope.metadata["attempts"]]
    assert outcomes == ["LLM_PROVIDER_TIMEOUT"] * 2 + ["LLM_PROVIDER_UNAVAILABLE"]


@pytest.mark.parametrize(
    ("spent", "code"),
    [
        (Spent(), LLMErrorCode.INTERNAL_ERROR),
        (
            Spent(last_code=LLMErrorCode.PROVIDER_TIMEOUT, last_message="slow"),
            LLMErrorCode.PROVIDER_TIMEOUT,
        ),
    ],
)
async def test_request_claimed_beyond_its_attempts_ends_without_a_call(
    bench: Any, spent: Spent, code: LLMErrorCode
) -> None:
    b = bench(max_attempts=1)
    await b.put()
    (claim,) = await b.queue.claim(1)
    await b.queue.retry(claim, 0.0, spent)

    await b.work()

    assert (await b.error()).error_code is code
    assert b.provider.calls == []


async def test_expired_request_is_not_sent_to_the_provider(bench: Any, clock: Any) -> None:
    b = bench()
    await b.put(ttl_seconds=5)
    clock.seconds = 5.0

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.REQUEST_EXPIRED
    assert (result.model, result.token_usage.total_tokens) == ("unknown", 0)
    assert b.provider.calls == []


async def test_defect_of_an_adapter_becomes_a_callback_without_its_message(bench: Any) -> None:
    b = bench(KeyError("secret text"))
    await b.put()

    await b.work()

    error = await b.error()
    assert error.error_code is LLMErrorCode.INTERNAL_ERROR
    assert "secret" not in error.model_dump_json()


async def test_model_that_is_no_longer_configured_is_a_configuration_error(bench: Any) -> None:
    b = bench()
    await b.put(llm_config_overrides={"model_override": "absent"})

    await b.work()

    assert (await b.error()).error_code is LLMErrorCode.CONFIGURATION_ERROR


async def test_outcome_is_kept_until_the_queue_can_be_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor_module, "RECORD_AGAIN_SECONDS", 0.0)
    b = bench(REPLY)
    await b.put()
    really_complete, failures = b.queue.complete, [QueueUnavailable("disk full")] * 3

    async def complete(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        await really_complete(*arguments)

    b.queue.complete = complete

    await b.work()

    assert (await b.result()).is_success
    assert len(b.provider.calls) == 1


async def test_trouble_of_the_provider_costs_no_attempt(bench: Any, clock: Any) -> None:
    limit = failure(LLMErrorCode.PROVIDER_RATE_LIMIT, retry_after_seconds=0.01)
    b = bench(*[limit] * 4, REPLY, guarded=True)
    await b.put()

    for _ in range(5):
        await b.work()
        clock.seconds += 2.0

    assert (await b.result()).is_success
    assert [call.attempt for call in b.provider.calls] == [1, 2, 3, 4, 5]


async def test_outage_takes_no_last_attempt(bench: Any) -> None:
    """Also where calls may be billed: the call that opens the circuit waits, those before it had failed."""
    b = bench(*[failure(may_be_billed=True, usage=Usage())] * 6, guarded=True, max_attempts=1)
    for _ in range(6):
        await b.put()

    for _ in range(6):
        await b.work()

    assert (b.queue.outbox.depth(), b.queue.stats().waiting) == (5, 1)


async def test_used_up_quota_is_waited_for(bench: Any, clock: Any) -> None:
    quota = failure(LLMErrorCode.PROVIDER_RATE_LIMIT, retryable=False, details={"quota_used_up": True})
    b = bench(quota, REPLY, guarded=True)
    await b.put()

    await b.work()
    assert b.queue.outbox.depth() == 0
    clock.seconds += 61.0
    await b.work()

    assert (await b.result()).is_success


async def test_request_above_its_budget_is_not_sent_to_the_provider(bench: Any) -> None:
    b = bench(REPLY, limits=BudgetLimits(request_usd=1e-9))
    await b.put(llm_config_overrides={"model_override": "gpt-4o-mini"})

    await b.work()

    error = await b.error()
    assert error.error_code is LLMErrorCode.COST_LIMIT_EXCEEDED
    assert "MAX_COST_USD_PER_REQUEST" in error.message
    assert b.provider.calls == []


async def test_call_of_unknown_cost_is_counted_at_its_estimate(bench: Any) -> None:
    lost = failure(retryable=False, may_be_billed=True, usage=Usage())
    b = bench(lost, limits=BudgetLimits(day_usd=100.0))
    await b.put(llm_config_overrides={"model_override": "gpt-4o-mini"})

    days = {datetime.now(UTC).date()}
    await b.work()
    days.add(datetime.now(UTC).date())

    details = (await b.error()).details
    assert details["may_be_billed"] is True
    assert details["unconfirmed_cost_usd"] > 0
    assert sum([await b.queue.spent_usd(day) for day in days]) == details["unconfirmed_cost_usd"]


async def test_request_that_always_fails_leaves_the_probe_to_another(bench: Any, clock: Any) -> None:
    """While a circuit is open a failed request waits longer than the pause, so another is the probe."""
    b = bench(*[failure(LLMErrorCode.PROVIDER_UNAVAILABLE)] * 6, REPLY, guarded=True, max_attempts=100)
    for _ in range(7):
        await b.put()
    for _ in range(6):
        await b.work()
    assert b.queue.stats().waiting == 7

    clock.seconds += 1.5
    await b.work()

    assert (await b.result()).is_success
    assert b.provider.calls[5].queue_id != b.provider.calls[6].queue_id


async def test_request_cancelled_before_its_call_costs_nothing(bench: Any) -> None:
    b = bench(REPLY)
    request = await b.put()
    b.wishes.express(request.queue_id)

    await b.work()

    error = await b.error()
    assert (error.error_code, error.details["may_be_billed"]) == (LLMErrorCode.REQUEST_CANCELLED, False)
    assert b.provider.calls == []
    assert b.wishes.withdraw(request.queue_id)


async def test_cancelled_call_may_be_billed(bench: Any) -> None:
    b = bench(REPLY)
    request, working = await b.start_call()

    b.wishes.express(request.queue_id)
    await asyncio.wait_for(working, HANG_SECONDS)

    error = await b.error()
    assert (error.error_code, error.details["may_be_billed"]) == (LLMErrorCode.REQUEST_CANCELLED, True)
    assert b.wishes.withdraw(request.queue_id)
    assert b.queue.stats().claimed == 0


async def test_outcome_before_the_cancellation_is_kept(bench: Any) -> None:
    b = bench(REPLY)
    request = await b.put()
    await b.work()

    b.wishes.express(request.queue_id)

    assert (await b.result()).is_success
    assert not b.wishes.withdraw(request.queue_id)


async def test_end_of_the_process_is_not_a_cancellation(bench: Any) -> None:
    b = bench(REPLY)
    request, working = await b.start_call()

    working.cancel()
    b.wishes.express(request.queue_id)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, HANG_SECONDS)
    assert b.queue.outbox.depth() == 0
