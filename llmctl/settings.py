"""Where each value comes from: an option, else an environment variable, else the context, else a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from llmctl.contexts import CONTEXT_KEYS, ConfigFile
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target

OPTION, DEFAULT = "option", "default"
_DEFAULTS = {"url": DEFAULT_URL, "bootstrap_servers": DEFAULT_BOOTSTRAP_SERVERS}
_MASK = "…"
_SHOWN_CHARACTERS = 2
_MIN_SECRET_TO_SHOW = 5


@dataclass(frozen=True)
class Setting:
    """A value, and what it came from in words."""

    name: str
    value: str | None = field(repr=False)
    origin: str

    @property
    def masked(self) -> str | None:
        """The value as it may be shown to anyone."""
        return mask(self.name, self.value)


@dataclass(frozen=True)
class Settings:
    """All values that say which service and which Kafka is meant, by name."""

    of: Mapping[str, Setting]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.of.values())

    def make_target(self) -> Target:
        """The same as what a command talks to."""
        given: dict[str, Any] = {name: each.value for name, each in self.of.items() if each.origin != DEFAULT}
        return Target(
            given.get("url"),
            given.get("bootstrap_servers"),
            given.get("token"),
            environment=given.get("environment"),
            origins={each.name: each.origin for each in self},
        )


def choose_context_name(spoken: Mapping[str, Setting], file: ConfigFile) -> Setting:
    """Which context is meant, None where none is."""
    if "context" in spoken:
        return spoken["context"]
    return Setting("context", file.current, DEFAULT if file.current is None else f"current in {file.path}")


def resolve(spoken: Mapping[str, Setting], file: ConfigFile) -> Settings:
    """What was spoken before what the context says; UsageProblem where there is no such context."""
    chosen = choose_context_name(spoken, file)
    values = {} if chosen.value is None else file.find(chosen.value, chosen.origin)
    found = {"context": chosen}
    for name in CONTEXT_KEYS:
        if name in spoken:
            found[name] = spoken[name]
        elif name in values:
            found[name] = Setting(name, values[name], f"context {chosen.value} in {file.path}")
        else:
            found[name] = Setting(name, _DEFAULTS.get(name), DEFAULT)
    return Settings(found)


def mask(name: str, value: str | None) -> str | None:
    """A value without what is secret in it: all but the beginning of a token, the password in a URL."""
    if value is None:
        return None
    if name == "token":
        return (value[:_SHOWN_CHARACTERS] if len(value) >= _MIN_SECRET_TO_SHOW else "") + _MASK
    if name == "url" and "@" in value:
        try:
            parts = urlsplit(value)
        except ValueError:
            return _MASK
        if parts.password is not None:
            user, _, host = parts.netloc.rpartition("@")
            return parts._replace(netloc=f"{user.partition(':')[0]}:{_MASK}@{host}").geturl()
    return value
