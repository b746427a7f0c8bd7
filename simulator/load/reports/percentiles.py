"""Latency over percentile, from the buckets of a run's histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from simulator.load.reports.charts import Chart, Line
from simulator.load.reports.figures import format_seconds
from simulator.load.reports.scales import choose_latency_scale, choose_percentile_scale
from simulator.load.run_document import Distribution, RunDocument

_STEPS = 240
"""Into how many steps the axis is cut: each is narrower than a line is thick."""

_FELT = (
    ("e2e_corrected", "e2e, corrected", 2, 3),
    ("e2e", "e2e", 1, 0),
    ("accept_corrected", "accept, corrected", 4, 3),
    ("accept", "accept", 3, 1),
)
_SPENT = (
    ("provider", "provider", 1, 0),
    ("queue_wait", "queue wait", 2, 1),
    ("publish", "publish", 3, 0),
    ("delivery", "delivery", 4, 1),
    ("lateness", "lateness of the generator", 5, 2),
)


def draw_percentiles(document: RunDocument) -> list[Chart]:
    """What a caller feels, and where the time went; a chart without any buckets is left out."""
    drawn = (
        _draw(document, "felt", "What a caller waits for", _FELT),
        _draw(document, "spent", "Where the time goes", _SPENT),
    )
    return [chart for chart in drawn if chart is not None]


def read_curve(distribution: Distribution, depths: Sequence[float]) -> tuple[float | None, ...]:
    """The values at the percentiles 1 - 10^-depth, by nearest rank; None beyond the last value."""
    bounds = [bound for bound, _ in distribution.buckets]
    ranks = list(accumulate(count for _, count in distribution.buckets))
    total = ranks[-1] if ranks else 0
    values: list[float | None] = []
    place = 0
    for depth in depths:
        beyond = total * 10.0**-depth
        if beyond < 1 - 1e-9:
            values.append(None)
            continue
        rank = max(1, math.ceil(round(total - beyond, 6)))
        while ranks[place] < rank:
            place += 1
        values.append(min(bounds[place], distribution.max))
    return tuple(values)


def _draw(
    document: RunDocument, name: str, title: str, wanted: Sequence[tuple[str, str, int, int]]
) -> Chart | None:
    found = [
        (document.latency[key], words, tone, dash)
        for key, words, tone, dash in wanted
        if key in document.latency and document.latency[key].buckets
    ]
    if not found:
        return None
    scale = choose_percentile_scale(max(each.count for each, *_ in found))
    depths = [scale.high * step / _STEPS for step in range(_STEPS + 1)]
    lines = tuple(
        Line(words, read_curve(each, depths), f"max {format_seconds(each.max)}", tone, dash)
        for each, words, tone, dash in found
    )
    known = [value for line in lines for value in line.values if value is not None]
    return Chart(
        name=name,
        group=name,
        title=title,
        unit="latency over percentile, both logarithmic",
        x=scale,
        y=choose_latency_scale(known),
        places=tuple(step / _STEPS for step in range(_STEPS + 1)),
        labels=tuple(f"p{_write_percentile(depth)}" for depth in depths),
        lines=lines,
        write=format_seconds,
    )


def _write_percentile(depth: float) -> str:
    """With as many digits as set it apart."""
    return f"{100 * (1 - 10**-depth):.{max(0, math.ceil(depth) - 1)}f}"
