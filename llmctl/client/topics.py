"""The topics of a Kafka, read and created: the embedded broker's through its control, else over the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from llmctl.client.kafka import ask, open_admin
from llmctl.client.topic_changes import TopicChange, apply_changes
from llmctl.exits import Failed, UsageProblem
from simulator.broker.control import BrokerControl, ControlError, TopicSpec, find_control
from simulator.kafka_address import KafkaAddress

DEFAULT_PARTITIONS = 3
WANTED_REPLICAS = 3
LAG_LIMIT_SECONDS = 20.0
LOOK_AGAIN_SECONDS = 0.1
_DEFAULT_CONFIG_SOURCES = frozenset({4, 5})  # the broker's static settings and Kafka's own defaults


@dataclass(frozen=True)
class TopicFacts:
    """A topic as it is; `config` is None where the broker does not tell."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] | None = None


@dataclass(frozen=True)
class TopicWish:
    """A topic as it should be; None leaves the choice to us and is never reported as a difference."""

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    of_queue: bool = False
    """Of three copies two must be in sync; and a broker that keeps no settings may do without them."""


@dataclass(frozen=True)
class TopicOutcome:
    """What became of one wish.

    `created`, `exists`, `changed`, `differs` or `failed`; in a dry run `would create` or `would change`.
    """

    name: str
    state: str
    partitions: int | None = None
    replication_factor: int | None = None
    notes: tuple[str, ...] = ()


async def read_topics(kafka: KafkaAddress) -> dict[str, TopicFacts]:
    """Every topic that is not Kafka's own, by name. Asks for all: asking for one would create it."""
    async with open_admin(kafka) as admin:
        return await _read_all(admin, kafka)


async def describe_topics(kafka: KafkaAddress, names: Sequence[str]) -> dict[str, TopicFacts]:
    """The same for some topics, with what was set for each; names that do not exist are left out."""
    embedded = await find_embedded(kafka) is not None
    async with open_admin(kafka) as admin:
        existing = await _read_all(admin, kafka)
        wanted = {name: existing[name] for name in names if name in existing}
        if embedded or not wanted:
            return wanted
        return await _read_configs(admin, kafka, wanted)


async def bootstrap_topics(
    kafka: KafkaAddress, wishes: Sequence[TopicWish], *, dry_run: bool = False, apply: bool = False
) -> tuple[TopicOutcome, ...]:
    """Creates what is missing, reads back what is there, and says what differs.

    A topic that stands is changed only with `apply`, and then as far as no record is lost by it.
    """
    control = await find_embedded(kafka)
    if control is not None:
        wishes = [replace(wish, config={}) if wish.of_queue else wish for wish in wishes]
        _refuse_what_embedded_lacks(wishes, apply=apply)
    existing = await describe_topics(kafka, [wish.name for wish in wishes])
    missing = [wish for wish in wishes if wish.name not in existing]
    failures: dict[str, str] = {}
    if missing and not dry_run:
        failures = await (
            _create_embedded(control, missing) if control is not None else _create_over_wire(kafka, missing)
        )
        created = [
            TopicChange(wish.name, wish.partitions, wish.config)
            for wish in missing
            if wish.name not in failures
        ]
        existing = await _describe_changed(kafka, [wish.name for wish in wishes], created)
    done = dict.fromkeys((wish.name for wish in missing), "created")
    changes = _plan_changes(wishes, existing, done) if apply else []
    if changes and not dry_run:
        failures |= await apply_changes(kafka, changes)
        made = [change for change in changes if change.name not in failures]
        existing = await _describe_changed(kafka, [wish.name for wish in wishes], made)
    done |= dict.fromkeys((change.name for change in changes), "would change" if dry_run else "changed")
    return tuple(
        _judge(wish, existing.get(wish.name), failures.get(wish.name), done.get(wish.name), dry_run=dry_run)
        for wish in wishes
    )


async def _describe_changed(
    kafka: KafkaAddress, names: Sequence[str], made: Sequence[TopicChange]
) -> dict[str, TopicFacts]:
    """Describes topics once the broker shows the changes that the controller has made; it lags behind."""
    deadline = time.monotonic() + LAG_LIMIT_SECONDS
    while True:
        existing = await describe_topics(kafka, names)
        if all(_shows(existing.get(change.name), change) for change in made) or time.monotonic() > deadline:
            return existing
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _shows(facts: TopicFacts | None, change: TopicChange) -> bool:
    if facts is None or facts.partitions < (change.partitions or 1):
        return False
    return change.config.items() <= (facts.config or {}).items()


def _plan_changes(
    wishes: Sequence[TopicWish], existing: Mapping[str, TopicFacts], new: Collection[str]
) -> list[TopicChange]:
    """What can be done about the differences of topics that stood before."""
    changes = []
    for wish in wishes:
        facts = existing.get(wish.name)
        if facts is None or wish.name in new:
            continue
        more = wish.partitions if (wish.partitions or 0) > facts.partitions else None
        there = facts.config or {}
        config = {key: value for key, value in wish.config.items() if there.get(key) != value}
        if more or config:
            changes.append(TopicChange(wish.name, more, config))
    return changes


async def find_embedded(kafka: KafkaAddress) -> BrokerControl | None:
    """The control of the embedded broker at this address, None for any other Kafka."""
    try:
        return await find_control(kafka.servers)
    except ControlError as problem:
        raise Failed(str(problem)) from problem


def _refuse_what_embedded_lacks(wishes: Sequence[TopicWish], *, apply: bool) -> None:
    if apply:
        raise UsageProblem("The embedded broker changes no topic that stands; leave --apply out.")
    for wish in wishes:
        if wish.config:
            raise UsageProblem("The embedded broker keeps no topic settings; leave --config out.")
        if (wish.replication_factor or 1) > 1:
            raise UsageProblem("The embedded broker is a single one; leave --replication-factor out.")


async def _create_embedded(control: BrokerControl, wishes: Sequence[TopicWish]) -> dict[str, str]:
    failures: dict[str, str] = {}
    for wish in wishes:
        try:
            await control.create_topics([TopicSpec(wish.name, wish.partitions or DEFAULT_PARTITIONS)])
        except (ControlError, ValueError) as problem:
            failures[wish.name] = str(problem)
    return failures


async def _create_over_wire(kafka: KafkaAddress, wishes: Sequence[TopicWish]) -> dict[str, str]:
    async with open_admin(kafka) as admin:
        cluster = await ask(admin.describe_cluster(), kafka)
        replicas = min(WANTED_REPLICAS, len(cluster["brokers"]))
        topics = [
            NewTopic(
                wish.name,
                wish.partitions or DEFAULT_PARTITIONS,
                wish.replication_factor or replicas,
                topic_configs=_choose_config(wish, wish.replication_factor or replicas),
            )
            for wish in wishes
        ]
        answer = await ask(admin.create_topics(topics), kafka)
    return _read_refusals(answer.to_object()["topic_errors"])


def _choose_config(wish: TopicWish, replicas: int) -> dict[str, str]:
    in_sync = {"min.insync.replicas": "2"} if wish.of_queue and replicas >= WANTED_REPLICAS else {}
    return {**in_sync, **wish.config}


def _read_refusals(errors: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for error in errors:
        kind = for_code(error["error_code"])
        if error["error_code"] and kind is not TopicAlreadyExistsError:  # somebody else was faster
            refused[error["topic"]] = error.get("error_message") or kind.__name__
    return refused


def _judge(
    wish: TopicWish, facts: TopicFacts | None, failure: str | None, done: str | None, *, dry_run: bool
) -> TopicOutcome:
    if facts is None:
        if dry_run:
            partitions = wish.partitions or DEFAULT_PARTITIONS
            return TopicOutcome(wish.name, "would create", partitions, wish.replication_factor)
        return TopicOutcome(wish.name, "failed", notes=(failure or "the broker does not list it yet",))
    differences = _find_differences(wish, facts)
    if failure is not None:
        state, differences = "failed", [failure, *differences]
    elif done == "would change":
        state = done
    else:
        state = "differs" if differences else done or "exists"
    return TopicOutcome(wish.name, state, facts.partitions, facts.replication_factor, tuple(differences))


def _find_differences(wish: TopicWish, facts: TopicFacts) -> list[str]:
    found: list[str] = []
    if wish.partitions is not None and wish.partitions != facts.partitions:
        fewer = "; they can only be added" if wish.partitions < facts.partitions else ""
        found.append(f"partitions are {facts.partitions}, not {wish.partitions}{fewer}")
    if wish.replication_factor is not None and wish.replication_factor != facts.replication_factor:
        found.append(
            f"replication factor is {facts.replication_factor}, not {wish.replication_factor}; it takes a "
            "reassignment (kafka-reassign-partitions)"
        )
    for key, value in wish.config.items():
        there = (facts.config or {}).get(key)
        if there != value:
            found.append(f"{key} is {there or 'not set'}, not {value}")
    return found


async def _read_all(admin: AIOKafkaAdminClient, kafka: KafkaAddress) -> dict[str, TopicFacts]:
    described = await ask(admin.describe_topics(), kafka)
    return {
        topic["topic"]: TopicFacts(
            topic["topic"],
            len(topic["partitions"]),
            min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
        )
        for topic in sorted(described, key=lambda topic: str(topic["topic"]))
        if not topic.get("is_internal") and not topic["topic"].startswith("__")
    }


async def _read_configs(
    admin: AIOKafkaAdminClient, kafka: KafkaAddress, topics: Mapping[str, TopicFacts]
) -> dict[str, TopicFacts]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    answers = await ask(admin.describe_configs(resources), kafka)
    described = dict(topics)
    for answer in answers:
        for resource in answer.to_object()["resources"]:
            name = resource["resource_name"]
            if resource["error_code"] == 0 and name in described:
                facts = described[name]
                config = _read_set_values(resource["config_entries"])
                described[name] = TopicFacts(name, facts.partitions, facts.replication_factor, config)
    return described


def _read_set_values(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        entry["config_names"]: entry["config_value"]
        for entry in entries
        if not entry["is_sensitive"]
        and not entry.get("is_default", entry.get("config_source") in _DEFAULT_CONFIG_SOURCES)
    }
