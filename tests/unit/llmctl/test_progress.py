"""The progress line fits the terminal, with count, rate and remaining time."""

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from llmctl.client.service import AWAY, FULL
from llmctl.render.progress import progress_line
from llmctl.render.terminal import Output, Terminal


def show(width: int, doing: str = FULL, *, watched: bool = True) -> list[str]:
    said = StringIO()
    err = Console(file=said, width=width, force_terminal=watched, color_system=None, _environ={})
    with progress_line(Terminal(err, err, Output.TABLE), paced=True) as progress:
        progress.begin("submitting", 5000, done=1000)
        for _ in range(1500):
            progress.advance()
        progress.explain(doing)
        if doing == FULL:
            progress.explain(None)
    return Text.from_ansi(said.getvalue()).plain.splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("doing", ["submitting", "awaiting callbacks", AWAY])
def test_the_line_fits(width: int, doing: str) -> None:
    drawn = [line for line in show(width, doing) if doing in line]
    assert "2500/5000" in drawn[-1]
    assert "/s" in drawn[-1]
    assert "left" in drawn[-1]
    assert all(cell_len(line) <= width for line in drawn)


def test_nobody_looks_on_nothing_is_drawn() -> None:
    assert "".join(show(80, watched=False)).strip() == ""
