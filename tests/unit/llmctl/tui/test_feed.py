"""Callbacks are kept in a ring, filtered for display, and all counted."""

import pytest

from llmctl.filters import parse_filter
from llmctl.tui.model import feed as feed_module
from llmctl.tui.model.feed import CallbackFeed
from llmctl.tui.model.rows import CallbackRow


def make_row(number: int, status: str = "success", event: str | None = None) -> CallbackRow:
    return CallbackRow(
        at=float(number),
        topic="t",
        partition=0,
        offset=number,
        written_at=float(number),
        status=status,
        event_id=f"e-{number}" if event is None else event,
    )


def offsets(rows: list[CallbackRow]) -> list[int]:
    return [row.offset for row in rows]


def test_the_ring_keeps_the_newest() -> None:
    feed = CallbackFeed(3)
    feed.take(make_row(number) for number in range(5))
    assert offsets(feed.shown()) == [2, 3, 4]
    assert offsets(feed.newest(2)) == [4, 3]
    assert offsets(feed.newest(9)) == [4, 3, 2]
    assert (feed.total, feed.passed_total, feed.filtered, feed.filter_text) == (5, 5, False, "")


def test_a_filter_holds_for_what_is_there_and_what_comes() -> None:
    feed = CallbackFeed(10)
    feed.take([make_row(0), make_row(1, "error")])
    feed.set_filter("status:error", parse_filter("status:error"))
    assert (feed.filtered, feed.filter_text) == (True, "status:error")
    assert (offsets(feed.shown()), feed.passed_total) == ([1], 1)
    feed.take([make_row(2, "error"), make_row(3)])
    assert (offsets(feed.shown()), feed.passed_total, feed.total) == ([1, 2], 2, 4)
    feed.set_filter("", parse_filter(""))
    assert (offsets(feed.shown()), feed.filtered) == ([0, 1, 2, 3], False)


def test_what_passes_a_filter_is_bound_as_well() -> None:
    feed = CallbackFeed(3)
    feed.set_filter("status:success", parse_filter("status:success"))
    feed.take(make_row(number) for number in range(9))
    assert (offsets(feed.shown()), feed.passed_total) == ([6, 7, 8], 9)


def test_rows_that_pass_outlive_those_that_do_not() -> None:
    feed = CallbackFeed(3)
    feed.set_filter("status:error", parse_filter("status:error"))
    feed.take([make_row(0, "error"), *(make_row(number) for number in range(1, 9))])
    assert offsets(feed.shown()) == [0]


def test_copies_of_an_event_are_duplicates() -> None:
    feed = CallbackFeed(10)
    feed.take(
        [make_row(0, event="a"), make_row(1, event="b"), make_row(2, event="a"), make_row(3, event="a")]
    )
    assert (feed.duplicates, feed.invalid, feed.total) == (2, 0, 4)
    assert offsets(feed.shown()) == [0, 1, 2, 3]


def test_invalid_records_are_no_duplicates() -> None:
    feed = CallbackFeed(10)
    feed.take([make_row(0, "invalid", ""), make_row(1, "invalid", "")])
    assert (feed.duplicates, feed.invalid, feed.total) == (0, 2, 2)


def test_what_is_remembered_of_events_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "REMEMBERED_EVENTS", 3)
    feed = CallbackFeed(10)
    feed.take(make_row(number) for number in range(4))
    feed.take([make_row(10, event="e-1")])
    assert feed.duplicates == 1
    feed.take([make_row(11, event="e-0")])
    assert feed.duplicates == 1
    assert len(feed._seen) == len(feed._seen_order) == 3
