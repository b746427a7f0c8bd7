"""The user's file of contexts: `current = "NAME"` and tables `[contexts.NAME]`, in TOML."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any

import platformdirs

from llmctl.exits import UsageProblem

CONFIG_VARIABLE = "LLMCTL_CONFIG"
FILE_NAME = "config.toml"
KAFKA_KEYS = (
    "kafka_security_protocol",
    "kafka_sasl_mechanism",
    "kafka_sasl_username",
    "kafka_sasl_password",
    "kafka_ssl_cafile",
    "kafka_allow_insecure",
)
"""How Kafka is logged in to. No option says them: a password would stand in the list of processes."""
CONTEXT_KEYS = ("url", "bootstrap_servers", "token", "environment", *KAFKA_KEYS)
SECRET_KEYS = frozenset({"token", "kafka_sasl_password"})
PRODUCTION = frozenset({"prod", "production"})
"""Environments in which nothing is stopped without asking."""

_TOP_KEYS = ("current", "contexts")
_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class ConfigFile:
    """What stands in the file; without a file, nothing."""

    path: Path
    text: str | None = field(default=None, repr=False)
    """None where there is no file."""
    current: str | None = None
    contexts: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    exposed: bool = False
    """Whether it holds a secret and can be read by others than its owner."""

    def find(self, name: str, chosen_by: str) -> Mapping[str, str]:
        """The values of a context; UsageProblem that names the ones there are, the nearest first."""
        if name in self.contexts:
            return self.contexts[name]
        near = sorted(self.contexts, key=lambda each: (-SequenceMatcher(None, name, each).ratio(), each))
        there = f"there are {', '.join(near)}" if near else f"it needs a table [contexts.{name}]"
        raise UsageProblem(f"There is no context {name!r} ({chosen_by}) in {self.path}; {there}.")


def read_config() -> ConfigFile:
    """The user's file; UsageProblem with the file, and the line where known, for what is wrong in it."""
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else Path(platformdirs.user_config_dir("llmctl")) / FILE_NAME
    try:
        raw = path.read_bytes()
        mode = path.stat().st_mode
    except FileNotFoundError:
        if named:
            raise UsageProblem(f"There is no file {path}, which {CONFIG_VARIABLE} names.") from None
        return ConfigFile(path)
    except OSError as problem:
        raise UsageProblem(f"{path} cannot be read: {problem.strerror or problem}.") from problem
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise UsageProblem(f"{path}, line {line}: this is no UTF-8 text.") from problem
    current, contexts = parse_config(text, path)
    holds_secret = any(SECRET_KEYS & values.keys() for values in contexts.values())
    return ConfigFile(path, text, current, contexts, holds_secret and bool(mode & _READABLE_BY_OTHERS))


def parse_config(text: str, path: Path) -> tuple[str | None, dict[str, dict[str, str]]]:
    """The current context and all contexts in a text; UsageProblem where it is no such file."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        place = _PLACE.search(str(problem))
        number = None if place is None else place[1] or text.rstrip().count("\n") + 1
        line = "" if number is None else f", line {number}"
        why = _PLACE.sub("", str(problem)).rstrip(".")
        raise UsageProblem(f"{path}{line}: this is no TOML: {why}.") from None
    check = _Check(text, path)
    check.keys(document, _TOP_KEYS, ())
    contexts = check.table(document.get("contexts", {}), ("contexts",))
    for name, values in contexts.items():
        check.keys(check.table(values, ("contexts", name)), CONTEXT_KEYS, ("contexts", name))
        for key, value in values.items():
            check.text(value, ("contexts", name, key))
    if "current" in document:
        check.text(document["current"], ("current",))
    return document.get("current"), contexts


@dataclass(frozen=True)
class _Check:
    """Refuses what does not belong into the file, naming its line."""

    document: str
    path: Path

    def keys(self, table: Mapping[str, Any], legal: tuple[str, ...], place: tuple[str, ...]) -> None:
        for key in table:
            if key not in legal:
                near = get_close_matches(key, legal, n=1, cutoff=0.5)
                advice = f"did you mean {near[0]}?" if near else f"write {' or '.join(legal)}."
                raise self._refuse((*place, key), f"{key!r} is unknown", advice)

    def table(self, value: Any, place: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._refuse(place, f"{place[-1]!r} is no table", "write [contexts.NAME].")
        return value

    def text(self, value: Any, place: tuple[str, ...]) -> None:
        if not isinstance(value, str):
            raise self._refuse(place, f"{place[-1]!r} is no string", 'write it in quotes: "…".')
        if not value.strip():
            raise self._refuse(place, f"{place[-1]!r} is empty", "give it a value or remove it.")

    def _refuse(self, place: tuple[str, ...], what: str, advice: str) -> UsageProblem:
        line = _find_line(self.document, place)
        return UsageProblem(f"{self.path}{'' if line is None else f', line {line}'}: {what}; {advice}")


def _find_line(text: str, place: tuple[str, ...]) -> int | None:
    """The line with which a key first stands in the document: what is read up to it holds the key."""
    lines = text.split("\n")
    for count in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue  # it ends within a value
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return count
    return None
