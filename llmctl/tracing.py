"""Traces over OpenTelemetry, where its own variables ask for them: what we send, and what we receive.

`OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP) turns them on. A program that uses our client and traces itself
needs none of that: the trace that it is in goes on with each request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from llmctl.exits import UsageProblem
from service.contracts.codec import read_header

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from llmctl.client.callbacks import CallbackRecord

SERVICE_NAME = "llmctl"
FLUSH_LIMIT_MILLISECONDS = 5000
SUBMIT, RECEIVE = "submit comparison", "receive callback"

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracer(Protocol):
    """Tells what a command sends and receives."""

    @contextmanager
    def submitting(self) -> Iterator[str | None]:
        """Around one submission; yields the `traceparent` that goes with it, if any."""
        ...

    def note_received(self, record: CallbackRecord, *, ours_alone: bool) -> None:
        """A callback has come; `ours_alone` leaves out those whose trace did not begin here."""
        ...


class NoTracer:
    """Traces nothing; hands on the trace that the program is in, where it uses OpenTelemetry itself."""

    @contextmanager
    def submitting(self) -> Iterator[str | None]:
        """Around one submission."""
        trace = sys.modules.get("opentelemetry.trace")
        yield None if trace is None else _write_traceparent(trace.get_current_span())

    def note_received(self, record: CallbackRecord, *, ours_alone: bool) -> None:
        """Nobody wants to know."""


class OtelTracer:
    """Tells it in spans."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(SERVICE_NAME)
        self._begun: set[str] = set()
        """The traces that began here and whose callback has not come."""

    @contextmanager
    def submitting(self) -> Iterator[str | None]:
        """A trace begins with the submission."""
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            SUBMIT, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=True
        ) as span:
            self._begun.add(f"{span.get_span_context().trace_id:032x}")
            yield _write_traceparent(span)

    def note_received(self, record: CallbackRecord, *, ours_alone: bool) -> None:
        """The end of the trace that the callback names."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        traceparent = read_header(record.headers, "traceparent")
        if record.envelope is None or traceparent is None:
            return
        trace_id = traceparent.split("-")[1] if traceparent.count("-") > 1 else ""
        if ours_alone and trace_id not in self._begun:
            return
        self._begun.discard(trace_id)
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "receive",
            "messaging.destination.name": record.topic,
            "messaging.message.id": record.envelope.data.request_id,
        }
        self._tracer.start_span(RECEIVE, context, SpanKind.CONSUMER, attributes).end()


@contextmanager
def open_tracer(environment: Mapping[str, str] = os.environ) -> Iterator[Tracer]:
    """The tracer that the environment asks for; UsageProblem where what sends traces is not installed."""
    if not _is_wanted(environment):
        yield NoTracer()
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as problem:
        raise UsageProblem(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and what sends them is not installed: "
            "`pip install 'llmctl[otel]'`, or turn them off with OTEL_SDK_DISABLED=true."
        ) from problem
    named = environment.get("OTEL_SERVICE_NAME") or SERVICE_NAME
    resource = Resource.create({"service.name": named, "service.version": version("llmctl")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield OtelTracer(provider)
    finally:
        provider.force_flush(FLUSH_LIMIT_MILLISECONDS)
        provider.shutdown()


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environment.get(name, "").strip() for name in _ENDPOINTS)


def _write_traceparent(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
