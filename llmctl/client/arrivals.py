"""Records of callback topics, parsed at most once and only if somebody wants them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from llmctl.client.callbacks import CallbackRecord, read_record
from llmctl.client.positions import Place, Position
from service.contracts.codec import read_header
from service.contracts.enums import ProcessingEvent
from service.contracts.events import ComparisonResultEnvelope, LLMComparisonResultV1


class Arrival:
    """A record as the consumer hands it out; its headers tell whether it is worth parsing."""

    def __init__(self, record: Any) -> None:
        self._record = record
        self.topic: str = record.topic
        self.offset: int = record.offset
        self.key: bytes | None = record.key

    @property
    def place(self) -> Place:
        """The partition that it stands in."""
        return self.topic, self._record.partition

    @property
    def request_id(self) -> str | None:
        """Whose callback it is, by its header."""
        return read_header(self._record.headers, "request_id")

    @property
    def run_id(self) -> str | None:
        """Which simulated run it belongs to, None for real traffic."""
        return read_header(self._record.headers, "run_id")

    @property
    def is_callback(self) -> bool:
        """Whether it says that it is one; other events may share a topic."""
        return read_header(self._record.headers, "event_type") == ProcessingEvent.LLM_COMPARISON_RESULT.value

    @cached_property
    def parsed(self) -> CallbackRecord:
        """What it says."""
        return read_record(self._record)

    def __str__(self) -> str:
        return f"the record at offset {self.offset} of {self.topic}/{self._record.partition}"


@dataclass(frozen=True)
class Callback:
    """The answer to one request, whosever it is."""

    topic: str
    partition: int
    offset: int
    envelope: ComparisonResultEnvelope
    run_id: str | None
    """Which simulated run it belongs to, None for real traffic."""
    position: Position
    """Goes on behind it."""

    @property
    def event_id(self) -> UUID:
        """The same for every copy of this answer."""
        return self.envelope.event_id

    @property
    def queue_id(self) -> str:
        """Whose answer it is."""
        return self.envelope.data.request_id

    @property
    def result(self) -> LLMComparisonResultV1:
        """The answer itself; `is_success` tells which kind."""
        return self.envelope.data
