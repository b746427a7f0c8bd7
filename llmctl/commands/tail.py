"""`llmctl tail-callbacks`: live callbacks."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_target, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.filters import Filter, parse_filter
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration


def tail_callbacks(
    context: typer.Context,
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC", help="(default: the platform's topic)", autocompletion=complete_topics
        ),
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Also what stands there already.")
    ] = False,
    since: Annotated[
        float | None,
        typer.Option(parser=reading(parse_duration), metavar="DURATION", help="Also what came since then."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after so many.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="End after so long; exit code 4 if --count was not reached.",
        ),
    ] = None,
    where: Annotated[
        Filter | None,
        typer.Option(
            parser=reading(parse_filter),
            metavar="FILTER",
            help="Only these: 'status:error e2e>5s -model:gpt-4o meta.KEY:~^a \"text\"'.",
        ),
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="The records of this simulated run.")
    ] = None,
    all_runs: Annotated[
        bool, typer.Option("--all-runs", help="Also the records of simulated runs, left out otherwise.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check each: malformed, wrong key, copies, two answers; exit code 5 if any is."
        ),
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Show callbacks as they come; reads without a group and commits nothing."""
    from llmctl.client.callbacks import Start
    from llmctl.jobs.tailing import TailPlan, tail
    from service.contracts.topics import PLATFORM_TOPICS

    if from_beginning and since is not None:
        raise UsageProblem("--from-beginning and --since are two different starts; choose one.")
    if run_id is not None and all_runs:
        raise UsageProblem("--run shows one run and --all-runs every one; choose one.")
    start = Start(from_beginning, None if since is None else int((time.time() - since) * 1000))
    plan = TailPlan(
        tuple(topics or PLATFORM_TOPICS), start, count, timeout, where or Filter(), run_id, all_runs, verify
    )
    target = find_target(context).override(bootstrap_servers=bootstrap_servers)
    run(tail(plan, target.kafka, open_terminal(output)))
