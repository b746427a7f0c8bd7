"""The reference of the command line, from the tree of commands itself."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main

from docs.builder.markdown import code, fence, write_page, write_table
from llmctl.app import app
from llmctl.commands.examples import EXAMPLES
from llmctl.exits import CliError, ExitCode

PROGRAM = "llmctl"
_FRONT = "The whole command line. `llmctl COMMAND --help` shows the same for one command."
_EXIT_CODES_FRONT = """\
Every command ends with one of these. Where several apply to a run of `simulate load`, it is 130, then 5, 6,
4."""
_OPTIONS_OF_ALL = {"help", "url", "bootstrap_servers", "token", "output", "context"}
_COMMON_FRONT = """\
These stand before the command, and those that say where to go also after it. An option beats its variable,
the variable beats the context, the context beats the default; `llmctl config show` tells which it was.
Commands that have data take `--output table|json` (`-o`): a table for people, JSON in a pipe."""


def list_commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command and group below one, with its full name."""
    for name, child in group.commands.items():
        full = f"{path} {name}".strip()
        yield full, child
        if hasattr(child, "commands"):
            yield from list_commands(child, full)


def write_commands() -> str:
    """The page of all commands."""
    tree: Any = typer.main.get_command(app)
    commands = list(list_commands(tree))
    return write_page(
        "# Commands",
        _FRONT,
        "## All commands",
        write_table(
            ("command", "does"),
            ((f"[`{PROGRAM} {name}`](#{_anchor(name)})", _first_line(command)) for name, command in commands),
        ),
        "## Global options",
        _COMMON_FRONT,
        _write_options(tree.params, leave_out=frozenset({"help"})),
        "## Exit codes",
        _EXIT_CODES_FRONT,
        write_table(("code", "name", "when"), _list_exit_codes()),
        *(_write_command(name, command) for name, command in commands),
    )


def _list_exit_codes() -> Iterator[tuple[str, str, str]]:
    meanings = {each.code: each.__doc__ or "" for each in _walk_errors(CliError)}
    meanings[ExitCode.DONE] = "All that was asked for happened."
    for exit_code in ExitCode:
        yield code(str(exit_code.value)), exit_code.name.lower().replace("_", " "), meanings[exit_code]


def _walk_errors(kind: type[CliError]) -> Iterator[type[CliError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _walk_errors(each)


def _write_command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    own = [each for each in command.params if each.name not in _OPTIONS_OF_ALL]
    kind = " COMMAND" if hasattr(command, "commands") else ""
    usage = f"{PROGRAM} {name} [OPTIONS]{kind}" + "".join(f" {_write_usage(each)}" for each in arguments)
    common = sorted(
        f"`{_find_long(each)}`"
        for each in command.params
        if each.name in _OPTIONS_OF_ALL - {"help"} and each.param_type_name == "option"
    )
    return write_page(
        f"## {PROGRAM} {name} {{ #{_anchor(name)} }}",
        _plain(command.help),
        fence(usage, "text"),
        _write_arguments(arguments),
        _write_options(own, leave_out=frozenset()),
        f"Also: {', '.join(common)}." if common else "",
        fence("\n".join(EXAMPLES.get(name, ())), "sh") if name in EXAMPLES else "",
    )


def _write_usage(argument: Any) -> str:
    word = argument.metavar or argument.name.upper()
    word = f"{word}..." if argument.nargs == -1 and "…" not in word else word
    return word if argument.required else f"[{word}]"


def _write_arguments(arguments: list[Any]) -> str:
    return write_table(
        ("argument", "meaning"),
        ((code(each.metavar or each.name.upper()), _plain(each.help)) for each in arguments),
    )


def _write_options(params: list[Any], leave_out: frozenset[str]) -> str:
    options = [each for each in params if each.param_type_name == "option" and each.name not in leave_out]
    return write_table(
        ("option", "default", "meaning"),
        ((_write_names(each), _write_default(each), _write_meaning(each)) for each in options),
    )


def _write_names(option: Any) -> str:
    names = ", ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {code(_find_value(option))}"


def _find_value(option: Any) -> str:
    choices = option.type_descriptor.annotation
    if isinstance(choices, type) and issubclass(choices, Enum) and not option.metavar:
        return "|".join(str(each.value) for each in choices)
    if option.metavar:
        return str(option.metavar)
    return "TEXT" if choices is str else getattr(choices, "__name__", "VALUE").upper()


def _write_default(option: Any) -> str:
    if option.default in (None, False, (), []) or callable(option.default):
        return ""
    value = option.default.value if isinstance(option.default, Enum) else option.default
    return code(str(value))


def _write_meaning(option: Any) -> str:
    variable = f" Variable: `{option.envvar}`." if option.envvar else ""
    often = " May be given often." if option.multiple and "often" not in (option.help or "") else ""
    return f"{_plain(option.help)}{often}{variable}"


def _find_long(option: Any) -> str:
    return next((name for name in option.opts if name.startswith("--")), str(option.opts[0]))


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _first_line(command: Any) -> str:
    return _plain(command.help).partition("\n\n")[0]


def _plain(text: str | None) -> str:
    """A help text without the marks that keep its lines apart."""
    return (text or "").replace("\b", "").strip()
