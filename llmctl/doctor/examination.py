"""Asks everything that is to be judged: what can be asked at once is, and nothing waits without a limit."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from uuid import uuid4

import httpx

from llmctl.callback_checks import find_request_id
from llmctl.client.broker_release import read_broker_api
from llmctl.client.callbacks import CallbackRecord, CallbackStream, open_callbacks
from llmctl.client.cluster import ClusterState, read_cluster
from llmctl.client.http import Refused, open_http
from llmctl.client.lag import TopicsReport, open_topics_reader
from llmctl.client.operators import PROVIDERS_PATH
from llmctl.client.service import ServiceClient
from llmctl.client.topics import TopicOutcome, bootstrap_topics
from llmctl.doctor.asking import Reply, ask, find_out
from llmctl.doctor.brokers import KafkaFacts
from llmctl.doctor.checks import Unknown
from llmctl.doctor.configuration import Configuration, Places
from llmctl.doctor.providers import list_providers
from llmctl.doctor.round_trip import METADATA, NOT_ASKED, RoundTrip
from llmctl.doctor.service import OUT_OF_REACH, ServiceFacts
from llmctl.loop import own_tasks
from llmctl.queue_topics import wish_queue_topics
from service.contracts.requests import MAX_PRIORITY
from simulator.kafka_address import KafkaAddress

LIMIT_SECONDS = 15.0
"""So long each question may take."""
POLL_SECONDS = 0.1
MARK = "llmctl doctor"
_READY_PATH, _METRICS_PATH = "/readyz", "/metrics"
_SNAPSHOT_PATH, _CALLERS_PATH = "/admin/v1/snapshot", "/api/v1/providers"


@dataclass(frozen=True)
class DoctorPlan:
    """What to look at."""

    topics: Sequence[str]
    round_trip: bool = False
    timeout_seconds: float = 30.0
    """On the callback of the round trip."""
    max_lag: int = 1000
    strict: bool = False
    admin_token: str | None = field(default=None, repr=False)
    """The operator's, where it is another than the caller's."""


@dataclass(frozen=True)
class Facts:
    """All that was found out."""

    configuration: Configuration
    places: Places
    service: ServiceFacts
    keys: Mapping[str, Reply | Unknown]
    kafka: KafkaFacts
    queue_topics: Sequence[TopicOutcome] | Unknown | None
    """None where the queue does not stand on Kafka, or it is not known where it stands."""
    trip: RoundTrip | Unknown


async def examine(plan: DoctorPlan, configuration: Configuration, places: Places) -> Facts:
    """Asks service and Kafka at once, then what takes the answers of both."""
    async with own_tasks() as tasks:
        asking = tasks.create_task(_ask_service(places, plan.admin_token))
        looking = tasks.create_task(_look_at_kafka(places.kafka, plan.topics))
    (service, keys), kafka = asking.result(), looking.result()
    async with own_tasks() as tasks:
        comparing = tasks.create_task(_compare_queue_topics(service, kafka, places.kafka))
        travelling = tasks.create_task(_travel(plan, places, service, kafka))
    return Facts(configuration, places, service, keys, kafka, comparing.result(), travelling.result())


async def _ask_service(
    places: Places, admin_token: str | None
) -> tuple[ServiceFacts, Mapping[str, Reply | Unknown]]:
    url = places.url
    if isinstance(url, Unknown):
        return ServiceFacts("", url, url, url, url), {}
    operator_token = admin_token or places.token
    async with AsyncExitStack() as closing:
        caller = await closing.enter_async_context(open_http(url, places.token))
        operator = await closing.enter_async_context(open_http(url, operator_token))
        readiness = await find_out(ask(caller, "GET", _READY_PATH), "the service", LIMIT_SECONDS)
        if isinstance(readiness, Unknown):
            unknown = Unknown(OUT_OF_REACH)
            return ServiceFacts(url, readiness, unknown, unknown, unknown), {}
        snapshot, providers, metrics = await asyncio.gather(
            find_out(ask(operator, "GET", _SNAPSHOT_PATH), _SNAPSHOT_PATH, LIMIT_SECONDS),
            find_out(ask(caller, "GET", _CALLERS_PATH), _CALLERS_PATH, LIMIT_SECONDS),
            find_out(ask(caller, "GET", _METRICS_PATH), _METRICS_PATH, LIMIT_SECONDS),
        )
        facts = ServiceFacts(
            url,
            readiness,
            snapshot,
            providers,
            metrics,
            caller_token=places.token is not None,
            operator_token=operator_token is not None,
        )
        return facts, await _try_keys(operator, facts)


async def _try_keys(operator: httpx.AsyncClient, facts: ServiceFacts) -> Mapping[str, Reply | Unknown]:
    """What the vendors say of the keys, by provider; nothing where we are no operator."""
    if facts.figures is None:
        return {}
    names = [str(each["name"]) for each in list_providers(facts) or ()]
    paths = [f"{PROVIDERS_PATH}/{name}/check" for name in names]
    replies = await asyncio.gather(
        *(find_out(ask(operator, "POST", path), path, LIMIT_SECONDS) for path in paths)
    )
    return dict(zip(names, replies, strict=True))


async def _look_at_kafka(kafka: KafkaAddress | Unknown, topics: Sequence[str]) -> KafkaFacts:
    if isinstance(kafka, Unknown):
        return KafkaFacts(kafka, kafka, kafka)
    cluster = await find_out(read_cluster(kafka, topics), f"Kafka at {kafka}", LIMIT_SECONDS)
    if isinstance(cluster, Unknown):
        return KafkaFacts(cluster, cluster, cluster)
    api, lag = await asyncio.gather(
        find_out(read_broker_api(kafka), f"Kafka at {kafka}", LIMIT_SECONDS),
        find_out(_read_lag(kafka, topics), "the list of consumer groups", LIMIT_SECONDS),
    )
    return KafkaFacts(cluster, api, lag)


async def _read_lag(kafka: KafkaAddress, topics: Sequence[str]) -> TopicsReport:
    async with open_topics_reader(kafka, topics) as reader:
        return await reader.read()


async def _compare_queue_topics(
    service: ServiceFacts, facts: KafkaFacts, kafka: KafkaAddress | Unknown
) -> Sequence[TopicOutcome] | Unknown | None:
    queue = (service.figures or {}).get("queue")
    names = queue.get("topics") if isinstance(queue, Mapping) else None
    if not isinstance(names, Mapping):
        return None
    if isinstance(kafka, Unknown) or isinstance(facts.cluster, Unknown):
        return Unknown(facts.why_no_cluster)
    wishes = wish_queue_topics(str(names["requests"]), str(names["dead_letters"]), None, None)
    # How many partitions there are is the operator's choice.
    free = [replace(wish, partitions=None) for wish in wishes]
    return await find_out(bootstrap_topics(kafka, free, dry_run=True), "Kafka", LIMIT_SECONDS)


async def _travel(
    plan: DoctorPlan, places: Places, service: ServiceFacts, kafka: KafkaFacts
) -> RoundTrip | Unknown:
    if not plan.round_trip:
        return Unknown(NOT_ASKED)
    if isinstance(places.url, Unknown) or isinstance(places.kafka, Unknown):
        return Unknown("an address is missing")
    if not service.is_ready:
        return Unknown("the service takes no requests")
    if not isinstance(service.providers, Reply) or not service.providers.is_good:
        return Unknown("the callers' routes are not open to us")
    if isinstance(kafka.cluster, Unknown):
        return Unknown(kafka.why_no_cluster)
    topic = _choose_topic(plan.topics, kafka.cluster)
    if topic is None:
        return Unknown("there is no callback topic")
    limit_seconds = plan.timeout_seconds + 2 * LIMIT_SECONDS
    return await find_out(
        _make_round_trip(places.url, places.token, places.kafka, topic, plan.timeout_seconds),
        "the round trip",
        limit_seconds,
    )


def _choose_topic(topics: Sequence[str], cluster: ClusterState) -> str | None:
    return next((topic for topic in topics if topic in cluster.topics), None)


async def _make_round_trip(
    url: str, token: str | None, kafka: KafkaAddress, topic: str, timeout_seconds: float
) -> RoundTrip:
    run_id = f"doctor-{uuid4().hex[:12]}"
    body = json.dumps(
        {
            "user_prompt": f"This is a test by {MARK}. Which text names more colours?",
            "essay_a": "Red, green and blue.",
            "essay_b": "Red.",
            "callback_topic": topic,
            "metadata": METADATA,
            "priority": MAX_PRIORITY,
            "ttl_seconds": timeout_seconds,  # what nobody waits for any more need not be paid for
        }
    ).encode()
    async with open_callbacks(kafka, [topic]) as stream, open_http(url, token) as client:
        client.headers["x-run-id"] = run_id
        sent = time.time()
        answer = await ServiceClient(client, url).submit(body, key=run_id)
        accepted = time.time()
        if isinstance(answer, Refused):
            return RoundTrip(topic, timeout_seconds, sent, accepted, answer)
        record = await _await_callback(stream, answer.queue_id, timeout_seconds)
        return RoundTrip(topic, timeout_seconds, sent, accepted, answer.queue_id, record, time.time())


async def _await_callback(
    stream: CallbackStream, queue_id: str, timeout_seconds: float
) -> CallbackRecord | None:
    deadline = time.monotonic() + timeout_seconds
    while (left := deadline - time.monotonic()) > 0:
        for record in await stream.read(min(POLL_SECONDS, left)):
            if find_request_id(record) == queue_id:
                return record
    return None
