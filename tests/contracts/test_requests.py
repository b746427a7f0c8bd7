"""What callers send and what they get back: every rule refuses, everything else comes through unchanged."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contracts.enums import LLMProviderType
from service.contracts.requests import (
    MAX_METADATA_DEPTH,
    MAX_PRIORITY,
    LLMComparisonRequest,
    LLMConfigOverrides,
    LLMQueuedResponse,
    QueuedRequest,
)
from tests.contracts.conftest import PATIENTLY, Fields, find_faults, find_required

TEXTS = st.text(min_size=1).filter(lambda text: not text.isspace())
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
OVERRIDES = st.builds(
    LLMConfigOverrides,
    provider_override=st.none() | st.sampled_from(LLMProviderType),
    model_override=st.none() | st.text(min_size=1, max_size=200),
    temperature_override=st.none() | st.floats(0, 2),
    system_prompt_override=st.none() | TEXTS,
    max_tokens_override=st.none() | st.integers(1, 10**9),
)
REQUESTS = st.builds(
    LLMComparisonRequest,
    user_prompt=TEXTS,
    essay_a=TEXTS,
    essay_b=TEXTS,
    callback_topic=st.text(min_size=1),
    llm_config_overrides=st.none() | OVERRIDES,
    metadata=st.dictionaries(st.text(), DOCUMENTS, max_size=4),
    correlation_id=st.uuids(),
    priority=st.integers(0, MAX_PRIORITY),
    ttl_seconds=st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)


def nest(levels: int) -> Fields:
    value: Any = []
    for _ in range(levels - 2):
        value = [value]
    return {"a": value}


def make_queued(request: LLMComparisonRequest, **fields: str) -> QueuedRequest:
    now = datetime.now(UTC)
    return QueuedRequest(
        queue_id="q-1",
        correlation_id=request.correlation_id,
        callback_topic=request.callback_topic,
        request_data=request,
        queued_at=now,
        expires_at=now,
        **fields,
    )


@PATIENTLY
@given(request=REQUESTS)
def test_a_request_survives_json_and_the_queue(request: LLMComparisonRequest) -> None:
    queued = make_queued(
        request, run_id="run-7", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    )
    row = queued.model_dump_json()
    again = QueuedRequest.model_validate_json(row)
    assert again == queued
    assert again.model_dump_json() == row


def test_the_bounds_of_a_request_are_valid(request_fields: Fields) -> None:
    overrides: list[Fields | None] = [
        None, {}, {"temperature_override": 0}, {"temperature_override": 2.0}, {"max_tokens_override": 1},
        {"model_override": "m" * 200},
    ]  # fmt: skip
    for change in (
        {"priority": 0}, {"priority": 9}, {"ttl_seconds": 1}, {"ttl_seconds": 0.001}, {"ttl_seconds": None},
        {"user_prompt": " \n which? \t"}, {"metadata": nest(MAX_METADATA_DEPTH)},
        *({"llm_config_overrides": each} for each in overrides),
    ):  # fmt: skip
        LLMComparisonRequest.model_validate({**request_fields, **change})


REFUSED: list[tuple[str, Fields, tuple[str, ...]]] = [
    *[
        (f"{field} {what}", {field: value}, (field,))
        for field in ("user_prompt", "essay_a", "essay_b")
        for what, value in [
            ("empty", ""), ("of blanks", " \t\r\n"), ("of exotic blanks", "\u00a0\u2003\u3000"),
            ("null", None), ("a number", 3), ("a list", ["text"]), ("bytes", b"text"),
        ]
    ],
    ("topic null", {"callback_topic": None}, ("callback_topic",)),
    ("topic empty", {"callback_topic": ""}, ("callback_topic",)),
    ("topic a number", {"callback_topic": 1}, ("callback_topic",)),
    ("unknown field", {"callback_url": "http://x"}, ("callback_url",)),
    ("priority above 9", {"priority": 10}, ("priority",)),
    ("priority below 0", {"priority": -1}, ("priority",)),
    ("priority in words", {"priority": "3"}, ("priority",)),
    ("priority true", {"priority": True}, ("priority",)),
    ("priority of a fraction", {"priority": 1.5}, ("priority",)),
    ("priority null", {"priority": None}, ("priority",)),
    ("ttl zero", {"ttl_seconds": 0}, ("ttl_seconds",)),
    ("ttl negative", {"ttl_seconds": -1}, ("ttl_seconds",)),
    ("ttl infinite", {"ttl_seconds": float("inf")}, ("ttl_seconds",)),
    ("ttl not a number", {"ttl_seconds": float("nan")}, ("ttl_seconds",)),
    ("ttl in words", {"ttl_seconds": "60"}, ("ttl_seconds",)),
    ("ttl true", {"ttl_seconds": True}, ("ttl_seconds",)),
    ("correlation id no UUID", {"correlation_id": "42"}, ("correlation_id",)),
    ("correlation id null", {"correlation_id": None}, ("correlation_id",)),
    ("metadata null", {"metadata": None}, ("metadata",)),
    ("metadata a list", {"metadata": []}, ("metadata",)),
    ("metadata with a key that is no text", {"metadata": {1: 2}}, ("metadata", 1, "[key]")),  # type: ignore[list-item]
    ("metadata infinite", {"metadata": {"a": [{"b": float("-inf")}]}}, ("metadata",)),
    ("metadata not a number", {"metadata": {"a": float("nan")}}, ("metadata",)),
    ("metadata too deep", {"metadata": nest(MAX_METADATA_DEPTH + 1)}, ("metadata",)),
    ("overrides a text", {"llm_config_overrides": "gpt"}, ("llm_config_overrides",)),
    *[
        (f"{field} {value!r:.20}", {"llm_config_overrides": {field: value}}, ("llm_config_overrides", field))
        for field, value in [
            ("provider_override", "acme"), ("provider_override", "OPENAI"), ("provider_override", ""),
            ("provider_override", 1), ("model_override", ""), ("model_override", "m" * 201),
            ("model_override", 4), ("temperature_override", 2.1), ("temperature_override", -0.1),
            ("temperature_override", float("nan")), ("temperature_override", "1"),
            ("temperature_override", True), ("system_prompt_override", ""), ("system_prompt_override", "  "),
            ("system_prompt_override", 1), ("max_tokens_override", 0), ("max_tokens_override", -5),
            ("max_tokens_override", 1.5), ("max_tokens_override", "100"), ("max_tokens_override", True),
            ("top_p_override", 0.5),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize(("change", "place"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_request_must_not_hold(change: Fields, place: tuple[str, ...], request_fields: Fields) -> None:
    faults = find_faults(LLMComparisonRequest, {**request_fields, **change})
    assert [found for _, found in faults] == [place]


def test_required_fields_of_a_request(request_fields: Fields) -> None:
    required = {"user_prompt", "essay_a", "essay_b", "callback_topic"}
    assert find_required(LLMComparisonRequest, request_fields) == required


def test_a_request_without_a_correlation_id_gets_its_own(request_fields: Fields) -> None:
    first, second = (LLMComparisonRequest.model_validate(request_fields) for _ in range(2))
    assert isinstance(first.correlation_id, UUID)
    assert first.correlation_id != second.correlation_id


def test_a_request_cannot_be_changed(request_fields: Fields) -> None:
    request = LLMComparisonRequest.model_validate(request_fields)
    with pytest.raises(ValidationError, match="frozen"):
        request.priority = 3  # type: ignore[misc]


def test_the_deepest_metadata_still_fits_the_queue(request_fields: Fields) -> None:
    """The row wraps metadata deeper than the request did."""
    deepest = LLMComparisonRequest.model_validate({**request_fields, "metadata": nest(MAX_METADATA_DEPTH)})
    queued = make_queued(deepest)
    assert QueuedRequest.model_validate_json(queued.model_dump_json()) == queued


def accepted_fields() -> Fields:
    return {
        "queue_id": "q-1",
        "correlation_id": "5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11",
        "callback_topic": "results.one",
        "queue_position": 1,
        "message": "Queued.",
    }


def test_the_answer_to_an_accepted_request_has_the_promised_shape() -> None:
    answer = LLMQueuedResponse.model_validate(accepted_fields())
    body = answer.model_dump_json()
    assert json.loads(body) == {**accepted_fields(), "status": "queued"}
    assert LLMQueuedResponse.model_validate_json(body) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"status": "done"}, {"queue_position": 0}, {"queue_position": "first"}, {"correlation_id": "x"},
        {"queue_id": None}, {"callback_topic": None}, {"message": None},
    ],
    ids=str,
)  # fmt: skip
def test_the_answer_to_an_accepted_request_must_not_hold(change: Fields) -> None:
    assert find_faults(LLMQueuedResponse, {**accepted_fields(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"queued_at": "2025-03-14T09:26:53"}, {"expires_at": "2025-03-14T09:26:53"}, {"expires_at": None},
        {"request_data": {}}, {"request_data": None}, {"queue_id": 7}, {"correlation_id": "x"},
        {"callback_topic": None}, {"run_id": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_queued_request_must_not_hold(change: Fields, request_fields: Fields) -> None:
    fields = {
        "queue_id": "q-1",
        "correlation_id": "5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11",
        "callback_topic": "results.one",
        "request_data": request_fields,
        "queued_at": "2025-03-14T09:26:53Z",
        "expires_at": "2025-03-15T09:26:53Z",
    }
    QueuedRequest.model_validate(fields)
    faults = find_faults(QueuedRequest, {**fields, **change})
    assert {place[0] for _, place in faults} == set(change)
