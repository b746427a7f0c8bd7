"""Rates and percentiles of the last seconds, by a clock that the test owns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.live import WindowedCount, WindowedLatency


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=300))
def test_percentiles_are_right_to_one_percent(values: list[float]) -> None:
    latency = WindowedLatency([1.0])
    for value in values:
        latency.observe(value)

    summary = latency.summarize()

    ordered = sorted(values)
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = ordered[math.ceil(len(ordered) * quantile) - 1]
        assert summary[name] == pytest.approx(exact, rel=0.011)
    assert summary["max"] == max(values)


def test_percentiles_cover_a_minute_and_buckets_everything() -> None:
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
    latency = WindowedLatency([0.1, 1.0])
    latency.observe(0.1)

    assert latency.summarize()["buckets"] == {"0.1": 1, "1": 1, "+Inf": 1}


def test_rate_covers_the_last_ten_whole_seconds() -> None:
    now = Now()
    count = WindowedCount(now)
    for _ in range(20):
        count.add(5)
        now.seconds += 1

    assert count.rate() == 5.0
    assert count.total == 100
    now.seconds += 11
    assert count.rate() == 0.0
