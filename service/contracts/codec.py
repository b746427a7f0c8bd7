"""Events as bytes: sealed once when an outcome is stored, opened by whoever reads the topic."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from service.contracts.events import (
    ComparisonResultEnvelope,
    EventEnvelope,
    LLMComparisonResultV1,
    LLMUsageV1,
    UsageEnvelope,
)

CONTENT_TYPE = "application/json"

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class SealedEnvelope:
    """An envelope whose bytes are fixed: what was stored is what is sent, however often it is sent."""

    value: bytes
    """JSON of an `EventEnvelope`, UTF-8."""
    headers: Headers
    """Kafka record headers."""

    @cached_property
    def envelope(self) -> ComparisonResultEnvelope:
        """The callback that the bytes say."""
        return open_envelope(self.value)

    @property
    def data(self) -> LLMComparisonResultV1:
        """The answer inside the callback."""
        return self.envelope.data


def seal(
    envelope: EventEnvelope[LLMComparisonResultV1] | EventEnvelope[LLMUsageV1],
    *,
    run_id: str | None = None,
    traceparent: str | None = None,
) -> SealedEnvelope:
    """Fixes an event's bytes and the headers that go with it."""
    headers: list[tuple[str, bytes]] = [
        ("event_id", str(envelope.event_id).encode()),
        ("event_type", envelope.event_type.encode()),
        ("request_id", envelope.data.request_id.encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
    if run_id is not None:
        headers.append(("run_id", run_id.encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return SealedEnvelope(envelope.model_dump_json().encode(), tuple(headers))


def open_envelope(value: bytes) -> ComparisonResultEnvelope:
    """Reads a callback record's value.

    Raises `pydantic.ValidationError` (a `ValueError`) where it is no valid envelope.
    """
    return ComparisonResultEnvelope.model_validate_json(value)


def open_usage(value: bytes) -> UsageEnvelope:
    """Reads the value of a record of the usage topic; raises as `open_envelope`."""
    return UsageEnvelope.model_validate_json(value)


def read_header(headers: Iterable[tuple[str, bytes | None]], name: str) -> str | None:
    """The value of the first header `name` as text, or None where there is none."""
    for key, value in headers:
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return None
