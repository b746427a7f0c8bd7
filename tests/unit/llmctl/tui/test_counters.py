"""Counters and percentiles survive restarts of the service, to the precision of its buckets."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.tui.model.counters import BucketWindow, Counter

BOUNDS = (0.1, 0.2, 0.5, 1.0, 2.0, math.inf)


def count_buckets(values: Sequence[float], bounds: tuple[float, ...] = BOUNDS) -> dict[str, float]:
    return {
        "+Inf" if bound == math.inf else f"{bound:g}": sum(value <= bound for value in values)
        for bound in bounds
    }


def open_window(before: Sequence[float] = ()) -> BucketWindow:
    """A window of a minute that begins with these values at 0 s."""
    window = BucketWindow(60)
    window.take(0, count_buckets(before))
    return window


@pytest.mark.parametrize(
    ("readings", "growths"),
    [
        ([10.0, 13.0, 13.0, 20.0], [0.0, 3.0, 0.0, 7.0]),
        ([10.0, 15.0, 4.0, 6.0], [0.0, 5.0, 4.0, 2.0]),
    ],
    ids=["steady", "restart"],
)
def test_a_counter_grows_by_the_differences(readings: list[float], growths: list[float]) -> None:
    """What was counted before the monitor started is not new; a restart counts from zero."""
    counter = Counter()
    assert [counter.advance(value) for value in readings] == growths
    assert counter.grown == sum(growths)


def test_percentiles_of_a_known_distribution() -> None:
    window = open_window()
    # 100 values evenly from 0 to 1: 10 up to 0.1, 20 up to 0.2, 50 up to 0.5, all up to 1.
    window.take(10, count_buckets([number / 100 for number in range(1, 101)]))
    assert window.percentile(0.5, 10, 60) == pytest.approx(0.5)
    assert window.percentile(0.9, 10, 60) == pytest.approx(0.9)
    assert window.percentile(0.99, 10, 60) == pytest.approx(0.99)
    assert window.percentile(0.15, 10, 60) == pytest.approx(0.15)
    assert window.count(10, 60) == 100


def test_only_the_window_counts() -> None:
    window = open_window()
    window.take(10, count_buckets([1.5] * 100))
    window.take(20, count_buckets([1.5] * 100 + [0.05] * 4))
    assert window.count(20, 10) == 4
    assert window.percentile(0.99, 20, 10) == pytest.approx(0.099)
    assert window.count(20, 20) == 104
    assert window.percentile(0.5, 20, 20) == pytest.approx(1.0 + 48 / 100)


def test_readings_older_than_is_kept_are_forgotten() -> None:
    window = BucketWindow(10)
    for second in range(0, 40, 5):
        window.take(second, count_buckets([0.3] * second))
    assert window.count(35, 10) == 10
    assert window.count(35, 1000) == 10


def test_of_two_readings_in_a_second_the_later_stands() -> None:
    window = open_window()
    window.take(1, count_buckets([0.3]))
    window.take(1, count_buckets([0.3, 0.3]))
    assert window.count(1, 1) == 2


def test_a_restart_in_the_window_loses_nothing() -> None:
    window = open_window()
    window.take(10, count_buckets([0.3] * 10))
    window.take(20, count_buckets([0.3] * 2))
    assert window.count(20, 60) == 12
    assert window.percentile(0.5, 20, 60) == pytest.approx(0.35)


def test_a_restart_is_one_for_all_buckets() -> None:
    window = open_window()
    window.take(10, count_buckets([0.05] * 2 + [1.5] * 8))
    window.take(20, count_buckets([0.05] * 7))
    assert window.count(20, 10) == 7
    assert window.percentile(0.99, 20, 10) == pytest.approx(0.099)


def test_other_bounds_begin_anew() -> None:
    """Counts of another version cannot be compared."""
    window = open_window()
    window.take(10, count_buckets([0.3] * 10))
    window.take(20, count_buckets([0.3] * 50, (0.25, 0.75, math.inf)))
    assert window.percentile(0.5, 20, 60) is None
    window.take(30, count_buckets([0.3] * 54, (0.25, 0.75, math.inf)))
    assert window.count(30, 60) == 4
    assert window.percentile(0.5, 30, 60) == pytest.approx(0.5)


def test_beyond_the_last_bound_only_that_is_known() -> None:
    window = open_window()
    window.take(10, count_buckets([0.3] + [70.0] * 9))
    assert window.percentile(0.9, 10, 60) == 2.0


def test_an_empty_window_has_no_percentile() -> None:
    window = BucketWindow(60)
    assert window.percentile(0.5, 10, 60) is None
    assert window.count(10, 60) == 0.0
    window.take(10, count_buckets([0.3] * 5))
    assert window.percentile(0.5, 10, 60) is None
    window.take(20, count_buckets([0.3] * 5))
    assert window.percentile(0.5, 20, 60) is None
    window.take(30, {})
    assert window.percentile(0.5, 30, 60) is None


def find_bucket(value: float) -> int:
    return next(place for place, bound in enumerate(BOUNDS) if value <= bound)


@given(
    st.lists(st.floats(0.001, 3.0), max_size=40),
    st.lists(st.floats(0.001, 3.0), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_a_percentile_lies_in_the_bucket_of_the_true_one(
    before: list[float], values: list[float], share: float
) -> None:
    window = open_window(before)
    window.take(10, count_buckets(before + values))
    told = window.percentile(share, 10, 10)
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    bucket = find_bucket(true)
    lower = BOUNDS[bucket - 1] if bucket else 0.0
    assert told is not None
    assert lower <= told <= (lower if BOUNDS[bucket] == math.inf else BOUNDS[bucket] * (1 + 1e-12))
