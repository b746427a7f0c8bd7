"""The provider's behaviors by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.provider.latency import LognormalLatency


@dataclass(frozen=True)
class Scenario:
    """Everything that decides how the fake provider behaves."""

    name: str
    seed: int
    """Another seed is another run; the same seed answers the same request in the same way."""
    latency: LognormalLatency

    def with_seed(self, seed: int) -> Scenario:
        """The same behavior, drawn anew."""
        return replace(self, seed=seed)

    def with_latency_p50_ms(self, p50_ms: float) -> Scenario:
        """The same behavior, slower or faster; raises `ValueError` for a negative or infinite median."""
        return replace(self, latency=self.latency.scale_to_median(p50_ms))


CALM = Scenario(name="calm", seed=0, latency=LognormalLatency(p50_ms=50.0, p99_ms=120.0))
"""No errors, about 50 ms a call."""

SCENARIOS: tuple[Scenario, ...] = (CALM,)


def find_scenario(name: str) -> Scenario:
    """The scenario of that name; raises `ValueError` that names the ones there are."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    known = ", ".join(scenario.name for scenario in SCENARIOS)
    raise ValueError(f"There is no scenario {name!r}; choose one of: {known}.")
