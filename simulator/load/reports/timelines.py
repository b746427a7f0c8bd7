"""The seconds of a run as charts: rate, depth, latency, and what the service needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from simulator.load.reports.charts import Chart, Line, Shade
from simulator.load.reports.figures import (
    format_bytes,
    format_count,
    format_moment,
    format_rate,
    format_seconds,
)
from simulator.load.reports.scales import Scale, choose_latency_scale, choose_linear_scale, choose_time_scale
from simulator.load.run_document import FaultMark, RunDocument, Slice, Span

MOST_COLUMNS = 1500
"""A longer run is drawn in so many columns, each with its greatest and its least value."""

_MEBIBYTE = 2.0**20


@dataclass(frozen=True)
class Timeline:
    """What all charts over time share."""

    slice_seconds: float
    slices: tuple[Slice, ...]
    scale: Scale
    columns: tuple[tuple[int, int], ...]
    """The slices that each column stands for: the first, and the one after the last."""
    shades: tuple[Shade, ...]
    borders: tuple[float, ...]

    @property
    def thinned(self) -> bool:
        """Whether a column stands for several slices."""
        return len(self.columns) < len(self.slices)


@dataclass(frozen=True)
class Style:
    """How a series looks and what its legend says."""

    tone: int
    dash: int = 0
    word: str = "peak"


def make_timeline(document: RunDocument) -> Timeline | None:
    """The axis, columns, phases and faults of a run; None where no second was recorded."""
    slices = document.slices
    if not slices:
        return None
    scale = choose_time_scale(slices[0].at, slices[-1].at + document.slice_seconds)
    return Timeline(
        slices=slices,
        slice_seconds=document.slice_seconds,
        scale=scale,
        columns=cut_columns(len(slices)),
        shades=tuple(
            _shade(number, mark, scale)
            for number, mark in number_faults(document)
            if mark.begins < scale.high and (mark.begins if mark.ends is None else mark.ends) > scale.low
        ),
        borders=tuple(scale.place(span.begins) for span in find_visible(document.phases, scale)[1:]),
    )


def number_faults(document: RunDocument) -> list[tuple[int, FaultMark]]:
    """The faults that were injected, with the number that marks them in the charts."""
    injected = [mark for mark in document.faults if mark.problem is None]
    return list(enumerate(injected, start=1))


def find_visible(phases: Iterable[Span], scale: Scale) -> list[Span]:
    """The phases that reach into an axis."""
    return [span for span in phases if span.ends > scale.low and span.begins < scale.high]


def cut_columns(count: int, most: int = MOST_COLUMNS) -> tuple[tuple[int, int], ...]:
    """So many values in at most so many columns of nearly the same width."""
    columns = min(count, most)
    return tuple((number * count // columns, (number + 1) * count // columns) for number in range(columns))


def thin(
    values: Sequence[float | None],
    columns: Sequence[tuple[int, int]],
    choose: Callable[[Iterable[float]], float],
) -> tuple[float | None, ...]:
    """The chosen value of each column, such as its `max`, so that a spike survives; None where all are."""
    chosen: list[float | None] = []
    for first, end in columns:
        known = [value for value in values[first:end] if value is not None]
        chosen.append(choose(known) if known else None)
    return tuple(chosen)


def draw_rate(timeline: Timeline) -> Chart:
    """What was meant to come, what was accepted and called back; and what went wrong, if anything did."""
    lines = [
        ("intended", [each.intended for each in timeline.slices], Style(5, 3)),
        ("accepted", [each.accepted for each in timeline.slices], Style(1)),
        ("called back", [each.called_back for each in timeline.slices], Style(2, 1)),
    ]
    rejected = [each.rejected for each in timeline.slices]
    failed = [each.failed for each in timeline.slices]
    if any(rejected):
        lines.append(("rejected", rejected, Style(4, 2)))
    if any(failed):
        lines.append(("called back with an error", failed, Style(3)))
    chart = _draw(timeline, ("rate", "Rate", "requests a second"), lines, format_rate)
    return _keep_readable(chart, [*lines[0][1], *lines[1][1]])


def draw_depth(timeline: Timeline) -> Chart | None:
    """Where requests stood and waited; None where the service did not say."""
    lines = [
        ("in flight", [each.in_flight for each in timeline.slices], Style(1)),
        ("queue", [each.queue_depth for each in timeline.slices], Style(2, 1)),
        ("outbox", [each.outbox_depth for each in timeline.slices], Style(3, 2)),
    ]
    known = any(value is not None for _, values, _ in lines for value in values)
    return _draw(timeline, ("depth", "Depth", "requests"), lines, format_count) if known else None


def draw_latency(timeline: Timeline) -> Chart | None:
    """End to end, second by second; None where nothing was called back."""
    lines = [
        ("e2e p99, corrected", [each.e2e_corrected_p99 for each in timeline.slices], Style(2, 3, "worst")),
        ("e2e p99", [each.e2e_p99 for each in timeline.slices], Style(1, 0, "worst")),
        ("e2e p50", [each.e2e_p50 for each in timeline.slices], Style(3, 2, "worst")),
    ]
    known = any(value is not None for _, values, _ in lines for value in values)
    named = ("latency", "Latency", "end to end, logarithmic")
    return _draw(timeline, named, lines, format_seconds, latency=True) if known else None


def draw_cpu(timeline: Timeline) -> Chart | None:
    """The service's CPU; None where it could not be measured."""
    values = [each.service_cpu_percent for each in timeline.slices]
    lines = [("CPU of the service", values, Style(1))]
    if all(value is None for value in values):
        return None
    return _draw(timeline, ("cpu", "CPU", "percent of one core"), lines, _write_percent)


def draw_memory(timeline: Timeline) -> Chart | None:
    """The service's memory; None where it could not be measured."""
    values = [each.service_memory_bytes for each in timeline.slices]
    lines = [("memory of the service", values, Style(3))]
    if all(value is None for value in values):
        return None
    return _draw(timeline, ("memory", "Memory", "resident"), lines, format_bytes, base=_MEBIBYTE)


def _draw(
    timeline: Timeline,
    named: tuple[str, str, str],
    lines: Sequence[tuple[str, Sequence[float | None], Style]],
    write: Callable[[float | None], str],
    *,
    latency: bool = False,
    base: float = 1.0,
) -> Chart:
    name, title, unit = named
    known = [value for _, values, _ in lines for value in values if value is not None]
    middles = [
        (timeline.slices[first].at + timeline.slices[end - 1].at + timeline.slice_seconds) / 2
        for first, end in timeline.columns
    ]
    return Chart(
        name=name,
        group="time",
        title=title,
        unit=unit,
        x=timeline.scale,
        y=choose_latency_scale(known) if latency else choose_linear_scale(known, write, base=base),
        places=tuple(timeline.scale.place(middle) for middle in middles),
        labels=tuple(f"at {format_moment(timeline.slices[first].at)}" for first, _ in timeline.columns),
        lines=tuple(_make_line(timeline, line, write) for line in lines),
        write=write,
        shades=timeline.shades,
        borders=timeline.borders,
    )


def _keep_readable(chart: Chart, usual: Sequence[float | None]) -> Chart:
    """Cuts off peaks of more than twice what is usual, and says how high they are.

    After an outage everything is called back at once, and would press all else to the ground.
    """
    limit = 2 * max((value for value in usual if value is not None), default=0.0)
    peaks = [
        max((value for line in chart.lines if (value := line.values[place]) is not None), default=0.0)
        for place in range(len(chart.places))
    ]
    highest = max(range(len(peaks)), key=peaks.__getitem__)
    if limit == 0 or peaks[highest] <= 2 * limit:
        return chart
    mark = (chart.places[highest], f"to {chart.write(peaks[highest])}")
    return replace(chart, y=choose_linear_scale([limit], chart.write), beyond=(mark,))


def _make_line(
    timeline: Timeline,
    line: tuple[str, Sequence[float | None], Style],
    write: Callable[[float | None], str],
) -> Line:
    name, values, style = line
    peak = max((value for value in values if value is not None), default=None)
    return Line(
        name=name,
        values=thin(values, timeline.columns, max),
        summary=f"{style.word} {write(peak)}",
        tone=style.tone,
        dash=style.dash,
        least=thin(values, timeline.columns, min) if timeline.thinned else (),
    )


def _shade(number: int, mark: FaultMark, scale: Scale) -> Shade:
    ends = None if mark.ends is None else scale.place(mark.ends)
    return Shade(str(number), describe_fault(mark), scale.place(mark.begins), ends)


def describe_fault(mark: FaultMark) -> str:
    """A fault, and when it really was."""
    if mark.ends is None:
        return f"{mark.fault}, at {format_moment(mark.begins)}"
    return f"{mark.fault}, {format_moment(mark.begins)} to {format_moment(mark.ends)}"


def _write_percent(value: float | None) -> str:
    text = format_count(value)
    return text if value is None else f"{text}%"
