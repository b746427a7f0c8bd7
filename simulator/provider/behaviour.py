"""What a scenario has happen to a call: a pure function of the seed, of what is asked, and of the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.provider.capacity import Capacity
from simulator.provider.distributions import LONGEST_SECONDS, Constant, Distribution
from simulator.provider.draws import Draws
from simulator.provider.faults import Fault, Faults, find_fault
from simulator.provider.limits import Limits

_NO_TIME = Constant(0.0)


@dataclass(frozen=True)
class Latency:
    """How long the model takes, in the scenario's seconds."""

    response: Distribution = _NO_TIME
    per_prompt_token: Distribution = _NO_TIME
    per_completion_token: Distribution = _NO_TIME

    def sample(self, draws: Draws, prompt_tokens: int, completion_tokens: int) -> float:
        """One call's."""
        rng = draws.stream("latency")
        seconds = self.response.sample(rng)
        if self.per_prompt_token is not _NO_TIME:
            seconds += prompt_tokens * self.per_prompt_token.sample(rng)
        if self.per_completion_token is not _NO_TIME:
            seconds += completion_tokens * self.per_completion_token.sample(rng)
        return min(seconds, LONGEST_SECONDS)


@dataclass(frozen=True)
class Tokens:
    """What is counted and billed whatever the texts are; None counts the texts."""

    prompt: int | None = None
    completion: int | None = None


@dataclass(frozen=True)
class Retries:
    """Requests that succeed late."""

    fail_first: int = 0
    """So many attempts of every request fail."""
    fail_with: Fault = field(default_factory=lambda: find_fault("http_503"))


@dataclass(frozen=True)
class Behaviour:
    """Everything that decides what happens to a call at a moment."""

    latency: Latency = field(default_factory=Latency)
    tokens: Tokens = field(default_factory=Tokens)
    capacity: Capacity | None = None
    limits: Limits | None = None
    faults: Faults = field(default_factory=Faults)
    retries: Retries = field(default_factory=Retries)
    outage: Fault | None = None
    """What every call meets while the vendor is down."""

    def pick_fault(self, draws: Draws, attempt: int) -> Fault | None:
        """The fault that strikes this attempt, 0 being the first."""
        if self.outage is not None:
            return self.outage
        if attempt < self.retries.fail_first:
            return self.retries.fail_with
        return self.faults.pick(draws.stream("fault").random()) if self.faults.shares else None


def read_attempt(headers: Mapping[str, str]) -> int | None:
    """The attempt that a caller says this is, 0 being the first; None where it says nothing.

    SDKs count their retries (`x-stainless-retry-count`), from 0; our service ends its `x-client-request-id`
    in a dash and the number of the attempt, from 1.
    """
    counted = headers.get("x-stainless-retry-count")
    if counted is not None and _is_small_number(counted):
        return int(counted)
    _, dash, suffix = headers.get("x-client-request-id", "").rpartition("-")
    return max(0, int(suffix) - 1) if dash and _is_small_number(suffix) else None


def read_request_id(headers: Mapping[str, str]) -> str | None:
    """The id that the caller gives all attempts at one request, None where it gives none."""
    head, _, suffix = headers.get("x-client-request-id", "").rpartition("-")
    return head[:128] if head and _is_small_number(suffix) else None


def _is_small_number(text: str) -> bool:
    return 0 < len(text) <= 4 and text.isascii() and text.isdigit()
