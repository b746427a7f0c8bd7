"""How long the simulated model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

_Z_P99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


@dataclass(frozen=True)
class LognormalLatency:
    """A response time with a long right tail, given by two of its percentiles in milliseconds.

    A median of 0 answers at once. Raises `ValueError` where the percentiles make no distribution.
    """

    p50_ms: float
    p99_ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p99_ms) and 0 <= self.p50_ms <= self.p99_ms):
            raise ValueError(
                f"A latency needs 0 <= p50 <= p99, in milliseconds; got {self.p50_ms} and {self.p99_ms}."
            )

    def scale_to_median(self, p50_ms: float) -> LognormalLatency:
        """The same shape around another median."""
        if self.p50_ms == 0:
            return LognormalLatency(p50_ms, p50_ms)
        return LognormalLatency(p50_ms, p50_ms * self.p99_ms / self.p50_ms)

    def sample_seconds(self, rng: Random) -> float:
        """One response time, in seconds: median * exp(sigma * z), sigma = ln(p99 / p50) / z(0.99)."""
        if self.p50_ms == 0:
            return 0.0
        sigma = math.log(self.p99_ms / self.p50_ms) / _Z_P99
        return self.p50_ms / 1000 * math.exp(rng.gauss(0.0, sigma))
