"""A callback is read from a file as from the topic, whichever command printed it."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import parse_filter
from llmctl.jobs.callback_lines import CallbackLine, read_callback_lines
from llmctl.jobs.views import describe_record
from tests.unit.llmctl.conftest import make_record


def read(*lines: bytes | str | dict[str, Any]) -> list[CallbackLine]:
    raw = [json.dumps(each).encode() if isinstance(each, dict) else each for each in lines]
    return list(read_callback_lines(BytesIO(b"\n".join(_encode(each) for each in raw))))


def _encode(line: bytes | str) -> bytes:
    return line.encode() if isinstance(line, str) else line


def describe_submission(record: CallbackRecord) -> dict[str, Any]:
    """The line of `submit --wait` for a record."""
    assert record.envelope is not None
    result = record.envelope.data.model_dump(mode="json")
    return {
        "queue_id": "q-1",
        "correlation_id": "c",
        "line": 1,
        "status": "x",
        "error": None,
        "result": result,
    }


def test_a_line_of_tail_callbacks_is_the_record_that_it_was() -> None:
    record = make_record()
    (line,) = read(describe_record(record))
    assert line.record.envelope == record.envelope
    assert line.record.run_id == record.run_id == "r-1"
    assert line.record.topic == record.topic
    assert line.record.timestamp_milliseconds == record.timestamp_milliseconds
    for text in ("e2e>1s e2e<2s", "topic:t", "status:success meta.pair_id:p-1", '"gpt-4o-mini"'):
        assert parse_filter(text).matches(line.view()), text


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_callback_is_one_event_whoever_printed_it(*, fails: bool) -> None:
    record = make_record(fails=fails)
    assert record.envelope is not None
    lines = read(describe_submission(record), record.value or b"", describe_record(record))
    assert [each.number for each in lines] == [1, 2, 3]
    for each in lines:
        assert each.record.envelope is not None
        assert each.record.envelope.event_id == record.envelope.event_id
        assert each.record.envelope.data == record.envelope.data


def test_what_a_line_does_not_tell_is_not_made_up() -> None:
    (line,) = read(describe_submission(make_record()))
    view = line.view()
    assert (view.numbers["e2e"], view.texts["topic"]) == (None, None)
    assert not parse_filter("e2e>0s").matches(view)
    assert line.record.run_id is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "the line is not JSON"),
        (b'{"a": "\xff"}', "the line is not JSON"),
        ("[" * 100_000, "the line is nested too deeply"),
        ("[1]", "the line is not a JSON object"),
        ("{}", "the line is no callback"),
        ('{"topic": "t", "error": "the record has no value", "raw": ""}', "the record has no value"),
        (
            '{"line": 3, "status": "refused", "result": null, "error": {"message": "m"}}',
            "the request has no callback, its status is refused",
        ),
        ('{"envelope": {"event_type": "x"}}', "source_service: Field required"),
        ('{"event_id": "x", "data": 1}', "event_id: Input should be a valid UUID"),
        ('{"line": 1, "result": 5}', "Input should be a valid dictionary"),
    ],
)
def test_what_is_no_callback_says_why(line: bytes | str, problem: str) -> None:
    first, second = read("", line, "{}")
    assert (first.number, second.number) == (2, 3)
    assert first.record.envelope is None
    assert (first.record.problem or "").startswith(problem)


def test_the_sum_of_a_swap_check_is_about_the_others() -> None:
    lines = read(describe_submission(make_record()), {"swap_check": [{"pairs": 1}], "pairs_left_out": 0})
    assert [each.number for each in lines] == [1]


def test_a_time_that_is_none_is_left_out() -> None:
    (line,) = read(describe_record(make_record()) | {"timestamp": "yesterday", "headers": None})
    assert line.record.envelope is not None
    assert not line.is_timed
    assert replace(line, is_timed=True).view().numbers["e2e"] is not None
