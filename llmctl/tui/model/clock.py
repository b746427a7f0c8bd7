"""The monitor's time: seconds since 1970, in steps that never jump."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the moment that the screen shows."""

    def now(self) -> float:
        """Seconds since 1970."""


class LiveClock:
    """The wall clock as it was at the start, and from then on as steady as the monotonic one."""

    def __init__(self) -> None:
        self._begin = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since 1970; a correction of the system's clock meanwhile changes nothing."""
        return self._begin + time.monotonic()
