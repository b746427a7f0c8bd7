"""The timeline of a request: each part begins where the one before ended."""

from dataclasses import replace
from itertools import pairwise

import pytest

from llmctl.tui.model.rows import AttemptRow, CallbackRow
from llmctl.tui.screens.detail import read_timeline
from llmctl.tui.widgets.words import BAD, GOOD

ROW = CallbackRow(
    at=1006.0,
    topic="t",
    partition=0,
    offset=0,
    written_at=1005.5,
    status="success",
    accepted_at=1000.0,
    completed_at=1005.0,
    attempts=(
        AttemptRow(1001.0, 1.0, "openai", "LLM_PROVIDER_TIMEOUT"),
        AttemptRow(1003.0, 1.5, "google", "success"),
    ),
)


def tell(row: CallbackRow) -> list[tuple[str, float, float]]:
    return [(span.name, span.begin, span.end) for span in read_timeline(row)]


def test_every_part_of_the_way_is_told() -> None:
    """In seconds since acceptance."""
    assert tell(ROW) == [
        ("queued", 0.0, 1.0),
        ("#1 openai PROVIDER_TIMEOUT", 1.0, 2.0),
        ("waits", 2.0, 3.0),
        ("#2 google answered", 3.0, 4.5),
        ("outcome stored", 4.5, 5.0),
        ("handed to Kafka", 5.0, 5.5),
        ("read here", 5.5, 6.0),
    ]


def test_attempts_are_coloured_by_their_outcome() -> None:
    spans = read_timeline(ROW)
    assert (spans[1].colour, spans[3].colour) == (BAD, GOOD)


@pytest.mark.parametrize("attempts", [(), ROW.attempts[:1], ROW.attempts])
def test_nothing_is_left_out(attempts: tuple[AttemptRow, ...]) -> None:
    spans = read_timeline(replace(ROW, attempts=attempts))
    assert (spans[0].begin, spans[-1].end) == (0.0, 6.0)
    assert all(before.end == after.begin for before, after in pairwise(spans))


def test_parts_that_did_not_happen_are_missing() -> None:
    handed, read = ("handed to Kafka", 5.0, 5.5), ("read here", 5.5, 6.0)
    assert tell(replace(ROW, attempts=())) == [("queued", 0.0, 5.0), handed, read]
    assert tell(replace(ROW, completed_at=None))[-2:] == [("handed to Kafka", 5.5, 5.5), read]
    assert tell(replace(ROW, accepted_at=None)) == []  # an invalid record
