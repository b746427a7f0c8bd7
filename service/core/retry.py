"""Whether a failed attempt is followed by another, and when: a pure decision."""

from dataclasses import dataclass
from datetime import datetime

from service.core.errors import ProviderFailure

BASE_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0

_DOUBLINGS_TO_MAX_DELAY = 6


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Another attempt, not before this many seconds."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt: the failure becomes the answer."""


def decide(
    failure: ProviderFailure,
    *,
    trouble: bool,
    attempt: int,
    max_attempts: int,
    now: datetime,
    expires_at: datetime,
    random: float,
) -> RetryLater | GiveUp:
    """Decides after attempt number `attempt` (from 1); `random` is uniform in [0, 1).

    Exponential with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015),
    never sooner than the provider asked for. A retry that could only start after the deadline is not made.
    In the provider's own `trouble` the request waits with all others of it: its attempts do not end it.
    """
    if not trouble and (not failure.retryable or attempt >= max_attempts):
        return GiveUp()
    ceiling = min(MAX_DELAY_SECONDS, BASE_DELAY_SECONDS * 2 ** min(attempt - 1, _DOUBLINGS_TO_MAX_DELAY))
    after_seconds = max(random * ceiling, failure.retry_after_seconds or 0.0)
    # In seconds, because a wait of centuries would not fit a timedelta.
    if after_seconds >= (expires_at - now).total_seconds():
        return GiveUp()
    return RetryLater(after_seconds)
