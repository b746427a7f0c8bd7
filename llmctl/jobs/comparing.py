"""`simulate compare`: reads two runs and says what got better or worse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llmctl.exits import LimitNotMet, UsageProblem
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from simulator.load.comparison import HEADINGS, Change, Comparison, Judgement, compare
from simulator.load.reports.folder import ReportError, read_run
from simulator.load.run_document import RunDocument

_STYLE_OF_JUDGEMENT = {Judgement.BETTER: GOOD, Judgement.WORSE: BAD}


def compare_and_report(
    before: Path, after: Path, regression_percent: float | None, terminal: Terminal
) -> None:
    """Shows the comparison; LimitNotMet where something got worse by more than was allowed."""
    comparison = compare(_read(before), _read(after))
    _show(comparison, terminal)
    for sentence in (*comparison.obstacles, *comparison.remarks):
        terminal.say(sentence, "yellow")
    if regression_percent is None:
        return
    if not comparison.comparable:
        raise LimitNotMet("The runs cannot be compared, so nobody knows whether anything got worse.")
    worse = comparison.regressions(regression_percent)
    if worse:
        named = ", ".join(change.metric for change in worse)
        raise LimitNotMet(f"Worse by more than {regression_percent:g}%: {named}.")


def _read(path: Path) -> RunDocument:
    try:
        return read_run(path)
    except ReportError as problem:
        raise UsageProblem(str(problem)) from problem


def _show(comparison: Comparison, terminal: Terminal) -> None:
    if terminal.as_json:
        for change in comparison.changes:
            terminal.write(_describe(change))
        return
    table = make_table(HEADINGS, right=HEADINGS[1:-1], flexible=HEADINGS[-1:])
    for change in comparison.changes:
        *figures, verdict = change.row
        style = _STYLE_OF_JUDGEMENT.get(change.judgement, DIM)
        table.add_row(*(cell(figure) for figure in figures), cell(verdict, style, wrap=True))
    terminal.show(table)


def _describe(change: Change) -> dict[str, Any]:
    relative = change.relative
    return {
        "metric": change.metric,
        "unit": change.unit,
        "before": change.before,
        "after": change.after,
        "relative": relative if relative is not None and math.isfinite(relative) else None,
        "interval": change.interval,
        "judgement": change.judgement.value,
        "reason": change.reason or None,
    }
