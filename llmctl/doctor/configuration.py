"""The configuration: the file of contexts, and which service and which Kafka it comes to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llmctl.contexts import ConfigFile, read_config
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.words import split_advice
from llmctl.exits import UsageProblem
from llmctl.settings import DEFAULT, Setting, Settings, choose_context_name, resolve
from simulator.kafka_address import KafkaAddress

GROUP = "configuration"
_NOT_KNOWN = "its address is not known, as the configuration cannot be read"


@dataclass(frozen=True)
class Configuration:
    """What was found of it."""

    file: ConfigFile | None = None
    settings: Settings | None = None
    """None where they cannot be told."""
    context: Setting | None = None
    problem: str | None = None
    """What is wrong with the file or the choice of a context."""


@dataclass(frozen=True)
class Places:
    """Where the two are that everything else is asked of."""

    url: str | Unknown
    kafka: KafkaAddress | Unknown
    token: str | None = field(default=None, repr=False)


def read_configuration(spoken: Mapping[str, Setting]) -> Configuration:
    """Reads the file, and takes what was spoken before it."""
    try:
        file = read_config()
    except UsageProblem as problem:
        return Configuration(problem=str(problem))
    try:
        return Configuration(file, resolve(spoken, file), choose_context_name(spoken, file))
    except UsageProblem as problem:
        return Configuration(file, problem=str(problem))


def find_places(found: Configuration) -> Places:
    """The addresses, as far as they make sense."""
    if found.settings is None:
        return Places(Unknown(_NOT_KNOWN), Unknown(_NOT_KNOWN))
    target = found.settings.make_target()
    url: str | Unknown
    kafka: KafkaAddress | Unknown
    try:
        target.bearer_token  # noqa: B018 - what no header can carry is of no use to the service
        url = target.url
    except UsageProblem as problem:
        url = Unknown(str(problem))
    try:
        kafka = target.kafka
    except UsageProblem as problem:
        kafka = Unknown(str(problem))
    return Places(url, kafka, target.token)


def judge_configuration(found: Configuration, places: Places) -> list[Check]:
    """The file, the service's address, Kafka's address."""
    return [_judge_file(found), *_judge_addresses(found, places)]


def _judge_file(found: Configuration) -> Check:
    section, file = Section(GROUP), found.file
    if file is None or found.problem is not None:
        wrong = split_advice(
            found.problem or "it cannot be read", "Mend it, or name another by LLMCTL_CONFIG."
        )
        return section.failed("file", *wrong)
    if file.text is None:
        return section.passed("file", f"there is none at {file.path}; options, variables and defaults hold")
    chosen = found.context
    context = "no context chosen"
    if chosen is not None and chosen.value is not None:
        context = f"context {chosen.value} ({chosen.origin})"
    if file.exposed:
        return section.warned(
            "file",
            f"{file.path} holds a secret and others can read it; {context}",
            f"`chmod 600 {file.path}` keeps it yours.",
        )
    return section.passed("file", f"{file.path}, {context}")


def _judge_addresses(found: Configuration, places: Places) -> list[Check]:
    section, settings = Section(GROUP), found.settings
    if settings is None:
        return [section.left_out(name, _NOT_KNOWN) for name in ("service", "kafka")]
    service, kafka = settings.of["url"], settings.of["bootstrap_servers"]
    return [_judge_url(places, service), _judge_servers(places, service, kafka)]


def _judge_url(places: Places, service: Setting) -> Check:
    section = Section(GROUP)
    if isinstance(places.url, Unknown):
        wrong = split_advice(places.url.reason, "Correct --url, --token, or where they come from.")
        return section.failed("service", *wrong)
    seen = f"{service.masked} ({service.origin})"
    if places.token and places.url.startswith("http:") and not is_loopback(places.url):
        return section.warned(
            "service", f"{seen}: the token is sent unencrypted", "Reach the service by https://."
        )
    return section.passed("service", seen)


def _judge_servers(places: Places, service: Setting, kafka: Setting) -> Check:
    section = Section(GROUP)
    if isinstance(places.kafka, Unknown):
        wrong = split_advice(places.kafka.reason, "Correct --bootstrap-servers.")
        return section.failed("kafka", *wrong)
    seen = f"{kafka.value} ({kafka.origin})"
    elsewhere = isinstance(places.url, str) and service.origin != DEFAULT and not is_loopback(places.url)
    if elsewhere and kafka.origin == DEFAULT:
        return section.warned(
            "kafka",
            f"{seen}, although the service is elsewhere",
            "Name the service's Kafka by --bootstrap-servers, or as bootstrap_servers of the context.",
        )
    return section.passed("kafka", seen)


def is_loopback(url: str) -> bool:
    """Whether a URL means this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
