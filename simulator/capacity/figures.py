"""What a row of seconds comes to, and how far another run of the same length might come out elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import ceil, sqrt
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict

BATCHES = 20
STUDENT_T = 2.093
"""The 97.5th percentile of Student's t with 19 degrees of freedom."""


class Figures(BaseModel):
    """Mean and percentiles in seconds. The margins are half the widths of 95 % confidence intervals."""

    model_config = ConfigDict(frozen=True)

    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean_margin: float | None
    """None where the values do not come from a steady state, so that no interval means anything."""
    p99_margin: float | None


def summarize(values: Sequence[float], *, steady: bool) -> Figures:
    """The figures of values in the order in which they came; at least `BATCHES` where they are steady.

    The margins are found by batch means: neighbours depend on each other, but the means of long stretches
    hardly do (Law, "Simulation Modeling and Analysis", 5th edition 2014, chapter 9). The same is done with
    the 99th percentiles of the stretches.
    """
    size = len(values) // BATCHES if steady else len(values)
    batches = (
        [sorted(values[place : place + size]) for place in range(0, size * BATCHES, size)] if steady else []
    )
    rest = sorted(values[size * len(batches) :])
    # Pieces that are in order already are merged, not sorted again.
    ordered = sorted(chain(*batches, rest))
    return Figures(
        mean=fmean(values),
        p50=find_percentile(ordered, 0.5),
        p90=find_percentile(ordered, 0.9),
        p99=find_percentile(ordered, 0.99),
        p999=find_percentile(ordered, 0.999),
        max=ordered[-1],
        mean_margin=_find_margin([fmean(batch) for batch in batches]) if steady else None,
        p99_margin=_find_margin([find_percentile(batch, 0.99) for batch in batches]) if steady else None,
    )


def find_percentile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of the ascending values does not exceed, by nearest rank."""
    # Rounded first: 0.07 * 100 is a little more than 7, and its ceiling 8.
    return ordered[max(0, ceil(round(share * len(ordered), 6)) - 1)]


def _find_margin(figures: Sequence[float]) -> float:
    return STUDENT_T * stdev(figures) / sqrt(len(figures))
