"""Events as bytes: what is sealed is what is opened, with the headers that consumers sort by."""

import json

import pytest
from pydantic import ValidationError

from service.contracts.codec import SealedEnvelope, open_envelope, read_header, seal
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from tests.contracts.conftest import Fields

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def envelope(envelope_fields: Fields) -> EventEnvelope[LLMComparisonResultV1]:
    return EventEnvelope[LLMComparisonResultV1].model_validate(envelope_fields)


def test_sealed_event_is_plain_json_that_opens_unchanged(
    envelope: EventEnvelope[LLMComparisonResultV1], envelope_fields: Fields
) -> None:
    changed = envelope.model_copy(update={"metadata": {"språk": "sv 🙂"}})
    sealed = seal(changed)
    opened = open_envelope(sealed.value)
    restored = SealedEnvelope(sealed.value, ())
    assert opened == restored.envelope == changed
    assert seal(opened) == sealed
    assert restored.data == envelope.data
    assert json.loads(sealed.value)["data"]["winner"] == envelope_fields["data"]["winner"]
    assert "språk".encode() in sealed.value
    assert "🙂".encode() in sealed.value


@pytest.mark.parametrize("run_id", [None, "run-7"])
@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
def test_headers_are_the_published_ones_with_run_and_trace(
    envelope: EventEnvelope[LLMComparisonResultV1], run_id: str | None, traceparent: str | None
) -> None:
    sealed = seal(envelope, run_id=run_id, traceparent=traceparent)
    assert sealed.headers[:4] == (
        ("event_id", b"2d7c3f6e-3c2b-5f0f-9a3e-6a1f0d2c1115"),
        ("event_type", b"llm_provider.comparison_result"),
        ("request_id", b"q-1"),
        ("content-type", b"application/json"),
    )
    more = {"run_id": run_id, "traceparent": traceparent}
    assert dict(sealed.headers[4:]) == {name: text.encode() for name, text in more.items() if text}
    assert sealed.value == seal(envelope).value


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[]", b"{}", b"not json", b"\xff\xfe", b'{"event_type":"x"}'], ids=repr
)
def test_what_is_no_envelope_cannot_be_opened(value: bytes) -> None:
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
    assert read_header(headers, "run_id") == expected
