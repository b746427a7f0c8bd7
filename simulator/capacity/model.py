"""The system on paper: what the service has, what the provider allows, and how much of it each request needs.

A request is accepted by one replica, which costs CPU, and waits in a queue. Its call begins when the replica
that owns the queue and the provider both have room for it. The answer costs CPU again, and the callback is
out. A failed call is made again after a rest, before all that waits, as the service does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from random import Random

from simulator.provider.distributions import Distribution
from simulator.provider.limits import MINUTE_SECONDS

ACCEPTANCE_SHARE = 0.5
"""The part of a request's CPU that is spent before it waits; the rest is spent on every answer."""
FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
MAX_ATTEMPTS = 5
"""These three are the service's own defaults."""

_MEAN_DRAWS = 100_000
_DOUBLINGS_TO_LONGEST_REST = 6


@dataclass(frozen=True)
class Provider:
    """What a provider allows to all replicas together; None is no limit.

    The service is taken to know the limits and to wait in its own queue, so no call is refused for them.
    """

    latency: Distribution
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_requests: float | None = None
    """So many at once after a pause; None is what a second brings."""
    burst_tokens: float | None = None
    slowdown_when_full: float = 1.0
    """How many times as long a call takes when all of `concurrency` is in use; less in proportion before."""
    refused: float = 0.0
    """The share of calls that fail at once and cost nothing."""
    spoilt: float = 0.0
    """The share of calls that take their time, are billed and fail all the same."""

    @property
    def failing(self) -> float:
        """The share of calls that fail."""
        return self.refused + self.spoilt


@dataclass(frozen=True)
class Service:
    """The replicas. Each is one core."""

    replicas: int = 1
    partitions: int | None = None
    """Of the topic in which all replicas queue; None where each has its own queue behind a load balancer."""
    concurrency: int = 1000
    """Calls under way in one replica."""
    cpu_seconds: float = 0.0
    """What a request of one attempt costs."""
    max_attempts: int = MAX_ATTEMPTS

    @property
    def busiest_share(self) -> float:
        """The part of all requests that the replica with the most of them works on."""
        if self.partitions is None:
            return 1 / self.replicas
        return -(-self.partitions // self.replicas) / self.partitions

    @property
    def working_replicas(self) -> int:
        """How many of them have anything to work on."""
        return self.replicas if self.partitions is None else min(self.replicas, self.partitions)

    @property
    def acceptance_seconds(self) -> float:
        """CPU before a request waits."""
        return self.cpu_seconds * ACCEPTANCE_SHARE

    @property
    def answer_seconds(self) -> float:
        """CPU for each attempt."""
        return self.cpu_seconds - self.acceptance_seconds


@dataclass(frozen=True)
class Call:
    """What one call comes to."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Both together, as limits count them."""
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True)
class System:
    """All of it."""

    provider: Provider
    service: Service = field(default_factory=Service)
    call: Call = field(default_factory=Call)


class Resource(StrEnum):
    """What requests need, and what may run out."""

    PROVIDER_CALLS = "provider_calls"
    """At once."""
    PROVIDER_REQUESTS = "provider_requests"
    """A minute."""
    PROVIDER_TOKENS = "provider_tokens"
    """A minute."""
    SERVICE_CALLS = "service_calls"
    """At once."""
    SERVICE_CPU = "service_cpu"
    """Cores."""


@dataclass(frozen=True)
class Ceiling:
    """How much a resource can carry."""

    resource: Resource
    limit: float
    """What there is of it in all."""
    largest_rate: float
    """The requests a second at which it is used up; infinite where they need none of it."""


@dataclass(frozen=True)
class Demand:
    """What a request needs on average."""

    attempts: float
    billed: float
    """Of the attempts: those that cost money."""
    lost: float
    """The share of requests whose attempts all fail."""
    call_seconds: float
    """Of one attempt, where the provider is not full."""
    rest_seconds: float
    """Between the attempts, all together."""


def find_demand(system: System) -> Demand:
    """The means; that of the latency comes from a fixed sample, as a mixture has none in closed form.

    With a share f of failing calls and at most m attempts there are 1 + f + f² + … + f^(m-1) of them.
    """
    provider, most = system.provider, system.service.max_attempts
    rng = Random(0)  # noqa: S311 - to be repeated, not to be secret
    sample = provider.latency.sample
    mean = sum(sample(rng) for _ in range(_MEAN_DRAWS)) / _MEAN_DRAWS
    attempts = sum(provider.failing**tried for tried in range(most))
    return Demand(
        attempts=attempts,
        billed=attempts * (1 - provider.refused),
        lost=provider.failing**most,
        call_seconds=mean * (1 - provider.refused),
        rest_seconds=sum(provider.failing**tried * longest_rest(tried) / 2 for tried in range(1, most)),
    )


def longest_rest(attempts: int) -> float:
    """The rest after so many failed attempts is drawn evenly from 0 to this."""
    doublings = min(attempts - 1, _DOUBLINGS_TO_LONGEST_REST)
    return min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0**doublings)


def find_ceilings(system: System, demand: Demand) -> tuple[Ceiling, ...]:
    """The ceilings of all resources that are limited, the least first.

    A resource of so many units, of which each request uses one for s seconds, carries units / s requests a
    second (the utilisation law: Denning and Buzen, "The Operational Analysis of Queueing Network Models",
    ACM Computing Surveys 10(3), 1978). The least of these bounds is what the whole system carries.
    """
    provider, service = system.provider, system.service
    attempts, share = demand.attempts, service.busiest_share
    seconds = demand.call_seconds * provider.slowdown_when_full
    # Full is a matter of the provider's calls: without such a limit nothing slows down.
    held = (demand.call_seconds if provider.concurrency is None else seconds) + service.answer_seconds
    cpu_seconds = service.acceptance_seconds / service.replicas + share * attempts * service.answer_seconds
    found = [
        _ceiling(
            Resource.SERVICE_CALLS,
            service.concurrency * service.working_replicas,
            service.concurrency,
            share * attempts * held,
        ),
        _ceiling(Resource.SERVICE_CPU, service.replicas, 1, cpu_seconds),
    ]
    if provider.concurrency is not None:
        found.append(
            _ceiling(Resource.PROVIDER_CALLS, provider.concurrency, provider.concurrency, attempts * seconds)
        )
    for resource, limit, units in (
        (Resource.PROVIDER_REQUESTS, provider.requests_per_minute, 1),
        (Resource.PROVIDER_TOKENS, provider.tokens_per_minute, system.call.tokens),
    ):
        if limit is not None:
            found.append(_ceiling(resource, limit, limit / MINUTE_SECONDS, attempts * units))
    return tuple(sorted(found, key=lambda ceiling: ceiling.largest_rate))


def _ceiling(resource: Resource, limit: float, capacity: float, demand: float) -> Ceiling:
    return Ceiling(resource, limit, capacity / demand if demand > 0 else inf)
