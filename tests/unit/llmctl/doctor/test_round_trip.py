"""Checks of the round trip of one request."""

from dataclasses import replace
from typing import Any

import pytest

from llmctl.client.callbacks import CallbackRecord
from llmctl.client.http import Refused
from llmctl.doctor.checks import Unknown
from llmctl.doctor.round_trip import METADATA, RoundTrip, judge_round_trip
from tests.unit.llmctl.conftest import make_record
from tests.unit.llmctl.doctor.conftest import find, read


@pytest.fixture
def trip(callback: CallbackRecord) -> RoundTrip:
    sent = callback.timestamp_milliseconds / 1000 - 1
    return RoundTrip("t", 30.0, sent, sent + 0.1, "q-1", with_metadata(callback, METADATA), sent + 1.5)


def with_metadata(record: CallbackRecord, metadata: Any) -> CallbackRecord:
    assert record.envelope is not None
    data = record.envelope.data.model_copy(update={"request_metadata": dict(metadata)})
    return replace(record, envelope=record.envelope.model_copy(update={"data": data}))


def test_a_trip_in_order_passes(trip: RoundTrip) -> None:
    checks = judge_round_trip(trip)
    assert read(checks) == {"accepted": "pass", "answered": "pass", "record": "pass"}
    assert find(checks, "answered").seen == "after 1.5s by openai/gpt-4o-mini, $0.00012"


def test_one_that_was_not_made_says_why() -> None:
    (check,) = judge_round_trip(Unknown("not asked for"))
    assert (check.name, check.verdict, check.seen) == ("request", "skip", "not asked for")


def test_a_refusal_fails_in_the_services_words(trip: RoundTrip) -> None:
    refused = Refused(422, {"error_code": "LLM_INVALID_CALLBACK_TOPIC", "message": "It is not allowed."})
    checks = judge_round_trip(replace(trip, answer=refused, record=None))
    assert read(checks) == {"accepted": "fail", "answered": "skip"}
    assert find(checks, "accepted").seen == "refused: It is not allowed (LLM_INVALID_CALLBACK_TOPIC)"


def test_no_callback_in_time_fails_with_how_to_take_the_request_back(trip: RoundTrip) -> None:
    checks = judge_round_trip(replace(trip, record=None))
    assert read(checks) == {"accepted": "pass", "answered": "fail"}
    assert "`llmctl cancel q-1`" in (find(checks, "answered").advice or "")


def test_an_error_for_an_answer_fails(trip: RoundTrip) -> None:
    checks = judge_round_trip(replace(trip, record=with_metadata(make_record(fails=True), METADATA)))
    assert read(checks) == {"accepted": "pass", "answered": "fail", "record": "pass"}
    assert "too slow (LLM_PROVIDER_TIMEOUT)" in find(checks, "answered").seen


@pytest.mark.parametrize("fault", ["key", "metadata", "envelope"])
def test_a_record_that_is_not_as_promised_fails(trip: RoundTrip, fault: str) -> None:
    record = trip.record
    assert record is not None
    broken = {
        "key": replace(record, key=b"other"),
        "metadata": with_metadata(record, {}),
        "envelope": make_record(raw=b"{}"),
    }
    assert find(judge_round_trip(replace(trip, record=broken[fault])), "record").verdict == "fail"


@pytest.mark.parametrize(
    ("kind", "off_seconds", "verdict"),
    [
        ("LogAppendTime", 0, "pass"),
        ("LogAppendTime", 100, "fail"),
        ("CreateTime", 100, None),
        (None, 0, None),
    ],
)
def test_the_brokers_clock_is_known_only_where_it_stamps_the_record(
    trip: RoundTrip, kind: str | None, off_seconds: int, verdict: str | None
) -> None:
    assert trip.record is not None
    stamp = trip.record.timestamp_milliseconds + off_seconds * 1000
    record = replace(trip.record, timestamp_milliseconds=stamp)
    assert read(judge_round_trip(replace(trip, record=record), kind)).get("broker's clock") == verdict
