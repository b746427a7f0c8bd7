"""Brings one claimed request to its outcome: asks the provider once, then answers, or gives it back."""

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime

import structlog

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.callback import compose_failure, compose_success, read_trace_id
from service.core.errors import CallCutOff, ProviderFailure, QueueRejected, QueueUnavailable, Refused
from service.core.outcome import AttemptRecord, ProviderReply, Spent, Usage
from service.core.ports import Clock, LLMProvider, RequestMeter, RequestQueue, Span, Tracing
from service.core.prompt import SYSTEM_PROMPT, compose_user_prompt
from service.core.records import Callback, Claim, ProviderCall, Route, SpanKind
from service.core.retry import RetryLater, decide
from service.engine.budget import Budget
from service.engine.cancellation import Wishes
from service.engine.guards import Guards
from service.engine.routing import Router

RECORD_AGAIN_SECONDS = 1.0

_log = structlog.get_logger("service.processor")


class Processor:
    """One request to one outcome. Whatever happens, a claim ends in a callback or back in the queue."""

    def __init__(
        self,
        *,
        queue: RequestQueue,
        router: Router,
        guards: Guards,
        budget: Budget,
        wishes: Wishes,
        meter: RequestMeter,
        tracing: Tracing,
        clock: Clock,
        max_attempts: int,
        provider_timeout_seconds: float,
        tell_usage: bool = False,
    ) -> None:
        self._queue = queue
        self._router = router
        self._guards = guards
        self._budget = budget
        self._wishes = wishes
        self._meter = meter
        self._tracing = tracing
        self._clock = clock
        self._max_attempts = max_attempts
        self._provider_timeout_seconds = provider_timeout_seconds
        self._tell_usage = tell_usage

    async def process(self, claim: Claim) -> None:
        """Makes one attempt at a claimed request and records what came of it."""
        request = claim.request
        span = self._tracing.begin("process comparison", SpanKind.CONSUMER, request.traceparent)
        if span.traceparent != request.traceparent:
            # What is noted of the outcome, and whoever receives it, stands below this attempt.
            request = request.model_copy(update={"traceparent": span.traceparent})
            claim = replace(claim, request=request)
            waited_seconds = (self._clock.now() - request.queued_at).total_seconds()
            span.note(
                messaging__message__id=request.queue_id,
                messaging__message__conversation_id=str(request.correlation_id),
                llmctl__attempt=claim.attempt,
                llmctl__queue_wait_seconds=waited_seconds,
            )
        try:
            await self._end(claim, self._process(claim))
        finally:
            span.end()

    async def _end(self, claim: Claim, work: Awaitable[None]) -> None:
        """Makes sure that a claim ends whatever happens: a defect here must not stop other requests."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, its request ends and others go on
            queue_id, code = claim.request.queue_id, LLMErrorCode.INTERNAL_ERROR
            _log.exception("request fails by a defect of the service", request_id=queue_id)
            message = f"The service failed while it worked on the request ({type(error).__name__})."
            try:
                await self._fail(claim, self._provider_of(claim), code, message, claim.spent)
            except Exception:  # noqa: BLE001
                _log.exception("request cannot be ended, the next start tries again", request_id=queue_id)

    async def _process(self, claim: Claim) -> None:
        now = self._clock.now()
        request = claim.request
        if self._wishes.wants(request.queue_id):
            await self._cancel_unstarted(claim, attempts_begun=claim.attempt - 1)
            return
        if now >= request.expires_at:
            waited = (now - request.queued_at).total_seconds()
            await self._fail(
                claim,
                self._provider_of(claim),
                LLMErrorCode.REQUEST_EXPIRED,
                f"The request was not answered by its deadline; it has waited {max(0.0, waited):.1f} s.",
                claim.spent,
            )
            return
        if claim.attempt > self._max_attempts:
            # Attempts are counted before they start: a request that kills the process ends here.
            await self._fail(
                claim,
                self._provider_of(claim),
                claim.spent.last_code or LLMErrorCode.INTERNAL_ERROR,
                claim.spent.last_message
                or f"The service stopped during each of {self._max_attempts} attempts at this request.",
                claim.spent,
            )
            return
        if claim.attempt == 1:
            self._meter.started(max(0.0, (now - request.queued_at).total_seconds()))
        await self._attempt(claim)

    async def cancel(self, claim: Claim) -> None:
        """Ends a request that was waiting, and whose claim was not counted as an attempt."""
        await self._end(claim, self._cancel_unstarted(claim, attempts_begun=claim.attempt))

    async def _cancel_unstarted(self, claim: Claim, *, attempts_begun: int) -> None:
        # One whose end is not known was begun by a process that was killed, or by another replica.
        begun = attempts_begun > claim.spent.calls
        await self._cancel(claim, self._provider_of(claim), claim.spent, begun=begun)

    async def _attempt(self, claim: Claim) -> None:
        try:
            route = self._router.choose(claim.request.request_data.llm_config_overrides)
        except Refused as refused:  # the configuration was another one when the request was accepted
            await self._fail(
                claim,
                self._provider_of(claim),
                LLMErrorCode.CONFIGURATION_ERROR,
                refused.message,
                claim.spent,
            )
            return
        call = self._compose_call(claim, route)
        estimated_usd = self._budget.estimate_usd(route.provider, call)
        objection = await self._budget.reserve(claim.sequence, estimated_usd, claim.spent)
        if objection is not None:
            code = LLMErrorCode.COST_LIMIT_EXCEEDED
            await self._fail(claim, route.provider, code, objection, claim.spent)
            return
        try:
            await self._call(claim, route, call, estimated_usd)
        finally:
            self._budget.settle(claim.sequence, 0.0)  # where the call was cut off: it has no outcome

    async def _call(self, claim: Claim, route: Route, call: ProviderCall, estimated_usd: float) -> None:
        self._meter.calling(route.provider)
        started_at, started = self._clock.now(), self._clock.monotonic()
        span = self._tracing.begin(
            f"chat {route.model}", SpanKind.CLIENT, claim.request.traceparent, _describe_call(route)
        )
        try:
            reply = await self._ask(self._router.provider(route), call)
        except ProviderFailure as failure:
            _note_usage(span, failure.usage)
            span.end(failure.code.value)
            seconds = self._clock.monotonic() - started
            is_unconfirmed = failure.may_be_billed and not failure.usage.is_known
            unconfirmed_usd = estimated_usd if is_unconfirmed else 0.0
            self._budget.settle(claim.sequence, failure.usage.cost_usd + unconfirmed_usd)
            attempt = _note_attempt(started_at, seconds, route, failure.code)
            model = failure.model or route.model
            call_spent = Spent(
                failure.usage, seconds, model, failure.code, failure.message, 1, unconfirmed_usd, (attempt,)
            )
            await self._after_failure(claim, route, failure, call_spent)
        except CallCutOff as cut_off:
            span.end(LLMErrorCode.REQUEST_CANCELLED.value)
            await self._after_cut_off(claim, route, cut_off, started_at, started, estimated_usd)
        except BaseException:  # the process stops: the call is made again by the next start
            span.end("cut off")
            raise
        else:
            _note_usage(span, reply.usage)
            span.note(gen_ai__response__model=reply.model)
            span.end()
            seconds = self._clock.monotonic() - started
            unconfirmed_usd = 0.0 if reply.usage.is_known else estimated_usd
            self._budget.settle(claim.sequence, reply.usage.cost_usd + unconfirmed_usd)
            attempt = _note_attempt(started_at, seconds, route)
            call_spent = Spent(
                reply.usage,
                seconds,
                reply.model,
                calls=1,
                unconfirmed_usd=unconfirmed_usd,
                attempts=(attempt,),
            )
            await self._after_reply(claim, route, reply, call_spent)

    def _compose_call(self, claim: Claim, route: Route) -> ProviderCall:
        request = claim.request
        overrides = request.request_data.llm_config_overrides
        return ProviderCall(
            system_prompt=(overrides.system_prompt_override if overrides else None) or SYSTEM_PROMPT,
            user_prompt=compose_user_prompt(request.request_data, request.queue_id),
            model=route.model,
            temperature=overrides.temperature_override if overrides else None,
            max_tokens=overrides.max_tokens_override if overrides else None,
            timeout_seconds=self._provider_timeout_seconds,
            queue_id=request.queue_id,
            correlation_id=request.correlation_id,
            attempt=claim.spent.calls + 1,
        )

    async def _ask(self, provider: LLMProvider, call: ProviderCall) -> ProviderReply:
        try:
            with self._wishes.interrupting(call.queue_id):
                return await provider.compare(call)
        except (ProviderFailure, CallCutOff):
            raise
        except Exception as error:
            # A provider raises nothing else; where one does it is a defect, and the caller is told anyway.
            _log.exception(
                "provider adapter failed unexpectedly", request_id=call.queue_id, provider=provider.name
            )
            raise ProviderFailure(
                LLMErrorCode.INTERNAL_ERROR,
                "The service failed while it asked the provider.",
                retryable=False,
                may_be_billed=True,
            ) from error

    async def _after_reply(self, claim: Claim, route: Route, reply: ProviderReply, call_spent: Spent) -> None:
        seconds = call_spent.provider_seconds
        self._guards.succeed(claim.sequence, reply)
        self._meter.attempted(route.provider, reply.model, None, seconds, reply.usage)
        spent = claim.spent + call_spent
        callback = compose_success(
            claim.request,
            route.provider,
            reply.judgement,
            spent,
            self._clock.now(),
            tell_usage=self._tell_usage,
        )
        await self._record(claim, callback)
        _log.info(
            "request answered",
            request_id=claim.request.queue_id,
            correlation_id=str(claim.request.correlation_id),
            caller=claim.request.caller,
            trace_id=read_trace_id(claim.request.traceparent),
            provider=route.provider.value,
            model=reply.model,
            attempt=claim.attempt,
            provider_ms=round(seconds * 1000),
            tokens=spent.usage.total_tokens,
        )

    async def _after_failure(
        self,
        claim: Claim,
        route: Route,
        failure: ProviderFailure,
        call_spent: Spent,
    ) -> None:
        seconds, model = call_spent.provider_seconds, call_spent.model or route.model
        trouble = self._guards.fail(claim.sequence, failure)
        self._meter.attempted(route.provider, model, failure.code, seconds, failure.usage)
        spent = claim.spent + call_spent
        decision = decide(
            failure,
            trouble_seconds=None if trouble is None else trouble.paused_seconds,
            attempt=claim.attempt,
            calls=spent.calls,
            max_attempts=self._max_attempts,
            now=self._clock.now(),
            expires_at=claim.request.expires_at,
            random=random.random(),  # noqa: S311 - jitter, not a secret
        )
        if isinstance(decision, RetryLater):
            await self._give_back(claim, decision.after_seconds, spent, counted=decision.counted)
            _log.warning(
                "attempt failed, will be repeated",
                request_id=claim.request.queue_id,
                correlation_id=str(claim.request.correlation_id),
                error_code=failure.code.value,
                attempt=claim.attempt,
                counted=decision.counted,
                retry_in_seconds=round(decision.after_seconds, 3),
            )
            return
        details: dict[str, object] = {**failure.details, "attempts": claim.attempt}
        if failure.may_be_billed:
            details["may_be_billed"] = True
        if spent.unconfirmed_usd:
            details["unconfirmed_cost_usd"] = spent.unconfirmed_usd
        await self._fail(claim, route.provider, failure.code, failure.message, spent, details)

    async def _after_cut_off(
        self,
        claim: Claim,
        route: Route,
        cut_off: CallCutOff,
        started_at: datetime,
        started: float,
        estimated_usd: float,
    ) -> None:
        """The call was closed: what it has cost is not known, and it may be billed."""
        seconds = self._clock.monotonic() - started
        code = LLMErrorCode.REQUEST_CANCELLED
        self._meter.attempted(route.provider, route.model, code, seconds, Usage())
        if not cut_off.begun:
            await self._cancel(claim, route.provider, claim.spent, begun=False)
            return
        self._budget.settle(claim.sequence, estimated_usd)
        call_spent = Spent(
            provider_seconds=seconds,
            model=route.model,
            last_code=code,
            calls=1,
            unconfirmed_usd=estimated_usd,
            attempts=(_note_attempt(started_at, seconds, route, code),),
        )
        await self._cancel(claim, route.provider, claim.spent + call_spent, begun=True)

    async def _cancel(self, claim: Claim, provider: LLMProviderType, spent: Spent, *, begun: bool) -> None:
        """Ends a request that nobody wants any more; `begun` says that a call to the provider was."""
        message = "The request was cancelled before a call to the provider began."
        if begun:
            message = "The request was cancelled while the provider was asked; that call may be billed."
        elif spent.calls:
            message = "The request was cancelled between two attempts; cost_estimate has what they have cost."
        details: dict[str, object] = {"attempts": claim.attempt, "may_be_billed": begun}
        if spent.unconfirmed_usd:
            details["unconfirmed_cost_usd"] = spent.unconfirmed_usd
        code = LLMErrorCode.REQUEST_CANCELLED
        # Before the outcome is durable: whoever wished it is woken by that.
        self._wishes.grant(claim.request.queue_id)
        await self._record(claim, self._compose_failure(claim, provider, code, message, spent, details))
        _log.info(
            "request cancelled",
            request_id=claim.request.queue_id,
            correlation_id=str(claim.request.correlation_id),
            caller=claim.request.caller,
            attempt=claim.attempt,
            may_be_billed=begun,
        )

    async def _fail(
        self,
        claim: Claim,
        provider: LLMProviderType,
        code: LLMErrorCode,
        message: str,
        spent: Spent,
        details: dict[str, object] | None = None,
    ) -> None:
        await self._record(claim, self._compose_failure(claim, provider, code, message, spent, details))
        _log.error(
            "request failed",
            request_id=claim.request.queue_id,
            correlation_id=str(claim.request.correlation_id),
            caller=claim.request.caller,
            trace_id=read_trace_id(claim.request.traceparent),
            error_code=code.value,
            error=message,
            attempt=claim.attempt,
        )

    def _compose_failure(
        self,
        claim: Claim,
        provider: LLMProviderType,
        code: LLMErrorCode,
        message: str,
        spent: Spent,
        details: dict[str, object] | None,
    ) -> Callback:
        now = self._clock.now()
        return compose_failure(
            claim.request, provider, code, message, spent, now, details, tell_usage=self._tell_usage
        )

    async def _record(self, claim: Claim, callback: Callback) -> None:
        """Makes the outcome durable; it is paid for, so it is held until the queue takes it.

        Raises `QueueRejected` if the queue works and cannot store this outcome.
        """
        while True:
            try:
                await asyncio.shield(self._queue.complete(claim, callback))
            except QueueRejected:
                raise
            except QueueUnavailable as error:
                _log.critical(
                    "outcome cannot be stored, will be tried again",
                    request_id=claim.request.queue_id,
                    error=str(error),
                )
                await asyncio.sleep(RECORD_AGAIN_SECONDS)
            else:
                self._meter.processed(callback.success)
                return

    async def _give_back(self, claim: Claim, after_seconds: float, spent: Spent, *, counted: bool) -> None:
        while True:
            try:
                await asyncio.shield(self._queue.retry(claim, after_seconds, spent, counted=counted))
            except QueueRejected:
                raise
            except QueueUnavailable as error:
                _log.critical(
                    "failed attempt cannot be stored, will be tried again",
                    request_id=claim.request.queue_id,
                    error=str(error),
                )
                await asyncio.sleep(RECORD_AGAIN_SECONDS)
            else:
                return

    def _provider_of(self, claim: Claim) -> LLMProviderType:
        overrides = claim.request.request_data.llm_config_overrides
        return (overrides.provider_override if overrides else None) or self._router.default


def _describe_call(route: Route) -> dict[str, str | float | bool]:
    # https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": route.provider.value,
        "gen_ai.request.model": route.model,
    }


def _note_usage(span: Span, usage: Usage) -> None:
    if usage.total_tokens:
        span.note(
            gen_ai__usage__input_tokens=usage.prompt_tokens,
            gen_ai__usage__output_tokens=usage.completion_tokens,
            llmctl__cost_usd=usage.cost_usd,
        )


def _note_attempt(
    started_at: datetime, seconds: float, route: Route, code: LLMErrorCode | None = None
) -> AttemptRecord:
    return AttemptRecord(round(started_at.timestamp() * 1000), round(seconds, 4), route.provider, code)
