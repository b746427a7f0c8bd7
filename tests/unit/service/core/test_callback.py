"""From an outcome to its one event: complete, always composable, and the same every time."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.codec import open_usage, read_header
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import TokenUsage
from service.contracts.requests import QueuedRequest
from service.core.callback import UNKNOWN_MODEL, compose_failure, compose_success, read_trace_id
from service.core.errors import ProviderFailure
from service.core.outcome import AttemptRecord, Judgement, Spent, Usage
from service.core.prompt import read_judgement
from service.core.records import Callback

OPENAI = LLMProviderType.OPENAI
JUDGEMENT = Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 0.8)
SPENT = Spent(Usage(1000, 200, 50, 20, 0.0125), 1.2346, "gpt-4o-mini-2024-07-18")
URL_NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def succeed(queued: QueuedRequest, now: datetime, spent: Spent = SPENT) -> Callback:
    """The callback of a success."""
    return compose_success(queued, OPENAI, JUDGEMENT, spent, now)


def fail(
    queued: QueuedRequest,
    now: datetime,
    *,
    message: str = "The provider cannot be reached.",
    spent: Spent = SPENT,
    details: dict[str, object] | None = None,
) -> Callback:
    """The callback of a failure."""
    code = LLMErrorCode.PROVIDER_UNAVAILABLE
    return compose_failure(queued, OPENAI, code, message, spent, now, details)


def test_a_success_says_everything(queued: QueuedRequest, now: datetime) -> None:
    """Every field of the answer, each from where it belongs."""
    data = succeed(queued, now).sealed.data
    assert data.model_dump() == {
        "request_id": queued.queue_id,
        "correlation_id": queued.correlation_id,
        "winner": EssayComparisonWinner.ESSAY_B,
        "justification": "It is clearer.",
        "confidence": 0.8,
        "error_detail": None,
        "provider": OPENAI,
        "model": "gpt-4o-mini-2024-07-18",
        "response_time_ms": 1235,
        "token_usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        "cost_estimate": 0.0125,
        "requested_at": queued.queued_at,
        "completed_at": now,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "request_metadata": queued.request_data.metadata,
    }


def test_a_failure_says_everything(queued: QueuedRequest, now: datetime) -> None:
    """The same, with an error in the place of the judgement."""
    data = fail(queued, now, details={"attempts": 5}).sealed.data
    assert (data.winner, data.justification, data.confidence) == (None, None, None)
    assert data.error_detail is not None
    assert data.error_detail.model_dump() == {
        "error_code": LLMErrorCode.PROVIDER_UNAVAILABLE,
        "message": "The provider cannot be reached.",
        "correlation_id": queued.correlation_id,
        "timestamp": now,
        "service": "llm_provider_service",
        "operation": "process_comparison",
        "details": {"request_id": queued.queue_id, "provider": "openai", "attempts": 5},
    }
    alike = {"winner", "justification", "confidence", "error_detail"}
    assert data.model_dump(exclude=alike) == succeed(queued, now).sealed.data.model_dump(exclude=alike)


def test_usage_says_everything_and_nothing_of_the_texts(queued: QueuedRequest, now: datetime) -> None:
    """Every field of the usage event, for an answer and for a failure."""
    spent = replace(SPENT, calls=3, unconfirmed_usd=0.5)
    answered = compose_success(queued, OPENAI, JUDGEMENT, spent, now, tell_usage=True)
    code = LLMErrorCode.PROVIDER_TIMEOUT
    failed = compose_failure(queued, OPENAI, code, "Too slow.", spent, now, tell_usage=True)

    events = [open_usage(callback.usage.value) for callback in (answered, failed) if callback.usage]

    assert [event.data.error_code for event in events] == [None, code]
    assert events[0].data.model_dump(exclude={"error_code"}) == {
        "request_id": queued.queue_id,
        "correlation_id": queued.correlation_id,
        "caller": queued.caller,
        "callback_topic": queued.callback_topic,
        "run_id": queued.run_id,
        "provider": OPENAI,
        "model": "gpt-4o-mini-2024-07-18",
        "calls": 3,
        "token_usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        "cached_tokens": 50,
        "reasoning_tokens": 20,
        "cost_estimate": 0.0125,
        "unconfirmed_cost_usd": 0.5,
        "requested_at": queued.queued_at,
        "completed_at": now,
    }
    expected_id = uuid5(URL_NAMESPACE, f"llm_provider.usage:{queued.queue_id}")
    assert {event.event_id for event in events} == {expected_id}
    assert {event.event_type for event in events} == {"llm_provider.usage"}
    assert answered.usage is not None
    assert read_header(answered.usage.headers, "event_id") == str(expected_id)
    data = queued.request_data
    for text in (data.essay_a, data.essay_b, data.user_prompt, JUDGEMENT.justification, "Too slow."):
        assert text.encode() not in answered.usage.value
    assert answered.sealed == succeed(queued, now, spent).sealed


def test_where_no_call_was_made_there_is_no_usage(queued: QueuedRequest, now: datetime) -> None:
    """Nothing was used; and nothing is told where it is not asked for."""
    spent = replace(SPENT, calls=0)
    assert compose_success(queued, OPENAI, JUDGEMENT, spent, now, tell_usage=True).usage is None
    assert succeed(queued, now, replace(SPENT, calls=1)).usage is None


@pytest.mark.parametrize("compose", [succeed, fail])
def test_an_event_is_wrapped_addressed_and_labeled(
    compose: Any, queued: QueuedRequest, now: datetime
) -> None:
    """The envelope and the record around an answer, success or error."""
    callback = compose(queued, now)
    envelope = callback.sealed.envelope
    expected_id = uuid5(URL_NAMESPACE, f"llm_provider.comparison_result:{queued.queue_id}")
    assert envelope.model_dump(exclude={"data"}) == {
        "event_id": expected_id,
        "event_type": "llm_provider.comparison_result",
        "event_timestamp": now,
        "source_service": "llm_provider_service",
        "schema_version": 1,
        "correlation_id": queued.correlation_id,
        "metadata": {"attempts": []},
    }
    assert callback.queue_id == queued.queue_id
    assert callback.topic == "results.one"
    assert callback.key == str(queued.correlation_id)
    assert callback.accepted_unix_seconds == queued.queued_at.timestamp()
    assert callback.success is (compose is succeed)
    assert dict(callback.sealed.headers) == {
        "event_id": str(expected_id).encode(),
        "event_type": b"llm_provider.comparison_result",
        "request_id": queued.queue_id.encode(),
        "content-type": b"application/json",
        "run_id": b"run-7",
        "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }


@pytest.mark.parametrize("compose", [succeed, fail])
def test_the_same_outcome_gives_the_same_bytes(compose: Any, queued: QueuedRequest, now: datetime) -> None:
    """Composing is pure: no clock, no chance."""
    assert compose(queued, now) == compose(queued, now)


def test_a_request_without_run_and_trace_has_neither(queued: QueuedRequest, now: datetime) -> None:
    """Real traffic is not marked."""
    plain = queued.model_copy(update={"run_id": None, "traceparent": None})
    sealed = succeed(plain, now).sealed
    assert read_header(sealed.headers, "run_id") is None
    assert read_header(sealed.headers, "traceparent") is None
    assert sealed.data.trace_id is None


def test_nothing_known_is_told_as_nothing(queued: QueuedRequest, now: datetime) -> None:
    """An error before any call names no model and claims no time, tokens or money."""
    data = fail(queued, now, spent=Spent()).sealed.data
    assert data.model == UNKNOWN_MODEL == "unknown"
    assert (data.response_time_ms, data.token_usage, data.cost_estimate) == (0, TokenUsage(), 0.0)


def test_failed_attempts_are_paid_for_too(queued: QueuedRequest, now: datetime) -> None:
    """Tokens, money and time of all attempts are in the answer, whichever attempt brought it."""
    first = Spent(
        Usage(100, 1, 10, 0, 0.5), 1.0, "first-model", LLMErrorCode.PARSING_ERROR, "The answer is not JSON."
    )
    second = Spent(Usage(200, 2, 0, 5, 0.25), 2.0, None, LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    third = Spent(Usage(300, 3, 0, 0, 0.125), 0.5, "second-model")
    for callback in (
        succeed(queued, now, Spent() + first + second + third),
        fail(queued, now, spent=Spent() + first + second + third),
    ):
        data = callback.sealed.data
        assert data.token_usage == TokenUsage(prompt_tokens=600, completion_tokens=6, total_tokens=606)
        assert data.cost_estimate == 0.875
        assert data.response_time_ms == 3500
        assert data.model == "second-model"


@pytest.mark.parametrize("compose", [succeed, fail])
def test_the_envelope_tells_each_attempt(compose: Any, queued: QueuedRequest, now: datetime) -> None:
    """Beside the event stand the calls in order: when, how long, who was asked and what came of it."""
    start = round((now - timedelta(seconds=6, milliseconds=-7)).timestamp() * 1000)
    attempts = (
        AttemptRecord(start, 1.25, LLMProviderType.ANTHROPIC, LLMErrorCode.PROVIDER_TIMEOUT),
        AttemptRecord(start + 1993, 0.0312, OPENAI),
    )
    sealed = compose(queued, now, spent=replace(SPENT, attempts=attempts)).sealed
    assert json.loads(sealed.value)["metadata"] == {
        "attempts": [
            {
                "started_at": "2025-03-14T09:26:54.007Z",
                "seconds": 1.25,
                "provider": "anthropic",
                "outcome": "LLM_PROVIDER_TIMEOUT",
            },
            {
                "started_at": "2025-03-14T09:26:56.000Z",
                "seconds": 0.0312,
                "provider": "openai",
                "outcome": "success",
            },
        ]
    }


def test_facts_of_the_failure_never_hide_whose_it_is(queued: QueuedRequest, now: datetime) -> None:
    """`request_id` and `provider` in the details are always ours."""
    details: dict[str, object] = {"request_id": "req_of_the_vendor", "provider": "x", "status": 503}
    error = fail(queued, now, details=details).sealed.data.error_detail
    assert error is not None
    assert error.details == {"request_id": queued.queue_id, "provider": "openai", "status": 503}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 1000),
        ("é" * 5000, "é" * 1000),
        ("", "The request ended with LLM_PROVIDER_UNAVAILABLE."),
        ("a\ud800b", "a?b"),
    ],
    ids=lambda text: ascii(text[:10]),
)
def test_any_message_fits(message: str, expected: str, queued: QueuedRequest, now: datetime) -> None:
    """Too long, empty or not to be written as UTF-8: the caller is told all the same."""
    error = fail(queued, now, message=message).sealed.data.error_detail
    assert error is not None
    assert error.message == expected


ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=1100)
ANY_USAGE = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 2**63),
    completion_tokens=st.integers(0, 2**63),
    cached_tokens=st.integers(0, 2**63),
    reasoning_tokens=st.integers(0, 2**63),
    cost_usd=st.floats(0, 1e12),
)
ANY_FACTS = st.dictionaries(
    st.text(max_size=20), st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT, max_size=4
)
ANY_FAILURE = st.builds(
    ProviderFailure,
    code=st.sampled_from(LLMErrorCode),
    message=ANY_TEXT,
    retryable=st.booleans(),
    retry_after_seconds=st.none() | st.floats(),
    usage=ANY_USAGE,
    may_be_billed=st.booleans(),
    model=st.none() | ANY_TEXT,
    details=ANY_FACTS,
)
SECONDS = st.floats(0, 1e6)


@settings(deadline=None, max_examples=100)
@given(failure=ANY_FAILURE, provider=st.sampled_from(LLMProviderType), seconds=SECONDS)
def test_every_failure_can_be_told(
    failure: ProviderFailure, provider: LLMProviderType, seconds: float, queued: QueuedRequest, now: datetime
) -> None:
    """Whatever an adapter says of its failure, there is a callback, and its readers can read it."""
    spent = Spent(failure.usage, seconds, failure.model, failure.code, failure.message)
    callback = compose_failure(
        queued, provider, failure.code, failure.message, spent, now, dict(failure.details)
    )
    document = json.loads(callback.sealed.value)
    assert document["data"]["error_detail"]["error_code"] == failure.code.value
    assert callback.sealed.data.is_error
    assert not callback.success
    assert callback.sealed.data.model != ""


JUDGED = st.builds(
    lambda winner, justification, confidence: read_judgement(
        json.dumps({"winner": winner, "justification": justification, "confidence": confidence})
    ),
    winner=st.sampled_from(["essay_a", "essay_b"]),
    justification=ANY_TEXT,
    confidence=st.floats(0, 1) | st.integers(0, 1),
)


@settings(deadline=None, max_examples=100)
@given(judgement=JUDGED, usage=ANY_USAGE, seconds=SECONDS, model=ANY_TEXT)
def test_every_judgement_can_be_told(
    judgement: Judgement, usage: Usage, seconds: float, model: str, queued: QueuedRequest, now: datetime
) -> None:
    """Whatever a judge answered, if it could be read there is a callback with it."""
    callback = compose_success(queued, OPENAI, judgement, Spent(usage, seconds, model), now)
    data = callback.sealed.data
    assert (data.winner, data.justification, data.confidence) == (
        judgement.winner,
        judgement.justification,
        judgement.confidence,
    )
    assert callback.success
    assert data.is_success


METADATA = st.dictionaries(
    st.text(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=100)
@given(metadata=METADATA)
def test_metadata_comes_back_unchanged(
    metadata: dict[str, Any], queued: QueuedRequest, now: datetime
) -> None:
    """Types included: a whole float stays a float, a big integer an integer."""
    asked = queued.request_data.model_copy(update={"metadata": metadata})
    callback = fail(queued.model_copy(update={"request_data": asked}), now)
    echoed = json.loads(callback.sealed.value)["data"]["request_metadata"]
    assert repr(echoed) == repr(metadata)


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (None, None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("", None),
        ("garbage", None),
    ],
)
def test_the_trace_id_is_read_from_the_trace_context(traceparent: str | None, expected: str | None) -> None:
    """What is no trace context names no trace, and stands in nobody's way."""
    assert read_trace_id(traceparent) == expected


def test_a_failure_can_be_completed_by_whoever_knows_more(now: datetime, queued: QueuedRequest) -> None:
    """An adapter adds the model to a failure that arose below it, without losing what was said."""
    failure = ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.", retryable=True)
    completed = replace(failure, model="gpt-4o-mini")
    assert (completed.message, completed.model, str(completed)) == (
        "It took too long.",
        "gpt-4o-mini",
        "It took too long.",
    )
