"""One claimed request to one outcome, whatever the provider does."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import LLMComparisonResultV1
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

REPLY = ProviderReply(
    Judgement(EssayComparisonWinner.ESSAY_B, "Clearer.", 0.8), "model-1", Usage(100, 20, cost_usd=0.01)
)


@dataclass
class ScriptedProvider:
    """Answers what the test has written down, in turn."""

    script: list[ProviderReply | Exception]
    calls: list[ProviderCall] = field(default_factory=list)
    clock: Any = None
    seconds_per_call: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it answers at once; cleared, a call lasts until it is set."""
    name: LLMProviderType = LLMProviderType.OPENAI
    default_model: str = "model-1"

    def __post_init__(self) -> None:
        self.answering.set()

    def find_objection(self, model: str, overrides: Any) -> str | None:
        """Takes everything but a model that is not there."""
        return f"there is no {model}" if model == "absent" else None

    async def compare(self, call: ProviderCall) -> ProviderReply:
        """The next line of the script."""
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
    """A failed attempt that has cost something."""
    return ProviderFailure(
        code, "It failed.", **{"retryable": True, "usage": Usage(10, 1, cost_usd=0.001), **fields}
    )


@dataclass
class Bench:
    """A processor between a queue in memory and a scripted provider."""

    queue: MemoryQueue
    provider: ScriptedProvider
    processor: Processor
    metrics: Metrics
    wishes: Wishes

    async def work(self) -> None:
        """Claims and processes one request."""
        admit = self.processor._guards.admit
        (claim,) = await asyncio.wait_for(self.queue.claim(1, admit), HANG_SECONDS)
        await self.processor.process(claim)

    async def result(self) -> LLMComparisonResultV1:
        """The one callback in the outbox."""
        entries = await asyncio.wait_for(self.queue.outbox.take(10), HANG_SECONDS)
        assert len(entries) == 1
        return entries[0].callback.sealed.data


@pytest.fixture
def bench(clock: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a bench with a script; retries come back at once."""
    monkeypatch.setattr(processor_module.random, "random", lambda: 0.0)

    def make(
        *script: ProviderReply | Exception,
        max_attempts: int = 3,
        limits: BudgetLimits | None = None,
        guarded: bool = False,
    ) -> Bench:
        queue, provider, metrics = MemoryQueue(), ScriptedProvider(list(script)), Metrics(["model-1"])
        wishes = Wishes()
        processor = Processor(
            queue=queue,
            router=Router({LLMProviderType.OPENAI: provider}, LLMProviderType.OPENAI),
            guards=Guards(
                {LLMProviderType.OPENAI: Limits(10)} if guarded else {},
                LLMProviderType.OPENAI,
                clock,
                queue.nudge,
            ),
            budget=Budget(limits or BudgetLimits(), CATALOGUE, queue, clock),
            wishes=wishes,
            tracing=NoTracing(),
            meter=metrics,
            clock=clock,
            max_attempts=max_attempts,
            provider_timeout_seconds=7,
        )
        return Bench(queue, provider, processor, metrics, wishes)

    return make


async def test_success_callback_published(bench: Any, make_request: Any) -> None:
    """A reply becomes the success event, with all that is known of the call."""
    b = bench(REPLY)
    request = make_request(metadata={"pair": 1})
    await b.queue.put(request)

    await b.work()

    result = await b.result()
    assert (result.winner, result.justification, result.confidence) == ("essay_b", "Clearer.", 0.8)
    assert (result.request_id, result.correlation_id) == (request.queue_id, request.correlation_id)
    assert (result.provider, result.model, result.cost_estimate) == ("openai", "model-1", 0.01)
    assert result.token_usage.total_tokens == 120
    assert result.request_metadata == {"pair": 1}
    assert b.queue.stats().claimed == 0


async def test_call_carries_the_overrides(bench: Any, make_request: Any) -> None:
    """What a caller may decide reaches the provider."""
    b = bench(REPLY)
    overrides = {
        "model_override": "model-2",
        "temperature_override": 0.3,
        "system_prompt_override": "Be strict.",
        "max_tokens_override": 99,
    }
    await b.queue.put(make_request(llm_config_overrides=overrides))

    await b.work()

    call = b.provider.calls[0]
    assert (call.model, call.temperature, call.system_prompt, call.max_tokens) == (
        "model-2",
        0.3,
        "Be strict.",
        99,
    )
    assert (call.timeout_seconds, call.attempt) == (7, 1)
    assert all(text in call.user_prompt for text in ("Which is better?", "one", "two"))


async def test_error_callback_published(bench: Any, make_request: Any) -> None:
    """A failure that no retry can mend becomes the error event at once, with its cost."""
    b = bench(failure(LLMErrorCode.PROVIDER_RATE_LIMIT, retryable=False, details={"status": 429}))
    await b.queue.put(make_request())

    await b.work()

    result = await b.result()
    assert result.is_error
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.PROVIDER_RATE_LIMIT
    assert result.error_detail.details["status"] == 429
    assert (result.token_usage.total_tokens, result.cost_estimate) == (11, 0.001)


async def test_failed_attempts_are_repeated_and_paid_for(bench: Any, make_request: Any) -> None:
    """An answer after two failures counts the tokens and the money of all three attempts."""
    b = bench(failure(), failure(), REPLY)
    await b.queue.put(make_request())

    for _ in range(3):
        await b.work()

    result = await b.result()
    assert result.is_success
    assert result.token_usage.total_tokens == 120 + 2 * 11
    assert result.cost_estimate == pytest.approx(0.012)
    assert [call.attempt for call in b.provider.calls] == [1, 2, 3]


async def test_every_call_is_told_with_its_outcome(bench: Any, make_request: Any, clock: Any) -> None:
    """The callback's envelope has the calls in order: begun on the wall clock, how long, what came of it."""
    b = bench(failure(), failure(LLMErrorCode.PARSING_ERROR), REPLY)
    b.provider.clock, b.provider.seconds_per_call = clock, 1.23456
    await b.queue.put(make_request())

    for _ in range(3):
        clock.seconds += 10.0
        await b.work()

    (entry,) = await b.queue.outbox.take(10)
    assert entry.callback.sealed.envelope.metadata == {
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


async def test_calls_that_end_in_an_error_are_told_too(bench: Any, make_request: Any) -> None:
    """Also the one after which the service gave up."""
    b = bench(failure(), failure(LLMErrorCode.PROVIDER_UNAVAILABLE), max_attempts=2)
    await b.queue.put(make_request())

    for _ in range(2):
        await b.work()

    (entry,) = await b.queue.outbox.take(10)
    told = entry.callback.sealed.envelope.metadata["attempts"]
    assert [attempt["outcome"] for attempt in told] == ["LLM_PROVIDER_TIMEOUT", "LLM_PROVIDER_UNAVAILABLE"]


async def test_last_attempt_ends_in_the_providers_error(bench: Any, make_request: Any) -> None:
    """A request that ran out of attempts gets the last provider error, once."""
    b = bench(failure(), failure(), failure(LLMErrorCode.PROVIDER_UNAVAILABLE))
    await b.queue.put(make_request())

    for _ in range(3):
        await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.PROVIDER_UNAVAILABLE
    assert result.error_detail.details["attempts"] == 3


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
async def test_request_that_kills_the_process_ends_too(
    bench: Any, make_request: Any, spent: Spent, code: LLMErrorCode
) -> None:
    """A claim beyond the limit is answered without another call: with the last error where there was one."""
    b = bench(max_attempts=1)
    await b.queue.put(make_request())
    (claim,) = await b.queue.claim(1)
    await b.queue.retry(claim, 0.0, spent)

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is code
    assert b.provider.calls == []


async def test_expired_request_is_not_asked(bench: Any, make_request: Any, clock: Any) -> None:
    """A deadline that passed in the queue ends in its own error, without a call."""
    b = bench()
    await b.queue.put(make_request(ttl_seconds=5))
    clock.seconds = 5.0

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.REQUEST_EXPIRED
    assert (result.model, result.token_usage.total_tokens) == ("unknown", 0)
    assert b.provider.calls == []


async def test_defect_of_an_adapter_ends_in_a_callback(bench: Any, make_request: Any) -> None:
    """Even an exception that should not be is told to the caller, without its message."""
    b = bench(KeyError("secret text"))
    await b.queue.put(make_request())

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.INTERNAL_ERROR
    assert "secret" not in result.model_dump_json()


async def test_route_that_went_away_is_a_configuration_error(bench: Any, make_request: Any) -> None:
    """A model that was configured at acceptance and is no more ends in an error callback."""
    b = bench()
    await b.queue.put(make_request(llm_config_overrides={"model_override": "absent"}))

    await b.work()

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.CONFIGURATION_ERROR


async def test_paid_outcome_is_held_until_the_queue_takes_it(
    bench: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that cannot be written for a while costs no outcome and no second call."""
    monkeypatch.setattr(processor_module, "RECORD_AGAIN_SECONDS", 0.0)
    b = bench(REPLY)
    await b.queue.put(make_request())
    really_complete, failures = b.queue.complete, [QueueUnavailable("disk full")] * 3

    async def complete(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        await really_complete(*arguments)

    b.queue.complete = complete

    await b.work()

    assert (await b.result()).is_success
    assert len(b.provider.calls) == 1


async def test_providers_trouble_costs_no_attempt(bench: Any, make_request: Any, clock: Any) -> None:
    """Refused by a rate limit ten times with three attempts allowed: the request waits, and is answered."""
    limit = ProviderFailure(
        LLMErrorCode.PROVIDER_RATE_LIMIT, "slow down", retryable=True, retry_after_seconds=0.01
    )
    b = bench(*[limit] * 10, REPLY, guarded=True)
    b.processor._clock = clock
    await b.queue.put(make_request())

    for _ in range(11):
        await b.work()
        clock.seconds += 2.0

    assert (await b.result()).is_success
    assert len(b.provider.calls) == 11
    assert [call.attempt for call in b.provider.calls] == list(range(1, 12))


async def test_outage_takes_no_requests_last_attempt(bench: Any, make_request: Any) -> None:
    """Also where calls may be billed: the one that opens the circuit waits, those before it had failed."""
    lost = ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "lost", retryable=True, may_be_billed=True)
    b = bench(*[lost] * 6, guarded=True, max_attempts=1)
    for _ in range(6):
        await b.queue.put(make_request())

    for _ in range(6):
        await b.work()

    assert (b.queue.outbox.depth(), b.queue.stats().waiting) == (5, 1)


async def test_used_up_quota_is_waited_for(bench: Any, make_request: Any, clock: Any) -> None:
    """An account without credit burns no request: it is asked again later, and the request is answered."""
    quota = ProviderFailure(
        LLMErrorCode.PROVIDER_RATE_LIMIT, "no credit", retryable=False, details={"quota_used_up": True}
    )
    b = bench(quota, REPLY, guarded=True)
    await b.queue.put(make_request())

    await b.work()
    assert b.queue.outbox.depth() == 0
    clock.seconds += 61.0
    await b.work()

    assert (await b.result()).is_success


async def test_request_that_would_cost_too_much_is_not_asked(bench: Any, make_request: Any) -> None:
    """The limit of a request is kept before the call, with its own error code and a sentence."""
    b = bench(REPLY, limits=BudgetLimits(request_usd=1e-9))
    await b.queue.put(make_request(llm_config_overrides={"model_override": "gpt-4o-mini"}))

    await b.work()

    result = await b.result()
    assert result.error_detail.error_code is LLMErrorCode.COST_LIMIT_EXCEEDED
    assert "MAX_COST_USD_PER_REQUEST" in result.error_detail.message
    assert b.provider.calls == []


async def test_call_of_unknown_cost_is_counted_at_its_estimate(bench: Any, make_request: Any) -> None:
    """A call that may be billed and of which no usage came back is in the callback and the budget."""
    lost = ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "lost", retryable=False, may_be_billed=True)
    b = bench(lost, limits=BudgetLimits(day_usd=100.0))
    await b.queue.put(make_request(llm_config_overrides={"model_override": "gpt-4o-mini"}))

    await b.work()

    details = (await b.result()).error_detail.details
    assert details["may_be_billed"] is True
    assert details["unconfirmed_cost_usd"] > 0
    assert await b.queue.spent_usd(datetime.now(UTC).date()) == details["unconfirmed_cost_usd"]


async def test_request_that_always_fails_leaves_the_probe_to_another(
    bench: Any, make_request: Any, clock: Any
) -> None:
    """While a circuit is open a failed request rests longer than the pause, so that the next one is asked."""
    down = ProviderFailure(LLMErrorCode.PROVIDER_UNAVAILABLE, "down", retryable=True)
    b = bench(*[down] * 6, REPLY, guarded=True, max_attempts=100)
    for _ in range(7):
        await b.queue.put(make_request())
    for _ in range(6):
        await b.work()
    rested = b.queue.stats().waiting

    clock.seconds += 1.5
    await b.work()

    assert rested == 7
    assert (await b.result()).is_success
    assert b.provider.calls[5].queue_id != b.provider.calls[6].queue_id


async def test_unwanted_request_is_not_asked_for(bench: Any, make_request: Any) -> None:
    """A request that is cancelled before its call begins costs nothing, and the callback says so."""
    b = bench(REPLY)
    request = make_request()
    await b.queue.put(request)
    b.wishes.express(request.queue_id)

    await b.work()

    error = (await b.result()).error_detail
    assert (error.error_code, error.details["may_be_billed"]) == (LLMErrorCode.REQUEST_CANCELLED, False)
    assert b.provider.calls == []
    assert b.wishes.withdraw(request.queue_id)


async def test_call_that_is_cut_off_may_be_billed(bench: Any, make_request: Any) -> None:
    """The callback of a call that was closed tells the attempt, and counts what it may cost."""
    b = bench(REPLY)
    b.provider.answering.clear()
    request = make_request()
    await b.queue.put(request)
    working = asyncio.ensure_future(b.work())
    await asyncio.wait_for(b.provider.asked.wait(), HANG_SECONDS)

    b.wishes.express(request.queue_id)
    await asyncio.wait_for(working, HANG_SECONDS)

    result = await b.result()
    assert result.error_detail is not None
    assert result.error_detail.error_code is LLMErrorCode.REQUEST_CANCELLED
    assert result.error_detail.details["may_be_billed"] is True
    assert b.wishes.withdraw(request.queue_id)
    assert b.queue.stats().claimed == 0


async def test_answer_that_came_first_is_kept(bench: Any, make_request: Any) -> None:
    """A wish that comes when the outcome is there has not come to be."""
    b = bench(REPLY)
    request = make_request()
    await b.queue.put(request)
    await b.work()

    b.wishes.express(request.queue_id)

    assert (await b.result()).is_success
    assert not b.wishes.withdraw(request.queue_id)


async def test_end_of_the_process_is_no_cancellation(bench: Any, make_request: Any) -> None:
    """Where the service stops while a wish is fulfilled, the call is cut off and nothing is recorded."""
    b = bench(REPLY)
    b.provider.answering.clear()
    request = make_request()
    await b.queue.put(request)
    working = asyncio.ensure_future(b.work())
    await asyncio.wait_for(b.provider.asked.wait(), HANG_SECONDS)

    working.cancel()
    b.wishes.express(request.queue_id)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, HANG_SECONDS)
    assert b.queue.outbox.depth() == 0
