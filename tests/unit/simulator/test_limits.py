"""Allowances grant what they say and no more, and refusals say when to come back."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.provider.api import Wire
from simulator.provider.limits import Allowances, Bucket, Limits, RetryAfterStyle, advise, write_advice

CALLS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=80)


@given(CALLS, st.floats(0.5, 20), st.floats(1, 40))
def test_a_bucket_keeps_its_rate(calls: list[tuple[float, int]], per_second: float, capacity: float) -> None:
    """Over every window between two grants, at most its rate and one burst are granted."""
    bucket, now = Bucket(capacity, 0.0), 0.0
    granted: list[tuple[float, int]] = []
    for pause, units in calls:
        now += pause
        if bucket.wait_for(units, per_second, capacity, now) == 0:
            bucket.take(units)
            granted.append((now, units))
    burst = max(capacity, max((units for _, units in granted), default=0))
    for first, (began, _) in enumerate(granted):
        total = 0
        for ended, units in granted[first:]:
            total += units
            assert total <= per_second * (ended - began) + burst + 1e-6


@given(CALLS, st.floats(0.5, 20), st.floats(1, 40))
def test_the_wait_is_enough(calls: list[tuple[float, int]], per_second: float, capacity: float) -> None:
    bucket, now = Bucket(capacity, 0.0), 0.0
    for pause, units in calls:
        now += pause
        wait = bucket.wait_for(units, per_second, capacity, now)
        if wait > 1e-3:
            assert bucket.wait_for(units, per_second, capacity, now + 0.99 * wait) > 0
        now += wait
        assert bucket.wait_for(units, per_second, capacity, now) == 0
        bucket.take(units)


def ask(allowances: Allowances, limits: Limits, now: float, tokens: int = 10, owner: str = "key") -> float:
    return allowances.ask(owner, tokens, limits, now, scale=1.0, wall=0.0).wait_seconds


def test_keys_have_allowances_of_their_own() -> None:
    allowances, limits = Allowances(), Limits(rpm=60, burst_requests=2)
    assert [ask(allowances, limits, 0.0) for _ in range(3)] == [0, 0, pytest.approx(1.0)]
    assert ask(allowances, limits, 0.0, owner="other") == 0
    # A refused call takes neither a request nor tokens.
    allowances, limits = Allowances(), Limits(rpm=60, tpm=600, burst_requests=2, burst_tokens=15)
    assert ask(allowances, limits, 0.0) == 0
    assert ask(allowances, limits, 0.0) == pytest.approx(0.5)
    verdict = allowances.ask("key", 1, limits, 0.0, scale=1.0, wall=0.0)
    assert (verdict.wait_seconds, verdict.state.requests_remaining) == (0, 0)


def test_what_is_said_to_be_left_is_what_is_left() -> None:
    limits = Limits(rpm=60, tpm=6000, burst_requests=10, burst_tokens=100)
    state = Allowances().ask("key", 30, limits, 0.0, scale=0.5, wall=99.0).state
    assert (state.requests_limit, state.requests_remaining) == (60, 9)
    assert (state.tokens_limit, state.tokens_remaining) == (6000, 70)
    assert state.requests_reset_seconds == pytest.approx(0.5)
    assert state.tokens_reset_seconds == pytest.approx(0.15)
    assert state.now == 99.0


def test_a_prompt_larger_than_the_burst_is_delayed_not_impossible() -> None:
    """It is granted from a full bucket, which then refills."""
    allowances, limits = Allowances(), Limits(tpm=600, burst_tokens=20)
    assert ask(allowances, limits, 0.0, tokens=100) == 0
    assert ask(allowances, limits, 0.0, tokens=10) == pytest.approx(9.0)


@pytest.mark.parametrize("style", [each for each in RetryAfterStyle if each is not RetryAfterStyle.ABSENT])
@given(seconds=st.floats(0.001, 600), wall=st.floats(1.7e9, 1.8e9))
def test_advice_is_never_too_short(style: RetryAfterStyle, seconds: float, wall: float) -> None:
    advised = advise(style, seconds, wall).seconds
    assert advised is not None
    assert seconds - 1e-6 <= advised <= seconds + 1 + 1e-6


def test_styles_write_their_header_and_no_other() -> None:
    wire = Wire(429, {"retry-after": "9", "retry-after-ms": "9000", "x": "y"}, b"")
    wall = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    written = {style: write_advice(wire, advise(style, 2.5, wall)).headers for style in RetryAfterStyle}
    assert written[RetryAfterStyle.SECONDS] == {"x": "y", "retry-after": "3"}
    assert written[RetryAfterStyle.MS] == {"x": "y", "retry-after-ms": "2500"}
    assert written[RetryAfterStyle.ABSENT] == {"x": "y"}
    assert written[RetryAfterStyle.VENDOR] == wire.headers
    date = parsedate_to_datetime(written[RetryAfterStyle.DATE]["retry-after"])
    assert date.timestamp() - wall == 3
