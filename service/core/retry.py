"""Whether a failed attempt is followed by another, and when: a pure decision."""

from dataclasses import dataclass
from datetime import datetime

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure

BASE_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
MAX_UNCOUNTED_REFUSALS = 100
"""So many refusals of a request don't count as attempts; with the backoff that takes most of an hour."""
MAX_UNCOUNTED_CALLS = 1000
"""So many calls of a request don't count as attempts in an outage; that takes more than an hour."""
AFTER_OTHERS_SECONDS = 1.0
"""How much later than the end of a pause a refused request is tried again: another one makes the probe."""

_DOUBLINGS_TO_MAX_DELAY = 6


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Another attempt, not before this many seconds."""

    after_seconds: float
    counted: bool
    """Whether the call that failed counts as an attempt."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt: the failure becomes the outcome."""


def decide(
    failure: ProviderFailure,
    *,
    trouble_seconds: float | None,
    attempt: int,
    calls: int,
    max_attempts: int,
    now: datetime,
    expires_at: datetime,
    random: float,
) -> RetryLater | GiveUp:
    """Decides after attempt number `attempt` (from 1) and `calls` calls; `random` is uniform in [0, 1).

    Exponential backoff with jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015),
    never sooner than the provider asked for. A retry that could only start after the deadline is not made.

    `trouble_seconds` is None if the fault can only be the request's own. Otherwise it is how long the
    provider isn't called: the request waits longer than that, so that the next probe is another request, and
    the call doesn't count as an attempt unless it may be billed. There is a limit to that as well: a request
    that alone is refused again and again ends.
    """
    is_refused = failure.code is LLMErrorCode.PROVIDER_RATE_LIMIT
    most_uncounted = MAX_UNCOUNTED_REFUSALS if is_refused else MAX_UNCOUNTED_CALLS
    in_trouble = trouble_seconds is not None and calls - attempt < most_uncounted
    if not in_trouble and (not failure.retryable or attempt >= max_attempts):
        return GiveUp()
    # An outage is probed often, so that it isn't noticed late that it is over.
    failures = calls if is_refused else attempt
    ceiling = min(MAX_DELAY_SECONDS, BASE_DELAY_SECONDS * 2 ** min(failures - 1, _DOUBLINGS_TO_MAX_DELAY))
    after_seconds = max(random * ceiling, failure.retry_after_seconds or 0.0)
    if in_trouble and trouble_seconds is not None:
        after_seconds = max(ceiling * (1 + random) / 2, after_seconds, trouble_seconds + AFTER_OTHERS_SECONDS)
    # In seconds, because a wait of centuries would not fit a timedelta.
    if after_seconds >= (expires_at - now).total_seconds():
        return GiveUp()
    # What may be billed counts also in an outage, but the last attempt is kept for its end.
    counted = not in_trouble or (failure.may_be_billed and attempt < max_attempts)
    return RetryLater(after_seconds, counted)
