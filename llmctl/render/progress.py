"""A progress line on stderr, where a person looks on; nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from llmctl.render.terminal import Terminal
from simulator.quantities import format_duration

BAR_WIDTH, SHORT_BAR_WIDTH = 24, 10
ROOMY = 80
"""Below so many columns the bar is short and says less."""


class ProgressLine:
    """One line that says what is going on and how much of it is done."""

    def __init__(self, progress: Progress, *, paced: bool = False) -> None:
        self._progress = progress
        self._paced = paced
        self._doing = ""
        self._done = 0
        self._total: int | None = None
        self._task = progress.add_task("", total=None, count="")

    def begin(self, doing: str, total: int | None = None, *, done: int = 0) -> None:
        """Says what is done from now on, of how many, and how many of them were done before."""
        self._doing, self._done, self._total = doing, done, total
        # What was done before is no work of now: only a reset leaves it out of the rate.
        change = self._progress.reset if self._paced else self._progress.update
        change(self._task, description=doing, total=total, completed=done, count=self._say_count())

    def advance(self, by: int = 1) -> None:
        """Counts what is done."""
        self._done += by
        self._progress.update(self._task, completed=self._done, count=self._say_count())

    def explain(self, why: str | None) -> None:
        """Says why nothing goes on; None where it does again."""
        self._progress.update(self._task, description=why or self._doing)

    def _say_count(self) -> str:
        return "" if self._total is None else f"{self._done}/{self._total}"


class PaceColumn(ProgressColumn):
    """How many a second in the last half minute, and how long the rest takes at that rate."""

    def render(self, task: Task) -> Text:
        """Blank as long as neither is known."""
        speed = task.finished_speed or task.speed
        if not speed or task.total is None:
            return Text("")
        left = task.time_remaining
        ends = "" if left is None or task.finished else f", {_format_left(left)} left"
        return Text(f"{speed:.0f}/s{ends}" if speed >= 10 else f"{speed:.1f}/s{ends}")


def _format_left(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 60 else format_duration(seconds)


@contextmanager
def progress_line(terminal: Terminal, *, counted: bool = True, paced: bool = False) -> Iterator[ProgressLine]:
    """A progress line that leaves nothing behind; `counted` shows a bar, `paced` its rate and its end."""
    narrow = terminal.err.width < ROOMY
    bar = BarColumn(bar_width=SHORT_BAR_WIDTH if narrow else BAR_WIDTH)
    counts = (bar, TextColumn("{task.fields[count]}")) if counted else ()
    pace = (PaceColumn(),) if paced else ()
    elapsed = () if paced and narrow else (TimeElapsedColumn(),)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *counts, *pace, *elapsed)
    with Progress(
        *columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal
    ) as progress:
        yield ProgressLine(progress, paced=paced)
