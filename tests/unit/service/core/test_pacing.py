"""Rates, the adaptive limit and the circuit: what they let through, and what they learn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.pacing import (
    LONGEST_PAUSE_SECONDS,
    START_AFTER_OUTAGE,
    AdaptiveLimit,
    Circuit,
    CircuitBreaker,
    RateBudget,
)


@given(
    per_minute=st.floats(1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 20)), min_size=1, max_size=60),
)
def test_no_more_than_the_rate_is_granted(per_minute: float, steps: list[tuple[float, int]]) -> None:
    """Never more than a second's burst and the time that has passed, however callers ask."""
    budget, now, granted = RateBudget(per_minute, 0.0), 0.0, 0
    for seconds, wanted in steps:
        now += seconds
        for _ in range(wanted):
            if budget.may_take(now):
                budget.take(1, now)
                granted += 1
        assert granted <= max(1.0, per_minute / 60) + now * per_minute / 60 + 1e-6


def test_reservation_above_the_burst_passes_and_the_next_one_waits() -> None:
    budget = RateBudget(6000, 0.0)  # 100 a second

    assert budget.may_take(0.0)
    budget.take(1100, 0.0)

    assert budget.seconds_until_open(0.0) == pytest.approx(10.01)
    assert not budget.may_take(9.9)
    assert budget.may_take(10.1)


def test_estimate_is_corrected_in_both_directions() -> None:
    budget = RateBudget(600, 0.0)
    budget.take(200, 0.0)
    budget.settle(200, 5, 0.0)
    assert budget.may_take(0.0)

    budget.take(1, 0.0)
    budget.settle(1, 50, 0.0)
    assert not budget.may_take(0.0)


def test_overload_halves_what_was_in_use_and_success_raises_it_again() -> None:
    """Half at an overload, once for all calls that were under way together; one more a round afterwards."""
    limit = AdaptiveLimit(1000)
    limit.overload(100, now=10.0)
    limit.overload(100, now=10.5)
    assert limit.current == 50

    for _ in range(51):
        limit.succeed()
    assert limit.current == 51
    limit.overload(51, now=12.0)
    assert limit.current == 25


def test_limit_stays_between_one_and_its_maximum() -> None:
    limit = AdaptiveLimit(5)
    for second in range(20):
        limit.overload(1, now=float(second * 2))
    assert limit.current == 1
    for _ in range(500):
        limit.succeed()
    assert limit.current == 5


def test_after_an_outage_calls_begin_carefully_and_double() -> None:
    limit = AdaptiveLimit(64)
    limit.restart()
    assert limit.current == START_AFTER_OUTAGE

    rounds = 0
    while limit.current < 64:
        for _ in range(limit.current):
            limit.succeed()
        rounds += 1
    assert rounds == 4


def test_circuit_stays_closed_while_most_calls_succeed() -> None:
    breaker = CircuitBreaker()
    for _ in range(100):
        breaker.fail(0.0, 0.0, probe=False)
        breaker.succeed(probe=False)
        breaker.succeed(probe=False)
    assert breaker.circuit is Circuit.CLOSED


def test_one_probe_at_a_time_decides() -> None:
    breaker = open_breaker()
    assert breaker.may_call(1.0)
    assert breaker.begin(1.0)
    assert not breaker.may_call(1.0)

    breaker.succeed(probe=False)  # began before the circuit opened
    assert breaker.circuit is Circuit.HALF_OPEN
    breaker.fail(1.0, 1.0, probe=True)
    assert not breaker.may_call(2.9)
    assert breaker.begin(3.0)
    assert breaker.succeed(probe=True)
    assert breaker.circuit is Circuit.CLOSED


def test_probe_that_is_cut_off_makes_room_for_another() -> None:
    breaker = open_breaker()
    assert breaker.begin(1.0)
    breaker.abandon_probe()
    assert breaker.begin(1.0)


def test_pause_never_exceeds_its_limit() -> None:
    breaker, now = open_breaker(), 0.0
    for _ in range(30):
        now = breaker.opens_at
        assert breaker.begin(now)
        breaker.fail(now, 1.0, probe=True)
    assert breaker.opens_at - now == pytest.approx(LONGEST_PAUSE_SECONDS)


def open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(6):
        breaker.fail(0.0, 1.0, probe=False)
    assert breaker.circuit is Circuit.OPEN
    return breaker
