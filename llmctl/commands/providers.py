"""`llmctl providers`: how the service's providers stand; holding one, releasing it."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target, reading
from llmctl.commands.production import confirm_in_production, frame_production
from llmctl.completion import complete_providers
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

app = typer.Typer(
    help="The service's providers: how they stand, holding one, releasing it.", no_args_is_help=True
)
Name = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="For example openai.", autocompletion=complete_providers)
]


@app.command("list")
def list_(context: typer.Context, url: Url = None, token: Token = None, output: OutputForm = None) -> None:
    """Show state, calls, limits and, where one is not asked now, until when and why."""
    from llmctl.jobs.providers import list_and_report

    target = find_target(context).override(url=url, token=token)
    run(list_and_report(target, open_terminal(output)))


@app.command()
def hold(
    context: typer.Context,
    provider: Name,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=reading(parse_duration),
            metavar="DURATION",
            help="For so long (default: until it is released, or the service restarts).",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, also where others depend on it.")] = False,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Ask a provider nothing; its requests wait in the queue, with their order and deadlines."""
    from llmctl.jobs.providers import hold_and_report

    if seconds == 0:
        raise UsageProblem("--for 0s holds nothing; name a longer time, or leave --for out.")
    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    frame_production(target, terminal)
    if not yes:
        question = f"Ask {provider} nothing from now on?"
        confirm_in_production(target, question, order="hold it", declined="Nothing is held.")
    run(hold_and_report(provider, seconds, target, terminal))


@app.command()
def release(
    context: typer.Context, provider: Name, url: Url = None, token: Token = None, output: OutputForm = None
) -> None:
    """Ask a provider again, whatever held it: an operator, its rate limit, an open circuit."""
    from llmctl.jobs.providers import release_and_report

    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    frame_production(target, terminal)
    run(release_and_report(provider, target, terminal))
