"""The service's Prometheus metrics. No label takes a value that a caller can invent without bound."""

import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import Usage
from service.telemetry.figures import FAST_SECONDS, SLOW_SECONDS, Figures

OTHER = "other"
MAX_TOPIC_LABELS = 200
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
CIRCUIT_NUMBERS = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class _Children(dict[tuple[str, ...], Any]):
    """A metric's children by their labels: looking one up in the metric checks names and takes a lock."""

    def __init__(self, metric: Counter | Histogram) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> Any:
        child = self[labels] = self._metric.labels(*labels)
        return child


class Metrics:
    """Counts what happens to requests and events: is `RequestMeter`, `CallbackMeter` and `UsageMeter`."""

    def __init__(self, model_names: Collection[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a metric that nobody reads
        self.registry = CollectorRegistry()
        self.figures = Figures()
        ProcessCollector(registry=self.registry)
        self._model_names = frozenset(model_names)
        self._topics: set[str] = set()
        registry = self.registry
        self._accepted = Counter("llm_requests_accepted_total", "Requests answered 202", registry=registry)
        self._rejected = Counter(
            "llm_requests_rejected_total", "Requests refused", ["error_code"], registry=registry
        )
        self._callers = Counter(
            "llm_caller_requests_total",
            "Requests of callers that have a token",
            ["caller", "status"],
            registry=registry,
        )
        self._processed = Counter(
            "llm_requests_processed_total", "Total LLM requests processed", ["status"], registry=registry
        )
        self._published = Counter(
            "callback_events_published_total",
            "Total callback events published",
            ["topic", "status"],
            registry=registry,
        )
        self._publish_failures = Counter(
            "callback_publish_failures_total",
            "Total callback publishing failures",
            ["topic"],
            registry=registry,
        )
        self._usage_published = Counter(
            "llm_usage_events_published_total", "Usage events published", registry=registry
        )
        self._accept_seconds = Histogram(
            "llm_accept_seconds",
            "Body received to durable, in seconds",
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self._queue_wait_seconds = Histogram(
            "llm_queue_wait_seconds",
            "Accepted to first attempt, in seconds",
            buckets=SLOW_SECONDS,
            registry=registry,
        )
        self._provider_seconds = Histogram(
            "llm_provider_seconds",
            "One call to a provider, in seconds",
            ["provider", "model"],
            buckets=SLOW_SECONDS,
            registry=registry,
        )
        self._publish_seconds = Histogram(
            "callback_publish_seconds",
            "Outcome durable to acknowledged by the broker, in seconds",
            ["send"],
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self._end_to_end_seconds = Histogram(
            "llm_end_to_end_seconds",
            "Accepted to callback acknowledged, in seconds",
            buckets=SLOW_SECONDS,
            registry=registry,
        )
        self._calls = Counter(
            "llm_provider_calls_total", "Calls to providers", ["provider", "outcome"], registry=registry
        )
        self._tokens = Counter("llm_tokens_total", "Tokens spent", ["provider", "kind"], registry=registry)
        self._cost = Counter("llm_cost_usd_total", "Estimated cost in USD", ["provider"], registry=registry)
        self._circuits = Gauge(
            "llm_circuit_state", "0 closed, 1 half open, 2 open", ["provider"], registry=registry
        )
        for status in ("success", "error"):
            self._processed.labels(status)
        self._processed_as = _Children(self._processed)
        self._callers_as = _Children(self._callers)
        self._published_as = _Children(self._published)
        self._publish_seconds_as = _Children(self._publish_seconds)
        self._provider_seconds_of = _Children(self._provider_seconds)
        self._calls_of = _Children(self._calls)
        self._tokens_of = _Children(self._tokens)
        self._cost_of = _Children(self._cost)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Adds a figure that is read when it is asked for."""
        Gauge(name, help_text, registry=self.registry).set_function(read)

    def phase_gauge(self, phases: Collection[str], read: Callable[[], str]) -> None:
        """Adds `llm_service_phase{phase}`: 1 for the current phase, else 0."""
        gauge = Gauge("llm_service_phase", "1 for the current phase", ["phase"], registry=self.registry)
        for phase in phases:
            gauge.labels(phase).set_function(partial(_is_current, read, phase))

    def circuit_gauge(self, provider: LLMProviderType, read: Callable[[], str]) -> None:
        """Adds a provider to `llm_circuit_state{provider}`: 0 closed, 1 half open, 2 open."""
        self._circuits.labels(provider.value).set_function(lambda: CIRCUIT_NUMBERS[read()])

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def accepted(self, seconds: float, caller: str | None = None) -> None:
        """A request was answered 202, `seconds` after its body had arrived."""
        self._accepted.inc()
        if caller is not None:
            self._callers_as[caller, "accepted"].inc()
        self._accept_seconds.observe(seconds)
        self.figures.accepted.add()
        self.figures.accept.observe(seconds)

    def rejected(self, code: LLMErrorCode, caller: str | None = None) -> None:
        """A request was refused."""
        self._rejected.labels(code.value).inc()
        if caller is not None:
            self._callers_as[caller, "rejected"].inc()
        self.figures.rejected.add()

    def started(self, waited_seconds: float) -> None:
        """The first attempt at a request began."""
        self._queue_wait_seconds.observe(waited_seconds)
        self.figures.queue_wait.observe(waited_seconds)

    def calling(self, provider: LLMProviderType) -> None:
        """A call to a provider began."""
        self.figures.of_provider(provider).in_flight += 1

    def attempted(
        self,
        provider: LLMProviderType,
        model: str,
        failure: LLMErrorCode | None,
        seconds: float,
        usage: Usage,
    ) -> None:
        """A call to a provider came back."""
        self._calls_of[provider.value, "success" if failure is None else failure.value].inc()
        if failure is LLMErrorCode.REQUEST_CANCELLED:
            self.figures.of_provider(provider).finish(None)  # cut off by us: it says nothing of the provider
            return
        family = _DATED.sub("", model)  # providers answer with a dated name of what was asked
        shown = family if family in self._model_names else OTHER
        self._provider_seconds_of[provider.value, shown].observe(seconds)
        self.figures.provider.observe(seconds)
        self.figures.of_provider(provider).finish(failure)
        for kind, tokens in (
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self._tokens_of[provider.value, kind].inc(tokens)
        if usage.cost_usd:
            self._cost_of[(provider.value,)].inc(usage.cost_usd)

    def processed(self, success: bool) -> None:
        """A request reached its outcome."""
        self._processed_as[("success" if success else "error",)].inc()
        (self.figures.succeeded if success else self.figures.failed).add()

    def published(
        self, topic: str, success: bool, publish_seconds: float, end_to_end_seconds: float, again: bool
    ) -> None:
        """The broker acknowledged a callback."""
        self._published_as[self._topic_label(topic), "success" if success else "error"].inc()
        self._publish_seconds_as[("again" if again else "first",)].observe(publish_seconds)
        self._end_to_end_seconds.observe(end_to_end_seconds)
        self.figures.published.add()
        self.figures.end_to_end.observe(end_to_end_seconds)
        if not again:
            self.figures.publish.observe(publish_seconds)

    def publish_failed(self, topic: str) -> None:
        """An attempt to publish failed."""
        self._publish_failures.labels(self._topic_label(topic)).inc()
        self.figures.publish_failures.add()

    def usage_told(self, count: int) -> None:
        """The broker acknowledged so many usage events."""
        self._usage_published.inc(count)

    def _topic_label(self, topic: str) -> str:
        if topic in self._topics:
            return topic
        if len(self._topics) >= MAX_TOPIC_LABELS:
            return OTHER
        self._topics.add(topic)
        return topic


def _is_current(read: Callable[[], str], phase: str) -> float:
    return float(read() == phase)
