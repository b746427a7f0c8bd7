"""From an outcome to its one event: complete, always composable, and the same every time."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.codec import open_usage, read_header
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import TokenUsage
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.callback import UNKNOWN_MODEL, compose_failure, compose_success, read_trace_id
from service.core.errors import ProviderFailure
from service.core.outcome import AttemptRecord, Judgement, Spent, Usage
from service.core.prompt import read_judgement
from service.core.records import Callback

OPENAI = LLMProviderType.OPENAI
JUDGEMENT = Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 0.8)
SPENT = Spent(Usage(1000, 200, 50, 20, 0.0125), 1.2346, "gpt-4o-mini-2024-07-18")
URL_NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

NOW = datetime(2025, 3, 14, 9, 27, 0, tzinfo=UTC)
CORRELATION_ID = UUID("5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11")
ACCEPTED = NOW - timedelta(seconds=7)
QUEUED = QueuedRequest(
    queue_id="0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10",
    correlation_id=CORRELATION_ID,
    callback_topic="results.one",
    request_data=LLMComparisonRequest(
        user_prompt="Which essay is better?",
        essay_a="The first essay.",
        essay_b="The second essay.",
        callback_topic="results.one",
        metadata={"pair": 17, "weights": [0.25, 1e22], "note": "å 🙂", "deep": {"a": [None, True]}},
        correlation_id=CORRELATION_ID,
    ),
    queued_at=ACCEPTED,
    expires_at=ACCEPTED + timedelta(hours=1),
    run_id="run-7",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def succeed(spent: Spent = SPENT, queued: QueuedRequest = QUEUED) -> Callback:
    return compose_success(queued, OPENAI, JUDGEMENT, spent, NOW)


def fail(
    *,
    message: str = "The provider cannot be reached.",
    spent: Spent = SPENT,
    details: dict[str, object] | None = None,
    queued: QueuedRequest = QUEUED,
) -> Callback:
    code = LLMErrorCode.PROVIDER_UNAVAILABLE
    return compose_failure(queued, OPENAI, code, message, spent, NOW, details)


def test_success_has_every_field() -> None:
    data = succeed().sealed.data
    assert data.model_dump() == {
        "request_id": QUEUED.queue_id,
        "correlation_id": QUEUED.correlation_id,
        "winner": EssayComparisonWinner.ESSAY_B,
        "justification": "It is clearer.",
        "confidence": 0.8,
        "error_detail": None,
        "provider": OPENAI,
        "model": "gpt-4o-mini-2024-07-18",
        "response_time_ms": 1235,
        "token_usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        "cost_estimate": 0.0125,
        "requested_at": QUEUED.queued_at,
        "completed_at": NOW,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "request_metadata": QUEUED.request_data.metadata,
    }


def test_failure_has_every_field() -> None:
    data = fail(details={"attempts": 5}).sealed.data
    assert (data.winner, data.justification, data.confidence) == (None, None, None)
    assert data.error_detail is not None
    assert data.error_detail.model_dump() == {
        "error_code": LLMErrorCode.PROVIDER_UNAVAILABLE,
        "message": "The provider cannot be reached.",
        "correlation_id": QUEUED.correlation_id,
        "timestamp": NOW,
        "service": "llm_provider_service",
        "operation": "process_comparison",
        "details": {"request_id": QUEUED.queue_id, "provider": "openai", "attempts": 5},
    }
    alike = {"winner", "justification", "confidence", "error_detail"}
    assert data.model_dump(exclude=alike) == succeed().sealed.data.model_dump(exclude=alike)


def test_usage_event_has_every_field_and_none_of_the_texts() -> None:
    spent = replace(SPENT, calls=3, unconfirmed_usd=0.5)
    answered = compose_success(QUEUED, OPENAI, JUDGEMENT, spent, NOW, tell_usage=True)
    code = LLMErrorCode.PROVIDER_TIMEOUT
    failed = compose_failure(QUEUED, OPENAI, code, "Too slow.", spent, NOW, tell_usage=True)

    events = [open_usage(callback.usage.value) for callback in (answered, failed) if callback.usage]

    assert [event.data.error_code for event in events] == [None, code]
    assert events[0].data.model_dump(exclude={"error_code"}) == {
        "request_id": QUEUED.queue_id,
        "correlation_id": QUEUED.correlation_id,
        "caller": QUEUED.caller,
        "callback_topic": QUEUED.callback_topic,
        "run_id": QUEUED.run_id,
        "provider": OPENAI,
        "model": "gpt-4o-mini-2024-07-18",
        "calls": 3,
        "token_usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        "cached_tokens": 50,
        "reasoning_tokens": 20,
        "cost_estimate": 0.0125,
        "unconfirmed_cost_usd": 0.5,
        "requested_at": QUEUED.queued_at,
        "completed_at": NOW,
    }
    expected_id = uuid5(URL_NAMESPACE, f"llm_provider.usage:{QUEUED.queue_id}")
    assert {event.event_id for event in events} == {expected_id}
    assert {event.event_type for event in events} == {"llm_provider.usage"}
    assert answered.usage is not None
    assert read_header(answered.usage.headers, "event_id") == str(expected_id)
    data = QUEUED.request_data
    for text in (data.essay_a, data.essay_b, data.user_prompt, JUDGEMENT.justification, "Too slow."):
        assert text.encode() not in answered.usage.value
    assert answered.sealed == succeed(spent).sealed


def test_without_a_call_there_is_no_usage_event() -> None:
    spent = replace(SPENT, calls=0)
    assert compose_success(QUEUED, OPENAI, JUDGEMENT, spent, NOW, tell_usage=True).usage is None
    assert succeed(replace(SPENT, calls=1)).usage is None


@pytest.mark.parametrize("compose", [succeed, fail])
def test_envelope_key_topic_and_headers(compose: Any) -> None:
    callback = compose()
    assert callback == compose(), "the same outcome gives the same bytes"
    envelope = callback.sealed.envelope
    expected_id = uuid5(URL_NAMESPACE, f"llm_provider.comparison_result:{QUEUED.queue_id}")
    assert envelope.model_dump(exclude={"data"}) == {
        "event_id": expected_id,
        "event_type": "llm_provider.comparison_result",
        "event_timestamp": NOW,
        "source_service": "llm_provider_service",
        "schema_version": 1,
        "correlation_id": QUEUED.correlation_id,
        "metadata": {"attempts": []},
    }
    assert callback.queue_id == QUEUED.queue_id
    assert callback.topic == "results.one"
    assert callback.key == str(QUEUED.correlation_id)
    assert callback.accepted_unix_seconds == QUEUED.queued_at.timestamp()
    assert callback.success is (compose is succeed)
    assert dict(callback.sealed.headers) == {
        "event_id": str(expected_id).encode(),
        "event_type": b"llm_provider.comparison_result",
        "request_id": QUEUED.queue_id.encode(),
        "content-type": b"application/json",
        "run_id": b"run-7",
        "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }


def test_request_without_run_and_trace_has_neither_header() -> None:
    plain = QUEUED.model_copy(update={"run_id": None, "traceparent": None})
    sealed = succeed(queued=plain).sealed
    assert read_header(sealed.headers, "run_id") is None
    assert read_header(sealed.headers, "traceparent") is None
    assert sealed.data.trace_id is None


def test_error_before_any_call_has_no_model_time_tokens_or_cost() -> None:
    data = fail(spent=Spent()).sealed.data
    assert data.model == UNKNOWN_MODEL == "unknown"
    assert (data.response_time_ms, data.token_usage, data.cost_estimate) == (0, TokenUsage(), 0.0)


def test_tokens_cost_and_time_of_all_attempts_add_up() -> None:
    first = Spent(
        Usage(100, 1, 10, 0, 0.5), 1.0, "first-model", LLMErrorCode.PARSING_ERROR, "The answer is not JSON."
    )
    second = Spent(Usage(200, 2, 0, 5, 0.25), 2.0, None, LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    third = Spent(Usage(300, 3, 0, 0, 0.125), 0.5, "second-model")
    for callback in (
        succeed(Spent() + first + second + third),
        fail(spent=Spent() + first + second + third),
    ):
        data = callback.sealed.data
        assert data.token_usage == TokenUsage(prompt_tokens=600, completion_tokens=6, total_tokens=606)
        assert data.cost_estimate == 0.875
        assert data.response_time_ms == 3500
        assert data.model == "second-model"


@pytest.mark.parametrize("compose", [succeed, fail])
def test_envelope_lists_each_attempt(compose: Any) -> None:
    start = round((NOW - timedelta(seconds=6, milliseconds=-7)).timestamp() * 1000)
    attempts = (
        AttemptRecord(start, 1.25, LLMProviderType.ANTHROPIC, LLMErrorCode.PROVIDER_TIMEOUT),
        AttemptRecord(start + 1993, 0.0312, OPENAI),
    )
    sealed = compose(spent=replace(SPENT, attempts=attempts)).sealed
    listed = json.loads(sealed.value)["metadata"]["attempts"]
    assert [set(attempt) for attempt in listed] == [{"started_at", "seconds", "provider", "outcome"}] * 2
    assert [tuple(attempt.values()) for attempt in listed] == [
        ("2025-03-14T09:26:54.007Z", 1.25, "anthropic", "LLM_PROVIDER_TIMEOUT"),
        ("2025-03-14T09:26:56.000Z", 0.0312, "openai", "success"),
    ]


def test_details_of_a_failure_never_replace_request_id_and_provider() -> None:
    details: dict[str, object] = {"request_id": "req_of_the_vendor", "provider": "x", "status": 503}
    error = fail(details=details).sealed.data.error_detail
    assert error is not None
    assert error.details == {"request_id": QUEUED.queue_id, "provider": "openai", "status": 503}


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
def test_message_of_any_length_and_characters_fits(message: str, expected: str) -> None:
    error = fail(message=message).sealed.data.error_detail
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


@given(failure=ANY_FAILURE, provider=st.sampled_from(LLMProviderType), seconds=SECONDS)
def test_every_failure_has_a_callback(
    failure: ProviderFailure, provider: LLMProviderType, seconds: float
) -> None:
    spent = Spent(failure.usage, seconds, failure.model, failure.code, failure.message)
    callback = compose_failure(
        QUEUED, provider, failure.code, failure.message, spent, NOW, dict(failure.details)
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


@given(judgement=JUDGED, usage=ANY_USAGE, seconds=SECONDS, model=ANY_TEXT)
def test_every_judgement_has_a_callback(
    judgement: Judgement, usage: Usage, seconds: float, model: str
) -> None:
    callback = compose_success(QUEUED, OPENAI, judgement, Spent(usage, seconds, model), NOW)
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


@given(metadata=METADATA)
def test_metadata_comes_back_unchanged(metadata: dict[str, Any]) -> None:
    """Types included: a whole float stays a float, a big integer an integer."""
    asked = QUEUED.request_data.model_copy(update={"metadata": metadata})
    callback = fail(queued=QUEUED.model_copy(update={"request_data": asked}))
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
def test_trace_id_is_read_from_the_trace_context(traceparent: str | None, expected: str | None) -> None:
    assert read_trace_id(traceparent) == expected


def test_adapter_can_add_the_model_to_a_failure() -> None:
    failure = ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.", retryable=True)
    completed = replace(failure, model="gpt-4o-mini")
    assert (completed.message, completed.model, str(completed)) == (
        "It took too long.",
        "gpt-4o-mini",
        "It took too long.",
    )
