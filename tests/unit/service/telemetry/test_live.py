"""Rates and percentiles of the last seconds, by a clock that the test owns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.live import WindowedCount, WindowedLatency


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.seconds


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=300))
def test_percentiles_are_right_to_one_percent(values: list[float]) -> None:
    """A percentile is off by at most 1 %, and never beyond what was seen."""
    latency = WindowedLatency([1.0])
    for value in values:
        latency.observe(value)

    summary = latency.summarize()

    ordered = sorted(values)
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = ordered[math.ceil(len(ordered) * quantile) - 1]
        assert summary[name] == pytest.approx(exact, rel=0.011)
    assert summary["max"] == max(values)


def test_what_is_older_than_a_minute_is_forgotten_and_the_buckets_are_not() -> None:
    """The percentiles are of the last minute, the buckets of the whole life."""
    now = Now()
    latency = WindowedLatency([0.1, 1.0], now)
    latency.observe(0.05)
    latency.observe(5.0)
    now.seconds += 30
    latency.observe(0.5)

    now.seconds += 31
    later = latency.summarize()
    now.seconds += 60
    empty = latency.summarize()

    assert later["p50"] == pytest.approx(0.5, rel=0.011)
    assert later["max"] == 0.5
    assert later["buckets"] == {"0.1": 1, "1": 2, "+Inf": 3}
    assert (empty["p50"], empty["max"]) == (None, None)
    assert latency._window == {}


def test_value_on_a_bound_belongs_to_its_bucket() -> None:
    """Buckets are `le`, as Prometheus has them."""
    latency = WindowedLatency([0.1, 1.0])
    latency.observe(0.1)

    assert latency.summarize()["buckets"] == {"0.1": 1, "1": 1, "+Inf": 1}


def test_rate_is_of_the_last_ten_whole_seconds() -> None:
    """The second under way does not count yet, and old ones no more."""
    now = Now()
    count = WindowedCount(now)
    for _ in range(20):
        count.add(5)
        now.seconds += 1

    assert count.rate() == 5.0
    assert count.total == 100
    now.seconds += 11
    assert count.rate() == 0.0
