"""Whether a failed attempt is repeated: never too often, too soon or too late."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.retry import (
    BASE_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_UNCOUNTED_CALLS,
    MAX_UNCOUNTED_REFUSALS,
    GiveUp,
    RetryLater,
    decide,
)

HOUR = timedelta(hours=1)


def failure(
    *,
    retryable: bool = True,
    retry_after_seconds: float | None = None,
    code: LLMErrorCode = LLMErrorCode.PROVIDER_UNAVAILABLE,
) -> ProviderFailure:
    return ProviderFailure(code, "No.", retryable=retryable, retry_after_seconds=retry_after_seconds)


def decide_after(failed: ProviderFailure, left: timedelta = HOUR, **changes: Any) -> GiveUp | RetryLater:
    """Decides with `left` until the deadline."""
    now = datetime(2025, 3, 14, tzinfo=UTC)
    given = {"trouble_seconds": None, "attempt": 1, "max_attempts": 5, "random": 0.5, **changes}
    given.setdefault("calls", given["attempt"])
    return decide(failed, now=now, expires_at=now + left, **given)


@pytest.mark.parametrize(
    ("attempt", "random", "expected_seconds"),
    [
        (1, 0.0, 0.0),
        (1, 0.5, 0.25),
        (2, 0.5, 0.5),
        (3, 0.5, 1.0),
        (6, 0.5, 8.0),
        (7, 0.5, 15.0),
        (8, 0.5, 15.0),
        (5_000, 0.5, 15.0),
    ],
)
def test_wait_doubles_up_to_its_limit(attempt: int, random: float, expected_seconds: float) -> None:
    """Full jitter below a ceiling of 0.5, 1, 2 ... 16, 30, 30 seconds."""
    decision = decide_after(failure(), attempt=attempt, max_attempts=10_000, random=random)
    assert decision == RetryLater(expected_seconds, counted=True)


@pytest.mark.parametrize(
    ("what", "failed", "attempt", "seconds_left"),
    [
        ("not retryable", failure(retryable=False), 1, 3600),
        ("not retryable though it names a time", failure(retryable=False, retry_after_seconds=1), 1, 3600),
        ("the last attempt", failure(), 5, 3600),
        ("beyond the last attempt", failure(), 6, 3600),
        ("no time left", failure(), 1, 0),
        ("past the deadline", failure(), 1, -1),
        ("the wait ends with the deadline", failure(), 1, 0.25),
        ("the provider asks for longer than there is", failure(retry_after_seconds=60), 1, 60),
        ("the provider asks for centuries", failure(retry_after_seconds=1e20), 1, 3600),
        ("the provider asks for ever", failure(retry_after_seconds=float("inf")), 1, 3600),
    ],
)
def test_no_further_attempt(what: str, failed: ProviderFailure, attempt: int, seconds_left: float) -> None:
    decision = decide_after(failed, timedelta(seconds=seconds_left), attempt=attempt)
    assert decision == GiveUp(), what


@pytest.mark.parametrize(
    ("retry_after_seconds", "expected_seconds"),
    [(None, 0.25), (0.0, 0.25), (0.1, 0.25), (0.3, 0.3), (40.0, 40.0), (-5.0, 0.25)],
)
def test_provider_can_only_lengthen_the_wait(
    retry_after_seconds: float | None, expected_seconds: float
) -> None:
    decision = decide_after(failure(retry_after_seconds=retry_after_seconds))
    assert decision == RetryLater(expected_seconds, counted=True)


@given(
    retryable=st.booleans(),
    retry_after_seconds=st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 120),
    attempt=st.integers(1, 5_000) | st.integers(1, 7),
    max_attempts=st.integers(1, 5_000) | st.integers(1, 7),
    left=st.timedeltas(timedelta(days=-2), timedelta(days=3650))
    | st.timedeltas(timedelta(0), timedelta(minutes=2)),
    random=st.floats(0, 1, exclude_max=True),
)
def test_retry_keeps_every_limit(
    retryable: bool,
    retry_after_seconds: float | None,
    attempt: int,
    max_attempts: int,
    left: timedelta,
    random: float,
) -> None:
    """Never after a final failure, beyond the attempts or the deadline, or earlier than asked for."""
    failed = failure(retryable=retryable, retry_after_seconds=retry_after_seconds)
    decision = decide_after(failed, left, attempt=attempt, max_attempts=max_attempts, random=random)
    ceiling = min(MAX_DELAY_SECONDS, BASE_DELAY_SECONDS * 2 ** min(attempt - 1, 60))
    if isinstance(decision, RetryLater):
        assert retryable
        assert attempt < max_attempts
        assert 0 <= decision.after_seconds < left.total_seconds()
        assert not decision.after_seconds < (retry_after_seconds or 0)
        assert decision.after_seconds <= max(ceiling, retry_after_seconds or 0)
    else:
        in_time = max(random * ceiling, retry_after_seconds or 0) < left.total_seconds()
        assert not (retryable and attempt < max_attempts and in_time)


def test_trouble_of_the_provider_costs_no_attempt_before_the_deadline() -> None:
    for attempt, failed in ((5, failure()), (500, failure(retryable=False))):
        decision = decide_after(failed, trouble_seconds=0.0, attempt=attempt)
        assert isinstance(decision, RetryLater)
        assert not decision.counted
    assert decide_after(failure(), timedelta(0), trouble_seconds=0.0) == GiveUp()


@pytest.mark.parametrize(
    ("code", "most"),
    [
        (LLMErrorCode.PROVIDER_RATE_LIMIT, MAX_UNCOUNTED_REFUSALS),
        (LLMErrorCode.PROVIDER_UNAVAILABLE, MAX_UNCOUNTED_CALLS),
    ],
)
def test_calls_that_do_not_count_are_bounded(code: LLMErrorCode, most: int) -> None:
    """A request that alone is refused again and again ends."""
    attempt, calls = 1, 0
    while isinstance(
        decision := decide_after(failure(code=code), trouble_seconds=0.0, attempt=attempt, calls=calls + 1),
        RetryLater,
    ):
        calls += 1
        attempt += decision.counted
    assert calls == most + 4


def test_a_refused_request_leaves_the_next_probe_to_another() -> None:
    """And backs off for longer each time it is refused itself."""
    refused = failure(code=LLMErrorCode.PROVIDER_RATE_LIMIT)
    waits = []
    for calls in (1, 2, 4, 8, 50):
        decision = decide_after(refused, trouble_seconds=3.0, calls=calls)
        assert isinstance(decision, RetryLater)
        waits.append(decision.after_seconds)
    assert waits == [4.0, 4.0, 4.0, 22.5, 22.5]
