"""Shares of a sample, with an interval that says how far they can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: both tails together leave 95 %."""


@dataclass(frozen=True)
class Proportion:
    """A share, and between which two the true one lies with 95 % confidence."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share * 100:.1f}% ({self.low * 100:.0f} to {self.high * 100:.0f})"


def estimate_proportion(successes: float, trials: int) -> Proportion | None:
    """The share of successes with its Wilson interval; None without a trial.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22: unlike the
    textbook's interval it holds for few trials and for shares near 0 and 1 (Brown, Cai and DasGupta 2001).
    Successes may be halves, where a trial has more than one part.
    """
    if not trials:
        return None
    share = successes / trials
    squared = Z_95 * Z_95
    scale = 1 + squared / trials
    middle = (share + squared / (2 * trials)) / scale
    spread = Z_95 * math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials)) / scale
    return Proportion(share, max(0.0, middle - spread), min(1.0, middle + spread))
