"""A provider on paper as a scenario of the fake one describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from simulator.capacity.model import Call, Provider
from simulator.provider.behaviour import Latency
from simulator.provider.distributions import LONGEST_SECONDS, Constant, Distribution
from simulator.provider.faults import Breakage, Faults
from simulator.provider.limits import Limits
from simulator.provider.scenario import Scenario

_SLOW = (Breakage.HANG, Breakage.DRIP)


@dataclass(frozen=True)
class Sum:
    """Several times one after the other, each drawn by itself."""

    parts: tuple[Distribution, ...]

    def sample(self, rng: Random) -> float:
        """One draw of each."""
        return min(sum(part.sample(rng) for part in self.parts), LONGEST_SECONDS)

    def scale(self, factor: float) -> Sum:
        """Every part by that factor."""
        return Sum(tuple(part.scale(factor) for part in self.parts))


def read_provider(scenario: Scenario, call: Call) -> Provider:
    """What stays the same throughout the scenario, in real seconds; `find_left_out` says what does not."""
    behaviour, scale = scenario.behaviour, scenario.time_scale
    capacity, limits = behaviour.capacity, behaviour.limits or Limits()
    at_once, in_the_end = _add_shares(behaviour.faults)
    return Provider(
        latency=_read_latency(behaviour.latency, call).scale(scale),
        concurrency=None if capacity is None else capacity.slots,
        requests_per_minute=None if limits.rpm is None else limits.rpm / scale,
        tokens_per_minute=None if limits.tpm is None else limits.tpm / scale,
        burst_requests=limits.burst_requests,
        burst_tokens=limits.burst_tokens,
        slowdown_when_full=1.0 if capacity is None else capacity.slowdown_when_full,
        refused=at_once,
        spoilt=in_the_end,
    )


def find_left_out(scenario: Scenario) -> Iterator[str]:
    """What of the scenario has no place in the model, a sentence each."""
    behaviour = scenario.behaviour
    if scenario.timeline:
        yield "The scenario's timeline is left out: what holds at its beginning is taken to hold for ever."
    if behaviour.outage is not None:
        yield "The scenario's outage is left out."
    if behaviour.retries.fail_first:
        yield "The scenario's retries.fail_first is left out."
    slow = [fault.name for fault, share in behaviour.faults.shares if share and fault.breakage in _SLOW]
    if slow:
        yield f"Calls that {' or '.join(slow)} in the scenario are taken to be like all others."


def _read_latency(latency: Latency, call: Call) -> Distribution:
    by_token = (
        latency.per_prompt_token.scale(call.prompt_tokens),
        latency.per_completion_token.scale(call.answer_tokens),
    )
    parts = (latency.response, *(part for part in by_token if part != Constant(0.0)))
    return parts[0] if len(parts) == 1 else Sum(parts)


def _add_shares(faults: Faults) -> tuple[float, float]:
    """The shares of calls that fail before any work is done, and of those that fail when it is."""
    at_once = in_the_end = 0.0
    for fault, share in faults.shares:
        if fault.trouble is not None or fault.breakage is Breakage.RESET:
            at_once += share
        elif fault.breakage not in _SLOW:
            in_the_end += share
    return at_once, in_the_end
