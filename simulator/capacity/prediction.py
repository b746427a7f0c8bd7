"""What a system on paper will do: waits, use of every resource, the bottleneck, calls and cost of a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import ceil, isfinite

from pydantic import BaseModel, ConfigDict

from simulator.capacity.figures import Figures, summarize
from simulator.capacity.model import Ceiling, Demand, Resource, System, find_ceilings, find_demand
from simulator.capacity.simulation import Simulation, Trace, Use
from simulator.load.arrivals import iterate_arrivals
from simulator.load.shape import Shape
from simulator.load.stages import POISSON, Level
from simulator.provider.limits import MINUTE_SECONDS

LEAST_REQUESTS = 2_000
DEFAULT_REQUESTS = 200_000
MOST_REQUESTS = 5_000_000
DAY_SECONDS = 86_400.0

_WARM_UP_SHARE = 0.1
_WARM_UP_CYCLES = 5
"""So many times as long as a request takes without waiting, before anything is measured."""
_GROWTH_TOLERATED = 0.01
"""More of the arrivals left over than this is a queue that grows, and no swing of one that does not."""
_BREAKER_SHARE = 0.3
"""The service's circuit opens at half of the last twenty calls: with such a share it does at times."""
_QUEUE_SIZE = 10_000
"""The service's own default of what one queue holds."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class ResourceUse(_Kept):
    """How a resource stands."""

    name: Resource
    limit: float
    utilisation: float | None
    """How much of it was in use on average, 1 being all, in the busiest replica where they differ.

    From the first measured arrival to the last; None where these are at one moment.
    """
    largest_rate: float | None
    """The requests a second at which it is used up; None where requests need none of it."""


class Latencies(_Kept):
    """Where the time goes, in seconds."""

    accept: Figures
    """Arrival → accepted."""
    queue_wait: Figures
    """Accepted → first call."""
    provider: Figures
    """All calls."""
    end_to_end: Figures
    """Arrival → callback."""


class Queue(_Kept):
    """Accepted requests that are not under way, in all replicas together."""

    mean_depth: float | None
    """From the first measured arrival to the last; None where these are at one moment."""
    peak_depth: int
    drain_seconds: float
    """From the last arrival until every callback is out."""


class Day(_Kept):
    """A day at this rate, or at the largest one where this is more."""

    requests: float
    calls: float
    failed_requests: float
    tokens: float
    """Of the calls that are billed."""
    usd: float


class Run(_Kept):
    """What was simulated."""

    steady: bool
    """One rate for ever, of which this is a stretch; else a load once through."""
    seed: int
    warm_up_requests: int
    requests: int
    seconds: float
    """Simulated ones, from the first measured arrival to the last."""


class Prediction(_Kept):
    """The whole answer."""

    rate: float | None
    """Requests a second, on average; None for a single burst."""
    stable: bool
    """Whether the queue comes to rest at this rate."""
    largest_rate: float
    """The requests a second beyond which it does not."""
    bottleneck: Resource
    """What is used up first."""
    growth_per_second: float
    """By how many requests the queue grows, 0 where it is stable."""
    resources: tuple[ResourceUse, ...]
    """The bottleneck first."""
    latency: Latencies
    queue: Queue
    day: Day | None
    """None for a single burst."""
    run: Run
    notes: tuple[str, ...]
    """What to keep in mind with these figures, a sentence each."""


@dataclass(frozen=True)
class _Plan:
    """What is simulated."""

    arrivals: Iterable[float]
    rate: float | None
    warm_up: int
    count: int
    steady: bool
    """One rate for ever, of which a stretch is looked at."""


def predict_rate(system: System, rate: float, requests: int, seed: int) -> Prediction:
    """What the system does at a steady rate of independent arrivals, seen in `requests` of them.

    Raises `ValueError` where so much would be under way that a warm-up is out of reach.
    """
    demand = find_demand(system)
    ceilings = _find_finite_ceilings(system, demand)
    warm_up = _find_warm_up(system, demand, min(rate, ceilings[0].largest_rate), requests)
    total = warm_up + requests
    shape = Shape((Level(rate, total / rate, POISSON),))
    plan = _Plan(chain.from_iterable(iterate_arrivals(shape, seed)), rate, warm_up, requests, steady=True)
    return _predict(system, demand, ceilings, plan, seed)


def predict_shape(system: System, shape: Shape, requests: int, seed: int) -> Prediction:
    """What the system does with a load of that shape, from its first arrival on, all of them measured.

    Raises `ValueError` for a closed loop, for more arrivals than `requests`, and for a trace not yet read.
    """
    count = shape.count
    if count is None:
        raise ValueError(f"{str(shape)!r} is a closed loop, which has no arrivals to plan for.")
    if count > requests:
        raise ValueError(
            f"The shape comes to {count:,} requests, and at most {requests:,} are simulated; "
            "make it shorter, or ask for more of them with --requests."
        )
    demand = find_demand(system)
    rate = count / shape.seconds if shape.seconds > 0 else None
    plan = _Plan(chain.from_iterable(iterate_arrivals(shape, seed)), rate, 0, count, steady=False)
    return _predict(system, demand, _find_finite_ceilings(system, demand), plan, seed)


def _predict(
    system: System, demand: Demand, ceilings: tuple[Ceiling, ...], plan: _Plan, seed: int
) -> Prediction:
    trace = Simulation(system, seed).run(plan.arrivals, plan.warm_up, plan.count)
    largest = ceilings[0].largest_rate
    growth = 0.0 if plan.rate is None else max(0.0, plan.rate - largest)
    if plan.steady and growth == 0 and trace.use.growth > _GROWTH_TOLERATED * plan.count:
        growth = trace.use.growth / trace.use.seconds
    return Prediction(
        rate=plan.rate,
        stable=growth == 0,
        largest_rate=largest,
        bottleneck=ceilings[0].resource,
        growth_per_second=growth,
        resources=tuple(_describe_use(system, ceiling, trace.use) for ceiling in ceilings),
        latency=_summarize(trace, steady=plan.steady and growth == 0),
        queue=Queue(
            mean_depth=trace.use.waiting if trace.use.seconds > 0 else None,
            peak_depth=trace.peak_waiting,
            drain_seconds=trace.drain_seconds,
        ),
        day=None if plan.rate is None else _project(system, demand, min(plan.rate, largest)),
        run=Run(
            steady=plan.steady,
            seed=seed,
            warm_up_requests=plan.warm_up,
            requests=plan.count,
            seconds=trace.use.seconds,
        ),
        notes=tuple(_note(system, trace)),
    )


def _find_finite_ceilings(system: System, demand: Demand) -> tuple[Ceiling, ...]:
    ceilings = find_ceilings(system, demand)
    if not isfinite(ceilings[0].largest_rate):
        raise ValueError("Nothing limits such a system: calls take no time, cost no CPU and have no limit.")
    return ceilings


def _find_warm_up(system: System, demand: Demand, rate: float, requests: int) -> int:
    """Long enough for the calls under way to become as many as they will be."""
    service = system.service
    attempt = demand.call_seconds * system.provider.slowdown_when_full + service.answer_seconds
    cycle = service.acceptance_seconds + demand.attempts * attempt + demand.rest_seconds
    under_way = rate * cycle
    warm_up = max(ceil(_WARM_UP_SHARE * requests), ceil(_WARM_UP_CYCLES * under_way))
    if warm_up > MOST_REQUESTS:
        raise ValueError(
            f"About {under_way:,.0f} requests would be under way at once, more than can be simulated; "
            "take a part of the system with a part of the rate."
        )
    return warm_up


def _describe_use(system: System, ceiling: Ceiling, use: Use) -> ResourceUse:
    used = {
        Resource.PROVIDER_CALLS: use.provider_calls,
        Resource.PROVIDER_REQUESTS: use.calls_per_second * MINUTE_SECONDS,
        Resource.PROVIDER_TOKENS: use.calls_per_second * MINUTE_SECONDS * system.call.tokens,
        Resource.SERVICE_CALLS: use.service_calls * system.service.working_replicas,
        Resource.SERVICE_CPU: use.service_cpu * system.service.replicas,
    }[ceiling.resource]
    return ResourceUse(
        name=ceiling.resource,
        limit=ceiling.limit,
        utilisation=used / ceiling.limit if use.seconds > 0 else None,
        largest_rate=ceiling.largest_rate if isfinite(ceiling.largest_rate) else None,
    )


def _summarize(trace: Trace, *, steady: bool) -> Latencies:
    return Latencies(
        accept=summarize(trace.accept, steady=steady),
        queue_wait=summarize(trace.queue_wait, steady=steady),
        provider=summarize(trace.provider, steady=steady),
        end_to_end=summarize(trace.end_to_end, steady=steady),
    )


def _project(system: System, demand: Demand, rate: float) -> Day:
    requests = rate * DAY_SECONDS
    billed = requests * demand.billed
    return Day(
        requests=requests,
        calls=requests * demand.attempts,
        failed_requests=requests * demand.lost,
        tokens=billed * system.call.tokens,
        usd=billed * system.call.usd,
    )


def _note(system: System, trace: Trace) -> Iterator[str]:
    service = system.service
    idle = service.replicas - service.working_replicas
    if idle:
        yield f"{idle} of {service.replicas} replicas have no work, for want of partitions."
    elif service.busiest_share > 1 / service.replicas:
        yield (
            f"{service.partitions} partitions cannot be shared out evenly: "
            f"the busiest replica has {service.busiest_share:.0%} of the requests."
        )
    if system.provider.failing >= _BREAKER_SHARE:
        yield "So many failures would open the service's circuit at times, which is left out here."
    if trace.peak_waiting > _QUEUE_SIZE * service.working_replicas:
        yield f"The service would answer 503 where a queue holds {_QUEUE_SIZE:,} requests, its default."
