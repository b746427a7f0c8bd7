"""Simulated response times have the figures that they are given by."""

from pathlib import Path
from random import Random
from statistics import fmean, median, pstdev, quantiles
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.provider.distributions import (
    LONGEST_SECONDS,
    Constant,
    Distribution,
    Empirical,
    Mixture,
    Pareto,
    read_distribution,
    read_duration,
    scale_to_median,
)

DRAWS = 20_000


def read(written: Any) -> Distribution:
    return read_distribution(written, None)


def draw(distribution: Distribution, count: int = DRAWS) -> list[float]:
    rng = Random(7)
    return [distribution.sample(rng) for _ in range(count)]


@pytest.mark.parametrize("written", ["p50=50ms p99=120ms", "lognormal p50=800ms p99=6s"])
def test_a_lognormal_has_its_percentiles(written: str) -> None:
    p50, p99 = (read_duration(word.split("=")[1]) for word in written.split()[-2:])
    cuts = quantiles(draw(read(written)), n=100)
    assert cuts[49] == pytest.approx(p50, rel=0.03)
    assert cuts[98] == pytest.approx(p99, rel=0.07)


@pytest.mark.parametrize("written", ["mean=1610ms p95=2231ms p99=2323ms", "mean=500ms p95=2s p99=3s"])
def test_mean_and_two_percentiles_are_met(written: str) -> None:
    """The recorded ones, and a skew one that cannot rise in a straight line."""
    mean, p95, p99 = (read_duration(word.split("=")[1]) for word in written.split())
    times = draw(read(written))
    cuts = quantiles(times, n=100)
    assert fmean(times) == pytest.approx(mean, rel=0.02)
    assert cuts[94] == pytest.approx(p95, rel=0.03)
    assert cuts[98] == pytest.approx(p99, rel=0.03)
    assert min(times) >= 0


def test_a_normal_and_a_gamma_have_their_mean_and_deviation() -> None:
    """Nothing is negative where the curve would be."""
    times = draw(read("normal mean=1s sd=200ms"))
    assert fmean(times) == pytest.approx(1.0, rel=0.02)
    assert pstdev(times) == pytest.approx(0.2, rel=0.03)
    assert min(draw(read("normal mean=10ms sd=1s"))) == 0.0
    times = draw(read({"shape": "gamma", "mean": "1s", "cv": 0.4}))
    assert fmean(times) == pytest.approx(1.0, rel=0.02)
    assert pstdev(times) / fmean(times) == pytest.approx(0.4, rel=0.05)


def test_a_pareto_tail_is_heavy_and_bounded() -> None:
    """Half of it is beyond 2 ** (1 / alpha) times the least, and nothing takes more than an hour."""
    times = draw(read("pareto min=20s alpha=1.5"))
    assert median(times) == pytest.approx(20 * 2 ** (1 / 1.5), rel=0.03)
    assert min(times) >= 20
    assert max(draw(Pareto(1000.0, 0.1))) == LONGEST_SECONDS


def test_measured_values_come_back(tmp_path: Path) -> None:
    (tmp_path / "seconds.csv").write_text("0.1,0.2\n0.3\n0.4,2.0\n")
    from_file = read_distribution("empirical file=seconds.csv", tmp_path)
    for distribution in (from_file, read({"values": ["100ms", 0.2, "0.3s", "400ms", "2s"]})):
        times = draw(distribution)
        assert median(times) == pytest.approx(0.3, rel=0.03)
        assert 0.1 <= min(times) < max(times) <= 2.0


def test_a_mixture_takes_its_parts_by_weight() -> None:
    written = [{"weight": 99, "latency": "10ms"}, {"weight": 1, "latency": "pareto min=20s alpha=2"}]
    times = draw(read(written))
    assert sum(time >= 20 for time in times) / DRAWS == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(
    "distribution",
    [
        Constant(1.0), read("p50=50ms p99=120ms"), read("gamma mean=1s cv=0.5"),
        read("normal mean=1s sd=100ms"), Empirical.through([0.1, 0.5, 3.0]),
        Mixture(((0.7, Constant(1.0)), (0.3, Constant(3.0)))),
    ],
)  # fmt: skip
def test_another_median_keeps_the_shape(distribution: Distribution) -> None:
    slow = scale_to_median(distribution, 10.0)
    before, after = draw(distribution, 2001), draw(slow, 2001)
    factors = {round(late / early, 6) for early, late in zip(before, after, strict=True)}
    assert len(factors) == 1
    assert median(after) == pytest.approx(10.0, rel=0.25)
    assert set(draw(scale_to_median(distribution, 0.0), 10)) == {0.0}


@given(st.floats(0.001, 3600), st.floats(0.001, 3600), st.integers())
def test_nothing_is_negative_or_endless(first: float, second: float, seed: int) -> None:
    low, high = sorted((first, second))
    for written in (f"p50={low:.4f}s p99={high:.4f}s", f"pareto min={low:.4f}s alpha=0.1"):
        assert 0 <= read(written).sample(Random(seed)) <= LONGEST_SECONDS


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("fast", "is no distribution"),
        (7, "is no distribution"),
        ("p50=800ms", "is no distribution"),
        ("p50=2s p99=1s", "a p50 of 2s is more than a p99 of 1s"),
        ("p50=2 p99=3s", "'2' is no duration"),
        ("gamma mean=1s", "the distribution gamma needs exactly cv and mean"),
        ("gamma mean=1s cv=nan", "cv must be a number from 0.01 to 10"),
        ("pareto min=1s alpha=0", "alpha must be a number from 0.1"),
        ("mean=3s p95=2s p99=4s", "contradict each other"),
        ("2h", "longer than an hour"),
        ("empirical file=x.csv", "only where the scenario itself is one"),
        ({"values": []}, "at least one value"),
        ({"values": ["soon"]}, "'soon' is no duration"),
        ([{"weight": 1}], "each part of a mixture"),
        ([], "must add up to more than 0"),
    ],
)
def test_what_is_no_distribution_is_said(written: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(written)
