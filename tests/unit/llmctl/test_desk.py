"""The outcome of a request is printed once, whether the 202 or the callback comes first."""

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from llmctl.client.callbacks import CallbackRecord
from llmctl.jobs.desk import (
    ERROR,
    MAX_FAILURES,
    QUEUED,
    REFUSED,
    SUCCESS,
    VALID,
    Desk,
    Draft,
    Submission,
)
from llmctl.render.terminal import Output, Terminal
from tests.unit.llmctl.conftest import make_record


@pytest.fixture
def said() -> StringIO:
    return StringIO()


@pytest.fixture
def desk(said: StringIO) -> Desk:
    return Desk(open_terminal(said, Output.JSON), waits=True)


def open_terminal(said: StringIO, output: Output) -> Terminal:
    return Terminal(Console(file=said), Console(file=said), output)


def read(said: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


def rename(record: CallbackRecord, queue_id: str) -> CallbackRecord:
    assert record.envelope is not None
    data = record.envelope.data.model_copy(update={"request_id": queue_id})
    return replace(record, envelope=record.envelope.model_copy(update={"data": data}))


ANSWER = Submission(3, QUEUED, "q-1", "c-1")


def test_a_callback_after_the_answer_ends_the_wait(
    desk: Desk, said: StringIO, callback: CallbackRecord
) -> None:
    desk.take_answer(ANSWER)
    assert (desk.missing, read(said)) == (1, [])
    assert desk.take_callback(callback)
    assert desk.missing == 0
    assert [(each["line"], each["status"]) for each in read(said)] == [(3, SUCCESS)]


def test_a_callback_before_the_answer_is_kept(desk: Desk, said: StringIO, callback: CallbackRecord) -> None:
    """The provider can be faster than our reading of the 202."""
    with desk.sending():
        assert not desk.take_callback(callback)
        desk.take_answer(ANSWER)
    assert desk.missing == 0
    assert read(said)[0]["result"]["request_id"] == "q-1"


def test_an_answer_from_an_earlier_run_is_awaited_too(desk: Desk, said: StringIO) -> None:
    desk.expect(ANSWER)
    assert desk.take_callback(make_record(fails=True))
    assert [(each["line"], each["status"]) for each in read(said)] == [(3, ERROR)]


def test_strangers_and_copies_change_nothing(desk: Desk, said: StringIO, callback: CallbackRecord) -> None:
    desk.take_answer(ANSWER)
    desk.take_callback(callback)
    assert not desk.take_callback(callback)
    assert not desk.take_callback(replace(callback, envelope=None))
    desk.close()
    assert len(read(said)) == 1
    assert desk.kept_early == 0


def test_strangers_are_kept_only_while_they_can_be_ours(desk: Desk, callback: CallbackRecord) -> None:
    with desk.sending():
        desk.take_callback(rename(callback, "stranger-1"))
        with desk.sending():
            desk.take_callback(rename(callback, "stranger-2"))
        assert desk.kept_early == 2  # the first request began before both
        second = desk.sending()
        second.__enter__()
    assert desk.kept_early == 0
    desk.take_callback(rename(callback, "q-1"))
    desk.take_answer(ANSWER)
    second.__exit__(None, None, None)
    assert (desk.missing, desk.kept_early) == (0, 0)


def test_what_has_no_callback_stays_as_it_is(desk: Desk, said: StringIO) -> None:
    desk.take_answer(Submission(1, REFUSED, error={"error_code": "X"}))
    desk.take_answer(ANSWER)
    assert [each["status"] for each in read(said)] == [REFUSED]
    desk.close()
    assert [each["status"] for each in read(said)] == [REFUSED, QUEUED]
    assert read(said)[1]["result"] is None
    assert dict(desk.counts) == {REFUSED: 1, QUEUED: 1}


@pytest.mark.parametrize("output", list(Output))
def test_what_is_told_is_not_kept(output: Output, said: StringIO) -> None:
    desk = Desk(open_terminal(said, output))
    for line in range(1, 1001):
        desk.take_answer(Submission(line, REFUSED if line % 2 else QUEUED, f"q-{line}"))
    assert (desk.counts[REFUSED], desk.counts[QUEUED], desk.total) == (500, 500, 1000)
    assert len(desk.failures) == MAX_FAILURES
    assert (desk.rows, desk.missing) == ([], 0)


def test_a_draft_says_what_would_be_sent(said: StringIO) -> None:
    desk = Desk(open_terminal(said, Output.JSON))
    desk.take_answer(Submission(1, VALID, swapped=True, draft=Draft({"essay_a": "x"}, 7, None)))
    (document,) = read(said)
    assert document == {
        "queue_id": None,
        "correlation_id": None,
        "line": 1,
        "status": VALID,
        "error": None,
        "swapped": True,
        "body": {"essay_a": "x"},
        "estimated_tokens": 7,
        "estimated_cost_usd": None,
    }
