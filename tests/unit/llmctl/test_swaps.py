"""The second half of a pair swaps everything that names its essays."""

from typing import Any
from uuid import UUID

import pytest

from llmctl.jobs.batches import Line
from llmctl.jobs.swaps import MARK, NameKeys, add_swapped

BATCH = UUID(int=1)
BODY: dict[str, Any] = {
    "user_prompt": "p",
    "essay_a": "A",
    "essay_b": "B",
    "callback_topic": "t",
    "metadata": {"essay_a_id": "a-1", "essay_b_id": "b-1", "pair_id": "x"},
}


def pair(body: dict[str, Any] | None, names: NameKeys | None = None) -> list[Line]:
    return list(add_swapped([Line(4, body, None if body else "no JSON")], BATCH, names or NameKeys()))


def test_essays_and_their_names_change_places() -> None:
    first, second = pair(BODY)
    assert (first.number, first.swapped, second.number, second.swapped) == (4, False, 4, True)
    assert first.body is not None
    assert second.body is not None
    mark = first.body["metadata"][MARK]
    assert UUID(mark["pair"]).version == 5
    assert first.body == BODY | {"metadata": BODY["metadata"] | {MARK: mark}}
    assert second.body == BODY | {
        "essay_a": "B",
        "essay_b": "A",
        "metadata": {
            "essay_a_id": "b-1",
            "essay_b_id": "a-1",
            "pair_id": "x",
            MARK: mark | {"swapped": True},
        },
    }
    assert mark["swapped"] is False
    assert BODY["metadata"].keys() == {"essay_a_id", "essay_b_id", "pair_id"}  # and the line is not touched


def test_pairs_are_told_apart_and_are_the_same_in_every_run() -> None:
    lines = [Line(number, BODY) for number in (1, 2)]
    ids = [line.body["metadata"][MARK]["pair"] for line in add_swapped(lines, BATCH, NameKeys()) if line.body]
    again = [
        line.body["metadata"][MARK]["pair"] for line in add_swapped(lines, BATCH, NameKeys()) if line.body
    ]
    assert ids == again
    assert (ids[0], ids[2]) == (ids[1], ids[3])
    assert ids[0] != ids[2]


def test_names_can_stand_under_other_keys() -> None:
    _, second = pair(BODY | {"metadata": {"left": 1, "essay_a_id": 2}}, NameKeys("left", "right"))
    assert second.body is not None
    assert {key: value for key, value in second.body["metadata"].items() if key != MARK} == {
        "right": 1,
        "essay_a_id": 2,
    }


@pytest.mark.parametrize("metadata", [7, ["x"], {MARK: None}])
def test_a_line_without_a_place_for_the_mark_is_refused_once(metadata: Any) -> None:
    (line,) = pair(BODY | {"metadata": metadata})
    assert line.body is None
    assert (line.problem or "").startswith("metadata: ")


def test_what_is_no_request_stays_what_it_is() -> None:
    (line,) = pair(None)
    assert (line.body, line.problem) == (None, "no JSON")
    first, second = pair({"essay_a": "A"})
    assert first.body is not None
    assert second.body is not None
    assert (first.body["essay_a"], second.body["essay_b"]) == ("A", "A")
