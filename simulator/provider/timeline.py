"""What a scenario changes, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """A stretch of time in which parts of the behavior are others; all times in seconds from the start."""

    at: float
    lasts: float | None = None
    """None is for good."""
    every: float | None = None
    """Comes again so often, counted from its beginning; None is once."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Parts of the behavior by name, each in place of the usual one."""

    def is_on(self, now: float) -> bool:
        """Whether it is that time."""
        since = now - self.at
        if since < 0:
            return False
        if self.every is not None:
            since %= self.every
        return self.lasts is None or since < self.lasts
