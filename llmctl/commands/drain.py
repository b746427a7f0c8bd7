"""`llmctl drain`: before a deploy, let the service finish what it has begun."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target, reading
from llmctl.exits import Failed, Interrupted, UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from llmctl.targets import Target
from simulator.quantities import parse_duration

DEFAULT_TIMEOUT_SECONDS = 300.0
MAX_TIMEOUT_SECONDS = 86_400.0


def drain(
    context: typer.Context,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="Limit on the drain (default: 5m)."
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Order it and do not watch it.")] = False,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="Work off the queue, too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take a drain back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, also where others depend on it.")] = False,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Stop acceptance, finish what was started, say what is left."""
    from llmctl.jobs.draining import Drain, DrainOrder, resume_and_report

    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    if resume:
        if timeout is not None or no_wait or until_empty:
            raise UsageProblem("--resume takes a drain back; it goes with no other option of drain.")
        run(resume_and_report(target, terminal))
        return
    seconds = DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise UsageProblem("--timeout must be more than 0 and at most 24h.")
    draining = Drain(DrainOrder(seconds, until_empty, wait=not no_wait), target, terminal)
    if target.is_production and not yes:
        _ask(target)
    try:
        run(draining.carry_out())
    except (KeyboardInterrupt, Interrupted):
        raise draining.explain_interruption() from None


def _ask(target: Target) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(f"{target.url} is production: nobody can be asked here, so say --yes to drain it.")
    if not typer.confirm(f"{target.url} is production. Drain it?", err=True):
        raise Failed("Nothing was drained.")
