"""Shares and their Wilson intervals, against published figures."""

import pytest

from llmctl.proportions import estimate_proportion


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_the_literature(successes: int, trials: int, low: float, high: float) -> None:
    """To four decimal places."""
    found = estimate_proportion(successes, trials)
    assert found is not None
    assert found.share == successes / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.00005)


def test_successes_and_failures_are_alike() -> None:
    one, other = estimate_proportion(3.5, 4), estimate_proportion(0.5, 4)
    assert one is not None
    assert other is not None
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    sure = estimate_proportion(5, 5)
    assert sure is not None
    assert sure.low < sure.high == pytest.approx(1.0)
    assert str(sure) == "100.0% (57 to 100)"


def test_without_a_trial_nothing_is_known() -> None:
    assert estimate_proportion(0, 0) is None
