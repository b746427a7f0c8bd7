"""The tree of commands. What a command needs is imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from llmctl.commands import config, providers, simulate, topics, undelivered
from llmctl.commands.demo import demo
from llmctl.commands.drain import drain
from llmctl.commands.monitor import monitor
from llmctl.commands.options import read_spoken
from llmctl.commands.serve import serve
from llmctl.commands.submit import submit
from llmctl.commands.tail import tail_callbacks
from llmctl.commands.up import up
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

app = typer.Typer(
    name="llmctl",
    help="LLM comparisons that answer later: submit them, watch their callbacks, prove that none is lost.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(up)
app.command()(serve)
app.command()(submit)
app.command("tail-callbacks")(tail_callbacks)
app.add_typer(topics.app, name="topics")
app.command()(drain)
app.add_typer(providers.app, name="providers")
app.add_typer(undelivered.app, name="undelivered")
app.command()(monitor)
app.add_typer(simulate.app, name="simulate")
app.add_typer(config.app, name="config")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmctl {version('llmctl')}")
        raise typer.Exit


@app.callback()
def read_global_options(
    typer_context: typer.Context,
    context: Annotated[  # noqa: ARG001 - read_spoken also asks where it came from
        str | None,
        typer.Option(
            "--context", metavar="NAME", envvar="LLMCTL_CONTEXT", help="Which context of the config file."
        ),
    ] = None,
    url: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            "--url", metavar="URL", envvar="LLMCTL_URL", help=f"The service (default: {DEFAULT_URL})."
        ),
    ] = None,
    bootstrap_servers: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            "--bootstrap-servers",
            metavar="HOST:PORT,…",
            envvar="LLMCTL_BOOTSTRAP_SERVERS",
            help=f"Kafka (default: {DEFAULT_BOOTSTRAP_SERVERS}).",
        ),
    ] = None,
    token: Annotated[  # noqa: ARG001
        str | None,
        typer.Option("--token", metavar="TOKEN", envvar="LLMCTL_TOKEN", help="The caller's bearer token."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", envvar="LLMCTL_VERBOSE", help="Log what the libraries do, on stderr.")
    ] = False,
    version_: Annotated[  # noqa: ARG001 - its callback has done all before
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """LLM comparisons that answer later: submit them, watch their callbacks, prove that none is lost."""
    if verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    else:
        # Without a handler, Python itself prints the libraries' warnings: their words, not ours.
        logging.basicConfig(handlers=[logging.NullHandler()])
    typer_context.obj = read_spoken(typer_context)
