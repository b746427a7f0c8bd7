"""Line charts as inline SVG: they stretch with the page while their writing keeps its size.

A chart is three drawings side by side: the y labels, the area, and the x labels below. Everything in the area
is placed in percent; only the lines stand in a box of their own that is stretched to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.load.reports.markup import Markup, element, join
from simulator.load.reports.scales import Scale

_BOX = 1000
"""The width and height of the box that the lines are drawn in."""


@dataclass(frozen=True)
class Line:
    """One series: a value, or None for a gap, at each of the chart's places."""

    name: str
    values: tuple[float | None, ...]
    summary: str
    """What the legend says while nobody points at a place."""
    tone: int
    """From 1 on: which colour of the palette."""
    dash: int = 0
    """0 solid, 1 dashed, 2 dotted, 3 broad, to lie below another: colour is never the only difference."""
    least: tuple[float | None, ...] = ()
    """The least values where each place stands for several; a band is drawn down to them."""


@dataclass(frozen=True)
class Shade:
    """Something that went on from one place of the x axis to another, or happened at one."""

    label: str
    title: str
    begins: float
    ends: float | None


@dataclass(frozen=True)
class Chart:
    """A chart and what it says at each place; places are shares of its width, ascending."""

    name: str
    """For the page's own use; a plain word."""
    group: str
    """Charts of one group have the same places and are read together."""
    title: str
    unit: str
    x: Scale
    y: Scale
    places: tuple[float, ...]
    labels: tuple[str, ...]
    """What each place is, such as `at 31s`."""
    lines: tuple[Line, ...]
    write: Callable[[float | None], str]
    """How a value reads."""
    shades: tuple[Shade, ...] = ()
    borders: tuple[float, ...] = ()
    beyond: tuple[tuple[float, str], ...] = ()
    """Where a line leaves the chart at the top, and how high it goes there."""


def draw_chart(chart: Chart) -> Markup:
    """The chart as a figure."""
    said = "; ".join(f"{line.name} {line.summary}" for line in chart.lines)
    area = element(
        "svg",
        *(_draw_shade(shade) for shade in chart.shades),
        *_draw_grid(chart),
        *(
            element("line", class_="border", x1=_percent(x), x2=_percent(x), y1="0", y2="100%")
            for x in chart.borders
        ),
        _draw_lines(chart),
        element("line", class_="cross", x1="0", x2="0", y1="0", y2="100%"),
        *(_draw_badge(shade) for shade in chart.shades),
        *(_draw_beyond(place, words) for place, words in chart.beyond),
        class_="area",
        role="img",
        tabindex="0",
        aria_label=f"{chart.title}, {chart.unit}: {said}",
    )
    y_labels = [
        element("text", tick.label, x="100%", dx="-8", y=_percent(1 - tick.place), dy="0.32em")
        for tick in chart.y.ticks
    ]
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", chart.title, " ", element("small", chart.unit), element("span", class_="at")),
            _draw_legend(chart),
        ),
        element("svg", *y_labels, class_="ylabels", aria_hidden="true"),
        area,
        draw_x_labels(chart.x),
        class_="chart",
        data_chart=chart.name,
        data_group=chart.group,
    )


def draw_x_labels(x: Scale) -> Markup:
    """The writing below an axis; the first and last label keep inside of it."""
    labels = [
        element("text", tick.label, x=_percent(tick.place), y="15", class_=_find_anchor(tick.place))
        for tick in x.ticks
    ]
    return element("svg", *labels, class_="xlabels", aria_hidden="true")


def draw_swatch(line: Line) -> Markup:
    """A piece of the line, for a legend."""
    stroke = element("line", class_=_class_of(line), x1="2", x2="26", y1="6", y2="6")
    return element("svg", stroke, class_="swatch", width=28, height=12, aria_hidden="true")


def take_readings(charts: Sequence[Chart]) -> dict[str, Any]:
    """What the page's script says at each place: by group the places, by chart the words of its lines."""
    groups = {
        chart.group: {"x": [round(place, 5) for place in chart.places], "at": chart.labels}
        for chart in charts
    }
    words = {
        chart.name: [[chart.write(value) for value in line.values] for line in chart.lines]
        for chart in charts
    }
    return {"groups": groups, "charts": words}


def _draw_legend(chart: Chart) -> Markup:
    entries = [
        element("li", draw_swatch(line), element("span", line.name), element("output", line.summary))
        for line in chart.lines
    ]
    return element("ul", *entries, class_="legend")


def _draw_grid(chart: Chart) -> list[Markup]:
    return [
        *(
            element(
                "line",
                class_="grid",
                x1="0",
                x2="100%",
                y1=_percent(1 - tick.place),
                y2=_percent(1 - tick.place),
            )
            for tick in chart.y.ticks
        ),
        *(
            element(
                "line", class_="grid", x1=_percent(tick.place), x2=_percent(tick.place), y1="0", y2="100%"
            )
            for tick in chart.x.ticks
        ),
    ]


def _draw_lines(chart: Chart) -> Markup:
    drawn = []
    for line in chart.lines:
        if line.least:
            band = _trace_band(chart, line)
            drawn.append(element("path", d=band, class_=f"band tone{line.tone}"))
        path = _trace(chart, line.values)
        drawn.append(element("path", element("title", line.name), d=path, class_=_class_of(line)))
    return element(
        "svg",
        *drawn,
        viewBox=f"0 0 {_BOX} {_BOX}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        overflow="visible",
    )


def _trace(chart: Chart, values: Sequence[float | None]) -> str:
    """The path through the values; a value between two gaps is a dot."""
    steps: list[str] = []
    pen_down = False
    for place, value in zip(chart.places, values, strict=True):
        if value is None:
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{_locate(chart, place, value)}{'' if pen_down else 'h0'}")
        pen_down = True
    return "".join(steps)


def _trace_band(chart: Chart, line: Line) -> str:
    """An area between greatest and least, one column a place."""
    half = 0.5 / max(len(chart.places), 1) * _BOX
    columns = []
    for place, high, low in zip(chart.places, line.values, line.least, strict=True):
        if high is not None and low is not None:
            top, bottom = ((1 - chart.y.place(value)) * _BOX for value in (high, low))
            left = place * _BOX - half
            columns.append(f"M{left:.1f} {top:.1f}h{2 * half:.2f}V{bottom:.1f}h{-2 * half:.2f}z")
    return "".join(columns)


def _locate(chart: Chart, place: float, value: float) -> str:
    return f"{place * _BOX:.1f} {(1 - chart.y.place(value)) * _BOX:.1f}"


def _draw_shade(shade: Shade) -> Markup:
    title = element("title", shade.title)
    if shade.ends is None:
        x = _percent(shade.begins)
        return element("line", title, class_="instant", x1=x, x2=x, y1="0", y2="100%")
    width = _percent(max(shade.ends - shade.begins, 0.001))
    box = {"x": _percent(shade.begins), "y": "0", "width": width, "height": "100%"}
    return join(element("rect", title, class_="fault", **box), element("rect", fill="url(#hatch)", **box))


def _draw_badge(shade: Shade) -> Markup:
    """The fault's number, at the top of its shade."""
    disc = element("rect", x="-9", y="2", width="18", height="16", rx="8", class_="badge")
    number = element("text", shade.label, y="14", class_="badge-number")
    middle = shade.begins if shade.ends is None else (shade.begins + shade.ends) / 2
    return element("svg", disc, number, x=_percent(min(max(middle, 0.012), 0.988)), overflow="visible")


def _draw_beyond(place: float, words: str) -> Markup:
    """An arrow at the top with what cannot be drawn, on the side where there is room."""
    x = _percent(place)
    if place > 0.8:
        return element("text", f"{words} ▲", x=x, dx="5", y="34", class_="beyond last")
    return element("text", f"▲ {words}", x=x, dx="-5", y="34", class_="beyond first")


def _class_of(line: Line) -> str:
    return f"line tone{line.tone} dash{line.dash}"


def _find_anchor(place: float) -> str:
    return "first" if place < 0.02 else "last" if place > 0.98 else "middle"


def _percent(share: float) -> str:
    return f"{share * 100:.3f}".rstrip("0").rstrip(".") + "%"
