"""`llmctl simulate sweep`: the highest rate that still meets the thresholds."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from llmctl.commands.load import DEFAULT_QUIET_SECONDS, find_running
from llmctl.commands.options import BootstrapServers, OutputForm, Token, Url, reading
from llmctl.completion import complete_scenarios
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration, parse_rate

DEFAULT_SECONDS = 10.0
DEFAULT_SETTLE_SECONDS = 10.0
DEFAULT_LOWEST = 50.0
DEFAULT_HIGHEST = 2000.0


def sweep(
    context: typer.Context,
    threshold: Annotated[
        list[str], typer.Option(metavar="CONDITION", help="What has to hold, such as 'e2e:p99 < 2s'.")
    ],
    lowest: Annotated[
        float | None,
        typer.Option(
            "--from", parser=reading(parse_rate), metavar="RATE", help="Where to begin (default: 50/s)."
        ),
    ] = None,
    highest: Annotated[
        float | None,
        typer.Option(
            "--to", parser=reading(parse_rate), metavar="RATE", help="Where to stop (default: 2000/s)."
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(parser=reading(parse_duration), metavar="DURATION", help="Of each step (default: 10s)."),
    ] = None,
    precision: Annotated[int, typer.Option(min=1, max=100, metavar="PERCENT", help="How near to come.")] = 10,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="How the fake provider behaves (default: calm).",
            autocompletion=complete_scenarios,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Processes that send.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The same arrivals again (default: drawn).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="A report of each step, by its rate.")
    ] = None,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Find the highest rate that still meets the thresholds: doubles it until it fails, then halves the gap.

    Each step is a run of its own, with a stack of its own unless a running system is named.
    """
    from llmctl.jobs.loading import LoadOrder
    from llmctl.jobs.sweeping import SweepOrder, sweep_and_report
    from simulator.load.plan import LoadPlan
    from simulator.load.shape import from_rate
    from simulator.load.thresholds import parse_threshold

    low = DEFAULT_LOWEST if lowest is None else lowest
    high = DEFAULT_HIGHEST if highest is None else highest
    seconds = DEFAULT_SECONDS if duration is None else duration
    if low > high:
        raise UsageProblem(f"--from {low:g}/s is above --to {high:g}/s; there is nothing between them.")
    try:
        plan = LoadPlan(
            run_id="sweep",
            shape=from_rate(low, seconds),
            seed=secrets.randbelow(2**32) if seed is None else seed,
            callback_topics=(),
            thresholds=tuple(parse_threshold(text) for text in threshold),
            workers=workers,
            settle_limit_seconds=DEFAULT_SETTLE_SECONDS,
            quiet_seconds=DEFAULT_QUIET_SECONDS,
        )
    except ValueError as problem:
        raise UsageProblem(f"{str(problem)[:1].upper()}{str(problem)[1:].rstrip('.')}.") from None
    load = LoadOrder(
        plan=plan,
        running=find_running(context, url, bootstrap_servers, token),
        scenario=scenario,
        admin_token=None,
        report=None if report is None else report.absolute(),
    )
    order = SweepOrder(load, seconds, low, high, precision / 100)
    run(sweep_and_report(order, open_terminal(output)))
