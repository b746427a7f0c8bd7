"""One callback as the monitor keeps it: slim, filterable, and with the times of its whole way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import RecordView

MAX_METADATA_KEYS = 16
MAX_METADATA_CHARACTERS = 80
INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One call to a provider."""

    started_at: float
    seconds: float
    provider: str
    outcome: str
    """`success`, or the error code."""


@dataclass(frozen=True, slots=True)
class CallbackRow:
    """A record of a callback topic, without the texts that were compared. Times are seconds since 1970."""

    at: float
    """When the monitor read it."""
    topic: str
    partition: int
    offset: int
    written_at: float
    """The record's timestamp: when the service handed it to Kafka."""
    status: str
    """`success`, `error`, or `invalid` where it is no valid envelope."""
    event_id: str = ""
    request_id: str = ""
    correlation_id: str = ""
    provider: str = ""
    model: str = ""
    winner: str = ""
    error: str = ""
    message: str = ""
    """Of an error, or why the record is invalid."""
    confidence: float | None = None
    cost: float | None = None
    tokens: int | None = None
    accepted_at: float | None = None
    completed_at: float | None = None
    provider_seconds: float | None = None
    attempts: tuple[AttemptRow, ...] = ()
    run_id: str = ""
    trace_id: str = ""
    metadata: Mapping[str, str | float | bool] = field(default_factory=dict)
    """Plain values of the request's metadata, short ones, for filters."""
    justification: str = ""
    """What the judge wrote; never in a recording unless asked for."""

    @property
    def e2e_seconds(self) -> float | None:
        """From acceptance to the moment at which Kafka has the callback."""
        return None if self.accepted_at is None else self.written_at - self.accepted_at

    def view(self) -> RecordView:
        """What a filter can ask of it."""
        return RecordView(
            {
                "topic": self.topic,
                "status": self.status,
                "provider": self.provider or None,
                "model": self.model or None,
                "winner": self.winner or None,
                "error": self.error or None,
                "request_id": self.request_id or None,
                "correlation_id": self.correlation_id or None,
            },
            {
                "confidence": self.confidence,
                "cost": self.cost,
                "tokens": self.tokens,
                "e2e": self.e2e_seconds,
            },
            self.metadata,
            self._read_everything,
        )

    def _read_everything(self) -> str:
        said = [self.topic, self.status, self.request_id, self.correlation_id, self.provider, self.model]
        said += [self.winner, self.error, self.message, self.run_id, self.trace_id, self.justification]
        return "\n".join([*said, *(f"{key}:{value}" for key, value in self.metadata.items())])

    def write(self, *, with_payload: bool) -> dict[str, Any]:
        """As plain JSON values, without what is empty."""
        document = {name: value for name, value in asdict(self).items() if value not in ("", None, (), {})}
        if not with_payload:
            # Metadata is the caller's: it may hold anything.
            for name in ("justification", "message", "metadata"):
                document.pop(name, None)
        return document

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> CallbackRow:
        """What `write` wrote; TypeError where it is something else."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        attempts = tuple(AttemptRow(**each) for each in values.pop("attempts", ()))
        return cls(**values, attempts=attempts)


def make_row(record: CallbackRecord, at: float) -> CallbackRow:
    """The row of a record that was read at `at`."""
    place: dict[str, Any] = {
        "at": at,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "written_at": record.timestamp_milliseconds / 1000,
        "run_id": record.run_id or "",
    }
    envelope = record.envelope
    if envelope is None:
        return CallbackRow(**place, status=INVALID, message=record.problem or "")
    data = envelope.data
    error = data.error_detail
    return CallbackRow(
        **place,
        status="success" if error is None else "error",
        event_id=str(envelope.event_id),
        request_id=data.request_id,
        correlation_id=str(data.correlation_id),
        provider=data.provider.value,
        model=data.model,
        winner="" if data.winner is None else data.winner.value,
        error="" if error is None else error.error_code.value,
        message="" if error is None else error.message,
        confidence=data.confidence,
        cost=data.cost_estimate,
        tokens=data.token_usage.total_tokens,
        accepted_at=data.requested_at.timestamp(),
        completed_at=data.completed_at.timestamp(),
        provider_seconds=data.response_time_ms / 1000,
        attempts=_read_attempts(envelope.metadata.get("attempts")),
        trace_id=data.trace_id or "",
        metadata=_shorten_metadata(data.request_metadata),
        justification=data.justification or "",
    )


def _read_attempts(told: Any) -> tuple[AttemptRow, ...]:
    """The attempts that the envelope tells of; none where a version wrote it that does not tell them."""
    if not isinstance(told, list):
        return ()
    attempts = []
    for each in told:
        try:
            attempts.append(
                AttemptRow(
                    datetime.fromisoformat(each["started_at"]).timestamp(),
                    float(each["seconds"]),
                    str(each["provider"]),
                    str(each["outcome"]),
                )
            )
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(attempts)


def _shorten_metadata(metadata: Mapping[str, Any]) -> dict[str, str | float | bool]:
    plain: dict[str, str | float | bool] = {}
    for key, value in metadata.items():
        if len(plain) == MAX_METADATA_KEYS:
            break
        if not isinstance(value, str | int | float | bool) or len(key) > MAX_METADATA_CHARACTERS:
            continue
        plain[key] = value[:MAX_METADATA_CHARACTERS] if isinstance(value, str) else value
    return plain
