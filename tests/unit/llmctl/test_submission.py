"""What became of a line is told once, whichever comes first: the answer or the callback."""

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from llmctl.client.callbacks import CallbackRecord
from llmctl.jobs.submission import QUEUED, REFUSED, SUCCESS, Desk, Submission, SubmissionPlan
from llmctl.render.terminal import Output, Terminal


@pytest.fixture
def said() -> StringIO:
    """Stdout."""
    return StringIO()


@pytest.fixture
def desk(said: StringIO) -> Desk:
    """A desk that waits for callbacks and writes JSON."""
    return Desk(
        SubmissionPlan(wait_timeout_seconds=1.0),
        Terminal(Console(file=said), Console(file=said), Output.JSON),
    )


def read(said: StringIO) -> list[dict[str, Any]]:
    """The documents written so far."""
    return [json.loads(line) for line in said.getvalue().splitlines()]


ANSWER = Submission(3, QUEUED, "q-1", "c-1")


def test_a_callback_after_the_answer_ends_the_wait(
    desk: Desk, said: StringIO, callback: CallbackRecord
) -> None:
    """The usual order."""
    desk.take_answer(ANSWER)
    assert (desk.missing, read(said)) == (1, [])
    assert desk.take_callback(callback)
    assert desk.missing == 0
    assert [(each["line"], each["status"]) for each in read(said)] == [(3, SUCCESS)]


def test_a_callback_before_the_answer_is_kept(desk: Desk, said: StringIO, callback: CallbackRecord) -> None:
    """The provider can be faster than our reading of the 202."""
    assert not desk.take_callback(callback)
    desk.take_answer(ANSWER)
    assert desk.missing == 0
    assert read(said)[0]["result"]["request_id"] == "q-1"


def test_strangers_and_copies_change_nothing(desk: Desk, said: StringIO, callback: CallbackRecord) -> None:
    """A second copy, another's callback and a broken record are not ours to tell."""
    desk.take_answer(ANSWER)
    desk.take_callback(callback)
    assert not desk.take_callback(callback)
    assert not desk.take_callback(replace(callback, envelope=None))
    desk.forget_strangers()
    desk.close()
    assert len(read(said)) == 1


def test_what_has_no_callback_stays_as_it_is(desk: Desk, said: StringIO) -> None:
    """Refused lines are told at once, waiting ones at the end."""
    desk.take_answer(Submission(1, REFUSED, error={"error_code": "X"}))
    desk.take_answer(ANSWER)
    assert [each["status"] for each in read(said)] == [REFUSED]
    desk.close()
    assert [each["status"] for each in read(said)] == [REFUSED, QUEUED]
    assert read(said)[1]["result"] is None
