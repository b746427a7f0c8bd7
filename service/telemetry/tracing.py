"""Traces over OpenTelemetry, where an OTLP endpoint is named; nothing, at no cost, where none is.

One trace follows a request from its HTTP call over the queue and the provider to its callback: what the queue
and the Kafka headers carry between processes is a W3C `traceparent` (https://www.w3.org/TR/trace-context/).
Spans are named and described after OpenTelemetry's semantic conventions for HTTP, messaging and generative
AI; they hold ids, codes, sizes and durations, never a text.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.core.errors import ServiceError
from service.core.ports import Span, Tracing
from service.core.records import SpanKind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

SERVICE_NAME = "llm_provider_service"
FLUSH_LIMIT_MILLISECONDS = 5000

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class TracingUnavailable(ServiceError):
    """An endpoint for traces is named, and what speaks to it is not installed."""


class _Untraced:
    """A span that nobody sees: it hands its parent on."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def note(self, **attributes: str | float | bool) -> None:
        """Nobody would read it."""

    def end(self, error: str | None = None) -> None:
        """Nothing was begun."""


class NoTracing:
    """What a caller says of its own trace is handed on as it came."""

    def begin(
        self,
        name: str,  # noqa: ARG002 - it is a `Tracing`
        kind: SpanKind,  # noqa: ARG002
        parent: str | None,
        attributes: Mapping[str, str | float | bool] | None = None,  # noqa: ARG002
    ) -> Span:
        """A span that nobody sees."""
        return _Untraced(parent)

    def close(self) -> None:
        """There is nothing to send."""


class OtelTracing:
    """Spans of OpenTelemetry's SDK, sent in batches by a thread of its own."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("llmctl")

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        attributes: Mapping[str, str | float | bool] | None = None,
    ) -> Span:
        """Begins a span below `parent`, or a new trace where there is none."""
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = Context()
        if parent is not None:
            context = TraceContextTextMapPropagator().extract({"traceparent": parent}, context)
        span = self._tracer.start_span(
            name, context, trace.SpanKind[kind.name], dict(attributes) if attributes else None
        )
        return _Traced(span)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most. Blocks."""
        self._provider.force_flush(FLUSH_LIMIT_MILLISECONDS)
        self._provider.shutdown()


class _Traced:
    __slots__ = ("_span", "traceparent")

    def __init__(self, span: "OtelSpan") -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, **attributes: str | float | bool) -> None:
        """Adds facts."""
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def end(self, error: str | None = None) -> None:
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def open_tracing(version: str, environment: Mapping[str, str] = os.environ) -> Tracing:
    """What OpenTelemetry's own variables ask for. Raises `TracingUnavailable`.

    `OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP) turns traces on; `OTEL_SDK_DISABLED=true` and
    `OTEL_TRACES_EXPORTER=none` turn them off; headers, sampling and resource are the SDK's to read.
    """
    if not _is_wanted(environment):
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and what sends them is not installed: "
            "`pip install 'llmctl[otel]'`, or turn them off with OTEL_SDK_DISABLED=true."
        ) from error
    attributes: dict[str, Any] = {"service.name": SERVICE_NAME, "service.version": version}
    named = environment.get("OTEL_SERVICE_NAME")
    if named:
        attributes["service.name"] = named
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracing(provider)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environment.get(name, "").strip() for name in _ENDPOINTS)
