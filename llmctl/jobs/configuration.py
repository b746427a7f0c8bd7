"""`config`: values with their origins, contexts, and which of them is current."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from llmctl.contexts import CONTEXT_KEYS, KAFKA_KEYS, ConfigFile
from llmctl.masking import mask
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.settings import DEFAULT, Setting, Settings
from llmctl.switching import switch_context

_CURRENT_MARK = "*"
_SHOWN_KEYS = tuple(key for key in CONTEXT_KEYS if key not in KAFKA_KEYS)
"""In the table; `--output json` tells all of them."""


def report_settings(settings: Settings, terminal: Terminal) -> None:
    """Shows each value and its origin."""
    if terminal.as_json:
        rows = [{"name": each.name, "value": each.masked, "origin": each.origin} for each in settings]
        terminal.write({"settings": rows})
        return
    table = make_table(("name", "value", "origin"), flexible=("origin",))
    for each in settings:
        origin = cell(each.origin, DIM if each.origin == DEFAULT else "", wrap=True)
        table.add_row(cell(each.name), cell(each.masked, "bold"), origin)
    terminal.show(table)


def report_contexts(file: ConfigFile, spoken: Mapping[str, Setting], terminal: Terminal) -> None:
    """Shows every context of the file, its secrets masked."""
    if terminal.as_json:
        rows = [
            {
                "name": name,
                "current": name == file.current,
                **{key: mask(key, values.get(key)) for key in CONTEXT_KEYS},
            }
            for name, values in file.contexts.items()
        ]
        terminal.write({"file": str(file.path), "current": file.current, "contexts": rows})
    elif file.contexts:
        terminal.show(_draw(file))
    else:
        terminal.say(f"There is no context in {file.path}; write a table [contexts.NAME] with a url.")
    if file.current is not None and file.current not in file.contexts:
        terminal.say(f"The current context {file.current!r} is none of them; `llmctl config use NAME`.", BAD)
    _say_override(file.current, spoken, terminal)


def use_context(file: ConfigFile, name: str, spoken: Mapping[str, Setting], terminal: Terminal) -> None:
    """Makes a context the current one and says so."""
    switch_context(file, name)
    if terminal.as_json:
        terminal.write({"file": str(file.path), "current": name, "previous": file.current})
    else:
        before = "" if file.current in {None, name} else f", before it was {file.current}"
        terminal.show(cell(f"The current context is {name}{before}."))
    _say_override(name, spoken, terminal)


def _draw(file: ConfigFile) -> Table:
    table = make_table(("", "context", *_SHOWN_KEYS), flexible=("url", "bootstrap_servers"))
    for name, values in file.contexts.items():
        chosen = name == file.current
        cells = [cell(mask(key, values.get(key)), wrap=True) for key in _SHOWN_KEYS]
        table.add_row(
            cell(_CURRENT_MARK if chosen else "", GOOD), cell(name, "bold" if chosen else ""), *cells
        )
    return table


def _say_override(current: str | None, spoken: Mapping[str, Setting], terminal: Terminal) -> None:
    """An option or variable that chooses another context would make the table a puzzle."""
    over = spoken.get("context")
    if over is not None and over.value != current:
        terminal.say(f"For now {over.value} is chosen instead, by {over.origin}.", "yellow")
