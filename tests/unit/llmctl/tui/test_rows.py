"""A callback becomes a slim row that can be written and read back without its payload."""

import json
from dataclasses import replace
from typing import Any

import pytest

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import parse_filter
from llmctl.tui.model.rows import (
    INVALID,
    MAX_METADATA_CHARACTERS,
    MAX_METADATA_KEYS,
    AttemptRow,
    CallbackRow,
    make_row,
)
from tests.unit.llmctl.conftest import make_record

ACCEPTED = 1767323045.0
FULL = CallbackRow(
    at=12.5,
    topic="t",
    partition=0,
    offset=0,
    written_at=12.0,
    status="error",
    event_id="e",
    request_id="q",
    correlation_id="c",
    provider="openai",
    model="gpt-4o-mini",
    winner="essay_a",
    error="LLM_PROVIDER_TIMEOUT",
    message="too slow",
    confidence=0.0,
    cost=0.0,
    tokens=0,
    accepted_at=10.0,
    completed_at=11.9,
    provider_seconds=0.0,
    attempts=(AttemptRow(10.5, 1.4, "openai", "success"),),
    run_id="r",
    trace_id="f" * 32,
    metadata={"pair_id": "p-1", "last": False, "weight": 0},
    justification="better",
)
SLIM = CallbackRow(at=1.0, topic="t", partition=0, offset=0, written_at=1.0, status="invalid")


def tell_envelope(record: CallbackRecord, **changes: Any) -> CallbackRecord:
    assert record.envelope is not None
    return replace(record, envelope=record.envelope.model_copy(update=changes))


def test_a_success_has_the_times_of_its_way() -> None:
    row = make_row(make_record(), 1767323047.0)
    assert (row.topic, row.partition, row.offset, row.run_id) == ("t", 2, 9, "r-1")
    assert (row.at, row.written_at, row.accepted_at) == (ACCEPTED + 2, ACCEPTED + 1.5, ACCEPTED)
    assert (row.completed_at, row.provider_seconds, row.e2e_seconds) == (ACCEPTED, 0.04, 1.5)
    assert (row.status, row.winner, row.confidence, row.justification) == (
        "success",
        "essay_a",
        0.875,
        "better",
    )
    assert (row.provider, row.model, row.cost, row.tokens) == ("openai", "gpt-4o-mini", 0.00012, 0)
    assert (row.error, row.message, row.trace_id) == ("", "", "")
    assert row.metadata == {"pair_id": "p-1"}


def test_an_error_has_its_code_and_message() -> None:
    row = make_row(make_record(fails=True), 0.0)
    assert (row.status, row.error, row.message) == ("error", "LLM_PROVIDER_TIMEOUT", "too slow")
    assert (row.winner, row.confidence, row.justification) == ("", None, "")


def test_an_invalid_record_has_its_place_and_its_problem() -> None:
    row = make_row(make_record(raw=b"\x00"), 5.0)
    assert (row.status, row.message, row.partition, row.offset) == (INVALID, "no envelope", 2, 9)
    assert (row.event_id, row.accepted_at, row.e2e_seconds, row.metadata) == ("", None, None, {})


def test_attempts_are_read_where_they_are_told() -> None:
    good = {
        "started_at": "2026-01-02T03:04:06Z",
        "seconds": 0.25,
        "provider": "openai",
        "outcome": "LLM_PROVIDER_TIMEOUT",
    }
    odd: list[Any] = [{}, "x", None, {**good, "started_at": "soon"}, {**good, "seconds": "long"}]
    row = make_row(tell_envelope(make_record(), metadata={"attempts": [*odd, good]}), 0.0)
    assert row.attempts == (AttemptRow(ACCEPTED + 1, 0.25, "openai", "LLM_PROVIDER_TIMEOUT"),)
    assert make_row(tell_envelope(make_record(), metadata={"attempts": 3}), 0.0).attempts == ()


def test_only_short_plain_metadata_is_kept() -> None:
    record = make_record()
    assert record.envelope is not None
    long = "x" * (MAX_METADATA_CHARACTERS + 1)
    told = {"nested": {"a": 1}, "none": None, long: 1, "text": long, "flag": True, "number": 1.5}
    data = record.envelope.data.model_copy(update={"request_metadata": told})
    kept = make_row(tell_envelope(record, data=data), 0.0).metadata
    assert kept == {"text": long[:-1], "flag": True, "number": 1.5}
    many = record.envelope.data.model_copy(update={"request_metadata": {str(key): key for key in range(99)}})
    assert list(make_row(tell_envelope(record, data=many), 0.0).metadata.values()) == list(
        range(MAX_METADATA_KEYS)
    )


def test_what_is_written_is_read_back() -> None:
    assert CallbackRow.read(json.loads(json.dumps(FULL.write(with_payload=True)))) == FULL
    written = SLIM.write(with_payload=True)
    assert set(written) == {"at", "topic", "partition", "offset", "written_at", "status"}
    assert CallbackRow.read(json.loads(json.dumps(written))) == SLIM


def test_a_real_record_survives_a_recording() -> None:
    row = make_row(make_record(), 1.0)
    assert CallbackRow.read(json.loads(json.dumps(row.write(with_payload=True)))) == row


def test_without_payload_no_text_is_written() -> None:
    written = FULL.write(with_payload=False)
    for text in ("better", "too slow", "pair_id", "p-1"):
        assert text not in json.dumps(written)
    assert CallbackRow.read(written) == replace(FULL, justification="", message="", metadata={})


def test_what_a_later_version_adds_is_left_out() -> None:
    assert CallbackRow.read({**FULL.write(with_payload=True), "colour": "red"}) == FULL


@pytest.mark.parametrize(
    "odd", [{}, {"at": 1.0}, {**FULL.write(with_payload=True), "attempts": [{"x": 1}]}], ids=str
)
def test_what_is_no_row_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        CallbackRow.read(odd)


@pytest.mark.parametrize(
    "where",
    [
        "status:error",
        "provider:openai",
        "winner:essay_a",
        "e2e>=2s",
        "confidence<0.1",
        "meta.pair_id:p-1",
        '"better"',
        '"LLM_PROVIDER_TIMEOUT"',
    ],
)
def test_a_filter_finds_a_row(where: str) -> None:
    assert parse_filter(where).matches(FULL.view())
    assert not parse_filter(where).matches(SLIM.view())
