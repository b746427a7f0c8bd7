"""What a command prints, on a terminal and in a pipe."""

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from llmctl.render.terminal import Output, Terminal


@pytest.mark.parametrize(("is_terminal", "lines"), [(True, 3), (False, 1)])
def test_text_is_wrapped_on_a_terminal_and_not_in_a_pipe(is_terminal: bool, lines: int) -> None:
    out = StringIO()
    console = Console(file=out, width=20, force_terminal=is_terminal, color_system=None)
    Terminal(console, console, Output.TABLE).show(Text("a line of many words " * 3))
    assert len(out.getvalue().splitlines()) == lines
