"""Which service and which Kafka a program means: what it says, else variables, else the file of contexts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmctl.client.problems import WrongSetting, say_parameters
from llmctl.contexts import read_config
from llmctl.exits import UsageProblem
from llmctl.settings import OPTION, Setting, read_kafka_variables, resolve
from simulator.kafka_address import KafkaAddress


@dataclass(frozen=True)
class Addresses:
    """Where both are, and the caller's token."""

    url: str
    kafka: KafkaAddress
    token: str | None = field(repr=False)


def find_addresses(given: Mapping[str, str | None]) -> Addresses:
    """The same as the command line finds them; WrongSetting where something makes no sense."""
    spoken = read_kafka_variables()
    for name, value in given.items():
        if value is not None:
            spoken[name] = Setting(name, value, OPTION)
        elif said := os.environ.get(f"LLMCTL_{name.upper()}"):
            spoken[name] = Setting(name, said, f"environment LLMCTL_{name.upper()}")
    try:
        target = resolve(spoken, read_config()).make_target()
        return Addresses(target.url, target.kafka, target.bearer_token)
    except UsageProblem as problem:
        raise WrongSetting(say_parameters(str(problem))) from problem
