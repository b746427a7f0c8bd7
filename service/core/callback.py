"""From an outcome to the one event that tells it, and to the one that tells what it has used.

Pure: the same outcome gives the same events.
"""

from datetime import UTC, datetime

from service.contracts.codec import SealedEnvelope, seal
from service.contracts.enums import LLMProviderType, ProcessingEvent
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import MAX_ERROR_MESSAGE_CHARACTERS, ErrorDetail
from service.contracts.events import (
    ComparisonResultEnvelope,
    LLMComparisonResultV1,
    LLMUsageV1,
    TokenUsage,
    UsageEnvelope,
)
from service.contracts.requests import QueuedRequest
from service.contracts.topics import SOURCE_SERVICE, derive_event_id
from service.core.outcome import AttemptRecord, Judgement, Spent
from service.core.records import Callback

UNKNOWN_MODEL = "unknown"
OPERATION = "process_comparison"
ATTEMPT_SUCCEEDED = "success"


def compose_success(
    request: QueuedRequest,
    provider: LLMProviderType,
    judgement: Judgement,
    spent: Spent,
    now: datetime,
    *,
    tell_usage: bool = False,
) -> Callback:
    """The callback of a request that got its answer; `spent` covers all attempts.

    With `tell_usage` the event that tells what was used goes with it.
    """
    return _compose(request, provider, spent, now, tell_usage, judgement=judgement)


def compose_failure(
    request: QueuedRequest,
    provider: LLMProviderType,
    code: LLMErrorCode,
    message: str,
    spent: Spent,
    now: datetime,
    details: dict[str, object] | None = None,
    *,
    tell_usage: bool = False,
) -> Callback:
    """The callback of a request that ended without an answer; otherwise as `compose_success`."""
    facts = details or {}
    error = ErrorDetail(
        error_code=code,
        message=_make_plain(message)[:MAX_ERROR_MESSAGE_CHARACTERS] or f"The request ended with {code}.",
        correlation_id=request.correlation_id,
        timestamp=now,
        service=SOURCE_SERVICE,
        operation=OPERATION,
        details={
            **{name: _make_plain(fact) if isinstance(fact, str) else fact for name, fact in facts.items()},
            "request_id": request.queue_id,
            "provider": provider.value,
        },
    )
    return _compose(request, provider, spent, now, tell_usage, error=error)


def _compose(
    request: QueuedRequest,
    provider: LLMProviderType,
    spent: Spent,
    now: datetime,
    tell_usage: bool,
    *,
    judgement: Judgement | None = None,
    error: ErrorDetail | None = None,
) -> Callback:
    now = max(now, request.queued_at)  # the wall clock may have been set back meanwhile
    result = LLMComparisonResultV1(
        request_id=request.queue_id,
        correlation_id=request.correlation_id,
        winner=judgement.winner if judgement else None,
        justification=judgement.justification if judgement else None,
        confidence=judgement.confidence if judgement else None,
        error_detail=error,
        provider=provider,
        model=_make_plain(spent.model or UNKNOWN_MODEL),
        response_time_ms=round(spent.provider_seconds * 1000),
        token_usage=TokenUsage(
            prompt_tokens=spent.usage.prompt_tokens,
            completion_tokens=spent.usage.completion_tokens,
            total_tokens=spent.usage.total_tokens,
        ),
        cost_estimate=spent.usage.cost_usd,
        requested_at=request.queued_at,
        completed_at=now,
        trace_id=read_trace_id(request.traceparent),
        request_metadata=request.request_data.metadata,
    )
    envelope = ComparisonResultEnvelope(
        event_id=derive_event_id(request.queue_id),
        event_type=ProcessingEvent.LLM_COMPARISON_RESULT.value,
        event_timestamp=now,
        source_service=SOURCE_SERVICE,
        correlation_id=request.correlation_id,
        data=result,
        metadata={"attempts": [_tell_attempt(attempt) for attempt in spent.attempts]},
    )
    return Callback(
        queue_id=request.queue_id,
        topic=request.callback_topic,
        key=str(request.correlation_id),
        sealed=seal(envelope, run_id=request.run_id, traceparent=request.traceparent),
        success=judgement is not None,
        accepted_unix_seconds=request.queued_at.timestamp(),
        spent=spent,
        usage=_compose_usage(request, result, spent) if tell_usage else None,
    )


def _compose_usage(
    request: QueuedRequest, result: LLMComparisonResultV1, spent: Spent
) -> SealedEnvelope | None:
    """None where no call was made: nothing was used."""
    if not spent.calls:
        return None
    usage = LLMUsageV1(
        request_id=request.queue_id,
        correlation_id=request.correlation_id,
        caller=request.caller,
        callback_topic=request.callback_topic,
        run_id=request.run_id,
        provider=result.provider,
        model=result.model,
        calls=spent.calls,
        token_usage=result.token_usage,
        cached_tokens=spent.usage.cached_tokens,
        reasoning_tokens=spent.usage.reasoning_tokens,
        cost_estimate=result.cost_estimate,
        unconfirmed_cost_usd=spent.unconfirmed_usd,
        error_code=result.error_detail.error_code if result.error_detail else None,
        requested_at=result.requested_at,
        completed_at=result.completed_at,
    )
    envelope = UsageEnvelope(
        event_id=derive_event_id(request.queue_id, ProcessingEvent.LLM_USAGE),
        event_type=ProcessingEvent.LLM_USAGE.value,
        event_timestamp=result.completed_at,
        source_service=SOURCE_SERVICE,
        correlation_id=request.correlation_id,
        data=usage,
    )
    return seal(envelope, run_id=request.run_id, traceparent=request.traceparent)


def read_trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C `traceparent` (https://www.w3.org/TR/trace-context/, section 3.2)."""
    return traceparent.split("-")[1] if traceparent and "-" in traceparent else None


def _tell_attempt(attempt: AttemptRecord) -> dict[str, object]:
    started_at = datetime.fromtimestamp(attempt.started_unix_milliseconds / 1000, UTC)
    return {
        # `Z` as in all other times of the event.
        "started_at": started_at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "seconds": attempt.seconds,
        "provider": attempt.provider.value,
        "outcome": ATTEMPT_SUCCEEDED if attempt.code is None else attempt.code.value,
    }


def _make_plain(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8: no callback could be made of it.
    return text.encode("utf-8", "replace").decode()
