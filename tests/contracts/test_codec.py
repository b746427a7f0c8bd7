"""Events as bytes: what is sealed is what is opened, with the headers that consumers sort by."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.contracts.codec import SealedEnvelope, open_envelope, read_header, seal
from service.contracts.events import EventEnvelope, LLMComparisonResultV1

Fields = dict[str, Any]

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def envelope(envelope_fields: Fields) -> EventEnvelope[LLMComparisonResultV1]:
    """An event."""
    return EventEnvelope[LLMComparisonResultV1].model_validate(envelope_fields)


def test_what_is_sealed_is_what_is_opened(envelope: EventEnvelope[LLMComparisonResultV1]) -> None:
    """Sealing and opening gives the same event, and sealing that again the same bytes."""
    sealed = seal(envelope)
    opened = open_envelope(sealed.value)
    assert opened == envelope
    assert seal(opened) == sealed


def test_a_sealed_event_shows_what_it_says(envelope: EventEnvelope[LLMComparisonResultV1]) -> None:
    """Whoever holds only the bytes can ask for the event and its answer."""
    restored = SealedEnvelope(seal(envelope).value, ())
    assert restored.envelope == envelope
    assert restored.data == envelope.data


def test_a_sealed_event_is_plain_json(
    envelope: EventEnvelope[LLMComparisonResultV1], envelope_fields: Fields
) -> None:
    """Any JSON reader finds the fields, UTF-8 unescaped."""
    changed = envelope.model_copy(update={"metadata": {"språk": "sv 🙂"}})
    value = seal(changed).value
    assert json.loads(value)["data"]["winner"] == envelope_fields["data"]["winner"]
    assert "språk".encode() in value
    assert "🙂".encode() in value


def test_the_headers_are_the_published_ones(envelope: EventEnvelope[LLMComparisonResultV1]) -> None:
    """Without a run and a trace there are four headers."""
    assert seal(envelope).headers == (
        ("event_id", b"2d7c3f6e-3c2b-5f0f-9a3e-6a1f0d2c1115"),
        ("event_type", b"llm_provider.comparison_result"),
        ("request_id", b"q-1"),
        ("content-type", b"application/json"),
    )


@pytest.mark.parametrize(
    ("run_id", "traceparent", "expected"),
    [
        ("run-7", None, {"run_id": b"run-7"}),
        (None, TRACEPARENT, {"traceparent": TRACEPARENT.encode()}),
        ("run-7", TRACEPARENT, {"run_id": b"run-7", "traceparent": TRACEPARENT.encode()}),
    ],
)
def test_run_and_trace_travel_in_headers(
    envelope: EventEnvelope[LLMComparisonResultV1],
    run_id: str | None,
    traceparent: str | None,
    expected: dict[str, bytes],
) -> None:
    """Each is a header where there is one and none where there is none; the value stays the same."""
    sealed = seal(envelope, run_id=run_id, traceparent=traceparent)
    bare = seal(envelope)
    assert dict(sealed.headers) == dict(bare.headers) | expected
    assert len(sealed.headers) == len(bare.headers) + len(expected)
    assert sealed.value == bare.value


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{}", b"not json", b"\xff\xfe", b'{"event_type":"x"}'],
    ids=repr,
)
def test_what_is_no_envelope_cannot_be_opened(value: bytes) -> None:
    """Foreign bytes on a topic are told apart, with an error that a reader can catch as `ValueError`."""
    with pytest.raises(ValidationError) as refused:
        open_envelope(value)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([("other", b"x")], None),
        ([("run_id", b"run-7")], "run-7"),
        ([("run_id", None)], None),
        ([("run_id", None), ("run_id", b"second")], "second"),
        ([("run_id", b"first"), ("run_id", b"second")], "first"),
        ([("run_id", b"")], ""),
        ([("run_id", "é".encode())], "é"),
        ([("run_id", b"\xff")], "\ufffd"),
    ],
    ids=str,
)
def test_a_header_is_read_as_text(headers: list[tuple[str, bytes | None]], expected: str | None) -> None:
    """The first value counts; bytes that are no text do no harm."""
    assert read_header(headers, "run_id") == expected
