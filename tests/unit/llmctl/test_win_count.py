"""Each comparison counts once, under the names in its metadata; what does not count has a reason."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import parse_filter
from llmctl.jobs.swaps import NameKeys
from llmctl.jobs.views import view_record
from llmctl.jobs.win_count import Selection, WinCount, parse_name_keys, read_names
from service.contracts.enums import EssayComparisonWinner
from tests.unit.llmctl.conftest import make_record

ALL = Selection(all_runs=True)


def give(record: CallbackRecord, *, winner: str = "essay_a", **metadata: Any) -> CallbackRecord:
    assert record.envelope is not None
    data = record.envelope.data.model_copy(
        update={"winner": EssayComparisonWinner(winner), "request_metadata": metadata}
    )
    return replace(record, envelope=record.envelope.model_copy(update={"data": data, "event_id": uuid4()}))


def count(selection: Selection, *records: CallbackRecord) -> WinCount:
    counted = WinCount(selection)
    for number, record in enumerate(records, start=1):
        counted.take(record, view_record(record), f"line {number}")
    return counted


def left_out(counted: WinCount) -> dict[str, int]:
    return {reason: number for reason, number in counted.describe_left_out().items() if number}


def test_the_winner_is_the_text_that_stood_there(callback: CallbackRecord) -> None:
    counted = count(
        ALL,
        give(callback, essay_a_id="x", essay_b_id="y"),
        give(callback, essay_a_id="y", essay_b_id="x", winner="essay_b"),
        give(callback, essay_a_id="x", essay_b_id="z", winner="essay_b"),
    )
    assert counted.wins == {("x", "y"): 2, ("z", "x"): 1}
    assert left_out(counted) == {}
    assert counted.say_left_out() == ""


def test_a_copy_of_an_event_counts_once(callback: CallbackRecord) -> None:
    """The service may send an event again after a crash."""
    one = give(callback, essay_a_id="x", essay_b_id="y")
    counted = count(ALL, one, one, give(callback, essay_a_id="x", essay_b_id="y"), one)
    assert counted.wins == {("x", "y"): 2}
    assert left_out(counted) == {"duplicate": 2}


def test_what_cannot_be_counted_has_a_reason(callback: CallbackRecord) -> None:
    broken = make_record(raw=b"\x00")
    counted = count(
        ALL,
        make_record(fails=True),
        broken,
        broken,
        give(callback, essay_a_id="x"),
        give(callback, essay_a_id="x", essay_b_id="x"),
    )
    assert counted.wins == {}
    assert left_out(counted) == {"error": 1, "no_callback": 2, "unnamed": 1, "same_text": 1}
    assert counted.first_problem == "line 2: no envelope"
    assert counted.say_left_out() == (
        "2 no callback, 1 errors, 1 without names of texts, 1 of a text against itself"
    )


@pytest.mark.parametrize(
    ("selection", "runs"),
    [(Selection(), [None]), (Selection(run_id="r-1"), ["r-1"]), (ALL, [None, "r-1"])],
)
def test_simulated_runs_are_left_out_unless_asked_for(
    callback: CallbackRecord, selection: Selection, runs: list[str | None]
) -> None:
    simulated = give(callback, essay_a_id="r-1", essay_b_id="z")
    real = replace(give(callback, essay_a_id="None", essay_b_id="z"), headers=())
    counted = count(selection, simulated, real)
    assert sorted(winner for winner, _ in counted.wins) == sorted(str(run) for run in runs)
    assert counted.left_out["other_run"] == 2 - len(runs)


def test_a_filter_chooses(callback: CallbackRecord) -> None:
    selection = Selection(all_runs=True, filter=parse_filter("meta.kind:good"))
    good = give(callback, essay_a_id="x", essay_b_id="y", kind="good")
    counted = count(selection, good, give(callback, essay_a_id="x", essay_b_id="y", kind="bad"))
    assert counted.wins == {("x", "y"): 1}
    assert left_out(counted) == {"filtered": 1}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("x", "x"),
        (17, "17"),
        ("", None),
        (" \n", None),
        (True, None),
        (None, None),
        (1.5, None),
        (["x"], None),
        pytest.param(10**5000, None, id="huge"),
    ],
)
def test_a_name_is_a_text_or_a_whole_number(value: object, name: str | None) -> None:
    metadata, keys = {"a": value, "b": "other"}, NameKeys("a", "b")
    assert read_names(metadata, keys) == (None if name is None else (name, "other"))


def test_nameless_callbacks_get_advice(callback: CallbackRecord) -> None:
    keys = {f"key-{number}{'x' * 100}": "" for number in range(9)}
    advice = count(ALL, give(callback, **keys)).advise_names()
    assert advice is not None
    assert "1 callback does not name both texts under essay_a_id and essay_b_id" in advice
    assert "key-0xxx" in advice
    assert "key-6" not in advice
    assert "and others" in advice
    assert len(advice) < 500
    bare = count(ALL, give(callback), give(callback)).advise_names() or ""
    assert "2 callbacks do not" in bare
    assert "the first has none at all" in bare
    assert count(ALL, give(callback, essay_a_id="x", essay_b_id="y")).advise_names() is None


def test_the_keys_can_be_others() -> None:
    assert parse_name_keys("left, right") == NameKeys("left", "right")


@pytest.mark.parametrize("text", ["", "left", "left,", "a,b,c", "same,same"])
def test_what_are_no_two_keys_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as essay_a_id,essay_b_id"):
        parse_name_keys(text)
