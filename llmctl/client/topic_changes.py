"""Changes topics that stand: adds partitions and sets settings, nothing by which a record would be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from llmctl.client.kafka import CONNECT_LIMIT_SECONDS, REQUEST_LIMIT_SECONDS, refuse_broker
from simulator.kafka_address import KafkaAddress


@dataclass(frozen=True)
class TopicChange:
    """What is to become of one topic."""

    name: str
    partitions: int | None
    """As many as there are to be in the end; None leaves them."""
    config: Mapping[str, str]
    """Settings to set; all others stay as they are."""


async def apply_changes(kafka: KafkaAddress, changes: Sequence[TopicChange]) -> dict[str, str]:
    """Makes the changes; the reason for each topic of which not all were made. Unreachable: no broker.

    By librdkafka's admin client, which sets single settings (IncrementalAlterConfigs, KIP-339).
    aiokafka knows only the older request, and that one takes back every setting that it does not name.
    """
    return await asyncio.to_thread(_apply, kafka, changes)


def _apply(kafka: KafkaAddress, changes: Sequence[TopicChange]) -> dict[str, str]:
    admin = AdminClient({**kafka.for_librdkafka(), "log_level": 0})
    limits = {"request_timeout": REQUEST_LIMIT_SECONDS}
    try:
        admin.list_topics(timeout=CONNECT_LIMIT_SECONDS)
    except KafkaException as problem:
        raise refuse_broker(kafka) from problem
    grown = [NewPartitions(change.name, change.partitions) for change in changes if change.partitions]
    set_anew = [_set_anew(change) for change in changes if change.config]
    asked: list[tuple[str, Future[Any]]] = []
    if grown:
        asked += admin.create_partitions(grown, **limits).items()
    if set_anew:
        told = admin.incremental_alter_configs(set_anew, **limits)
        asked += [(resource.name, answer) for resource, answer in told.items()]
    failures: dict[str, str] = {}
    for name, answer in asked:
        try:
            answer.result(REQUEST_LIMIT_SECONDS + CONNECT_LIMIT_SECONDS)
        except KafkaException as problem:
            failures[name] = _read_reason(problem)
        except TimeoutError as problem:  # not even the client says so: its own limit is shorter
            raise refuse_broker(kafka) from problem
    return failures


def _set_anew(change: TopicChange) -> ConfigResource:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in change.config.items()
    ]
    return ConfigResource(ResourceType.TOPIC, change.name, incremental_configs=entries)


def _read_reason(problem: KafkaException) -> str:
    error: KafkaError = problem.args[0]
    return str(error.str())
