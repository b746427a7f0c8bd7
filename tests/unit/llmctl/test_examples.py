"""Every help text ends with examples that the parser accepts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import pytest
import typer.main

from llmctl.app import app
from llmctl.commands.examples import EXAMPLES
from llmctl.tui.model.alerts import parse_alert
from simulator.broker.produce_errors import parse_error_code
from simulator.load.faults import parse_fault
from simulator.load.shape import parse_shape
from simulator.load.thresholds import parse_threshold
from tests.unit.llmctl.conftest import Run

COMMAND: Any = typer.main.get_command(app)
ROOM = 74
"""Columns of a line of an example that is not broken at 80."""
LANGUAGES: dict[str, Callable[[str], object]] = {
    "alert": parse_alert,
    "fault": parse_fault,
    "shape": parse_shape,
    "threshold": parse_threshold,
}
"""Options whose words the commands read themselves."""


def list_names(command: Any, path: str = "") -> Iterator[str]:
    yield path.strip()
    for name, child in getattr(command, "commands", {}).items():
        yield from list_names(child, f"{path} {name}")


def parse(line: str) -> list[Any]:
    """Returns the context of each llmctl command in the line; fails if the parser rejects it."""
    parts = [list(part) for pipe, part in groupby(shlex.split(line), "|".__eq__) if not pipe]
    return [parse_command(part) for part in parts if "llmctl" in part]


def parse_command(words: list[str]) -> Any:
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    assert words.pop(0) == "llmctl"
    context = COMMAND.make_context("llmctl", words)
    while context._protected_args:
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, rest, parent=context)
    return context


def test_every_command_has_one_to_three_examples() -> None:
    assert sorted(EXAMPLES) == sorted(list_names(COMMAND))
    assert all(1 <= len(examples) <= 3 for examples in EXAMPLES.values())


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines]
)
def test_an_example_is_what_the_parser_takes(name: str, line: str) -> None:
    context = parse(line)[-1]
    assert f"{context.command_path} ".startswith(f"llmctl {name}".strip() + " ")
    assert not hasattr(context.command, "commands") or context.command.invoke_without_command
    for option, read in LANGUAGES.items():
        given = context.params.get(option) or ()
        for text in [given] if isinstance(given, str) else given:
            assert read(text)
    if name == "simulate broker error" or (name.endswith("topic-error") and "none" not in line):
        assert parse_error_code(context.params["code"])


@pytest.mark.parametrize("lines", EXAMPLES.values(), ids=list(EXAMPLES))
def test_an_example_is_shown_as_it_stands(lines: tuple[str, ...]) -> None:
    assert all(len(line) <= ROOM and "[" not in line for line in lines)


@pytest.mark.parametrize("line", ["llmctl submit --fil x", "llmctl sumbit", "llmctl drain --timeout soon"])
def test_a_wrong_example_is_found(line: str) -> None:
    """The check can fail."""
    with pytest.raises(Exception, match=r"There is no|No such|'soon'"):
        parse(line)


@pytest.mark.parametrize("name", ["", "submit", "topics", "topics bootstrap", "simulate broker"])
def test_help_ends_with_the_examples(name: str, run_llmctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for asking in ("--help", "-h"):
        ended = run_llmctl(*name.split(), asking)
        said = [line.strip() for line in ended.out.strip().splitlines()]
        assert said[-len(EXAMPLES[name]) :] == [f"$ {line}" for line in EXAMPLES[name]]
