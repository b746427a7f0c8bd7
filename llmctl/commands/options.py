"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import typer

from llmctl.exits import UsageProblem
from llmctl.render.terminal import Output
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target

T = TypeVar("T")
WHERE = "Where"


def reading(read: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for an option: what `read` objects to is wrong usage, said in its own words."""

    def parse(text: str) -> T:
        try:
            return read(text)
        except ValueError as problem:
            raise typer.BadParameter(str(problem)) from None

    return parse


Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help=f"The service (default: {DEFAULT_URL}).", rich_help_panel=WHERE
    ),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT,…",
        help=f"Kafka (default: {DEFAULT_BOOTSTRAP_SERVERS}).",
        rich_help_panel=WHERE,
    ),
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="The caller's bearer token.", rich_help_panel=WHERE),
]
OutputForm = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Form of the data (default: table for people, json in a pipe)."),
]


def find_target(context: typer.Context) -> Target:
    """What the global options said."""
    target = context.obj
    assert isinstance(target, Target)
    return target


def read_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`k=v` options as a mapping; UsageProblem for what is no such pair."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageProblem(f"{text!r} of {option} is no pair; write key=value.")
        pairs[key] = value
    return pairs
