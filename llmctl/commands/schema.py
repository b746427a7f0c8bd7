"""`llmctl schema`: the contracts, for other languages and their tools."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.exits import UsageProblem
from llmctl.render.terminal import open_terminal

app = typer.Typer(
    help="The contracts as documents that other languages' tools read; always JSON.", no_args_is_help=True
)


@app.command("openapi")
def openapi() -> None:
    """Print the OpenAPI 3.1 document: every route, as the service tells it at /openapi.json."""
    from llmctl.jobs.schemas import print_openapi

    print_openapi()


@app.command("asyncapi")
def asyncapi() -> None:
    """Print the AsyncAPI 3.1 document: the callbacks on Kafka, with key, headers and examples."""
    from llmctl.jobs.schemas import print_asyncapi

    print_asyncapi()


@app.command("jsonschema")
def jsonschema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One contract (default: all, in $defs of one document)."),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Instead: a file for each, as code generators take them."),
    ] = None,
) -> None:
    """Print the contracts as JSON Schema 2020-12: request, answers, error, callback."""
    from llmctl.jobs.schemas import print_contracts, write_contracts

    if output_dir is None:
        print_contracts(name)
        return
    if name is not None:
        raise UsageProblem("--output-dir writes every contract; leave it out to print one.")
    write_contracts(output_dir, open_terminal())
