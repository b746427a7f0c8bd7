"""`llmctl undelivered`: the callbacks that the broker refused for good."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target
from llmctl.commands.production import confirm_in_production, frame_production
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal

app = typer.Typer(
    help="Callbacks that the broker refused for good: list them, send them again.", no_args_is_help=True
)


@app.command("list")
def list_(
    context: typer.Context,
    topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Only those of this topic.", autocompletion=complete_topics),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show at most so many.")] = 100,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """List them, with Kafka's reason and what to do about it."""
    from llmctl.jobs.undelivered import list_and_report

    target = find_target(context).override(url=url, token=token)
    run(list_and_report(target, open_terminal(output), topic=topic, limit=limit))


@app.command("resend")
def resend(
    context: typer.Context,
    queue_ids: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE_ID", help="Those of these requests.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every one that is parked.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, also where others depend on it.")] = False,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Send them again, once what the broker objected to was mended."""
    from llmctl.jobs.undelivered import resend_and_report

    if bool(queue_ids) == everything:
        raise UsageProblem("Say which callbacks to send again: either their queue ids, or --all.")
    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    frame_production(target, terminal)
    if everything and not yes:
        question = "Send all its undelivered callbacks again?"
        confirm_in_production(target, question, order="send all again", declined="Nothing was sent again.")
    run(resend_and_report(None if everything else queue_ids, target, terminal))
