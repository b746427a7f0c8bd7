"""The tree of commands. What a command needs is imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from llmctl.commands import config, providers, schema, simulate, topics, undelivered
from llmctl.commands.audit import audit
from llmctl.commands.cancel import cancel
from llmctl.commands.demo import demo
from llmctl.commands.doctor import doctor
from llmctl.commands.drain import drain
from llmctl.commands.examples import add_examples
from llmctl.commands.log_level import log_level
from llmctl.commands.monitor import monitor
from llmctl.commands.options import read_spoken
from llmctl.commands.rank import rank
from llmctl.commands.serve import serve
from llmctl.commands.submit import submit
from llmctl.commands.tail import tail_callbacks
from llmctl.commands.up import up
from llmctl.commands.usage import usage
from llmctl.completion import complete_contexts
from llmctl.misspellings import CommandGroup
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

app = typer.Typer(
    name="llmctl",
    cls=CommandGroup,
    help="LLM comparisons that answer later: submit them, watch their callbacks, prove that none is lost.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(up)
app.command()(serve)
app.command()(submit)
app.command("tail-callbacks")(tail_callbacks)
app.command()(rank)
app.command()(cancel)
app.command()(audit)
app.add_typer(topics.app, name="topics", cls=CommandGroup)
app.command()(drain)
app.command()(doctor)
app.add_typer(providers.app, name="providers", cls=CommandGroup)
app.add_typer(undelivered.app, name="undelivered", cls=CommandGroup)
app.command()(usage)
app.command("log-level")(log_level)
app.command()(monitor)
app.add_typer(simulate.app, name="simulate", cls=CommandGroup)
app.add_typer(schema.app, name="schema", cls=CommandGroup)
app.add_typer(config.app, name="config", cls=CommandGroup)


def _show_version(wanted: bool) -> None:
    if wanted:
        from llmctl.installation import describe_installation

        typer.echo(describe_installation())
        raise typer.Exit


@app.callback()
def read_global_options(
    typer_context: typer.Context,
    context: Annotated[  # noqa: ARG001 - read_spoken also asks where it came from
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            envvar="LLMCTL_CONTEXT",
            help="Which context of the config file.",
            autocompletion=complete_contexts,
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
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show what is installed here, and where."
        ),
    ] = False,
) -> None:
    """LLM comparisons that answer later: submit them, watch their callbacks, prove that none is lost."""
    if verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    else:
        # Without a handler, Python itself prints the libraries' warnings: their words, not ours.
        logging.basicConfig(handlers=[logging.NullHandler()])
    typer_context.obj = read_spoken(typer_context)


add_examples(app)
