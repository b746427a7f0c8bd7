"""The parts that show figures: cards, charts, lines of words. Each draws for the size that it was given."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from llmctl.render.safe import safe_line
from llmctl.tui.model.series import find_highest
from llmctl.tui.widgets.drawing import DOTTED, SOLID, Canvas, find_scale, spark
from llmctl.tui.widgets.rows import fit
from llmctl.tui.widgets.words import ACCENT, DIM, PLAIN

Words = Sequence[tuple[str, str]]
"""Texts and their colours, one after the other."""
_AXIS = 8
_FRAME = "border: round $surface-lighten-2; border-title-color: $text;"
_COLOURS = (ACCENT, "magenta", "yellow")


def compose(words: Words) -> Text:
    """The words as one line; foreign text in them is made harmless."""
    return Text.assemble(*((safe_line_keeping_blanks(text), colour) for text, colour in words), no_wrap=True)


def safe_line_keeping_blanks(text: str) -> str:
    """The text in one line and harmless; blanks at its ends, which set words apart, stay."""
    inner = safe_line(text)
    if not inner:
        return " " if text else ""
    lead = text[: len(text) - len(text.lstrip(" "))]
    tail = text[len(text.rstrip(" ")) :]
    return f"{lead}{inner}{tail}"


class Line(Widget):
    """One line of words, cut where the screen ends."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._words: tuple[Words, Words] = ((), ())

    def present(self, left: Words, right: Words = ()) -> None:
        """Says this; `right` stands at the right edge and is never cut."""
        if (left, right) != self._words:
            self._words = (left, right)
            self.refresh()

    def render(self) -> Text:
        """The line."""
        left, right = (compose(words) for words in self._words)
        room = max(0, self.size.width - right.cell_len)
        left.truncate(room, overflow="ellipsis", pad=True)
        return left.append_text(right)


@dataclass(frozen=True)
class Reading:
    """What a card shows: its name, the figure, a word beside it, its trend, and a line below."""

    title: str
    figure: str
    beside: str
    trend: Sequence[float]
    below: str
    colour: str = PLAIN


class Card(Widget):
    """One figure with its trend: five lines in a frame, or one line where space is short."""

    DEFAULT_CSS = f"Card {{ height: 5; width: 1fr; {_FRAME} padding: 0 1; }}"

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._reading = Reading("", "", "", (), "")
        self._drawn: object = None
        self.stale = False

    def present(self, reading: Reading, *, stale: bool) -> None:
        """Shows this figure; a stale one is greyed."""
        drawn = (replace(reading, trend=()), array("d", reading.trend).tobytes(), stale)
        if drawn != self._drawn:
            self._drawn = drawn
            self._reading, self.stale = reading, stale
            self.border_title = Text(reading.title)
            self.refresh()

    def render(self) -> Text:
        """The card for its size."""
        it = self._reading
        width = self.size.width
        colour = DIM if self.stale else it.colour
        if self.size.height <= 1:
            head = f"{fit(it.title, 14)} {fit(it.figure, 12, right=True)} {fit(it.beside, 13)}"
            room = max(0, min(20, width - len(head) - 1))
            tail = width - len(head) - room - 2
            said = [(head, colour), (" ", ""), (spark(it.trend, room), DIM if self.stale else ACCENT)]
            if tail > 8:
                said.append((f" {fit(it.below, tail)}", DIM))
            return Text.assemble(*said, no_wrap=True)
        beside = fit(it.beside, max(0, width - len(it.figure) - 1), right=True)
        lines = (
            Text.assemble((it.figure, f"bold {colour}".strip()), " ", (beside, DIM)),
            Text(spark(it.trend, width), style=DIM if self.stale else ACCENT),
            Text(fit(it.below, width), style=DIM),
        )
        return Text("\n", no_wrap=True).join(lines[: self.size.height])


@dataclass(frozen=True)
class Trace:
    """One line of a chart."""

    name: str
    values: Sequence[float]


class Chart(Widget):
    """Lines over time. The second line is dotted, so that they can be told apart without colour."""

    DEFAULT_CSS = (
        "Chart { height: 1fr; width: 1fr; border: round $surface-lighten-2; border-title-color: $text; }"
    )

    def __init__(self, say: str = "count", id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._unit = say
        self._title = ""
        self._traces: Sequence[Trace] = ()
        self._drawn: object = None

    def present(self, title: str, traces: Sequence[Trace]) -> None:
        """Shows these lines."""
        # A picture is drawn anew only when it is another one; two NaN are never equal, but their bytes are.
        drawn = (title, [(trace.name, array("d", trace.values).tobytes()) for trace in traces])
        if drawn == self._drawn:
            return
        self._drawn = drawn
        self._title, self._traces = title, traces
        names = "  ".join(f"{'───' if not place else '···'} {each.name}" for place, each in enumerate(traces))
        self.border_title = Text(f"{title}  {names}")
        self.refresh()

    def render(self) -> Text:
        """The chart for its size."""
        width, height = self.size.width - _AXIS, self.size.height
        if width < 4 or height < 2:
            return Text()
        peaks = [find_highest(trace.values) for trace in self._traces]
        known = [peak for peak in peaks if peak is not None]
        if not known:
            return Text("nothing measured yet", style=DIM)
        top = find_scale(max(known))
        canvas = Canvas(width, height)
        for place, trace in reversed(list(enumerate(self._traces))):
            canvas.draw(trace.values, top, place, DOTTED if place else SOLID)
        picture = Text(no_wrap=True)
        label = {0: top, height - 1: 0.0} | ({height // 2: top / 2} if height % 2 else {})
        for number, cells in enumerate(canvas.lines()):
            said = _say_axis(label[number], self._unit) if number in label else ""
            picture.append(f"{said:>{_AXIS - 1}}┤", style=DIM)
            # Runs of one colour, not cells: each part of a text costs Textual as much as a whole line.
            for series, run in groupby(cells, key=lambda cell: cell.series):
                said = "".join(cell.character for cell in run)
                picture.append(said, style="" if series is None else _COLOURS[series])
            if number < height - 1:
                picture.append("\n")
        return picture


def _say_axis(value: float, unit: str) -> str:
    if unit == "seconds":
        return f"{value * 1000:.3g}ms" if 0 < value < 1 else f"{value:.3g}s"
    if value >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.3g}" if value == 0 or value >= 1 or math.isclose(value, 0) else f"{value:.2g}"


class Facts(Widget):
    """Names and values below each other."""

    DEFAULT_CSS = (
        "Facts { height: auto; border: round $surface-lighten-2; border-title-color: $text; padding: 0 1; }"
    )

    def __init__(self, title: str, id: str | None = None, *, names_width: int | None = None) -> None:  # noqa: A002
        """Values stand at the right edge, or behind names that take so many characters."""
        super().__init__(id=id)
        self.border_title = title
        self._names_width = names_width
        self._facts: Sequence[tuple[str, str, str]] = ()

    def present(self, facts: Sequence[tuple[str, str, str]]) -> None:
        """Shows these: name, value, colour."""
        if facts != self._facts:
            grown = len(facts) != len(self._facts)
            self._facts = facts
            self.refresh(layout=grown)

    def render(self) -> Text:
        """The facts for the width."""
        width = self.size.width
        lines = []
        for name, value, colour in self._facts:
            said = safe_line(name) if self._names_width is None else fit(safe_line(name), self._names_width)
            room = max(0, width - cell_len(said) - 1)
            shown = fit(safe_line(value), room, right=self._names_width is None)
            lines.append(Text.assemble((said, DIM), " ", (shown, colour), no_wrap=True))
        return Text("\n").join(lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As many lines as there are facts."""
        return len(self._facts)
