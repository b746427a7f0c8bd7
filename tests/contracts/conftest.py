"""Valid fields of each contract, for tests to change one at a time."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from pydantic import BaseModel, ValidationError

from tests.contracts.golden import fetch

Fields = dict[str, Any]

PATIENTLY = settings(max_examples=40)

CORRELATION_ID = "5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11"


def find_faults(model: type[BaseModel], fields: Fields) -> list[tuple[str, tuple[int | str, ...]]]:
    """Returns the kind and the place of each fault for which a model refuses these fields."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(fields)
    return [(fault["type"], fault["loc"]) for fault in refused.value.errors()]


def find_required(model: type[BaseModel], fields: Fields) -> set[str]:
    """Returns the fields that a model misses when one of some valid fields is left out."""
    model.model_validate(fields)
    required = set()
    for field in fields:
        try:
            model.model_validate({name: value for name, value in fields.items() if name != field})
        except ValidationError as refused:
            required |= {field for fault in refused.errors() if fault["type"] == "missing"}
    return required


@pytest.fixture
def request_fields() -> Fields:
    return {
        "user_prompt": "Which essay is better?",
        "essay_a": "The first essay.",
        "essay_b": "The second essay.",
        "callback_topic": "results.one",
    }


@pytest.fixture
def error_fields() -> Fields:
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
    answer = {"winner": None, "justification": None, "confidence": None}
    return {**success_fields, **answer, "error_detail": error_fields}


@pytest.fixture
def envelope_fields(success_fields: Fields) -> Fields:
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


@pytest.fixture
async def served_metrics(tmp_path: Path) -> str:
    return (await fetch("/metrics", tmp_path)).text
