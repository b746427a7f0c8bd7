"""The overview: what an operator looks at first."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical

from llmctl.tui.screens.columns import CALLBACKS, EVENTS, PROVIDERS
from llmctl.tui.screens.figures import (
    CARDS,
    read_cards,
    read_depth_traces,
    read_flow_traces,
    read_latency_traces,
    read_ledger,
)
from llmctl.tui.screens.pane import Pane, View
from llmctl.tui.widgets.panels import Card, Chart, Facts, Line
from llmctl.tui.widgets.rows import RowList
from llmctl.tui.widgets.words import DIM, say_window

SHOWN_CALLBACKS = 200


class Overview(Pane):
    """Cards, charts, ledger, providers and live callbacks; by the screen's size, more or fewer of them."""

    SCOPED_CSS = False  # the classes of the screen's size are above
    DEFAULT_CSS = """
    Overview #cards { layout: horizontal; height: 5; }
    Overview #charts { height: 10; }
    Overview #charts Facts { width: 40; height: 10; }
    Overview #charts #latency-chart { display: none; }
    Overview #providers { height: auto; max-height: 6; min-height: 3; }
    Overview #events { display: none; width: 70; border: round $surface-lighten-2; }
    Overview #ledger-line { display: none; }
    Overview #lists { height: 1fr; }
    Overview #left { width: 1fr; }
    .-narrow Overview #cards { layout: vertical; height: 6; }
    .-narrow Overview Card { height: 1; border: none; padding: 0; }
    .-narrow Overview #charts { display: none; }
    .-narrow Overview #ledger-line { display: block; }
    .-wide Overview #charts { height: 16; }
    .-wide Overview #charts Facts { height: 16; }
    .-wide Overview #charts #latency-chart { display: block; }
    .-wide Overview #events { display: block; }
    .-low Overview #charts { display: none; }
    """

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        with Container(id="cards"):
            for name in CARDS:
                yield Card(id=f"card-{name}")
        yield Line(id="ledger-line")
        with Horizontal(id="charts"):
            yield Chart(id="depth-chart")
            yield Chart(id="flow-chart")
            yield Chart("seconds", id="latency-chart")
            yield Facts("ledger", id="ledger")
        with Horizontal(id="lists"):
            with Vertical(id="left"):
                yield RowList(PROVIDERS, empty="no provider is configured", id="providers")
                yield Line(id="callbacks-title")
                yield RowList(CALLBACKS, empty="no callback yet", id="callbacks")
            yield RowList(EVENTS, empty="nothing happened yet", id="events")

    def present(self, view: View) -> None:
        """Shows this view."""
        for name, figure in zip(CARDS, read_cards(view), strict=True):
            self.query_one(f"#card-{name}", Card).present(figure, stale=view.stale)
        ledger = read_ledger(view)
        self.query_one("#ledger", Facts).present(ledger)
        said = " · ".join(f"{name} {value}" for name, value, _ in ledger[:4])
        self.query_one("#ledger-line", Line).present(((said, DIM if view.stale else ""),))
        window = say_window(view.window_seconds)
        if self.query_one("#charts").display:
            self.query_one("#depth-chart", Chart).present(window, read_depth_traces(view))
            self.query_one("#flow-chart", Chart).present(window, read_flow_traces(view))
            self.query_one("#latency-chart", Chart).present(
                f"end to end, {window}", read_latency_traces(view)
            )
        reading = view.store.reading
        self.query_one("#providers", RowList).present(() if reading is None else reading.providers)
        rows = self.query_one("#callbacks", RowList)
        rows.present(view.store.feed.newest(SHOWN_CALLBACKS), view.store.feed.passed_total, follows=True)
        self.query_one("#callbacks-title", Line).present(*title_callbacks(view, rows))
        self.query_one("#events", RowList).present(tuple(reversed(view.store.events)))

    def find_rows(self) -> RowList[object] | None:
        """The callbacks, unless another list has the focus."""
        focused = [each for each in self.query(RowList) if each.has_focus]
        return focused[0] if focused else self.query_one("#callbacks", RowList)


def title_callbacks(view: View, rows: RowList[object]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What stands above a list of callbacks: the filter at the left; at the right whether it follows."""
    feed = view.store.feed
    problem = view.store.problems.get("kafka")
    left = [("LIVE CALLBACKS ", "bold")]
    if problem:
        left.append((problem, "red"))
    elif feed.filtered:
        left += [
            ("filter ", DIM),
            (feed.filter_text, "cyan"),
            (f"  {feed.passed_total:,} of {feed.total:,}", DIM),
        ]
    else:
        left.append((f"{feed.total:,} seen", DIM))
    order = f"by {rows.order} · " if rows.order else ""
    held = f"▌▌ held, {rows.held_back:,} newer (f follows)"
    right = [(order, DIM), (held, "yellow") if rows.held_back else ("▶ following", DIM)]
    return left, right
