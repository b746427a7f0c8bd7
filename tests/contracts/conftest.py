"""Valid fields of each contract, for tests to change one at a time."""

from typing import Any

import pytest

Fields = dict[str, Any]

CORRELATION_ID = "5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11"


@pytest.fixture
def request_fields() -> Fields:
    """The least that a comparison request needs."""
    return {
        "user_prompt": "Which essay is better?",
        "essay_a": "The first essay.",
        "essay_b": "The second essay.",
        "callback_topic": "results.one",
    }


@pytest.fixture
def error_fields() -> Fields:
    """An error detail."""
    return {
        "error_code": "LLM_PROVIDER_TIMEOUT",
        "message": "The provider did not answer in time.",
        "correlation_id": CORRELATION_ID,
        "timestamp": "2025-03-14T09:26:53Z",
        "service": "llm_provider_service",
        "operation": "process_comparison",
        "details": {"attempts": 5},
    }


@pytest.fixture
def success_fields() -> Fields:
    """The answer to a comparison that an essay won."""
    return {
        "request_id": "q-1",
        "correlation_id": CORRELATION_ID,
        "winner": "essay_a",
        "justification": "It answers the question.",
        "confidence": 0.75,
        "provider": "openai",
        "model": "gpt-4o-mini",
        "response_time_ms": 1240,
        "token_usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        "cost_estimate": 0.0002,
        "requested_at": "2025-03-14T09:26:53Z",
        "completed_at": "2025-03-14T09:26:54Z",
    }


@pytest.fixture
def failure_fields(success_fields: Fields, error_fields: Fields) -> Fields:
    """The answer to a comparison that failed."""
    answer = {"winner": None, "justification": None, "confidence": None}
    return {**success_fields, **answer, "error_detail": error_fields}


@pytest.fixture
def envelope_fields(success_fields: Fields) -> Fields:
    """An event as it stands on Kafka."""
    return {
        "event_id": "2d7c3f6e-3c2b-5f0f-9a3e-6a1f0d2c1115",
        "event_type": "llm_provider.comparison_result",
        "event_timestamp": "2025-03-14T09:26:54Z",
        "source_service": "llm_provider_service",
        "schema_version": 1,
        "correlation_id": CORRELATION_ID,
        "data": success_fields,
        "metadata": {},
    }
