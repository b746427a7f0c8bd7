"""Simulated latency has the percentiles it is given."""

from random import Random
from statistics import quantiles

import pytest

from simulator.provider.latency import LognormalLatency
from simulator.provider.scenario import CALM, find_scenario


def test_samples_have_the_percentiles_they_are_asked_for() -> None:
    """Median and 99th percentile of 20,000 samples are near those of calm: 50 and 120 ms."""
    rng = Random(7)
    cuts = quantiles((CALM.latency.sample_seconds(rng) for _ in range(20_000)), n=100)
    assert cuts[49] == pytest.approx(0.050, rel=0.03)
    assert cuts[98] == pytest.approx(0.120, rel=0.06)


def test_another_median_keeps_the_shape() -> None:
    """Twice the median is twice every sample."""
    slow = CALM.with_latency_p50_ms(100).latency
    assert slow.sample_seconds(Random(1)) == pytest.approx(2 * CALM.latency.sample_seconds(Random(1)))


def test_a_median_of_nothing_is_no_latency() -> None:
    """Zero answers at once."""
    assert CALM.with_latency_p50_ms(0).latency.sample_seconds(Random(1)) == 0.0


@pytest.mark.parametrize(("p50", "p99"), [(-1, 5), (10, 5), (float("nan"), 5), (5, float("inf"))])
def test_percentiles_that_make_no_distribution_are_refused(p50: float, p99: float) -> None:
    """Negative, reversed and unbounded ones."""
    with pytest.raises(ValueError, match="0 <= p50 <= p99"):
        LognormalLatency(p50, p99)


def test_an_unknown_scenario_is_answered_with_the_known_ones() -> None:
    """The message tells what could have been meant."""
    assert find_scenario("calm") is CALM
    with pytest.raises(ValueError, match=r"no scenario 'storm'; choose one of: calm"):
        find_scenario("storm")
