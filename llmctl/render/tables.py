"""Tables and the small words in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from llmctl.render.safe import safe_line

GOOD = "green"
BAD = "red"
DIM = "bright_black"
NOTHING = "–"  # noqa: RUF001


def make_table(columns: Sequence[str], *, right: Iterable[str] = (), flexible: Iterable[str] = ()) -> Table:
    """An empty table; `right` columns hold figures, and where space is short the `flexible` ones give way."""
    figures, yielding = set(right), set(flexible)
    table = Table(
        box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), show_edge=False
    )
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in figures else "left",
            no_wrap=column not in yielding,
            overflow="ellipsis",
        )
    return table


def cell(text: object, style: str = "", *, wrap: bool = False) -> Text:
    """A table cell of foreign or own text, in one line unless it may wrap; None is a dash."""
    if text is None:
        return Text(NOTHING, style=DIM)
    return Text(safe_line(str(text)), style=style, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")


def mark(good: bool) -> Text:
    """A tick or a cross."""
    return Text("✓", style=GOOD) if good else Text("✗", style=BAD)


def format_cost(dollars: float) -> str:
    """US dollars, with as many places as tell one comparison from another."""
    if dollars == 0:
        return "$0"
    return f"${dollars:.5f}" if dollars < 1 else f"${dollars:,.2f}"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters, with an ellipsis where something is left out."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
