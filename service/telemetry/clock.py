"""The time of this machine."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The wall clock in UTC, and a monotonic one."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()
