"""The only file that names concrete classes: from settings to a service, not yet started."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI

from service.callbacks.connection import KafkaConnection, require_compiled_records
from service.callbacks.kafka import KafkaPublisher
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.enums import LLMProviderType
from service.core.ports import LLMProvider
from service.core.topic_policy import TopicPolicy
from service.engine.drain import DrainController
from service.engine.idempotency import Idempotency
from service.engine.intake import Intake
from service.engine.operations import CIRCUIT_CLOSED, Deployment, Operations
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool
from service.engine.processor import Processor
from service.engine.reaper import Reaper
from service.engine.relay import Relay
from service.engine.routing import Router
from service.providers.catalogue import CATALOGUE, Catalogue
from service.providers.mock import MockProvider
from service.providers.openai import OpenAIProvider
from service.providers.transport import open_transport
from service.queues.sqlite import SqliteQueue
from service.settings import PREFIX, Settings, SettingsInvalid
from service.telemetry.clock import SystemClock
from service.telemetry.metrics import Metrics
from service.web.app import create_app
from service.web.comparison import ComparisonEndpoint
from service.web.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the lifecycle starts, drains and closes."""

    settings: Settings
    gate: PhaseGate
    queue: SqliteQueue
    publisher: KafkaPublisher
    directory: KafkaTopicDirectory
    providers: tuple[LLMProvider, ...]
    pool: Pool
    relay: Relay
    reaper: Reaper
    drain: DrainController
    operations: Operations
    app: FastAPI


def build(settings: Settings) -> Service:
    """Puts the service together; opens nothing. Raises `ServiceError` where the settings do not fit."""
    require_compiled_records()
    connection = _connect_options(settings)
    gate = PhaseGate()
    clock = SystemClock()
    queue = SqliteQueue(settings.queue_path, idempotency_ttl_seconds=settings.idempotency_ttl_seconds)
    publisher = KafkaPublisher(connection)
    directory = KafkaTopicDirectory(connection)
    providers = _offer_providers(settings, CATALOGUE)
    router = Router(providers, settings.default_llm_provider)
    metrics = Metrics([name for provider in LLMProviderType for name in CATALOGUE.names(provider)])
    processor = Processor(
        queue=queue,
        router=router,
        meter=metrics,
        clock=clock,
        max_attempts=settings.max_attempts,
        provider_timeout_seconds=settings.provider_timeout_seconds,
    )
    pool = Pool(queue=queue, process=processor.process, gate=gate, concurrency=settings.concurrency)
    drain = DrainController(gate=gate, pool=pool, queue=queue, outbox=queue.outbox, clock=clock)
    operations = Operations(
        deployment=_describe_deployment(settings),
        gate=gate,
        directory=directory,
        queue=queue,
        outbox=queue.outbox,
        pool=pool,
        router=router,
        drain=drain,
        figures=metrics.figures,
        clock=clock,
    )
    intake = Intake(
        gate=gate,
        queue=queue,
        outbox=queue.outbox,
        idempotency=Idempotency(queue),
        topics=_build_topic_policies(settings),
        directory=directory,
        router=router,
        clock=clock,
        max_size=settings.queue_max_size,
        default_ttl_seconds=settings.default_ttl_seconds,
    )
    _watch(metrics, gate, queue, pool, router)
    credentials = Credentials(settings.tokens_of_callers(), settings.tokens_of_operators())
    app = create_app(
        version=version("llmctl"),
        submit=ComparisonEndpoint(intake, credentials, metrics, settings.max_body_bytes),
        operations=operations,
        drain=drain,
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
        relay=Relay(outbox=queue.outbox, publisher=publisher, meter=metrics),
        reaper=Reaper(queue=queue, memory=queue, process=processor.process, gate=gate),
        drain=drain,
        operations=operations,
        app=app,
    )


def _describe_deployment(settings: Settings) -> Deployment:
    return Deployment(
        version=version("llmctl"),
        queue_backend=settings.queue_backend,
        queue_capacity=settings.queue_max_size,
        provider_limits={LLMProviderType.OPENAI: settings.openai_max_concurrency},
    )


def _build_topic_policies(settings: Settings) -> Callable[[str | None], TopicPolicy]:
    shared = TopicPolicy(settings.callback_topic_allowlist)
    own = {name: TopicPolicy(settings.allowlist_of(name)) for name in settings.tokens_of_callers()}
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
    )


def _offer_providers(settings: Settings, catalogue: Catalogue) -> dict[LLMProviderType, LLMProvider]:
    providers: dict[LLMProviderType, LLMProvider] = {}
    if settings.allow_mock_provider:
        providers[LLMProviderType.MOCK] = MockProvider()
    if settings.openai_api_key is not None:
        openai = OpenAIProvider(
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            default_model=settings.openai_model,
            catalogue=catalogue,
            transport=open_transport(max_connections=settings.openai_max_concurrency),
        )
        objection = openai.find_objection(settings.openai_model, None)
        if objection is not None:
            raise SettingsInvalid(f"Wrong setting {PREFIX}OPENAI_MODEL: {objection}")
        providers[LLMProviderType.OPENAI] = openai
    return providers


def _watch(metrics: Metrics, gate: PhaseGate, queue: SqliteQueue, pool: Pool, router: Router) -> None:
    def read_oldest_age_seconds() -> float:
        oldest = queue.stats().oldest_accepted_at
        return 0.0 if oldest is None else max(0.0, (SystemClock().now() - oldest).total_seconds())

    metrics.gauge("llm_queue_depth", "Requests waiting, in flight left out", lambda: queue.stats().waiting)
    metrics.gauge(
        "llm_queue_oldest_age_seconds",
        "Age of the oldest waiting request, in seconds",
        read_oldest_age_seconds,
    )
    metrics.gauge("llm_requests_in_flight", "Requests being worked on", pool.in_flight_count)
    metrics.gauge("llm_outbox_depth", "Callbacks the broker has not acknowledged", queue.outbox.depth)
    metrics.phase_gauge([phase.value for phase in Phase], lambda: gate.current.value)
    for provider in router.names():
        metrics.circuit_gauge(provider, lambda: CIRCUIT_CLOSED)
