"""How far a figure of one run may be off by chance: values it could as well have come to, drawn from a seed.

Requests of one run are not independent: a stall hits all that are under way. So every draw uses the number of
independent requests that the run is worth: its count over its design effect (Kish, "Survey Sampling", 1965),
which says how many times more a figure varies from second to second than independent requests would let it.
That is measured from the one-second slices by batch means (Law, "Simulation Modeling and Analysis", ch. 9).

- A percentile: the rank of an order statistic follows a beta distribution, whatever the distribution of the
  values (David and Nagaraja, "Order Statistics", ch. 2); drawn ranks are read off the run's own histogram.
  That is the exact bootstrap of a percentile (Maritz and Jarrett, 1978).
- A share: Jeffreys' posterior, a beta distribution (Brown, Cai and DasGupta, 2001).
- A rate or ratio over the slices: the circular block bootstrap (Politis and Romano, 1992), as seconds that
  follow each other are alike.

What differs from run to run and not within one (another hour, another neighbour on the machine, a stall that
comes once) no run can tell; only repeating it can.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from statistics import fmean, variance

from simulator.load.reports.verdicts import find_active
from simulator.load.run_document import Distribution, RunDocument, Slice

CONFIDENCE = 0.99
"""Of an interval. A comparison has some forty rows that go up and down together, so 95 % would cry wolf."""
DRAWS = 2000

_FEWEST_BATCHES = 4
_AFTERMATH_SECONDS = 5.0
"""A fault is felt as long again as it went on, and at least so long."""


@dataclass(frozen=True)
class _SlicePercentile:
    """A percentile that every second has of its own."""

    field: str
    latency: str
    percentile: float
    counted: str
    """The slice's field with the number of requests behind it."""


_ACCEPT_P99 = _SlicePercentile("accept_p99", "accept", 0.99, "accepted")
_E2E_P50 = _SlicePercentile("e2e_p50", "e2e", 0.5, "called_back")
_E2E_P99 = _SlicePercentile("e2e_p99", "e2e", 0.99, "called_back")
_E2E_CORRECTED_P99 = _SlicePercentile("e2e_corrected_p99", "e2e_corrected", 0.99, "called_back")
_FROM_INTENDED = {"lateness", "accept_corrected", "e2e_corrected"}


def find_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Between which bounds the difference lies, given as many draws of both figures."""
    differences = sorted(late - early for early, late in zip(before, after, strict=True))
    outside = round(len(differences) * (1 - CONFIDENCE) / 2)
    return differences[outside], differences[-1 - outside]


def measure_design_effect(slices: Sequence[float], independent: float) -> float:
    """How many times more the slices' mean varies than if every request were on its own; at least 1.

    `independent` is the variance that one slice would then have. Batches are as many slices long as there are
    batches, which is long enough for what reaches from one second into the next.
    """
    length = max(1, min(math.isqrt(len(slices)), len(slices) // _FEWEST_BATCHES))
    batches = [fmean(slices[start : start + length]) for start in range(0, len(slices) - length + 1, length)]
    if len(batches) < _FEWEST_BATCHES or independent <= 0:
        return 1.0
    return max(1.0, length * variance(batches) / independent)


def measure_percentile_effect(
    distribution: Distribution, percentile: float, slices: Sequence[tuple[float, int]]
) -> float:
    """The design effect of a percentile, from the same percentile of each slice and its number of requests.

    The slices' values are turned into the ranks that they have in the whole run, and weigh as much as
    they have requests; were requests independent, the ranks would vary like an order statistic of so many.
    """
    requests = sum(count for _, count in slices)
    bounds = [bound for bound, _ in distribution.buckets]
    if not bounds or not requests:
        return 1.0
    ranks = [0, *accumulate(count for _, count in distribution.buckets)]
    places = [min(bisect_left(bounds, value), len(bounds) - 1) for value, _ in slices]
    shares = [(ranks[place] + ranks[place + 1]) / 2 / ranks[-1] for place in places]
    usual = sum(share * count for share, (_, count) in zip(shares, slices, strict=True)) / requests
    a_slice = requests / len(slices)
    weighed = [(share - usual) * count / a_slice for share, (_, count) in zip(shares, slices, strict=True)]
    size = max(1, round(a_slice))
    rank = min(size, math.ceil(round(percentile * size, 6)))
    independent = rank * (size - rank + 1) / ((size + 1) ** 2 * (size + 2))
    return measure_design_effect(weighed, independent)


def can_tell(percentile: float, count: float) -> bool:
    """Whether so many independent values bound a percentile from above: one of them must lie beyond it."""
    return math.exp(count * math.log(percentile)) <= (1 - CONFIDENCE) / 2


def draw_percentile(distribution: Distribution, percentile: float, count: float, rng: Random) -> list[float]:
    """What the percentile could have come to; `count` is what the values are worth."""
    bounds = [bound for bound, _ in distribution.buckets]
    ranks = list(accumulate(number for _, number in distribution.buckets))
    alpha, beta = count * percentile, count * (1 - percentile) + 1
    drawn = (math.ceil(rng.betavariate(alpha, beta) * ranks[-1]) for _ in range(DRAWS))
    return [min(bounds[bisect_left(ranks, rank)], distribution.max) for rank in drawn]


def draw_share(share: float, count: float, rng: Random) -> list[float]:
    """What a share of `count` things could have come to."""
    return [rng.betavariate(share * count + 0.5, (1 - share) * count + 0.5) for _ in range(DRAWS)]


def draw_ratio(parts: Sequence[tuple[float, float]], rng: Random) -> list[float]:
    """What the sum of the first over the sum of the second could have come to; one pair a slice.

    Blocks of successive slices are drawn; 0 where the second come to nothing.
    """
    count = len(parts)
    length = math.isqrt(count)
    round_twice = [*parts, *parts]
    above = [0.0, *accumulate(part for part, _ in round_twice)]
    below = [0.0, *accumulate(whole for _, whole in round_twice)]
    ratios = []
    for _ in range(DRAWS):
        starts = [rng.randrange(count) for _ in range(math.ceil(count / length))]
        whole = sum(below[start + length] - below[start] for start in starts)
        part = sum(above[start + length] - above[start] for start in starts)
        ratios.append(part / whole if whole else 0.0)
    return ratios


def find_percentile_effect(run: RunDocument, latency: str, percentile: float) -> float:
    """The design effect of a percentile, from those of the slices that tell most about such a latency.

    Above the median the greatest counts: a stall lifts the median of a second too, and so all its requests.
    """
    if latency == "accept":
        used: tuple[_SlicePercentile, ...] = (_ACCEPT_P99,)
    elif percentile <= 0.5:
        used = (_E2E_P50,)
    elif latency in _FROM_INTENDED:
        used = (_E2E_P50, _E2E_CORRECTED_P99)
    else:
        used = (_E2E_P50, _E2E_P99)
    return max(_measure_effect(run, each) for each in used)


def _measure_effect(run: RunDocument, used: _SlicePercentile) -> float:
    distribution = run.latency.get(used.latency)
    if distribution is None:
        return 1.0
    slices = [
        (value, int(getattr(each, used.counted)))
        for each in _list_undisturbed(run)
        if (value := getattr(each, used.field)) is not None
    ]
    return measure_percentile_effect(distribution, used.percentile, slices)


def find_error_effect(run: RunDocument) -> float:
    """The design effect of a share, from the slices' shares of what was rejected or failed."""
    slices = _list_undisturbed(run)
    bad = [each.rejected + each.failed for each in slices]
    intended = sum(each.intended for each in slices)
    if not intended or not any(bad):
        return 1.0
    a_slice = intended / len(slices)
    share = min(sum(bad) / intended, 1.0)
    return measure_design_effect([each / a_slice for each in bad], share * (1 - share) / a_slice)


def list_active(run: RunDocument) -> list[Slice]:
    """The whole seconds in which the load was on; all, where no phase says."""
    active = find_active(run)
    if active is None:
        return list(run.slices)
    return [each for each in run.slices if active.begins <= each.at <= active.ends - run.slice_seconds]


def _list_undisturbed(run: RunDocument) -> list[Slice]:
    """The active seconds without those of a fault and of what followed it.

    What was injected is part of the design and happens in both runs alike, so it is no chance.
    """
    spans = [
        (mark.begins - 1, ends + max(ends - mark.begins, _AFTERMATH_SECONDS))
        for mark in run.faults
        if mark.problem is None
        for ends in (mark.begins if mark.ends is None else mark.ends,)
    ]
    return [each for each in list_active(run) if not any(begins < each.at <= ends for begins, ends in spans)]
