"""What a shell offers for a value: contexts, topics, providers, scenarios. Silent where it cannot know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from llmctl.contexts import read_config
from llmctl.exits import CliError, UsageProblem
from llmctl.settings import Setting, read_kafka_variables, resolve
from simulator.kafka_address import KafkaAddress

ASKING = ("--install-completion", "--show-completion")
TOPICS_LIMIT_SECONDS = 0.3
"""Somebody waits at a prompt: a broker that takes longer is as good as none."""


def refuse_unknown_shell(words: Sequence[str]) -> None:
    """UsageProblem where a shell's completion is asked for, and nothing says which shell this is."""
    if not set(ASKING) & set(words):
        return
    from shellingham import ShellDetectionFailure, detect_shell

    try:
        detect_shell()
    except ShellDetectionFailure:
        raise UsageProblem(
            "Nothing says which shell this is; `_LLMCTL_COMPLETE=source_bash llmctl` prints the completion "
            "for bash, and source_zsh, source_fish and source_powershell those for the others."
        ) from None


def complete_contexts() -> list[tuple[str, str]]:
    """The contexts of the config file, each with what it is for."""
    try:
        contexts = read_config().contexts
    except CliError:
        return []
    return [
        (name, values.get("environment") or values.get("url") or "context")
        for name, values in contexts.items()
    ]


def complete_topics(context: typer.Context) -> list[str]:
    """The topics of the Kafka that the command line so far means."""
    kafka = _find_kafka(context)
    return [] if kafka is None else sorted(_list_topics(kafka))


def complete_providers() -> list[str]:
    """The providers that a service can ask."""
    from service.contracts.enums import LLMProviderType

    return [each.value for each in LLMProviderType if each is not LLMProviderType.MOCK]


def complete_scenarios() -> list[str]:
    """The scenarios that ship with the fake provider; a file's name is the shell's own business."""
    from simulator.essays import fixtures_root

    try:
        return sorted(path.stem for path in (fixtures_root() / "scenarios").glob("*.toml"))
    except OSError:
        return []


def _find_kafka(context: typer.Context) -> KafkaAddress | None:
    """Where Kafka is: as the command says, else as is said before it, else as the context says."""
    own = context.params.get("bootstrap_servers")
    given = context.find_root().params
    spoken = {
        name: Setting(name, given[name], "option")
        for name in ("context", "bootstrap_servers")
        if given.get(name) is not None
    }
    try:
        target = resolve(read_kafka_variables() | spoken, read_config()).make_target()
        return target.override(bootstrap_servers=own).kafka
    except CliError:
        return None


def _list_topics(kafka: KafkaAddress) -> Iterator[str]:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # Only errors that end the process are logged: a broker that is away is none of the prompt's business.
    try:
        admin = AdminClient({**kafka.for_librdkafka(), "log_level": 0})
        found = admin.list_topics(timeout=TOPICS_LIMIT_SECONDS)
    except KafkaException:
        return
    yield from (name for name in found.topics if not name.startswith("__"))
