"""The one table of the monitor: rows of any kind, of which only the visible ones are ever drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llmctl.render.safe import safe_line

T = TypeVar("T")
GAP = 1
_HEADING = Style(bold=True)
_CURSOR = Style(reverse=True)
_FAINT = Style(dim=True)


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column: what it says of a row, in which colour, and by what rows are sorted."""

    title: str
    width: int
    say: Callable[[T], str | tuple[str, str]]
    """A text, or a text and its colour. Foreign text is made harmless here."""
    key: Callable[[T], Any] | None = None
    """What to sort by; None where nobody would."""
    right: bool = False
    grows: int = 0
    """How much of the space that is left over it may take, in characters."""
    rank: int = 0
    """Columns of a higher rank go first where space is short; those of rank 0 stay."""


class RowList(ScrollView, Generic[T], can_focus=True):
    """A list with a heading and a cursor. It follows what is new until the cursor leaves the first row."""

    DEFAULT_CSS = """
    RowList { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "first", "first", show=False),
        Binding("end", "last", "last", show=False),
        Binding("f", "first", "follow", show=False),
        Binding("enter", "choose", "detail", show=False),
        Binding("s", "sort", "sort", show=False),
        Binding("S", "reverse", "turn the order", show=False),
    ]

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, rows: RowList[Any], row: Any) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

    def __init__(
        self,
        columns: Sequence[Column[T]],
        *,
        empty: str = "",
        id: str | None = None,  # noqa: A002 - as all widgets name it
    ) -> None:
        super().__init__(id=id)
        self._columns = columns
        self._empty = empty
        self._given: Sequence[T] = ()
        self._rows: Sequence[T] = ()
        self._held_back = 0
        self._seen_total = 0
        self._cursor = 0
        self._sorted_by: int | None = None
        self._descending = True
        self._fitted: tuple[int, Sequence[tuple[int, int]]] = (-1, ())

    @property
    def rows(self) -> Sequence[T]:
        """The rows as they are shown."""
        return self._rows

    @property
    def held_back(self) -> int:
        """How many rows came since the cursor left the first one."""
        return self._held_back

    @property
    def selected(self) -> T | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    @property
    def order(self) -> str:
        """What the rows are sorted by, empty where they are as they came."""
        if self._sorted_by is None:
            return ""
        return f"{self._columns[self._sorted_by].title} {'↓' if self._descending else '↑'}"

    def present(self, rows: Sequence[T], total: int | None = None, *, follows: bool = False) -> None:
        """Shows these rows; where it `follows` new ones, a cursor beyond the first row holds them back.

        `total` is how many rows there ever were, for counting those that were held back.
        """
        total = len(rows) if total is None else total
        if follows and self._cursor > 0 and self._rows:
            self._held_back = max(0, total - self._seen_total)
            return
        self._held_back, self._seen_total = 0, total
        if rows != self._given:
            self._replace(rows)

    def _replace(self, rows: Sequence[T]) -> None:
        self._given = rows
        if self._sorted_by is not None:
            key = self._columns[self._sorted_by].key
            assert key is not None, "only columns with a key are sorted by"
            rows = sorted(rows, key=lambda row: _sortable(key(row)), reverse=self._descending)
        self._rows = rows
        self._cursor = min(self._cursor, max(0, len(rows) - 1))
        self.virtual_size = Size(1, len(rows) + 1)
        self.refresh()

    def action_move(self, step: int) -> None:
        """Moves the cursor by so many rows."""
        self._move_to(self._cursor + step)

    def action_page(self, pages: int) -> None:
        """Moves the cursor by so many pages."""
        self._move_to(self._cursor + pages * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Goes to the first row, and follows what is new again."""
        self._move_to(0)

    def action_last(self) -> None:
        """Goes to the last row."""
        self._move_to(len(self._rows) - 1)

    def action_choose(self) -> None:
        """Tells which row was chosen."""
        row = self.selected
        if row is not None:
            self.post_message(self.Chosen(self, row))

    def action_sort(self) -> None:
        """Sorts by the next column that can be sorted by, and after the last one by none."""
        places = [place for place, column in enumerate(self._columns) if column.key is not None]
        following = [place for place in places if self._sorted_by is None or place > self._sorted_by]
        self._sorted_by = following[0] if following else None
        self._replace(self._given)

    def action_reverse(self) -> None:
        """Turns the order round."""
        self._descending = not self._descending
        self._replace(self._given)

    def on_click(self, event: Any) -> None:
        """Puts the cursor where the mouse was; a second click opens the row."""
        row = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and row < len(self._rows):
            self._move_to(row)
            if event.chain == 2:
                self.action_choose()

    def _move_to(self, row: int) -> None:
        self._cursor = max(0, min(row, len(self._rows) - 1))
        height = max(1, self.size.height - 1)
        top = int(self.scroll_offset.y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the heading, or a row."""
        width = self.scrollable_content_region.width
        shown = self._fit(width)
        base = self.rich_style
        if y == 0:
            titles = [(self._columns[place].title, "") for place, _ in shown]
            return self._lay_line(shown, titles, width, base + _HEADING)
        row = y - 1 + int(self.scroll_offset.y)
        if row >= len(self._rows):
            text = self._empty if not self._rows and y == 1 else ""
            return Strip([Segment(set_cell_size(text, width), base + _FAINT)], width)
        told = [self._columns[place].say(self._rows[row]) for place, _ in shown]
        cells = [(each, "") if isinstance(each, str) else each for each in told]
        lit = row == self._cursor and self.has_focus
        return self._lay_line(shown, cells, width, base + _CURSOR if lit else base)

    def _fit(self, width: int) -> Sequence[tuple[int, int]]:
        """Which columns are shown, by their places, and how wide."""
        if self._fitted[0] != width:
            self._fitted = (width, fit_columns(self._columns, width))
        return self._fitted[1]

    def _lay_line(
        self, shown: Sequence[tuple[int, int]], cells: Sequence[tuple[str, str]], width: int, base: Style
    ) -> Strip:
        """Cells of one colour become one segment: whatever Textual does with a line, it does for each."""
        runs: list[tuple[str, str]] = []
        for (place, size), (text, colour) in zip(shown, cells, strict=True):
            said = fit(safe_line(text), size, right=self._columns[place].right) + " " * GAP
            if runs and runs[-1][1] == colour:
                runs[-1] = (runs[-1][0] + said, colour)
            else:
                runs.append((said, colour))
        segments = [Segment(text, base + Style.parse(colour)) for text, colour in runs]
        return Strip(segments).adjust_cell_length(width, base)


def fit_columns(columns: Sequence[Column[Any]], width: int) -> Sequence[tuple[int, int]]:
    """Which columns have room, by their places, and how wide; what is left over goes to who can grow."""
    places = list(range(len(columns)))

    def needed() -> int:
        return sum(columns[place].width + GAP for place in places) - GAP

    while len(places) > 1 and needed() > width:
        worst = max(places, key=lambda place: (columns[place].rank, place))
        if columns[worst].rank == 0:
            break
        places.remove(worst)
    left = max(0, width - needed())
    fitted = []
    for place in places:
        more = min(left, columns[place].grows)
        left -= more
        fitted.append((place, columns[place].width + more))
    return fitted


def fit(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly so many cells, with an ellipsis where something is left out."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width else ""
    return " " * (width - length) + text if right else text + " " * (width - length)


def _sortable(value: Any) -> tuple[bool, Any]:
    """What is not known comes last in a descending order."""
    return (value is not None, value if value is not None else 0)
