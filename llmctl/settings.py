"""Where each value comes from: an option, else an environment variable, else the context, else a default."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmctl.contexts import CONTEXT_KEYS, KAFKA_KEYS, ConfigFile
from llmctl.masking import mask
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target

OPTION, DEFAULT = "option", "default"
_DEFAULTS = {"url": DEFAULT_URL, "bootstrap_servers": DEFAULT_BOOTSTRAP_SERVERS}


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
            context=given.get("context"),
            environment=given.get("environment"),
            kafka_settings={name: given[name] for name in KAFKA_KEYS if given.get(name) is not None},
            origins={each.name: each.origin for each in self},
        )


def read_kafka_variables() -> dict[str, Setting]:
    """What the variables say of how Kafka is logged in to."""
    spoken = {}
    for name in KAFKA_KEYS:
        variable = f"LLMCTL_{name.upper()}"
        if value := os.environ.get(variable):
            spoken[name] = Setting(name, value, f"environment {variable}")
    return spoken


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
