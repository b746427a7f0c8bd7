"""`llmctl audit`: accepted requests against what stands on the topics."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, Token, Url, find_target, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

DEFAULT_WAIT_SECONDS = 5.0
WHAT = "What was accepted"


def audit(
    context: typer.Context,
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC", help="Only requests for these topics.", autocompletion=complete_topics
        ),
    ] = None,
    receipts: Annotated[
        str | None,
        typer.Option(
            "--receipts",
            metavar="FILE",
            help="By a receipts file of `submit`; - is stdin.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="By the service's journal of what it called back.", rich_help_panel=WHAT
        ),
    ] = False,
    since: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="Only what was accepted since then."
        ),
    ] = None,
    late: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="A callback that took longer is late."
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="Wait so long for what is not there yet."
        ),
    ] = "5s",  # type: ignore[assignment]  # read by the parser
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Hold accepted requests against their topics: missing, duplicated, malformed, late, wrong key.

    Reads any Kafka without a group, and right over offsets that compaction or transactions left out.
    Exit code 5 where anything does not fit.
    """
    from llmctl.jobs.auditing import AuditPlan
    from llmctl.jobs.auditing import audit as hold_against

    if (receipts is not None) == journal:
        raise UsageProblem("Say what was accepted: either --receipts FILE, or --journal.")
    begin = None if since is None else time.time() - since
    plan = AuditPlan(receipts, tuple(topics or ()), begin, late, wait)
    target = find_target(context).override(url=url, bootstrap_servers=bootstrap_servers, token=token)
    run(hold_against(plan, target, open_terminal(output)))
