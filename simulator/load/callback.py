"""One callback record as the ledger sees it: whom it answers, with what, and whether it is intact."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

from service.contracts.codec import open_envelope, read_header
from service.contracts.enums import ProcessingEvent
from service.contracts.events import ComparisonResultEnvelope
from service.contracts.topics import derive_event_id

DIGEST_BYTES = 16

RecordHeaders = tuple[tuple[str, bytes | None], ...]
"""Kafka allows a header without a value."""


@dataclass(frozen=True)
class Answer:
    """An intact callback, without its text."""

    queue_id: str
    correlation_id: UUID
    success: bool
    keyed_by_correlation: bool
    """Whether the record's key is the correlation id, as UTF-8."""
    digest: bytes
    """Of the record's value; equal digests are copies of the same bytes."""


@dataclass(frozen=True)
class CorruptRecord:
    """A record that is no intact callback, and the request it seems to belong to."""

    queue_id: str | None
    problem: str


def read_callback(key: bytes | None, headers: RecordHeaders, value: bytes | None) -> Answer | CorruptRecord:
    """Checks a record against the contract and keeps what the ledger needs.

    The envelope must be valid and be a comparison's result; its event_id must be the UUIDv5 of its request
    and stand in the header too; the header's request_id and the correlation id inside must agree with it.
    """
    named = read_header(headers, "request_id")
    if value is None:
        return CorruptRecord(named, "the record has no value")
    try:
        envelope = open_envelope(value)
    except ValueError:
        return CorruptRecord(named, "the value is no valid envelope")
    problem = _find_problem(envelope, headers)
    if problem is not None:
        return CorruptRecord(envelope.data.request_id, problem)
    return Answer(
        queue_id=envelope.data.request_id,
        correlation_id=envelope.correlation_id,
        success=envelope.data.is_success,
        keyed_by_correlation=key == str(envelope.correlation_id).encode(),
        digest=blake2b(value, digest_size=DIGEST_BYTES).digest(),
    )


def _find_problem(envelope: ComparisonResultEnvelope, headers: RecordHeaders) -> str | None:
    event = ProcessingEvent.LLM_COMPARISON_RESULT
    request_id = envelope.data.request_id
    checks = (
        (envelope.event_type == event.value, "the event is no comparison result"),
        (envelope.event_id == derive_event_id(request_id, event), "event_id is not derived from the request"),
        (read_header(headers, "event_id") == str(envelope.event_id), "the header names another event_id"),
        (read_header(headers, "request_id") == request_id, "the header names another request_id"),
        (envelope.data.correlation_id == envelope.correlation_id, "the correlation ids inside differ"),
    )
    return next((problem for holds, problem in checks if not holds), None)
