"""Error codes and the one shape of an error."""

from typing import Any

import pytest

from service.contracts.enums import EssayComparisonWinner, LLMProviderType, ProcessingEvent
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorBody, ErrorDetail
from tests.contracts.conftest import Fields, find_faults, find_required

PUBLISHED_CODES = {
    "LLM_PROVIDER_UNAVAILABLE", "LLM_PROVIDER_RATE_LIMIT", "LLM_PROVIDER_TIMEOUT", "LLM_PROVIDER_API_ERROR",
    "LLM_INVALID_PROMPT", "LLM_CONTENT_TOO_LONG", "LLM_INVALID_CONFIG", "LLM_CALLBACK_TOPIC_MISSING",
    "LLM_INVALID_CALLBACK_TOPIC", "LLM_PARSING_ERROR", "LLM_INVALID_RESPONSE", "LLM_COST_LIMIT_EXCEEDED",
    "LLM_QUEUE_FULL", "LLM_INTERNAL_ERROR", "LLM_CONFIGURATION_ERROR", "LLM_INVALID_REQUEST",
    "LLM_SERVICE_DRAINING", "LLM_REQUEST_EXPIRED", "LLM_UNAUTHORIZED", "LLM_FORBIDDEN",
    "LLM_IDEMPOTENCY_CONFLICT", "LLM_REQUEST_CANCELLED", "LLM_NOT_FOUND", "LLM_METHOD_NOT_ALLOWED",
}  # fmt: skip


def test_error_codes_are_the_published_ones() -> None:
    """Others branch on these values: none may vanish, and none appear unnoticed."""
    assert {code.value for code in LLMErrorCode} == PUBLISHED_CODES
    assert len(LLMErrorCode.__members__) == len(PUBLISHED_CODES), "an alias would make two codes one"
    assert all(code.value == f"LLM_{code.name}" for code in LLMErrorCode)


def test_the_closed_vocabularies_are_the_published_ones() -> None:
    assert {each.value for each in LLMProviderType} == {"openai", "anthropic", "google", "openrouter", "mock"}
    assert {each.value for each in EssayComparisonWinner} == {"essay_a", "essay_b"}
    events = {"llm_provider.comparison_result", "llm_provider.usage"}
    assert {each.value for each in ProcessingEvent} == events


def test_an_error_body_reads_back(error_fields: Fields) -> None:
    body = ErrorBody.model_validate({"error": error_fields})
    written = body.model_dump_json()
    assert ErrorBody.model_validate_json(written) == body
    assert ErrorBody.model_validate_json(written).model_dump_json() == written


def test_a_message_has_1_to_1000_characters(error_fields: Fields) -> None:
    for length in (1, 1000):
        ErrorDetail.model_validate({**error_fields, "message": "é" * length})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message", ""), ("message", "x" * 1001), ("message", None), ("error_code", "LLM_UNHEARD_OF"),
        ("error_code", "PROVIDER_TIMEOUT"), ("error_code", None), ("correlation_id", "x"),
        ("correlation_id", None), ("timestamp", "now"), ("timestamp", None), ("service", None),
        ("operation", None), ("details", None), ("details", []),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_an_error_detail_must_not_hold(field: str, value: Any, error_fields: Fields) -> None:
    faults = find_faults(ErrorDetail, {**error_fields, field: value})
    assert [place for _, place in faults] == [(field,)]


def test_all_fields_of_an_error_detail_but_details_are_required(error_fields: Fields) -> None:
    assert find_required(ErrorDetail, error_fields) == set(error_fields) - {"details"}


@pytest.mark.parametrize("document", [{}, {"error": None}, {"error": {}}, {"error": "text"}], ids=str)
def test_an_error_body_must_not_be(document: Fields) -> None:
    assert find_faults(ErrorBody, document)
