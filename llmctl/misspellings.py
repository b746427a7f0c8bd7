"""What was meant by a word that is no command and no option: the nearest ones that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

import typer
from typer.core import TyperGroup

from llmctl.exits import UsageProblem

NAMED_AT_MOST = 3
_NEAR = 0.6
_PART_OF_IT = 0.9
"""How near a word is that begins a name or stands in it: `tail` is as good as `tail-callbacks`."""
_SHORTEST_PART = 3
_MUCH_FARTHER = 0.15
"""What is farther than the nearest by so much was not meant."""


class CommandGroup(TyperGroup):
    """A group of commands that says which one was meant, also where it stands in another group."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word; UsageProblem with the nearest ones where there is none."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-") and not ctx.resilient_parsing:
            raise UsageProblem(f"There is no command {word!r}{_say_place(ctx)}; {_suggest(ctx, word)}")
        return super().resolve_command(ctx, args)


def explain_misuse(problem: typer.TyperException) -> str:
    """Typer's own complaint as one sentence of ours: what is wrong, and what to do about it."""
    option = getattr(problem, "option_name", None)
    context = getattr(problem, "ctx", None)
    if option is not None and context is not None and problem.format_message().startswith("No such option"):
        return f"There is no option {option!r}{_say_place(context)}; {_suggest_option(context, option)}"
    # Pydantic, with which Typer reads values, names its own kind of error first.
    said = problem.format_message().replace("Value error, ", "").rstrip(".?")
    return f"{said}; --help shows what there is."


def rank_near(word: str, names: Iterable[str]) -> list[str]:
    """Those of the names that may have been meant by a word, the nearest first."""
    scored = {name: _score(word.lower(), name.lower()) for name in names}
    best = max(scored.values(), default=0.0)
    near = [name for name, score in scored.items() if score >= max(_NEAR, best - _MUCH_FARTHER)]
    return sorted(near, key=lambda name: (-scored[name], name))[:NAMED_AT_MOST]


def _score(word: str, name: str) -> float:
    part = len(word) >= _SHORTEST_PART and (name.startswith(word) or word in name.split("-"))
    return max(SequenceMatcher(None, word, name).ratio(), _PART_OF_IT if part else 0.0)


def _suggest(context: Any, word: str) -> str:
    here = {name: f"{context.command_path} {name}" for name in context.command.commands}
    near = [here[name] for name in rank_near(word, here)]
    if not near:  # it may stand in another group
        root = context.find_root()
        there = list(_walk(root.command.commands, root.command_path))
        names = rank_near(word, {name for _, name in there})
        near = [path for wanted in names for path, name in there if name == wanted][:NAMED_AT_MOST]
    if near:
        return f"did you mean {' or '.join(f'`{path}`' for path in near)}?"
    return f"`{context.command_path} --help` shows what there is."


def _walk(commands: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The full name and the last word of every command."""
    for name, command in commands.items():
        yield f"{path} {name}", name
        yield from _walk(getattr(command, "commands", {}), f"{path} {name}")


def _suggest_option(context: Any, option: str) -> str:
    root = context.find_root()
    for param in root.command.get_params(root):
        if context is not root and option in param.opts:
            value = "" if param.is_flag else f" {param.metavar}"
            _, _, rest = context.command_path.partition(" ")
            return f"it stands before the command: `{root.command_path} {option}{value} {rest}`."
    params = context.command.get_params(context)
    near = rank_near(option, [name for param in params for name in param.opts if name.startswith("-")])
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"`{context.command_path} --help` shows what there is."


def _say_place(context: Any) -> str:
    """Of which command or group, where it is not the whole program."""
    return "" if context.parent is None else f" of `{context.command_path}`"
