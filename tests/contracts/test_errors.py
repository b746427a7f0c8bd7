"""Error codes and the one shape of an error."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.contracts.enums import EssayComparisonWinner, LLMProviderType, ProcessingEvent
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorBody, ErrorDetail

Fields = dict[str, Any]

PUBLISHED_CODES = {
    "LLM_PROVIDER_UNAVAILABLE",
    "LLM_PROVIDER_RATE_LIMIT",
    "LLM_PROVIDER_TIMEOUT",
    "LLM_PROVIDER_API_ERROR",
    "LLM_INVALID_PROMPT",
    "LLM_CONTENT_TOO_LONG",
    "LLM_INVALID_CONFIG",
    "LLM_CALLBACK_TOPIC_MISSING",
    "LLM_INVALID_CALLBACK_TOPIC",
    "LLM_PARSING_ERROR",
    "LLM_INVALID_RESPONSE",
    "LLM_COST_LIMIT_EXCEEDED",
    "LLM_QUEUE_FULL",
    "LLM_INTERNAL_ERROR",
    "LLM_CONFIGURATION_ERROR",
    "LLM_INVALID_REQUEST",
    "LLM_SERVICE_DRAINING",
    "LLM_REQUEST_EXPIRED",
    "LLM_UNAUTHORIZED",
    "LLM_FORBIDDEN",
    "LLM_IDEMPOTENCY_CONFLICT",
    "LLM_REQUEST_CANCELLED",
    "LLM_NOT_FOUND",
    "LLM_METHOD_NOT_ALLOWED",
}


def test_the_error_codes_are_the_published_ones() -> None:
    """Others branch on these values: none may vanish, and none appear unnoticed."""
    assert {code.value for code in LLMErrorCode} == PUBLISHED_CODES


def test_no_error_code_stands_twice() -> None:
    """An alias would make two codes one."""
    assert len(LLMErrorCode.__members__) == len(LLMErrorCode) == len(PUBLISHED_CODES)


@pytest.mark.parametrize("code", LLMErrorCode)
def test_a_code_is_named_as_its_value(code: LLMErrorCode) -> None:
    """Whoever reads the code finds the value, and the other way round."""
    assert code.value == f"LLM_{code.name}"


def test_the_closed_vocabularies_are_the_published_ones() -> None:
    """Providers, winners and event types as they stand on the wire."""
    assert {each.value for each in LLMProviderType} == {"openai", "anthropic", "google", "openrouter", "mock"}
    assert {each.value for each in EssayComparisonWinner} == {"essay_a", "essay_b"}
    assert {each.value for each in ProcessingEvent} == {
        "llm_provider.comparison_result",
        "llm_provider.usage",
    }


def test_an_error_body_reads_back(error_fields: Fields) -> None:
    """The HTTP body of an error is written and read as the same thing, byte for byte."""
    body = ErrorBody.model_validate({"error": error_fields})
    written = body.model_dump_json()
    assert ErrorBody.model_validate_json(written) == body
    assert ErrorBody.model_validate_json(written).model_dump_json() == written


@pytest.mark.parametrize("length", [1, 1000])
def test_a_message_may_have(length: int, error_fields: Fields) -> None:
    """1 to 1000 characters."""
    ErrorDetail.model_validate({**error_fields, "message": "é" * length})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message", ""),
        ("message", "x" * 1001),
        ("message", None),
        ("error_code", "LLM_UNHEARD_OF"),
        ("error_code", "PROVIDER_TIMEOUT"),
        ("error_code", None),
        ("correlation_id", "x"),
        ("correlation_id", None),
        ("timestamp", "now"),
        ("timestamp", None),
        ("service", None),
        ("operation", None),
        ("details", None),
        ("details", []),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_error_detail_must_not_hold(field: str, value: Any, error_fields: Fields) -> None:
    """Each fault alone is enough, and is found where it is."""
    with pytest.raises(ValidationError) as refused:
        ErrorDetail.model_validate({**error_fields, field: value})
    assert [fault["loc"] for fault in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize(
    "field", ["error_code", "message", "correlation_id", "timestamp", "service", "operation"]
)
def test_an_error_detail_needs(field: str, error_fields: Fields) -> None:
    """Only the details may be left out."""
    del error_fields[field]
    with pytest.raises(ValidationError):
        ErrorDetail.model_validate(error_fields)


def test_details_may_be_left_out(error_fields: Fields) -> None:
    """An error without further facts has empty details, not none."""
    del error_fields["details"]
    assert ErrorDetail.model_validate(error_fields).details == {}


@pytest.mark.parametrize("document", [{}, {"error": None}, {"error": {}}, {"error": "text"}], ids=str)
def test_an_error_body_must_not_be(document: Fields) -> None:
    """An error answer without an error is none."""
    with pytest.raises(ValidationError):
        ErrorBody.model_validate(document)
