"""A histogram merges exactly and is off by less than a bucket."""

import json
import math
import pickle
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load.histogram import LEAST_SECONDS, LONGEST_SECONDS, RELATIVE_ERROR, Histogram
from simulator.load.run_document import Distribution

seconds = st.one_of(
    st.floats(0.0, LONGEST_SECONDS),
    st.floats(0.0, 2e-6),
    st.floats(0.0005, 5.0),
    st.integers(-20, 17).map(lambda power: 2.0**power),
)
many_seconds = st.lists(seconds, max_size=60)
some_seconds = st.lists(seconds, min_size=1, max_size=200)
shares = st.one_of(st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]), st.floats(0.001, 1.0))


def record_all(values: Iterable[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def find_nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(round(share * len(values), 6)) - 1]


@given(some_seconds, shares)
def test_a_percentile_is_at_least_the_true_one(values: list[float], share: float) -> None:
    """The upper bound of its bucket, at most 1/128 more, or a microsecond where it is that small."""
    true = find_nearest_rank(values, share)
    found = record_all(values).percentile(share)
    assert true <= found <= max(true * (1 + RELATIVE_ERROR), LEAST_SECONDS)


@given(st.lists(many_seconds, max_size=5))
def test_merging_equals_recording_all_in_one(parts: list[list[float]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(record_all(part))
    assert merged == record_all(value for part in parts for value in part)


@given(some_seconds, st.randoms(use_true_random=False))
def test_count_sum_and_extremes_are_exact_in_any_order(values: list[float], random: Random) -> None:
    """The sum to half a nanosecond per value."""
    histogram = record_all(values)
    assert record_all(random.sample(values, len(values))) == histogram
    assert (histogram.count, histogram.least, histogram.greatest) == (len(values), min(values), max(values))
    assert histogram.sum == pytest.approx(math.fsum(values), rel=1e-12, abs=len(values) * 0.6e-9)
    assert histogram.mean == pytest.approx(histogram.sum / len(values))
    for value in (
        0.001001,
        1.0,
        1e-9,
    ):  # rounded, not cut off: 0.001001 * 1e9 is a little less than 1,001,000
        assert record_all([value]).sum == value


@given(seconds, st.integers(1, 1000))
def test_a_count_stands_for_so_many_records(value: float, count: int) -> None:
    at_once = Histogram()
    at_once.record(value, count)
    assert at_once == record_all([value] * count)


@given(many_seconds)
def test_it_survives_json_and_pickle(values: list[float]) -> None:
    histogram = record_all(values)
    assert Histogram.unpack(json.loads(json.dumps(histogram.pack()))) == histogram
    assert pickle.loads(pickle.dumps(histogram)) == histogram


@given(some_seconds, some_seconds)
def test_the_buckets_of_a_file_merge_exactly(ours: list[float], theirs: list[float]) -> None:
    """Only the last digits of the sum differ after JSON."""
    written = record_all(theirs).to_distribution().model_dump_json()
    read = Distribution.model_validate_json(written)
    merged = record_all(ours)
    merged.merge(Histogram.from_buckets(read.buckets, mean=read.mean, greatest=read.max))
    together = record_all([*ours, *theirs]).to_distribution()
    assert merged.to_distribution().model_dump(exclude={"mean"}) == together.model_dump(exclude={"mean"})
    assert merged.mean == pytest.approx(together.mean, rel=1e-9, abs=1e-9)


@given(some_seconds)
def test_a_distribution_says_what_the_histogram_says(values: list[float]) -> None:
    histogram = record_all(values)
    told = histogram.to_distribution()
    assert (told.count, told.mean, told.max) == (len(values), histogram.mean, max(values))
    expected = tuple(histogram.percentile(share) for share in (0.5, 0.9, 0.99, 0.999))
    assert (told.p50, told.p90, told.p99, told.p999) == expected
    bounds = [bound for bound, _ in told.buckets]
    assert bounds == sorted(set(bounds))
    below = 0
    for bound, count in told.buckets:
        assert count > 0
        below += count
        assert sum(value < bound for value in values) == below
    # The least of a file is the lower bound of its first bucket.
    least = Histogram.from_buckets(told.buckets, mean=told.mean, greatest=told.max).least
    assert least <= min(values) <= max(least * (1 + RELATIVE_ERROR), LEAST_SECONDS)


def test_memory_is_bounded_by_the_range() -> None:
    """100,000 different values need at most every bucket, and few in practice."""
    random = Random(3)
    whole_range = record_all(2 ** random.uniform(-22, 18) for _ in range(100_000))
    narrow = record_all(random.uniform(0.05, 0.2) for _ in range(100_000))
    assert len(whole_range.to_distribution().buckets) <= 4_738
    assert len(narrow.to_distribution().buckets) <= 2 * 128 + 1


def test_what_lies_outside_the_range_counts_at_its_edge() -> None:
    assert record_all([-0.002]) == record_all([0.0])
    assert record_all([1e9]) == record_all([LONGEST_SECONDS])
    assert record_all([0.0, 0.0]).percentile(0.99) == 0.0


def test_what_is_not_a_number_of_seconds_is_refused_and_not_counted() -> None:
    histogram = Histogram()
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite"):
            histogram.record(value)
    assert histogram == Histogram()


def test_nothing_recorded_has_no_figures() -> None:
    empty = Histogram.from_buckets([], mean=0.0, greatest=0.0)
    assert empty == Histogram()
    assert (empty.count, empty.sum) == (0, 0.0)
    for ask in (
        lambda: empty.percentile(0.5),
        lambda: empty.mean,
        lambda: empty.least,
        lambda: empty.greatest,
        empty.to_distribution,
    ):
        with pytest.raises(ValueError, match="nothing was recorded"):
            ask()


def test_a_percentile_is_asked_for_as_a_share() -> None:
    """99 is a slip for 0.99."""
    for share in (0.0, -0.1, 1.01, 99.0, math.nan):
        with pytest.raises(ValueError, match="share"):
            record_all([1.0]).percentile(share)


def test_empty_buckets_and_buckets_of_another_grid_are_refused() -> None:
    for bound in (0.1, 0.0, -1.0, math.inf, math.nan, LEAST_SECONDS / 2, 2 * LONGEST_SECONDS):
        with pytest.raises(ValueError, match="no bound"):
            Histogram.from_buckets([(bound, 1)], mean=0.1, greatest=0.1)
    for count in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            Histogram.from_buckets([(1.0, count)], mean=0.1, greatest=0.1)
