"""What the README names exists, and what exists is named there."""

import re
from pathlib import Path
from typing import Any

import typer.main

from llmctl.app import app as cli
from service.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def read_table(title: str) -> list[str]:
    section = README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [row.split("`")[1].replace("\\|", "|") for row in rows]


def test_settings_are_those_of_the_code() -> None:
    fields = {name.upper() for name in Settings.model_fields} - {"CALLER_ALLOWLISTS"}

    assert sorted(read_table("Settings of the service")) == sorted(
        fields | {"CALLBACK_TOPIC_ALLOWLIST_<NAME>"}
    )


def test_metrics_are_those_that_are_served(served_metrics: str) -> None:
    served = set(re.findall(r"^# TYPE (\S+) ", served_metrics, re.MULTILINE))
    assert sorted(read_table("Metrics")) == sorted(name for name in served if not name.startswith("process_"))


def list_commands(command: Any, path: str = "") -> list[str]:
    children = getattr(command, "commands", None)
    if children is None:
        return [path]
    names = [name for sub, child in children.items() for name in list_commands(child, f"{path} {sub}")]
    return [*names, path] if path and command.invoke_without_command else names


def test_commands_are_those_of_the_command_line() -> None:
    documented = set()
    for row in read_table("Commands"):
        words = row.removeprefix("llmctl ").split(" ")
        for last in words[-1].split("|"):
            documented.add(" ".join([*words[:-1], last]))

    assert documented == {name.strip() for name in list_commands(typer.main.get_command(cli))}
