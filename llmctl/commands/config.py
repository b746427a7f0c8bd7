"""`llmctl config`: which values are in force, where each came from, and which contexts there are."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, find_config, find_settings, find_spoken
from llmctl.completion import complete_contexts
from llmctl.render.terminal import open_terminal

app = typer.Typer(help="Contexts, and where each value comes from; secrets are masked.", no_args_is_help=True)


@app.command("show")
def show(context: typer.Context, output: OutputForm = None) -> None:
    """Show each value and where it came from: option, environment, context or default."""
    from llmctl.jobs.configuration import report_settings

    report_settings(find_settings(context), open_terminal(output))


@app.command("contexts")
def contexts(context: typer.Context, output: OutputForm = None) -> None:
    """List the contexts of the config file; * is the current one."""
    from llmctl.jobs.configuration import report_contexts

    report_contexts(find_config(), find_spoken(context), open_terminal(output))


@app.command("use")
def use(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A context of the config file.", autocompletion=complete_contexts
        ),
    ],
    output: OutputForm = None,
) -> None:
    """Make a context the current one; changes that one line of the file."""
    from llmctl.jobs.configuration import use_context

    use_context(find_config(), name, find_spoken(context), open_terminal(output))
