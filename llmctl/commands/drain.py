"""`llmctl drain`: before a deploy, let the service finish what it has begun."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target, reading
from llmctl.commands.production import confirm_in_production, frame_production
from llmctl.exits import Interrupted, UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
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
        frame_production(target, terminal)
        run(resume_and_report(target, terminal))
        return
    seconds = DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise UsageProblem("--timeout must be more than 0 and at most 24h.")
    draining = Drain(DrainOrder(seconds, until_empty, wait=not no_wait), target, terminal)
    frame_production(target, terminal)
    if not yes:
        confirm_in_production(target, "Drain it?", order="drain it", declined="Nothing was drained.")
    try:
        run(draining.carry_out())
    except (KeyboardInterrupt, Interrupted):
        raise draining.explain_interruption() from None
