"""`llmctl log-level`: how much the service logs, while it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target, reading
from llmctl.commands.production import frame_production
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration


class Level(StrEnum):
    """From which level on is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def log_level(
    context: typer.Context,
    level: Annotated[Level | None, typer.Argument(help="From this level on; without it it is shown.")] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=reading(parse_duration),
            metavar="DURATION",
            help="For so long, then as the settings say (default: until it is changed).",
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Show or change how much the service logs, without a restart."""
    from llmctl.jobs.log_level import change_and_report

    if level is None and duration is not None:
        raise UsageProblem("--for needs a level, for example `llmctl log-level debug --for 10m`.")
    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    if level is not None:
        frame_production(target, terminal)
    run(change_and_report(None if level is None else level.value, duration, target, terminal))
