"""Decides when a provider, or one of its models, may be called again after a refusal.

Pure; the time is an argument.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.core.errors import ProviderFailure

FIRST_RATE_PAUSE_SECONDS = 1.0
LONGEST_RATE_PAUSE_SECONDS = 30.0
FIRST_QUOTA_PAUSE_SECONDS = 60.0
LONGEST_QUOTA_PAUSE_SECONDS = 900.0
_MOST_DOUBLINGS = 16


class HoldReason(StrEnum):
    """Why a provider isn't called for a while."""

    OPERATOR = "operator"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"


@dataclass(slots=True)
class Pause:
    """Grows with each refusal in a row. A wait that the provider asks for is a floor under its length."""

    until: float = 0.0
    reason: HoldReason = HoldReason.RATE_LIMIT
    _refusals: int = 0
    """How many refusals for the same reason came in a row."""

    def begin(self, failure: ProviderFailure, now: float, jitter: float) -> None:
        """Pauses after a refusal; `jitter` is in [0, 1)."""
        reason = HoldReason.QUOTA if failure.details.get("quota_used_up") else HoldReason.RATE_LIMIT
        asked = failure.retry_after_seconds or 0.0
        if self.until > now and reason is self.reason:
            # One of many calls that were under way together: they count once.
            self.until = max(self.until, now + asked)
            return
        first, longest = (
            (FIRST_QUOTA_PAUSE_SECONDS, LONGEST_QUOTA_PAUSE_SECONDS)
            if reason is HoldReason.QUOTA
            else (FIRST_RATE_PAUSE_SECONDS, LONGEST_RATE_PAUSE_SECONDS)
        )
        own = min(longest, first * 2.0 ** min(self._refusals, _MOST_DOUBLINGS)) * (0.5 + 0.5 * jitter)
        self._refusals += 1
        self.extend(now + max(own, asked), reason)

    def extend(self, until: float, reason: HoldReason) -> None:
        """Pauses at least until a moment."""
        self.reason = reason
        self.until = max(self.until, until)

    def note_success(self) -> None:
        """Lets the next pause be a short one again."""
        self._refusals = 0

    def end(self) -> None:
        """Ends the pause now."""
        self.until = 0.0
        self._refusals = 0
