"""The callback: all of an answer or an error, within the bounds that its readers rely on."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import (
    MAX_JUSTIFICATION_CHARACTERS,
    ComparisonResultEnvelope,
    EventEnvelope,
    LLMComparisonResultV1,
    TokenUsage,
)
from tests.contracts.conftest import PATIENTLY, Fields, find_faults, find_required

COUNTS = st.integers(0, 10**9)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
FACTS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=3)
ERRORS = st.builds(
    ErrorDetail,
    error_code=st.sampled_from(LLMErrorCode),
    message=st.text(min_size=1, max_size=1000),
    correlation_id=st.uuids(),
    timestamp=MOMENTS,
    service=st.text(),
    operation=st.text(),
    details=FACTS,
)
SUCCESS: dict[str, st.SearchStrategy[Any]] = {
    "winner": st.sampled_from(EssayComparisonWinner),
    "justification": st.text(max_size=MAX_JUSTIFICATION_CHARACTERS),
    "confidence": st.floats(0, 1),
}
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "request_id": st.text(),
    "correlation_id": st.uuids(),
    "provider": st.sampled_from(LLMProviderType),
    "model": st.text(),
    "response_time_ms": COUNTS,
    "token_usage": st.builds(TokenUsage, prompt_tokens=COUNTS, completion_tokens=COUNTS, total_tokens=COUNTS),
    "cost_estimate": st.floats(0, 1e9),
    "requested_at": MOMENTS,
    "completed_at": MOMENTS,
    "trace_id": st.none() | st.text(),
    "request_metadata": FACTS,
}
RESULTS = st.builds(LLMComparisonResultV1, **COMMON, **SUCCESS) | st.builds(
    LLMComparisonResultV1, **COMMON, error_detail=ERRORS
)
ENVELOPES = st.builds(
    EventEnvelope[LLMComparisonResultV1],
    event_id=st.uuids(),
    event_type=st.text(),
    event_timestamp=MOMENTS,
    source_service=st.text(),
    schema_version=st.integers(1, 100),
    correlation_id=st.uuids(),
    data=RESULTS,
    metadata=FACTS,
)


@PATIENTLY
@given(envelope=ENVELOPES)
def test_an_event_survives_json(envelope: EventEnvelope[LLMComparisonResultV1]) -> None:
    written = envelope.model_dump_json()
    again = ComparisonResultEnvelope.model_validate_json(written)
    assert again == envelope
    assert again.model_dump_json() == written


def test_an_answer_is_a_success_or_an_error(success_fields: Fields, failure_fields: Fields) -> None:
    success = LLMComparisonResultV1.model_validate(success_fields)
    failure = LLMComparisonResultV1.model_validate(failure_fields)
    assert (success.is_success, success.is_error) == (True, False)
    assert (failure.is_success, failure.is_error) == (False, True)


def test_the_bounds_of_an_answer_are_valid(success_fields: Fields) -> None:
    for change in (
        {"confidence": 0}, {"confidence": 1}, {"justification": "x" * 500}, {"justification": ""},
        {"justification": "🙂" * 500}, {"cost_estimate": 0}, {"response_time_ms": 0}, {"token_usage": {}},
    ):  # fmt: skip
        LLMComparisonResultV1.model_validate({**success_fields, **change})


BOTH = "Cannot have both success fields and error_detail"
NEITHER = "Must have either success fields or error_detail"
HALF = r"All success fields \(winner, justification, confidence\) must be set together"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"winner": None, "justification": None, "confidence": None}, NEITHER),
        ({"winner": None}, NEITHER),
        ({"winner": None, "confidence": None}, NEITHER),
        ({"justification": None}, HALF),
        ({"confidence": None}, HALF),
        ({"justification": None, "confidence": None}, HALF),
    ],
    ids=str,
)
def test_half_a_success_is_refused(change: Fields, reason: str, success_fields: Fields) -> None:
    with pytest.raises(ValidationError, match=reason):
        LLMComparisonResultV1.model_validate({**success_fields, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"winner": "essay_a", "justification": "It is better.", "confidence": 1.0},
        {"winner": "essay_a"},
        {"justification": "It is better."},
        {"justification": ""},
        {"confidence": 0.0},
    ],
    ids=str,
)
def test_an_error_holds_nothing_of_a_success(change: Fields, failure_fields: Fields) -> None:
    with pytest.raises(ValidationError, match=BOTH):
        LLMComparisonResultV1.model_validate({**failure_fields, **change})


RESULT_REFUSED: list[tuple[str, Any]] = [
    ("winner", "tie"), ("winner", "Essay A"), ("justification", "x" * 501), ("justification", 5),
    ("confidence", 1.01), ("confidence", -0.01), ("confidence", math.nan), ("confidence", math.inf),
    ("confidence", "high"), ("provider", "acme"), ("provider", None), ("model", None), ("request_id", None),
    ("request_id", 7), ("correlation_id", "x"), ("response_time_ms", -1), ("response_time_ms", 1.5),
    ("token_usage", None), ("token_usage", {"prompt_tokens": -1}),
    ("token_usage", {"completion_tokens": -1}), ("token_usage", {"total_tokens": -1}),
    ("token_usage", {"total_tokens": 1.5}), ("cost_estimate", -0.01), ("cost_estimate", math.inf),
    ("cost_estimate", math.nan), ("cost_estimate", None), ("requested_at", "yesterday"),
    ("completed_at", None), ("trace_id", 7), ("request_metadata", None), ("request_metadata", []),
    ("error_detail", "it failed"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), RESULT_REFUSED, ids=lambda value: str(value)[:20])
def test_an_answer_must_not_hold(field: str, value: Any, success_fields: Fields) -> None:
    faults = find_faults(LLMComparisonResultV1, {**success_fields, field: value})
    assert {place[0] for _, place in faults} == {field}


def test_required_fields(failure_fields: Fields, envelope_fields: Fields) -> None:
    assert find_required(LLMComparisonResultV1, failure_fields) == {
        "request_id", "correlation_id", "provider", "model", "response_time_ms", "cost_estimate",
        "requested_at", "completed_at",
    }  # fmt: skip
    required = find_required(EventEnvelope[LLMComparisonResultV1], envelope_fields)
    assert required == {"event_type", "source_service", "correlation_id", "data"}


ENVELOPE_REFUSED: list[tuple[str, Any]] = [
    ("event_id", "1"), ("event_id", None), ("event_type", None), ("event_type", 1),
    ("event_timestamp", "soon"), ("source_service", None), ("schema_version", 0), ("schema_version", "one"),
    ("schema_version", None), ("correlation_id", "x"), ("data", None), ("data", []), ("data", {}),
    ("metadata", None), ("metadata", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), ENVELOPE_REFUSED, ids=str)
def test_an_envelope_must_not_hold(field: str, value: Any, envelope_fields: Fields) -> None:
    EventEnvelope[LLMComparisonResultV1].model_validate(envelope_fields)
    faults = find_faults(EventEnvelope[LLMComparisonResultV1], {**envelope_fields, field: value})
    assert {place[0] for _, place in faults} == {field}


def test_an_envelope_of_its_own_is_a_new_event_now(success_fields: Fields) -> None:
    fields = {"event_type": "t", "source_service": "s", "correlation_id": success_fields["correlation_id"]}
    before = datetime.now(UTC)
    first, second = (
        EventEnvelope[LLMComparisonResultV1].model_validate({**fields, "data": success_fields})
        for _ in range(2)
    )
    assert first.event_id != second.event_id
    assert before <= first.event_timestamp <= datetime.now(UTC)
    assert (first.schema_version, first.metadata) == (1, {})


def test_a_reader_looks_past_what_a_later_version_adds(envelope_fields: Fields) -> None:
    data = {**envelope_fields["data"], "added_later": 1}
    envelope = ComparisonResultEnvelope.model_validate({**envelope_fields, "data": data, "added_later": 1})
    assert envelope.data.winner is EssayComparisonWinner.ESSAY_A


def test_an_event_cannot_be_changed(envelope_fields: Fields) -> None:
    envelope = ComparisonResultEnvelope.model_validate(envelope_fields)
    for model, field in (
        (envelope, "event_type"),
        (envelope.data, "model"),
        (envelope.data.token_usage, "total_tokens"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, field, "x")
