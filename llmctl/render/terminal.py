"""Where a command writes: data on stdout, talk on stderr, colors and bars only where a person looks on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from llmctl.render.safe import safe_line

WIDTH_WITHOUT_TERMINAL = 160


class Output(StrEnum):
    """The forms of a command's data."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True)
class Terminal:
    """Both streams of a command, and the form in which its data goes out."""

    out: Console
    err: Console
    output: Output

    @property
    def as_json(self) -> bool:
        """Whether data goes out as JSON."""
        return self.output is Output.JSON

    def show(self, what: RenderableType, *, whole: bool = False) -> None:
        """Data for people: a table or a text. A `whole` one is not wrapped, nor is a text in a pipe."""
        piped_text = isinstance(what, str | Text) and not self.out.is_terminal
        self.out.print(what, soft_wrap=whole or piped_text)

    def write(self, document: Mapping[str, Any]) -> None:
        """Data for programs: one line of JSON in ASCII, at once."""
        self.out.file.write(json.dumps(document, ensure_ascii=True, default=str) + "\n")
        self.out.file.flush()

    def say(self, sentence: str, style: str = "") -> None:
        """Talk on stderr; foreign words in it are made harmless."""
        self.err.print(Text(safe_line(sentence), style=style), soft_wrap=True)


def open_terminal(output: Output | None = None) -> Terminal:
    """The terminal of this process; where nothing is chosen, people get tables and pipes get JSON."""
    chosen = output or (Output.TABLE if sys.stdout.isatty() else Output.JSON)
    return Terminal(_open_console(sys.stdout), _open_console(sys.stderr), chosen)


def _open_console(stream: TextIO) -> Console:
    watched = stream.isatty()
    width = None if watched or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    # Not watched is never colored: what FORCE_COLOR would add to a pipe is no data.
    return Console(
        file=stream, force_terminal=watched, width=width, highlight=False, markup=False, emoji=False
    )
