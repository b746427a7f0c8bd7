"""The only file that names concrete classes: from settings to a service, not yet started."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version

from starlette.types import ASGIApp

from service.callbacks.kafka import KafkaPublisher
from service.callbacks.log import KafkaCallbackLog
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.enums import LLMProviderType
from service.contracts.topics import name_journal, name_memory
from service.core.guard import Limits
from service.core.ports import LLMProvider, Tracing
from service.core.topic_policy import TopicPolicy
from service.engine.accounting import Accounting
from service.engine.budget import Budget, BudgetLimits
from service.engine.cancellation import Cancellation, Wishes
from service.engine.drain import DrainController
from service.engine.guards import Guards
from service.engine.idempotency import Idempotency
from service.engine.intake import Intake
from service.engine.journal import Journal
from service.engine.operations import Deployment, Operations
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool
from service.engine.processor import Processor
from service.engine.readback import ReadBack
from service.engine.reaper import Reaper
from service.engine.relay import Relay
from service.engine.routing import Router
from service.engine.undelivered import Undelivered
from service.engine.usage_feed import UsageFeed
from service.kafka.connection import KafkaConnection, require_compiled_records
from service.providers.anthropic import Anthropic
from service.providers.catalogue import CATALOGUE, Catalogue
from service.providers.catalogue_file import CatalogueInvalid, read_models
from service.providers.dialect import Dialect
from service.providers.google import Google
from service.providers.mock import MockProvider
from service.providers.openai import OpenAI
from service.providers.openrouter import OpenRouter
from service.providers.remote import RemoteProvider
from service.providers.transport import open_transport
from service.queues.kafka.queue import KafkaQueue, QueueTopics
from service.queues.sqlite.queue import SqliteQueue
from service.settings import PREFIX, Settings, SettingsInvalid
from service.telemetry.clock import SystemClock
from service.telemetry.logs import LogLevel
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import open_tracing
from service.web.app import create_app
from service.web.comparison import ComparisonEndpoint
from service.web.credentials import Credentials
from service.web.front_door import FrontDoor

LEND_MARGIN_SECONDS = 10.0
"""How much longer than a call may take its request is left alone by whoever takes its partition over."""

SECONDS_OF_HOUR = 3600.0

Queue = SqliteQueue | KafkaQueue

_DIALECTS: Mapping[LLMProviderType, Callable[..., Dialect]] = {
    LLMProviderType.OPENAI: OpenAI,
    LLMProviderType.ANTHROPIC: Anthropic,
    LLMProviderType.GOOGLE: Google,
    LLMProviderType.OPENROUTER: OpenRouter,
}


@dataclass(frozen=True, slots=True)
class UsageTelling:
    """What tells usage; its publisher is its own, so that what befalls it befalls no callback."""

    feed: UsageFeed
    publisher: KafkaPublisher


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the lifecycle starts, drains and closes."""

    settings: Settings
    gate: PhaseGate
    queue: Queue
    publisher: KafkaPublisher
    directory: KafkaTopicDirectory
    providers: tuple[LLMProvider, ...]
    pool: Pool
    relay: Relay
    usage: UsageTelling | None
    """None where usage is told to nobody."""
    read_back: ReadBack
    reaper: Reaper
    tracing: Tracing
    cancellation: Cancellation
    drain: DrainController
    operations: Operations
    app: ASGIApp


def build(settings: Settings) -> Service:
    """Puts the service together; opens nothing. Raises `ServiceError` where the settings do not fit."""
    require_compiled_records()
    connection = _connect_options(settings)
    gate = PhaseGate()
    clock = SystemClock()
    directory = KafkaTopicDirectory(connection)
    publisher = KafkaPublisher(connection, directory)
    log = KafkaCallbackLog(connection, directory)
    queue = _open_queue(settings, connection, log)
    catalogue = _read_catalogue(settings)
    providers = _offer_providers(settings, catalogue)
    router = Router(providers, settings.default_llm_provider)
    tracing = open_tracing(version("llmctl"))
    metrics = Metrics([name for provider in LLMProviderType for name in catalogue.names(provider)])
    guards = Guards(
        _read_limits(settings, providers),
        settings.default_llm_provider,
        clock,
        on_change=queue.nudge,
        default_models={name: provider.default_model for name, provider in providers.items()},
    )
    wishes = Wishes()
    limits = BudgetLimits(settings.max_cost_usd_per_request, settings.max_cost_usd_per_day)
    processor = Processor(
        queue=queue,
        router=router,
        guards=guards,
        budget=Budget(limits, catalogue, queue, clock),
        wishes=wishes,
        meter=metrics,
        tracing=tracing,
        clock=clock,
        max_attempts=settings.max_attempts,
        provider_timeout_seconds=settings.provider_timeout_seconds,
        tell_usage=settings.usage_topic is not None,
    )
    pool = Pool(
        queue=queue,
        process=processor.process,
        gate=gate,
        guards=guards,
        concurrency=settings.concurrency,
    )
    cancellation = Cancellation(gate=gate, queue=queue, wishes=wishes, end=processor.cancel)
    if isinstance(queue, KafkaQueue):
        queue.cancel_held = cancellation.cancel_held
    drain = DrainController(gate=gate, pool=pool, queue=queue, outbox=queue.outbox, clock=clock)
    operations = Operations(
        deployment=_describe_deployment(settings),
        gate=gate,
        directory=directory,
        queue=queue,
        outbox=queue.outbox,
        undelivered=queue.outbox,
        usage=queue.usage,
        pool=pool,
        router=router,
        guards=guards,
        drain=drain,
        figures=metrics.figures,
        prices=catalogue,
        keyed={name: one for name, one in providers.items() if isinstance(one, RemoteProvider)},
        disk=queue.disk if isinstance(queue, SqliteQueue) else None,
        clock=clock,
    )
    intake = Intake(
        gate=gate,
        queue=queue,
        outbox=queue.outbox,
        undelivered=queue.outbox,
        idempotency=Idempotency(queue),
        topics=_build_topic_policies(settings),
        directory=directory,
        router=router,
        clock=clock,
        max_size=settings.queue_max_size,
        default_ttl_seconds=settings.default_ttl_seconds,
        callers=settings.tokens_of_callers(),
    )
    _watch(metrics, gate, queue, pool, router, guards)
    credentials = Credentials(settings.tokens_of_callers(), settings.tokens_of_operators())
    submit = ComparisonEndpoint(intake, credentials, metrics, tracing, settings.max_body_bytes)
    app = create_app(
        version=version("llmctl"),
        submit=submit,
        cancellation=cancellation,
        operations=operations,
        drain=drain,
        undelivered=Undelivered(queue.outbox),
        journal=Journal(queue, settings.journal_retention_hours),
        logs=LogLevel(settings.log_level),
        accounting=Accounting(queue, limits, clock),
        credentials=credentials,
        render_metrics=metrics.render,
    )
    return Service(
        settings=settings,
        gate=gate,
        queue=queue,
        publisher=publisher,
        directory=directory,
        providers=tuple(providers.values()),
        pool=pool,
        relay=Relay(
            outbox=queue.outbox,
            doubtful=queue.outbox,
            publisher=publisher,
            log=log,
            meter=metrics,
            tracing=tracing,
        ),
        usage=_tell_usage(settings, queue, KafkaPublisher(connection, directory), metrics),
        tracing=tracing,
        read_back=ReadBack(outbox=queue.outbox, log=log),
        reaper=Reaper(queue=queue, memory=queue, process=processor.process, gate=gate),
        cancellation=cancellation,
        drain=drain,
        operations=operations,
        app=FrontDoor(app, submit),
    )


def _tell_usage(
    settings: Settings, queue: Queue, publisher: KafkaPublisher, metrics: Metrics
) -> UsageTelling | None:
    topic = settings.usage_topic
    if topic is None:
        return None
    feed = UsageFeed(events=queue.usage, topic=topic, publisher=publisher, meter=metrics)
    return UsageTelling(feed, publisher)


def _choose_topics(settings: Settings) -> QueueTopics:
    topic = settings.request_topic
    return QueueTopics(topic, name_journal(topic), name_memory(topic), settings.dead_letter_topic)


def _open_queue(settings: Settings, connection: KafkaConnection, log: KafkaCallbackLog) -> Queue:
    if settings.queue_backend == "sqlite":
        return SqliteQueue(
            settings.queue_path,
            idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
            journal_retention_seconds=settings.journal_retention_hours * SECONDS_OF_HOUR,
            disk_reserve_bytes=settings.queue_disk_reserve_bytes,
        )
    return KafkaQueue(
        connection,
        _choose_topics(settings),
        group=settings.request_group,
        replica_name=settings.name_replica(),
        find_offsets=log.find_offsets_at,
        lend_seconds=settings.provider_timeout_seconds + LEND_MARGIN_SECONDS,
        default_ttl_seconds=settings.default_ttl_seconds,
        idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
        journal_retention_seconds=settings.journal_retention_hours * SECONDS_OF_HOUR,
    )


def _describe_deployment(settings: Settings) -> Deployment:
    return Deployment(
        version=version("llmctl"),
        queue_backend=settings.queue_backend,
        queue_capacity=settings.queue_max_size,
        usage_topic=settings.usage_topic,
        queue_topics=asdict(_choose_topics(settings)) if settings.queue_backend == "kafka" else {},
    )


def _read_limits(
    settings: Settings, providers: Mapping[LLMProviderType, LLMProvider]
) -> dict[LLMProviderType, Limits]:
    """What each configured provider may be asked."""
    limits = {LLMProviderType.MOCK: Limits(settings.concurrency)}
    for name in _DIALECTS:
        vendor = settings.of_vendor(name)
        limits[name] = Limits(vendor.max_concurrency, vendor.rpm, vendor.tpm)
    return {name: limits[name] for name in providers}


def _read_catalogue(settings: Settings) -> Catalogue:
    if settings.model_catalogue is None:
        return CATALOGUE
    try:
        return CATALOGUE.extend(read_models(settings.model_catalogue))
    except CatalogueInvalid as error:
        raise SettingsInvalid(f"Wrong setting {PREFIX}MODEL_CATALOGUE: {error}") from error


def _build_topic_policies(settings: Settings) -> Callable[[str | None], TopicPolicy]:
    topics = _choose_topics(settings).all() if settings.queue_backend == "kafka" else ()
    if settings.usage_topic is not None:
        topics = (*topics, settings.usage_topic)
    shared = TopicPolicy(settings.callback_topic_allowlist, topics)
    own = {name: TopicPolicy(settings.allowlist_of(name), topics) for name in settings.tokens_of_callers()}
    return lambda caller: shared if caller is None else own[caller]


def _connect_options(settings: Settings) -> KafkaConnection:
    password = settings.kafka_sasl_password
    return KafkaConnection(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=None if password is None else password.get_secret_value(),
        ssl_cafile=settings.kafka_ssl_cafile,
        allow_insecure=settings.allow_insecure,
    )


def _offer_providers(settings: Settings, catalogue: Catalogue) -> dict[LLMProviderType, LLMProvider]:
    providers: dict[LLMProviderType, LLMProvider] = {}
    if settings.allow_mock_provider:
        providers[LLMProviderType.MOCK] = MockProvider()
    for name, dialect in _DIALECTS.items():
        vendor = settings.of_vendor(name)
        if vendor.api_key is None:
            continue
        try:
            speaker = dialect(api_key=vendor.api_key.get_secret_value(), base_url=vendor.base_url)
        except ValueError as error:
            raise SettingsInvalid(f"Wrong setting {PREFIX}{name.upper()}_BASE_URL: {error}") from error
        provider = RemoteProvider(
            speaker,
            default_model=vendor.model,
            catalogue=catalogue,
            transport=open_transport(max_connections=vendor.max_concurrency),
        )
        objection = provider.find_objection(vendor.model, None)
        if objection is not None:
            raise SettingsInvalid(f"Wrong setting {PREFIX}{name.upper()}_MODEL: {objection}")
        providers[name] = provider
    return providers


def _watch(
    metrics: Metrics, gate: PhaseGate, queue: Queue, pool: Pool, router: Router, guards: Guards
) -> None:
    def read_oldest_age_seconds() -> float:
        oldest = queue.stats().oldest_accepted_at
        return 0.0 if oldest is None else max(0.0, (SystemClock().now() - oldest).total_seconds())

    metrics.gauge("llm_queue_depth", "Requests waiting, in flight left out", lambda: queue.stats().waiting)
    metrics.gauge(
        "llm_queue_oldest_age_seconds",
        "Age of the oldest waiting request, in seconds",
        read_oldest_age_seconds,
    )
    metrics.gauge(
        "llm_queue_quarantined",
        "Stored rows that cannot be read and were set aside",
        lambda: queue.stats().quarantined.count,
    )
    metrics.gauge("llm_requests_in_flight", "Requests being worked on", pool.in_flight_count)
    metrics.gauge("llm_outbox_depth", "Callbacks the broker has not acknowledged", queue.outbox.depth)
    metrics.gauge("llm_outbox_parked", "Callbacks the broker refused for good", queue.outbox.parked)
    metrics.gauge(
        "llm_usage_events_pending", "Usage events the broker has not acknowledged", queue.usage.depth
    )
    metrics.phase_gauge([phase.value for phase in Phase], lambda: gate.current.value)
    for provider in router.names():
        metrics.circuit_gauge(provider, partial(_read_circuit, guards, provider))


def _read_circuit(guards: Guards, provider: LLMProviderType) -> str:
    return guards.state(provider).circuit.value
