"""`llmctl simulate compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, reading
from llmctl.render.terminal import open_terminal

MOST_PERCENT = 1000.0


def _parse_percent(text: str) -> float:
    """`10%` or `10` as 10; ValueError with a sentence for anything else."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= MOST_PERCENT:
        raise ValueError(f"{text!r} is no share; write for example 10%")
    return percent


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A report's folder, or its run.json.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            parser=reading(_parse_percent),
            metavar="PERCENT",
            help="Exit 4 where anything got worse by more than so much, and beyond noise.",
        ),
    ] = None,
    output: OutputForm = None,
) -> None:
    """Say what got better or worse from run A to run B, and whether that is more than noise."""
    from llmctl.jobs.comparing import compare_and_report

    compare_and_report(before, after, fail_on_regression, open_terminal(output))
