"""Callbacks out of a file of JSON lines, as `tail-callbacks` and `submit --wait` print them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, BinaryIO

from pydantic import ValidationError

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import RecordView
from llmctl.jobs.swaps import MARK
from llmctl.jobs.views import view_record
from service.contracts.enums import ProcessingEvent
from service.contracts.events import ComparisonResultEnvelope, LLMComparisonResultV1
from service.contracts.topics import SOURCE_SERVICE, derive_event_id


@dataclass(frozen=True)
class CallbackLine:
    """One line: its number from 1, and the callback that it holds or why it holds none."""

    number: int
    record: CallbackRecord
    is_timed: bool = False
    """Whether it says when Kafka had the callback."""

    def view(self) -> RecordView:
        """What a filter can ask of it."""
        view = view_record(self.record)
        if self.is_timed:
            return view
        return replace(view, numbers={**view.numbers, "e2e": None}, texts={**view.texts, "topic": None})


def read_callback_lines(file: BinaryIO) -> Iterator[CallbackLine]:
    """Every line of the file that is not empty and not the sum that `submit --swap-check` ends with.

    Three kinds are understood: what `tail-callbacks --output json` prints, what `submit --wait --output json`
    prints, and an envelope as it stands on the topic.
    """
    file.seek(0)
    for number, raw in enumerate(file, start=1):
        if raw.strip():
            line = _read_line(number, raw)
            if line is not None:
                yield line


def _read_line(number: int, raw: bytes) -> CallbackLine | None:
    """What the line holds; None where it is about others."""
    try:
        document = json.loads(raw)
    except ValueError:
        return _refuse(number, raw, "the line is not JSON")
    except RecursionError:
        return _refuse(number, raw, "the line is nested too deeply")
    if not isinstance(document, dict):
        return _refuse(number, raw, "the line is not a JSON object")
    try:
        if isinstance(document.get("envelope"), dict):
            return _read_record_line(number, raw, document)
        if "result" in document and "line" in document:
            return _read_submit_line(number, raw, document)
        if "event_id" in document and "data" in document:
            envelope = ComparisonResultEnvelope.model_validate(document)
            return CallbackLine(number, _make_record(raw, envelope))
    except ValidationError as refusal:
        first = refusal.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return _refuse(number, raw, f"{where}: {first['msg']}".removeprefix(": "))
    if isinstance(document.get(MARK), list):
        return None
    why = document.get("error")
    return _refuse(number, raw, why if isinstance(why, str) else "the line is no callback")


def _read_record_line(number: int, raw: bytes, document: Mapping[str, Any]) -> CallbackLine:
    """A line of `tail-callbacks`."""
    envelope = ComparisonResultEnvelope.model_validate(document["envelope"])
    headers, stamp = document.get("headers"), _read_stamp(document.get("timestamp"))
    record = replace(
        _make_record(raw, envelope),
        topic=str(document.get("topic", "")),
        headers=tuple(
            (str(name), value.encode("utf-8", "surrogatepass"))
            for name, value in (headers if isinstance(headers, dict) else {}).items()
            if isinstance(value, str)
        ),
        timestamp_milliseconds=stamp or 0,
    )
    return CallbackLine(number, record, is_timed=stamp is not None)


def _read_submit_line(number: int, raw: bytes, document: Mapping[str, Any]) -> CallbackLine:
    """A line of `submit --wait`: the answer without its envelope, whose identity follows from the request."""
    if document["result"] is None:
        return _refuse(number, raw, f"the request has no callback, its status is {document.get('status')}")
    result = LLMComparisonResultV1.model_validate(document["result"])
    envelope = ComparisonResultEnvelope(
        event_id=derive_event_id(result.request_id),
        event_type=ProcessingEvent.LLM_COMPARISON_RESULT.value,
        event_timestamp=result.completed_at,
        source_service=SOURCE_SERVICE,
        correlation_id=result.correlation_id,
        data=result,
    )
    return CallbackLine(number, _make_record(raw, envelope))


def _read_stamp(text: object) -> int | None:
    """Milliseconds since 1970 UTC; None where the text is no such moment."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _refuse(number: int, raw: bytes, problem: str) -> CallbackLine:
    return CallbackLine(number, replace(_make_record(raw, None), problem=problem))


def _make_record(raw: bytes, envelope: ComparisonResultEnvelope | None) -> CallbackRecord:
    return CallbackRecord(
        topic="",
        partition=0,
        offset=0,
        timestamp_milliseconds=0,
        key=None,
        headers=(),
        value=raw,
        envelope=envelope,
        problem=None,
    )
