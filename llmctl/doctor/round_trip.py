"""A whole round trip: one real request, its callback, and whether that is what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmctl.callback_checks import check_record
from llmctl.client.callbacks import CallbackRecord
from llmctl.client.http import Refused
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.service import judge_clock
from llmctl.render.tables import format_cost
from simulator.quantities import format_duration

GROUP = "round trip"
METADATA: Mapping[str, Any] = {"doctor": True}
NOT_ASKED = "not asked for; --round-trip sends one real request"
_BROKERS_TIME = "LogAppendTime"


@dataclass(frozen=True)
class RoundTrip:
    """What became of the request; seconds since 1970 are by our clock."""

    topic: str
    timeout_seconds: float
    sent_unix_seconds: float
    accepted_unix_seconds: float
    answer: Refused | str
    """The service's refusal, or the queue id."""
    record: CallbackRecord | None = None
    """The callback; None where none came in time."""
    received_unix_seconds: float = 0.0


def judge_round_trip(trip: RoundTrip | Unknown, timestamp_type: str | None = None) -> list[Check]:
    """Every check of the group; `timestamp_type` is the setting of the topic, where it is known."""
    if isinstance(trip, Unknown):
        return [Section(GROUP).left_out("request", trip.reason)]
    section = Section(GROUP, trip.topic)
    if isinstance(trip.answer, Refused):
        seen = f"refused: {trip.answer.message.rstrip('.')} ({trip.answer.code})"
        first = section.failed("accepted", seen, "Do what the service says, then try again.")
        return [first, section.left_out("answered", "the request was not accepted")]
    took = trip.accepted_unix_seconds - trip.sent_unix_seconds
    first = section.passed("accepted", f"durable after {format_duration(took)}, as {trip.answer}")
    if trip.record is None:
        return [first, *_judge_silence(section, trip)]
    checks = [first, _judge_answer(section, trip, trip.record), _judge_record(section, trip.record)]
    if timestamp_type == _BROKERS_TIME:
        stamp = trip.record.timestamp_milliseconds / 1000
        checks.append(
            judge_clock(section, "broker's clock", stamp, trip.sent_unix_seconds, trip.received_unix_seconds)
        )
    return checks


def _judge_silence(section: Section, trip: RoundTrip) -> list[Check]:
    seen = f"no callback came within {format_duration(trip.timeout_seconds)}"
    advice = (
        "Raise --timeout, or see `llmctl providers list`, `llmctl undelivered list` and the service's log; "
        f"`llmctl cancel {trip.answer}` takes the request back."
    )
    return [section.failed("answered", seen, advice)]


def _judge_answer(section: Section, trip: RoundTrip, record: CallbackRecord) -> Check:
    took = format_duration(trip.received_unix_seconds - trip.sent_unix_seconds)
    if record.envelope is None:
        return section.failed(
            "answered",
            f"after {took}, by what is no valid envelope",
            "Is another program writing to the topic?",
        )
    result = record.envelope.data
    asked = f"{result.provider.value}/{result.model}, {format_cost(result.cost_estimate)}"
    if result.error_detail is not None:
        error = result.error_detail
        seen = f"with an error after {took} ({asked}): {error.message.rstrip('.')} ({error.error_code.value})"
        return section.failed("answered", seen, "Do what the message says, then try again.")
    return section.passed("answered", f"after {took} by {asked}")


def _judge_record(section: Section, record: CallbackRecord) -> Check:
    advice = "Is another program writing to the topic, or is the service of another release?"
    finding = check_record(record)
    if finding is not None:
        return section.failed("record", f"{finding.fault}: {finding.message}", advice)
    assert record.envelope is not None
    if dict(record.envelope.data.request_metadata) != dict(METADATA):
        return section.failed("record", "the metadata came back changed", advice)
    place = f"partition {record.partition}, offset {record.offset}"
    return section.passed("record", f"{place}: key, event id, headers and metadata as promised")
