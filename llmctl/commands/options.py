"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

import typer

from llmctl.contexts import ConfigFile, read_config
from llmctl.exits import UsageProblem
from llmctl.render.terminal import Output, open_terminal
from llmctl.settings import OPTION, Setting, Settings, read_kafka_variables, resolve
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target

T = TypeVar("T")
WHERE = "Where"
GLOBAL_OPTIONS = ("context", "url", "bootstrap_servers", "token")


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


def read_spoken(context: typer.Context) -> dict[str, Setting]:
    """What the global options and their variables say, and which of the two it was."""
    spoken = {}
    for name in GLOBAL_OPTIONS:
        value, source = context.params[name], context.get_parameter_source(name)
        if value is not None:
            by_variable = source is not None and source.name == "ENVIRONMENT"
            origin = f"environment LLMCTL_{name.upper()}" if by_variable else OPTION
            spoken[name] = Setting(name, value, origin)
    return spoken | read_kafka_variables()


def find_spoken(context: typer.Context) -> Mapping[str, Setting]:
    """The same, where a command needs it."""
    spoken = context.obj
    assert isinstance(spoken, dict)
    return spoken


def find_config() -> ConfigFile:
    """The user's file of contexts; says on stderr where others can read a token in it."""
    file = read_config()
    if file.exposed:
        open_terminal().say(
            f"{file.path} holds a secret and others can read it; `chmod 600 {file.path}` keeps it yours.",
            "yellow",
        )
    return file


def find_settings(context: typer.Context) -> Settings:
    """What options, variables and the context say together. Read only here: help needs no file."""
    return resolve(find_spoken(context), find_config())


def find_target(context: typer.Context) -> Target:
    """The same as what a command talks to."""
    return find_settings(context).make_target()


def read_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`k=v` options as a mapping; UsageProblem for what is no such pair."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageProblem(f"{text!r} of {option} is no pair; write key=value.")
        pairs[key] = value
    return pairs
