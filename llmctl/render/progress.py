"""A progress line on stderr, where a person looks on; nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from llmctl.render.terminal import Terminal


class ProgressLine:
    """One line that says what is going on and how much of it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = 0
        self._total: int | None = None
        self._task = progress.add_task("", total=None, count="")

    def begin(self, doing: str, total: int | None = None) -> None:
        """Says what is done from now on, of how many."""
        self._done, self._total = 0, total
        self._progress.update(
            self._task, description=doing, total=total, completed=0, count=self._say_count()
        )

    def advance(self, by: int = 1) -> None:
        """Counts what is done."""
        self._done += by
        self._progress.update(self._task, completed=self._done, count=self._say_count())

    def _say_count(self) -> str:
        return "" if self._total is None else f"{self._done}/{self._total}"


@contextmanager
def progress_line(terminal: Terminal, *, counted: bool = True) -> Iterator[ProgressLine]:
    """A progress line that leaves nothing behind; `counted` shows a bar."""
    bar = (BarColumn(bar_width=24), TextColumn("{task.fields[count]}")) if counted else ()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *bar, TimeElapsedColumn())
    with Progress(
        *columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal
    ) as progress:
        yield ProgressLine(progress)
